"""`ood-train` on a backbone, with plain data, from the flags to the exported model."""

import json

import keras
import numpy as np
import pytest
import small_backbone
from PIL import Image

from ood_keras import export, pipelines, workflows
from ood_keras.training import recipes
from ood_keras.workflows import run_data
from ood_keras.workflows.begun_run import BegunRun
from ood_keras.workflows.class_weight import read_class_weight

pytestmark = pytest.mark.usefixtures("compared_in_this_process")

OVERRIDES = [
    "epochs=2",
    "filters=[6]",
    "hidden_size=8",
    "feature_size=6",
    "feature_renderings=1",
    "batch_size=16",
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Reddish, greenish and bluish pictures, fewer of the last."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for channel, (name, count) in enumerate({"r": 15, "g": 15, "b": 10}.items()):
        (folder / name).mkdir()
        for number in range(count):
            image = generator.integers(0, 90, (32, 32, 3), np.uint8)
            image[..., channel] += 120
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        small_backbone.install(patch)
        yield


@pytest.fixture(scope="module")
def bare():
    return small_backbone.make_trained(alpha=0.5)


@pytest.fixture(scope="module")
def weights(bare, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "bare.weights.h5"
    bare.save_weights(path)
    return path


@pytest.fixture(scope="module")
def run_dir(pictures, weights, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    workflows.train(
        known=f"folder:{pictures}",
        unknown=["synthetic"],
        run_dir=run_dir,
        backbone="TinyNet:alpha=0.5",
        backbone_weights=weights,
        class_weight="balanced",
        overrides=OVERRIDES,
    )
    return run_dir


def test_a_backbone_makes_photos_the_recipe(run_dir, bare, weights):
    run = json.loads((run_dir / "run.json").read_text())
    recipe = run["settings"]["recipe"]
    assert recipe["name"] == "photos"
    assert recipe["backbone"] == "TinyNet:alpha=0.5"
    assert recipe["backbone_weights"] == str(weights)
    assert recipes.Recipe(**recipe).is_pretrained
    assert len(run["settings"]["backbone_sha256"]) == 64
    # By hand: 24 known training images, 6, 9 and 9 of the classes b, g and r.
    assert run["data"]["class_weight"] == pytest.approx(
        {"0": 24 / 18, "1": 24 / 27, "2": 24 / 27}
    )
    model = keras.models.load_model(run_dir / "model.keras")
    for weight, expected in zip(
        model.get_layer("backbone").get_weights(), bare.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(weight, expected)


def test_as_many_outliers_as_the_data_needs(run_dir):
    settings = json.loads((run_dir / "run.json").read_text())["settings"]
    assert settings["data"]["synthetic/validation"]["images"] == 500
    # As many synthetic images to train with as known ones.
    assert settings["data"]["synthetic/train"]["images"] == 24
    data = run_data.load_run_data(run_dir, ["uniform_noise"])
    assert sum(len(images) for images, _ in data.judging["unknown"]) == 500


@pytest.mark.parametrize(
    ("known", "outliers"),
    [(8, 500), (250, 500), (251, 502), (2499, 4998), (5000, 5000)],
)
def test_twice_the_known_images_within_bounds(known, outliers):
    images = np.zeros((known, 1, 1, 1), np.uint8)
    split = pipelines.Split("mine", "validation", images, np.zeros(known, int), ("a",))
    assert run_data.count_outliers(split) == outliers


def test_runs_of_earlier_versions_keep_their_outliers(tmp_path):
    assert BegunRun(tmp_path).keep_outliers(600) == 600
    (tmp_path / "run.json").write_text('{"settings": {"data_dir": null}}')
    assert BegunRun(tmp_path).keep_outliers(600) == 5000
    (tmp_path / "run.json").write_text('{"settings": {"validation_outliers": 700}}')
    assert BegunRun(tmp_path).keep_outliers(600) == 700


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (None, None),
        ("balanced", "balanced"),
        ("rose=2,tulip=0.5", {"rose": 2.0, "tulip": 0.5}),
        ("a=b=3", {"a=b": 3.0}),
    ],
)
def test_class_weights_are_read(text, weights):
    assert read_class_weight(text) == weights


def test_class_weights_that_are_none(pictures, tmp_path):
    with pytest.raises(ValueError, match=r"rose=2,tulip=0\.5.*'even'"):
        read_class_weight("even")
    with pytest.raises(ValueError, match=r"no known class \['x'\].*b, g, r"):
        workflows.train(
            known=f"folder:{pictures}",
            unknown=["synthetic"],
            run_dir=tmp_path / "run",
            recipe="demo",
            class_weight={"x": 2.0},
        )


def test_weights_of_another_network_end_the_command_before_a_run_begins(
    pictures, weights, tmp_path
):
    with pytest.raises(ValueError, match="does not hold the weights of"):
        workflows.train(
            known=f"folder:{pictures}",
            unknown=["synthetic"],
            run_dir=tmp_path / "run",
            backbone="TinyNet",
            backbone_weights=weights,
        )
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="--backbone and --override=backbone"):
        workflows.train(
            known=f"folder:{pictures}",
            unknown=["synthetic"],
            run_dir=tmp_path / "run",
            backbone="MobileNet",
            overrides=["backbone=MobileNetV2"],
        )


@pytest.mark.slow
def test_evaluates_and_exports_like_every_run(run_dir):
    report = workflows.evaluate(
        run_dir=run_dir,
        unknown=["uniform_noise"],
        detectors=["unknown_probability", "probability_and_distances"],
        renderings="none",
    )
    assert set(report.metrics["detectors"]) == {
        "unknown_probability",
        "probability_and_distances",
    }
    path, _ = workflows.export(run_dir=run_dir, output=run_dir / "saved_model")
    model = keras.models.load_model(run_dir / "model.keras")
    images = pipelines.load(
        json.loads((run_dir / "run.json").read_text())["settings"]["known"]
    ).test.images / np.float32(255)
    answer = export.load(path).predict(images)
    classes = model.predict(images, verbose=0)[:, :3].argmax(axis=1)
    accepted = answer["accepted"]
    np.testing.assert_array_equal(answer["class_id"][accepted], classes[accepted])
