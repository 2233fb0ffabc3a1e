"""One known class alone, as in the inspection of parts, from training to predicting."""

import json

import numpy as np
import pytest
import small_backbone
from PIL import Image

from ood_keras import export, pipelines, workflows
from ood_keras.evaluation import under_renderings
from ood_keras.pipelines.sources import base
from ood_keras.training import recipes
from ood_keras.workflows import evaluation as measuring

# Trains, evaluates and exports.
pytestmark = [
    pytest.mark.usefixtures("compared_in_this_process"),
    pytest.mark.slow,
]

RECIPE = recipes.get(
    "demo", epochs=2, filters=(8, 8, 8, 8), hidden_size=32, feature_size=16
)


@pytest.fixture(scope="module", autouse=True)
def few():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "DEFAULT_COUNT", 200)
        patch.setitem(under_renderings.NUM_IMAGES, "short", 30)
        yield


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Pictures of one part: a bright bar on noise; scratched ones lie elsewhere."""
    folder = tmp_path_factory.mktemp("parts")
    generator = np.random.default_rng(0)
    for name, count in {"known/good": 60, "other": 20}.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = generator.integers(0, 60, (32, 32, 3), np.uint8)
            image[6:26, 12:20] += 150
            if name == "other":
                image[14:18, 4:28] = 250
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def run_dir(parts, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "parts"
    workflows.train(
        known=f"folder:{parts}/known",
        unknown=["synthetic"],
        run_dir=run_dir,
        recipe=RECIPE,
    )
    workflows.evaluate(run_dir=run_dir, unknown=[f"folder:{parts}/other"])
    return run_dir


def test_distances_decide_about_one_class(run_dir):
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert set(metrics["detectors"]) == set(measuring.DISTANCES)
    assert metrics["selected_detector"] in measuring.DISTANCES
    rules = {one["rule"] for one in metrics["verdict"]["objections"]}
    assert not rules & {"skill", "names_mostly_wrong", "names_often_wrong"}
    assert (run_dir / "report.html").is_file()


def test_one_class_is_exported_and_predicts(run_dir, parts):
    path, threshold = workflows.export(
        run_dir=run_dir, output=run_dir / "saved_model", target_acceptance=0.8
    )
    model = export.load(path)
    assert model.class_names == ("good",)
    known = pipelines.load(f"folder:{parts}/known").test
    answers = model.predict(known.images / np.float32(255))
    assert answers["probabilities"].shape == (len(known), 1)
    assert set(answers["label"]) <= {"good", "__unknown__"}
    assert "good" in answers["label"]
    assert threshold.method == "conformal"


def test_other_scores_may_be_asked_for_and_some_cannot_be(run_dir, parts):
    other = [f"folder:{parts}/other"]
    with pytest.raises(ValueError, match="one class alone is told from nothing"):
        workflows.evaluate(run_dir=run_dir, unknown=other, detectors=["entropy"])


def test_the_backbones_own_features_are_measured(parts, tmp_path):
    run_dir = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        small_backbone.install(patch)
        weights = tmp_path / "bare.weights.h5"
        small_backbone.make_trained(alpha=0.5).save_weights(weights)
        workflows.train(
            known=f"folder:{parts}/known",
            unknown=["synthetic"],
            run_dir=run_dir,
            backbone="TinyNet:alpha=0.5",
            backbone_weights=weights,
            overrides=[
                "epochs=1",
                "filters=[6]",
                "hidden_size=8",
                "feature_size=6",
                "feature_renderings=1",
            ],
        )
        workflows.evaluate(run_dir=run_dir, unknown=[f"folder:{parts}/other"])
    saved = json.loads((run_dir / "detectors" / "knn.json").read_text())
    assert saved["config"]["features"] == "map"
