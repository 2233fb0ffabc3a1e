"""The whole job in one process, on data that needs no download."""

import csv
import json
import re

import keras
import numpy as np
import pytest

from ood_keras import export as exporting
from ood_keras import pipelines
from ood_keras.pipelines import recipes
from ood_keras.tools import evaluate, jobs

RECIPE = recipes.get("demo", epochs=2)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "digits"
    jobs.train(known="digits", unknown=["synthetic"], run_dir=run_dir, recipe=RECIPE)
    jobs.evaluate(run_dir=run_dir, unknown=["glyphs", "uniform_noise"])
    return run_dir


@pytest.fixture(scope="module")
def exported(run_dir):
    return jobs.export(run_dir=run_dir, output=run_dir / "saved_model")


def test_run_leaves_the_promised_files(run_dir):
    names = {path.name for path in run_dir.iterdir()}
    assert {
        "run.json",
        "history.csv",
        "checkpoints",
        "model.keras",
        "metrics.json",
        "scores.npz",
        "figures",
        "report.html",
    } <= names
    assert len(list(csv.DictReader((run_dir / "history.csv").open()))) == 2


def test_run_json_says_what_was_trained_on_what(run_dir):
    run = json.loads((run_dir / "run.json").read_text())
    settings = run["settings"]
    assert settings["recipe"]["epochs"] == 2
    assert settings["known"] == "digits"
    assert {"digits/train", "digits/validation", "synthetic/train"} <= set(
        settings["data"]
    )
    for part in settings["data"].values():
        assert re.fullmatch("[0-9a-f]{64}", part["sha256"])


def test_metrics_follow_the_design(run_dir):
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["known"]["source"] == "digits"
    assert metrics["selected_detector"] in metrics["detectors"]
    assert set(metrics["detectors"]) == set(jobs.DETECTORS)
    for detector in metrics["detectors"].values():
        assert set(detector["unknown"]) == {"glyphs", "uniform_noise"}
        for result in detector["unknown"].values():
            assert result["seen"] is False


def test_ensemble_adds_distances_to_the_unknown_s_probability(run_dir):
    known = pipelines.load("digits")
    model = keras.models.load_model(run_dir / "model.keras")
    fitted = jobs.fit_detector("ensemble", model, known)
    first, second = fitted.detectors
    assert first.name == "unknown_probability"
    stages = [f"stage_{stage}" for stage in (1, 2, 3, 4)]
    assert second.layers == (*stages, "hidden", "features")
    images = known.test.take(40).images / np.float32(255)
    standard = [
        (member.score(images) - mean) / deviation
        for member, mean, deviation in zip(
            fitted.detectors,
            fitted.arrays["mean"],
            fitted.arrays["deviation"],
            strict=True,
        )
    ]
    np.testing.assert_allclose(
        fitted.score(images), np.mean(standard, axis=0), atol=1e-3
    )


def test_export_takes_the_selected_detector_and_the_next_version(run_dir, exported):
    path, threshold = exported
    assert path == run_dir / "saved_model" / "1"
    manifest = json.loads((path / "manifest.json").read_text())
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["selected_detector"] in json.dumps(manifest["detector"])
    assert manifest["threshold"]["value"] == pytest.approx(threshold.value)
    with np.load(run_dir / "scores.npz", allow_pickle=False) as scores:
        validation = scores[f"validation/known/{metrics['selected_detector']}"]
    assert np.mean(validation <= threshold.value) >= 0.95


def test_the_model_card_tells_what_the_exported_model_does(exported):
    path, _ = exported
    predictor = exporting.load(path)
    content = predictor.manifest
    digits = pipelines.load("digits")
    answer = predictor.predict(digits.test.dataset())
    right = (answer["class_id"] == digits.test.labels)[answer["accepted"]]
    known = content["at_threshold"]["known"]
    assert known["images"] == len(digits.test)
    assert known["accepted"] == pytest.approx(answer["accepted"].mean())
    assert known["accuracy_of_accepted"] == pytest.approx(right.mean())
    glyphs = pipelines.load("glyphs", image_shape=(28, 28, 1)).test
    rejected = ~predictor.predict(glyphs.dataset())["accepted"]
    entry = content["at_threshold"]["unknown"]["glyphs"]
    assert entry == {"images": len(glyphs), "rejected": pytest.approx(rejected.mean())}
    page = (path / "MODEL_CARD.md").read_text()
    assert f"{100 * known['accepted']:.2f} % of the\n{len(digits.test)} known" in page
    assert "`digits`: CC BY 4.0" in page and "epochs 2" in page
    training = json.dumps(content["training"])
    assert "data_dir" not in training and digits.train.fingerprint() in training


def test_a_detector_named_by_hand_was_not_chosen_on_validation(run_dir, tmp_path):
    path, _ = jobs.export(run_dir=run_dir, output=tmp_path / "m", detector="energy")
    page = (path / "MODEL_CARD.md").read_text()
    assert "checkpoint and threshold chosen on validation" in page


def test_known_examples_travel_with_the_export(run_dir, exported):
    examples = exporting.load(exported[0]).known_examples
    metrics = json.loads((run_dir / "metrics.json").read_text())
    with np.load(run_dir / "scores.npz", allow_pickle=False) as scores:
        known = scores[f"validation/known/{metrics['selected_detector']}"]
    np.testing.assert_array_equal(examples.known_scores, np.sort(known))
    assert set(examples.labels) == set(range(10))
    assert len(examples.unknown_scores)


def test_calibrate_writes_the_next_version(exported):
    path, threshold = exported
    new, loose = jobs.calibrate(model=path, known="digits", target_acceptance=0.99)
    assert new == path.parent / "2"
    assert loose.value > threshold.value
    manifest = json.loads((new / "manifest.json").read_text())
    assert manifest["threshold"]["value"] == pytest.approx(loose.value)
    assert manifest["at_threshold"] is None
    assert "anew for version 1" in (new / "MODEL_CARD.md").read_text()


def test_predict_prints_a_line_per_file(run_dir, exported, tmp_path):
    path, _ = exported
    junk = tmp_path / "junk.png"
    junk.write_bytes(b"no image")
    digit = sorted((run_dir / "samples").glob("digits_*.png"))[0]
    picture = tmp_path / "answers.png"
    table = jobs.predict(model=path, paths=[digit, junk], picture=picture)
    lines = table.splitlines()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(lines) == 4
    assert "no readable image" in lines[2]
    assert "__unknown__" in lines[2]
    assert lines[3].startswith("2 images: ") and "1 unreadable" in lines[3]


def test_predict_names_missing_files(exported):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        jobs.predict(model=exported[0], paths=["nowhere.png"])


def test_same_command_again_trains_no_more(run_dir):
    before = (run_dir / "model.keras").read_bytes()
    history = jobs.train(
        known="digits", unknown=["synthetic"], run_dir=run_dir, recipe=RECIPE
    )
    assert len(history) == 2
    assert (run_dir / "model.keras").read_bytes() == before


def test_run_dir_of_another_recipe_is_refused(run_dir):
    with pytest.raises(ValueError, match="dropout"):
        jobs.train(
            known="digits",
            unknown=["synthetic"],
            run_dir=run_dir,
            recipe="demo",
            overrides=["epochs=2", "dropout=0.5"],
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unknown": []}, "no unknown source"),
        ({"unknown": ["digits"]}, "used twice"),
        (
            {"known": "digits[0-4]", "unknown": ["digits[4-9]"]},
            "both known and unknown",
        ),
        ({"unknown": ["glyfs"]}, "glyphs"),
        ({"recipe": "quick"}, "fast"),
        ({"overrides": ["epoch=1"]}, "epochs"),
        ({"overrides": ["epochs"]}, "FIELD=VALUE"),
        ({"overrides": ["epochs=0"]}, "positive"),
    ],
)
def test_bad_arguments_are_refused_before_training(arguments, message, tmp_path):
    arguments = {"known": "digits", "unknown": ["glyphs"], "recipe": "demo"} | arguments
    with pytest.raises(ValueError, match=message):
        jobs.train(run_dir=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_steps_out_of_order_say_which_comes_first(run_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="ood-train"):
        jobs.evaluate(run_dir=tmp_path, unknown=["glyphs"])
    for name in ("run.json", "model.keras"):
        (tmp_path / name).write_bytes((run_dir / name).read_bytes())
    with pytest.raises(FileNotFoundError, match="ood-evaluate"):
        jobs.export(run_dir=tmp_path, output=tmp_path / "out")


def test_resume_with_the_same_data_elsewhere_is_the_same_run(run_dir, tmp_path):
    history = jobs.train(
        known="digits",
        unknown=["synthetic"],
        run_dir=run_dir,
        recipe=RECIPE,
        data_dir=tmp_path,
    )
    assert len(history) == 2


def test_other_data_than_in_training_is_refused(run_dir, tmp_path):
    for name in ("run.json", "model.keras"):
        (tmp_path / name).write_bytes((run_dir / name).read_bytes())
    run = json.loads((tmp_path / "run.json").read_text())
    run["settings"]["data"]["digits/validation"]["sha256"] = "0" * 64
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(ValueError, match="digits/validation is not the data"):
        jobs.evaluate(run_dir=tmp_path, unknown=["glyphs"])


def test_known_classes_may_not_be_test_unknowns(run_dir):
    with pytest.raises(ValueError, match="used twice"):
        jobs.evaluate(run_dir=run_dir, unknown=["digits"])
    with pytest.raises(ValueError, match="both known and unknown"):
        jobs.evaluate(run_dir=run_dir, unknown=["digits[3,5]"])


@pytest.mark.parametrize(
    ("spec", "exposed", "seen"),
    [
        ("kmnist", "kmnist", True),
        ("kmnist", "kmnist[0-4]", True),
        ("kmnist[5-9]", "kmnist[0-4]", True),
        ("emnist/letters", "tfds:emnist/letters", True),
        ("folder:pictures", "folder:./pictures/", True),
        ("folder:pictures", "folder:other", False),
        ("emnist/letters", "emnist/digits", False),
        ("uniform_noise", "gaussian_noise", False),
    ],
)
def test_a_source_exposed_in_part_is_seen(spec, exposed, seen):
    assert (spec in jobs.seen([spec], ["synthetic", exposed])) == seen


def test_the_command_compares_the_same_detectors_as_the_job():
    assert tuple(evaluate._FLAGS["detectors"].default) == jobs.DETECTORS
