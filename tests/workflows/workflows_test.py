"""The whole job in one process, on data that needs no download."""

import csv
import dataclasses
import json
import re
import shutil

import keras
import numpy as np
import pytest

from ood_keras import calibration, files, pipelines, training, workflows
from ood_keras import export as exporting
from ood_keras.evaluation import under_renderings, verdict
from ood_keras.pipelines.sources import base
from ood_keras.tools import evaluate as evaluate_command
from ood_keras.tools import train as train_command
from ood_keras.training import recipes, run_directory
from ood_keras.training.recipe_overrides import parse_overrides
from ood_keras.workflows import (
    conversion,
    promises,
    run_data,
    samples,
    training_verdict,
)
from ood_keras.workflows import evaluation as measuring
from ood_keras.workflows import exporting as export_workflow
from ood_keras.workflows import training as training_workflow

RECIPE = recipes.get(
    "demo", epochs=2, filters=(8, 8, 8, 8), hidden_size=32, feature_size=16
)
DATA = ("settings", "data")


@pytest.fixture(scope="module", autouse=True)
def few_images_of_noise():
    """A tenth of the usual: enough to train with, and all that is scored here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "DEFAULT_COUNT", 1_000)
        yield


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "digits"
    workflows.train(
        known="digits", unknown=["synthetic"], run_dir=run_dir, recipe=RECIPE
    )
    with pytest.MonkeyPatch.context() as patch:
        # A few images in each rendering show as well what becomes of them.
        patch.setitem(under_renderings.NUM_IMAGES, "short", 60)
        workflows.evaluate(run_dir=run_dir, unknown=["glyphs", "uniform_noise"])
    return run_dir


@pytest.fixture(scope="module")
def exported(run_dir):
    return workflows.export(run_dir=run_dir, output=run_dir / "saved_model")


@pytest.fixture(scope="module")
def strict(run_dir, exported, compared_in_this_process, tmp_path_factory):
    """The same at another threshold."""
    output = tmp_path_factory.mktemp("strict") / "m"
    return workflows.export(run_dir=run_dir, output=output, target_acceptance=0.3)


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
    assert set(metrics["detectors"]) == set(measuring.DETECTORS)
    for detector in metrics["detectors"].values():
        assert set(detector["unknown"]) == {"glyphs", "uniform_noise"}
        # Training was shown synthetic outliers, white noise among them.
        for source, result in detector["unknown"].items():
            assert result["seen"] is (source == "uniform_noise")


def test_distances_are_added_to_the_unknown_s_probability(run_dir):
    known = pipelines.load("digits")
    model = keras.models.load_model(run_dir / "model.keras")
    fitted = measuring.fit_detector(
        "probability_and_distances", model, known.train.dataset(), known.num_classes
    )
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


@pytest.mark.parametrize(
    ("changes", "on"),
    [
        ({}, "softmax"),
        ({"objectosphere_on": "features"}, "product"),
        ({"objectosphere_on": "features", "objectosphere_weight": 0.0}, "softmax"),
        ({"objectosphere_on": "features", "loss": "cross_entropy"}, "softmax"),
    ],
)
def test_objectosphere_reads_what_a_loss_was_on(changes, on):
    recipe = dataclasses.asdict(recipes.get("demo", **changes))
    assert measuring.objectosphere_on(recipe) == on


def test_evaluate_goes_by_what_the_loss_was(tmp_path):
    changes = {"loss": "entropic_open_set", "objectosphere_on": "features"}
    small = {"filters": (4, 4), "hidden_size": 8, "synthetic_images": 200}
    recipe = recipes.get("demo", epochs=1, gamma=50.0, **changes, **small)
    workflows.train(
        known="digits", unknown=["synthetic"], run_dir=tmp_path, recipe=recipe
    )
    report = workflows.evaluate(run_dir=tmp_path, unknown=["glyphs"], renderings="none")
    # There is no unknown class.
    assert set(report.metrics["detectors"]) == set(measuring.DETECTORS[1:])
    saved = (tmp_path / "detectors" / "objectosphere.json").read_text()
    assert json.loads(saved)["config"]["on"] == "product"


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


def test_report_and_card_and_manifest_have_one_threshold(run_dir, exported):
    path, threshold = exported
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["threshold"]["value"] == threshold.value
    report = (run_dir / "report.html").read_text()
    card = (path / "MODEL_CARD.md").read_text()
    said = re.search(r"unknown images above the threshold (\S+), chosen", report)
    assert float(said[1]) == threshold.value
    assert f"{said[1]}, chosen by `{threshold.method}`" in card
    assert threshold.guarantee in report and threshold.guarantee in card
    accepted = f"{100 * manifest['at_threshold']['known']['accepted']:.2f} %"
    assert f"<b>{accepted}</b><span>of known test images accepted" in report
    assert f"At the threshold, {accepted} of the" in card
    for source, entry in manifest["at_threshold"]["unknown"].items():
        rejected = f"{100 * entry['rejected']:.2f}"
        assert f"<td>{rejected}</td></tr>" in report and f"| {rejected} |" in card, (
            source
        )


def test_the_verdict_is_in_the_report_the_manifest_and_the_card(
    run_dir, exported, strict
):
    metrics = json.loads((run_dir / "metrics.json").read_text())
    judged = metrics["verdict"]
    name = metrics["selected_detector"]
    row = metrics["detectors"][name]["unknown"]["glyphs"]
    rejected = exporting.load(exported[0]).manifest["at_threshold"]["unknown"]["glyphs"]
    passing = round(rejected["images"] * (1 - rejected["rejected"]))
    fact = f"{passing:,} of {rejected['images']:,} ({passing / rejected['images']:.1%})"
    assert any(
        said.startswith(fact) and "of glyphs pass" in said for said in judged["facts"]
    )
    assert any("mild renderings" in said for said in judged["facts"])
    found = {(one["rule"], one["source"]) for one in judged["objections"]}
    assert (("auroc_low", "glyphs") in found) == (0.6 <= row["auroc"] < 0.8)
    report = (run_dir / "report.html").read_text()
    assert f"<h2>Verdict: {judged['said']}</h2>" in report
    # At the threshold of the export, which is another one here.
    path, _ = strict
    manifest = exporting.load(path).manifest
    assert "verdict" not in manifest["metrics"]
    own = manifest["at_threshold"]["verdict"]
    assert own["facts"][0] != judged["facts"][0]
    known = manifest["at_threshold"]["known"]
    assert f"({known['accepted']:.1%}) of the known test" in own["facts"][0]
    assert f"## Verdict: {own['said']}" in (path / "MODEL_CARD.md").read_text()
    assert promises.describe_verdict(path) == verdict.format_json(own)


def test_a_training_is_judged_by_its_validation_images(run_dir, monkeypatch, capsys):
    judged = json.loads((run_dir / training_verdict.VERDICT).read_text())
    assert judged["on"] == "validation"
    history = list(csv.DictReader((run_dir / "history.csv").open()))
    best = min(history, key=lambda row: float(row["val_fpr95_known_positive"]))
    known = len(pipelines.load("digits").validation)
    right = round(float(best["val_known_accuracy"]) * known)
    assert judged["facts"][0].startswith(f"{right:,} of {known:,} (")
    assert "of synthetic pass where 95 % of the known ones do" in judged["facts"][1]
    monkeypatch.setattr(training_workflow, "train", lambda **_: [])
    monkeypatch.setattr(
        "sys.argv", ["ood-train", "--known=digits", f"--run_dir={run_dir}"]
    )
    train_command.main()
    shown = capsys.readouterr().out
    assert f"Verdict: {judged['said']}." in shown
    assert shown.index("Verdict") < shown.index("Done. Next:")


def test_the_model_card_tells_what_renderings_do_at_its_own_threshold(
    run_dir, exported, strict
):
    path, threshold = strict
    assert threshold.value != exported[1].value
    found = exporting.load(path).manifest
    name = found["detector"]["name"]
    with np.load(run_dir / "scores.npz", allow_pickle=False) as scores:
        known = scores[f"renderings/known/{name}"]
    measured = found["at_threshold"]["renderings"]["detectors"][name]
    card = (path / "MODEL_CARD.md").read_text()
    for place, row in enumerate(measured["steps"]):
        accepted = np.mean(known[place] <= threshold.value)
        assert row["known"]["accepted"] == pytest.approx(accepted)
        line = f"| {row['title']} | {100 * accepted:.2f} | "
        assert line in card.replace("\\", "")


def test_a_recipe_that_judges_in_renderings_does_so_everywhere(tmp_path):
    """Epoch, detector and threshold: the same rendered validation images."""
    recipe = recipes.get(
        "demo",
        epochs=1,
        synthetic_images=300,
        filters=[8, 8],
        augment="random_rendering",
        validation_augment="random_rendering",
    )
    workflows.train(
        known="digits", unknown=["synthetic"], run_dir=tmp_path, recipe=recipe
    )
    report = workflows.evaluate(
        run_dir=tmp_path,
        unknown=["glyphs"],
        detectors=["msp", "energy"],
        renderings="none",
    )
    assert "renderings" not in report.metrics
    data = run_data.load_run_data(tmp_path, ["glyphs"])
    rendered = pipelines.augment_once(data.known_validation, "random_rendering")
    np.testing.assert_array_equal(
        np.concatenate([images for images, _ in data.judging["known"]]),
        rendered.images / np.float32(255),
    )
    model = keras.models.load_model(tmp_path / "model.keras")
    detector = measuring.fit_detector("msp", model, data.fitting, 10)
    np.testing.assert_allclose(
        report.validation["known"]["msp"],
        detector.score(rendered.dataset()),
        rtol=1e-5,
        atol=1e-6,
    )
    (row,) = csv.DictReader((tmp_path / "history.csv").open())
    logits = model.predict(rendered.dataset(), verbose=0)[:, :10]
    right = np.mean(logits.argmax(axis=1) == rendered.labels)
    assert float(row["val_known_accuracy"]) == pytest.approx(right)
    # The images that travel with the export are as they were.
    with np.load(tmp_path / "known_images.npz") as known:
        assert {image.tobytes() for image in known["images"]} <= {
            image.tobytes() for image in data.known_validation.images
        }
    # An evaluation may choose in other renderings than the training did.
    report = workflows.evaluate(
        run_dir=tmp_path,
        unknown=["glyphs"],
        detectors=["msp"],
        renderings="none",
        validation_augment="mild_rendering",
    )
    mild = pipelines.augment_once(data.known_validation, "mild_rendering")
    np.testing.assert_allclose(
        report.validation["known"]["msp"],
        detector.score(mild.dataset()),
        rtol=1e-5,
        atol=1e-6,
    )
    assert report.protocol["selected on validation images in"] == "mild_rendering"
    chosen_in = run_data.read_evaluated_recipe(tmp_path, data.settings)
    assert chosen_in.validation_augment == "mild_rendering"
    written = export_workflow._training(tmp_path, True, report.metrics)
    assert "detector and threshold in: mild_rendering;" in written["protocol"]
    assert written["recipe"]["validation_augment"] == "random_rendering"
    with pytest.raises(ValueError, match="no_rendering"):
        workflows.evaluate(
            run_dir=tmp_path, unknown=["glyphs"], validation_augment="no_rendering"
        )


def test_the_model_card_tells_what_the_exported_the_exported_model_does(exported):
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


VALIDATION_CLASSES = "predictions/validation/known"


def copy_with_scores(run_dir, copy, change):
    """Copies a run, with other arrays in `scores.npz`."""
    shutil.copytree(run_dir, copy, ignore=shutil.ignore_patterns("saved_model"))
    with np.load(run_dir / "scores.npz", allow_pickle=False) as scores:
        arrays = change(dict(scores))
    files.write_arrays(copy / "scores.npz", arrays)
    return copy


@pytest.fixture(scope="module")
def of_classes(run_dir, exported, compared_in_this_process, tmp_path_factory):
    """An export with a detector named by hand and a threshold for each class.

    Two epochs teach the network a few of the classes only, so that the predicted ones
    of the validation images are made up.
    """
    copy = copy_with_scores(
        run_dir,
        tmp_path_factory.mktemp("of_classes") / "run",
        lambda scores: (
            scores
            | {VALIDATION_CLASSES: np.arange(len(scores[VALIDATION_CLASSES])) % 10}
        ),
    )
    return workflows.export(
        run_dir=copy,
        output=copy.parent / "model",
        detector="energy",
        method="conformal_per_class",
        target_acceptance=0.5,
        operating_points={"strict": 0.8},
    )


def test_a_detector_named_by_hand_was_not_chosen_on_validation(of_classes):
    path, _ = of_classes
    page = (path / "MODEL_CARD.md").read_text()
    assert "checkpoint and threshold chosen on validation" in page


def test_export_takes_thresholds_of_classes_and_operating_points(of_classes, run_dir):
    path, thresholds = of_classes
    with np.load(run_dir / "scores.npz", allow_pickle=False) as scores:
        known = scores["validation/known/energy"]
        classes = np.arange(len(known)) % 10
        unknown = scores["validation/unknown/energy"]
        test, predicted = scores["known/energy"], scores["predictions/known"]
    assert thresholds == calibration.conformal_per_class(known, classes, 10, 0.5)
    predictor = exporting.load(path)
    assert predictor.threshold == thresholds.values
    point = calibration.conformal(known, 0.8)
    assert predictor.operating_points == {"strict": point.value}
    offered = predictor.manifest["operating_points"]["strict"]["guarantee"]
    assert offered.startswith(point.guarantee)
    assert f"Of {len(unknown):,} unknown images it accepts" in offered
    assert offered.split(" (")[0] in (path / "MODEL_CARD.md").read_text()
    # What the card says of test images is what the thresholds do to them.
    accepted = predictor.manifest["at_threshold"]["known"]["accepted"]
    limits = np.float32(thresholds.values)[predicted]
    assert accepted == np.mean(test <= limits)
    images = pipelines.load("digits").test.dataset()
    assert predictor.predict(images)["accepted"].mean() == pytest.approx(
        accepted, abs=0.01
    )


def test_a_run_without_predicted_classes_says_what_to_do(run_dir, tmp_path):
    def without(scores):
        assert scores.pop(VALIDATION_CLASSES).dtype == np.int32
        return scores

    copy = copy_with_scores(run_dir, tmp_path / "run", without)
    with pytest.raises(ValueError, match="evaluate it again with ood-evaluate"):
        workflows.export(
            run_dir=copy, output=tmp_path / "m", method="conformal_per_class"
        )


def test_known_examples_travel_with_the_export(run_dir, exported):
    examples = exporting.load(exported[0]).known_examples
    metrics = json.loads((run_dir / "metrics.json").read_text())
    with np.load(run_dir / "scores.npz", allow_pickle=False) as scores:
        known = scores[f"validation/known/{metrics['selected_detector']}"]
    np.testing.assert_array_equal(examples.known_scores, np.sort(known))
    assert set(examples.labels) == set(range(10))
    assert len(examples.unknown_scores)


def test_calibrate_writes_the_next_version(exported, compared_in_this_process):
    path, threshold = exported
    new, loose = workflows.calibrate(
        model=path,
        known="digits",
        unknown=["glyphs"],
        target_acceptance=0.99,
        operating_points={"strict": 0.8},
    )
    assert new == path.parent / "2"
    assert loose.value > threshold.value
    manifest = json.loads((new / "manifest.json").read_text())
    assert manifest["threshold"]["value"] == pytest.approx(loose.value)
    assert manifest["at_threshold"] is None
    strict = manifest["operating_points"]["strict"]
    assert strict["value"] < threshold.value
    assert "unknown images it accepts" in strict["guarantee"]
    assert "anew for version 1" in (new / "MODEL_CARD.md").read_text()


def test_predict_prints_a_line_per_file(run_dir, exported, tmp_path):
    path, _ = exported
    junk = tmp_path / "junk.png"
    junk.write_bytes(b"no image")
    digit = sorted((run_dir / "samples").glob("digits_*.png"))[0]
    picture = tmp_path / "answers.png"
    table = workflows.predict(model=path, paths=[digit, junk], picture=picture)
    lines = table.splitlines()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(lines) == 4
    assert "no readable image" in lines[2]
    assert "__unknown__" in lines[2]
    assert lines[3].startswith("2 images: ") and "1 unreadable" in lines[3]


def test_predict_names_missing_files(exported):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        workflows.predict(model=exported[0], paths=["nowhere.png"])


def test_same_command_again_trains_no_more(run_dir):
    before = (run_dir / "model.keras").read_bytes()
    history = workflows.train(
        known="digits", unknown=["synthetic"], run_dir=run_dir, recipe=RECIPE
    )
    assert len(history) == 2
    assert (run_dir / "model.keras").read_bytes() == before


def test_run_dir_of_another_recipe_is_refused(run_dir):
    with pytest.raises(ValueError, match="dropout"):
        workflows.train(
            known="digits",
            unknown=["synthetic"],
            run_dir=run_dir,
            recipe=dataclasses.replace(RECIPE, dropout=0.5),
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
        ({"overrides": ["epochs=0"]}, "`epochs` must be an integer >= 1.*epochs=0"),
        ({"overrides": ["epochs=two"]}, "`epochs` must be .*epochs='two'"),
        ({"overrides": ["epochs=1.5"]}, r"`epochs` must be an integer.*1\.5"),
        ({"overrides": ["epochs=true"]}, "`epochs` must be an integer.*True"),
        ({"overrides": ["epochs=null"]}, "`epochs` must be an integer.*None"),
        ({"overrides": ["epochs=[1]"]}, "`epochs` must be an integer"),
        ({"overrides": ["epochs="]}, "FIELD=VALUE.*epochs="),
        ({"overrides": ["=2"]}, "FIELD=VALUE.*'=2'"),
        ({"overrides": ["epochs=2", "epochs=3"]}, "'epochs' .*twice.*Give it once"),
        ({"overrides": ["name=mine"]}, "no field 'name' to override.*epochs"),
        ({"overrides": ["learning_rate=NaN"]}, "`learning_rate` must be"),
        ({"overrides": ["learning_rate=Infinity"]}, "`learning_rate` must be"),
        ({"overrides": ['learning_rate={"a": 1}']}, "`learning_rate` must be"),
        ({"overrides": ["loss=5"]}, "`loss` must be one of"),
        ({"overrides": ["block=[1]"]}, "`block` must be one of"),
        ({"overrides": ["loss=[1]"]}, "`loss` must be one of"),
        ({"overrides": ["augment=upside_down"]}, "upside_down"),
        ({"overrides": ["augment=5"]}, "unknown augmentation 5; expected"),
        ({"overrides": ["augment=[1]"]}, r"unknown augmentation \[1\]; expected"),
        ({"overrides": ["filters=8"]}, "`filters` must be a list"),
        ({"overrides": ["filters=[]"]}, "filters"),
        ({"overrides": ["filters=[8,0]"]}, "filters"),
        ({"overrides": ['filters=["a"]']}, "filters"),
        ({"overrides": ["filters=" + "[" * 5000]}, "filters"),
    ],
)
def test_bad_arguments_are_refused_before_training(arguments, message, tmp_path):
    arguments = {"known": "digits", "unknown": ["glyphs"], "recipe": "demo"} | arguments
    with pytest.raises(ValueError, match=message):
        workflows.train(run_dir=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_a_recipe_of_ones_own_is_overridden_too(tmp_path):
    recipe = recipes.get("demo")
    with pytest.raises(ValueError, match="epochs"):
        workflows.train(
            known="digits",
            unknown=["synthetic"],
            run_dir=tmp_path,
            recipe=recipe,
            overrides=["epochs=0"],
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["null", "None", "none"])
def test_an_override_can_be_none(word):
    fields = ("unknown_images", "beta", "augment")
    overrides = parse_overrides([f"{field}={word}" for field in fields])
    assert overrides == dict.fromkeys(fields)
    # Which is also what a block is called.
    assert parse_overrides(["block=none"]) == {"block": "none"}


def test_steps_out_of_order_say_which_comes_first(run_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="ood-train"):
        workflows.evaluate(run_dir=tmp_path, unknown=["glyphs"])
    for name in ("run.json", "model.keras"):
        (tmp_path / name).write_bytes((run_dir / name).read_bytes())
    with pytest.raises(FileNotFoundError, match="ood-evaluate"):
        workflows.export(run_dir=tmp_path, output=tmp_path / "out")


def test_resume_with_the_same_data_elsewhere_is_the_same_run(run_dir, tmp_path):
    history = workflows.train(
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
        workflows.evaluate(run_dir=tmp_path, unknown=["glyphs"], renderings="none")


@pytest.fixture
def edited(run_dir, tmp_path):
    """A function that gives the run another `run.json`."""
    for name in ("run.json", "model.keras", "metrics.json", "scores.npz"):
        (tmp_path / name).write_bytes((run_dir / name).read_bytes())

    def edited(change):
        if isinstance(change, str):
            (tmp_path / "run.json").write_text(change)
        else:
            run = json.loads((run_dir / "run.json").read_text())
            change(run)
            (tmp_path / "run.json").write_text(json.dumps(run))
        return tmp_path

    return edited


EDITS = {
    "nothing": ("", "is not the run.json of a run"),
    "cut off": ('{"settings": {', "is not the run.json of a run"),
    "list": ("[]", "it holds a list"),
    "deep": ("[" * 100_000, "is not the run.json of a run"),
    "no settings": (lambda run: run.pop("settings"), "no settings of ood-train"),
    "text": (lambda run: run.update(settings="x"), "no settings of ood-train"),
    "seed": (lambda run: run.update(seed="3"), "seed is '3', expected an integer"),
    "no seed": (lambda run: run.pop("seed"), "seed is None"),
    "known": (
        lambda run: run["settings"].update(known=3),
        "settings.known is 3, expected the spec",
    ),
    "unknown": (
        lambda run: run["settings"].update(unknown="glyphs"),
        "settings.unknown is 'glyphs', expected a list of specs",
    ),
    "data_dir": (
        lambda run: run["settings"].update(data_dir=[]),
        r"settings.data_dir is \[\], expected a folder",
    ),
    "shape": (
        lambda run: run["settings"].update(image_shape=[28, "28", 1]),
        r"settings.image_shape is \[28, '28', 1\], expected \[height",
    ),
    "classes": (
        lambda run: run["settings"].update(class_names=["a", "a"]),
        "settings.class_names is .*different names",
    ),
    "recipe": (
        lambda run: run["settings"]["recipe"].update(epochs=0, mine=1),
        "settings.recipe is none: .*mine",
    ),
    "recipe value": (
        lambda run: run["settings"]["recipe"].update(epochs="many"),
        "settings.recipe is none: `epochs` must be",
    ),
    "no recipe": (
        lambda run: run["settings"].update(recipe=[]),
        "settings.recipe is .*the fields of a recipe",
    ),
    "data": (
        lambda run: run["settings"].update(data={"digits/train": "x"}),
        "settings.data is .*number of images",
    ),
}


@pytest.mark.parametrize(("change", "message"), EDITS.values(), ids=EDITS)
def test_a_run_json_edited_by_hand_is_an_error_that_helps(edited, change, message):
    unedited = run_directory.read(edited(lambda run: None))
    unedited.pop("versions")
    with run_directory.open_run(edited(lambda run: None), unedited):
        pass
    run_dir = edited(change)
    before = sorted(run_dir.iterdir())
    for job in (
        lambda: workflows.evaluate(run_dir=run_dir, unknown=["glyphs"]),
        lambda: workflows.export(run_dir=run_dir, output=run_dir / "out"),
    ):
        with pytest.raises(ValueError, match=rf"run\.json .*{message}"):
            job()
    assert sorted(run_dir.iterdir()) == before
    opened = run_directory.open_run(run_dir, unedited)
    with pytest.raises(ValueError, match=r"run.json of a run|holds another run"):
        opened.__enter__()


CONTRADICTIONS = {
    "other images were known": (
        lambda run: run["settings"].update(known="glyphs"),
        "contradicts itself|has the classes",
    ),
    "more was unknown": (
        lambda run: run["settings"]["unknown"].append("glyphs"),
        "contradicts itself.*glyphs/train",
    ),
    "less was known": (
        lambda run: run["settings"]["data"].pop("digits/train"),
        "contradicts itself.*with nothing",
    ),
    "more was shown": (
        lambda run: run["settings"]["data"].update(
            {"glyphs/train": {"images": 1, "sha256": "0" * 64}}
        ),
        "contradicts itself.*by its fingerprints of data with .*glyphs/train",
    ),
    "classes the other way round": (
        lambda run: run["settings"]["class_names"].reverse(),
        "has the classes",
    ),
    "no data": (lambda run: run["settings"].pop("data"), "with which data"),
}


@pytest.mark.parametrize(
    ("change", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS
)
def test_a_run_json_that_contradicts_its_data_is_refused(edited, change, message):
    with pytest.raises(ValueError, match=message):
        workflows.evaluate(run_dir=edited(change), unknown=["uniform_noise"])


def test_only_one_process_evaluates_a_run(run_dir):
    before = (run_dir / "metrics.json").read_bytes()
    with (
        run_directory.hold(run_dir, "evaluating"),
        pytest.raises(BlockingIOError, match="another process is evaluating in"),
    ):
        workflows.evaluate(run_dir=run_dir, unknown=["glyphs"])
    with (
        run_directory.hold(run_dir, "evaluating"),
        pytest.raises(BlockingIOError, match="another process is evaluating in"),
    ):
        workflows.train(
            known="digits", unknown=["synthetic"], run_dir=run_dir, recipe=RECIPE
        )
    assert (run_dir / "metrics.json").read_bytes() == before


def test_metrics_of_an_earlier_evaluation_do_not_stand_beside_newer_scores(
    run_dir, tmp_path, monkeypatch
):
    """`export` takes both, and an evaluation may be killed between them."""
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    (copy / ".metrics.json.1_a.tmp.json").write_text("half")
    (copy / "samples" / ".a.png.1_a.tmp.png").write_text("half")

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "write_samples", killed)
    with pytest.raises(KeyboardInterrupt):
        workflows.evaluate(
            run_dir=copy, unknown=["glyphs"], detectors=["msp"], renderings="none"
        )
    assert not list(copy.rglob("*.tmp.*"))
    with pytest.raises(FileNotFoundError, match=r"metrics.json is missing"):
        workflows.export(run_dir=copy, output=tmp_path / "out")


def test_known_classes_may_not_be_test_unknowns(run_dir):
    with pytest.raises(ValueError, match="used twice"):
        workflows.evaluate(run_dir=run_dir, unknown=["digits"])
    with pytest.raises(ValueError, match="both known and unknown"):
        workflows.evaluate(run_dir=run_dir, unknown=["digits[3,5]"])


@pytest.mark.parametrize(
    ("spec", "exposed", "seen"),
    [
        ("kmnist", "kmnist", True),
        ("kmnist", "kmnist[0-4]", True),
        ("kmnist[5-9]", "kmnist[0-4]", True),
        ("emnist/letters", "tfds:emnist/letters", True),
        ("emnist/letters", "tfds:emnist/letters:3.1.0", True),
        ("tfds:mnist:3.*.*[0-4]", "mnist", True),
        ("tfds:mnist:3.0.1", "kmnist", False),
        ("folder:pictures", "folder:./pictures/", True),
        ("folder:pictures", "folder:other", False),
        ("folder:pictures/test", "folder:pictures", True),
        ("folder:pictures", "folder:pictures/cats[0]", True),
        ("folder:pictures2", "folder:pictures", False),
        ("npz:pictures", "folder:pictures", False),
        ("emnist/letters", "emnist/digits", False),
        ("uniform_noise", "gaussian_noise", False),
        ("uniform_noise", "synthetic", True),
        ("gaussian_noise", "synthetic", True),
        ("gaussian_noise@std_0.5", "synthetic", True),
        ("gaussian_noise@std_0.5", "gaussian_noise", True),
        ("emnist/letters@transposed", "emnist/letters", True),
        ("emnist/letters[0-4]", "tfds:emnist/letters@negative[9]", True),
        ("omniglot", "omniglot@as_distributed@area", True),
        ("omniglot@as_distributed", "kmnist@negative", False),
        ("folder:pictures/test@negative", "folder:pictures@transposed", True),
        ("folder:me@home", "folder:me", False),
    ],
)
def test_a_source_exposed_in_part_is_seen(spec, exposed, seen):
    assert (spec in run_data.find_seen([spec], ["digits", exposed])) == seen


def write_npz(path, *, first_label=0, num_classes=10, count=60, seed=0):
    """Noise of which some in validation may be labelled unknown; returns the spec."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for role in ("train", "validation", "test"):
        arrays[f"x_{role}"] = generator.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"y_{role}"] = np.arange(count) % num_classes
    arrays["y_validation"][: count // 2] += first_label
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_what_is_labelled_unknown_is_never_known(exported, tmp_path):
    some = write_npz(tmp_path / "some.npz", first_label=-1)
    for known in (some, "uniform_noise"):
        with pytest.raises(ValueError, match="known images need a class"):
            workflows.calibrate(model=exported[0], known=known)
        with pytest.raises(ValueError, match="known images need a class"):
            conversion.convert(model=exported[0], known=known, output=tmp_path / "edge")
        with pytest.raises(ValueError, match=r"need a class|has no known class"):
            workflows.train(known=known, unknown=["glyphs"], run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists() and not (tmp_path / "edge").exists()


def test_calibrate_takes_the_classes_of_the_model_only(exported):
    with pytest.raises(ValueError, match=r"only the model has 5, 6, 7, 8, 9. Choose"):
        workflows.calibrate(model=exported[0], known="digits[0-4]")
    with pytest.raises(ValueError, match=r"only the model has 0, .*source has A, C, D"):
        workflows.calibrate(model=exported[0], known="glyphs")
    with pytest.raises(ValueError, match=r"'mnist' comes with ood_keras.*DIR/1"):
        workflows.calibrate(model="mnist", known="digits")


class Begun(Exception):
    """Raised where the training would begin."""


@pytest.fixture
def begin(monkeypatch):
    """A function that calls `train` up to the training; returns the settings."""
    settings = []

    def fit(*_, run_dir, **arguments):
        settings.append(arguments["settings"])
        run_dir.mkdir()
        run = {"settings": arguments["settings"], "seed": 0}
        (run_dir / "run.json").write_text(json.dumps(run))
        (run_dir / "model.keras").touch()
        raise Begun

    monkeypatch.setattr(training, "fit", fit)

    def begin(**arguments):
        with pytest.raises(Begun):
            workflows.train(recipe="demo", **arguments)
        return settings[-1]

    return begin


def test_another_number_of_judges_gets_the_same_images_again(begin, tmp_path):
    known = write_npz(tmp_path / "known.npz")
    judges = [
        write_npz(tmp_path / f"{name}.npz", num_classes=2, count=600, seed=seed)
        for seed, name in enumerate("abc", 1)
    ]
    settings = begin(known=known, unknown=judges[:2], run_dir=tmp_path / "run")
    for chosen, counts in (
        (judges[:1], [250]),
        (judges[:2], [250, 250]),
        (judges, [250, 250, 166]),
        (judges[2:], [500]),
    ):
        data = run_data.load_run_data(tmp_path / "run", ["glyphs"], None, chosen)
        images = [len(labels) for _, labels in data.judging["unknown"]]
        assert sum(images) == sum(counts)
        assert data.settings["data"] == settings["data"]


def test_images_of_the_training_are_no_test_under_another_name(begin, tmp_path):
    exposed = write_npz(tmp_path / "exposed.npz", seed=1)
    begin(
        known=write_npz(tmp_path / "known.npz"),
        unknown=[exposed],
        run_dir=tmp_path / "run",
    )
    arrays = dict(np.load(tmp_path / "exposed.npz"))
    write_npz(tmp_path / "copy.npz", seed=2)
    copy = dict(np.load(tmp_path / "copy.npz"))
    copy |= {"x_test": arrays["x_train"][:20], "y_test": arrays["y_train"][:20]}
    np.savez(tmp_path / "copy.npz", **copy)
    with pytest.raises(ValueError, match=r"are in both .*for unknown test"):
        run_data.load_run_data(tmp_path / "run", [f"npz:{tmp_path / 'copy.npz'}"])


def test_pictures_of_different_sizes_are_trained_on_in_one(begin, tmp_path):
    from PIL import Image

    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for size in range(8, 16):
            picture = Image.fromarray(generator.integers(0, 256, (size, 9), np.uint8))
            picture.save(tmp_path / "pets" / name / f"{size}.png")
    arguments = {"known": f"folder:{tmp_path / 'pets'}", "unknown": ["synthetic"]}
    with pytest.raises(ValueError, match="--image_shape=H,W,C of ood-train"):
        workflows.train(run_dir=tmp_path / "run", recipe="demo", **arguments)
    settings = begin(
        run_dir=tmp_path / "run", image_shape=["30", "29", "3"], **arguments
    )
    assert settings["image_shape"] == [30, 29, 3]
    # What resumes an earlier run has no new entry.
    plain = begin(known="digits", unknown=["synthetic"], run_dir=tmp_path / "plain")
    assert settings.keys() - {"formats", "group_by"} == plain.keys()
    data = run_data.load_run_data(tmp_path / "run", ["uniform_noise"])
    assert data.known.test.image_shape == (30, 29, 3)
    assert data.tests["uniform_noise"].image_shape == (30, 29, 3)


def test_image_shape_on_the_command_line(monkeypatch, tmp_path):
    received = {}

    monkeypatch.setattr(
        training_workflow, "train", lambda **arguments: received.update(arguments)
    )
    command = ["ood-train", "--known=digits", f"--run_dir={tmp_path}"]
    for arguments, expected in (
        ([], None),
        (["--image_shape=32,30,3"], ["32", "30", "3"]),
    ):
        monkeypatch.setattr("sys.argv", [*command, *arguments])
        train_command.main()
        assert received["image_shape"] == expected


def test_samples_of_a_long_spec_and_after_a_kill(tmp_path):
    test = pipelines.load("digits").test
    long = dataclasses.replace(test, source="folder:" + "/pictures" * 30)
    other = dataclasses.replace(test, source=long.source.replace("p", "q", 1))
    paths = samples.write_samples(tmp_path, [test, long, other])
    assert len(set(paths)) == len(list(tmp_path.iterdir())) == 3 * 64
    assert paths[0].name == "digits_00_0.png"
    (tmp_path / ".digits_00_0.png.123.tmp.png").write_bytes(b"\x89PNG half")
    assert len(samples.read_samples(tmp_path, test.image_shape)) == 3 * 64


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_samples_are_what_a_png_can_hold(tmp_path, channels):
    shape = (70, 1, 6, channels)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    split = pipelines.Split("made", "test", images, np.full(70, -1, np.int32))
    paths = samples.write_samples(tmp_path, [split])
    read = samples.read_samples(tmp_path, shape[1:])
    if channels == 5:
        assert paths == [] and read is None
    else:
        assert len(paths) == 64
        np.testing.assert_allclose(read, images[:64] / np.float32(255))


def transparent_pictures(folder, names=("cat", "dog"), seed=0):
    """Two classes of pictures that are noise in grey and in alpha."""
    from PIL import Image

    generator = np.random.default_rng(seed)
    for name in names:
        (folder / name).mkdir(parents=True)
        for index in range(8):
            pixels = generator.integers(0, 256, (28, 29, 2)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return f"folder:{folder}"


@pytest.mark.parametrize(
    ("background", "level"), [("black", 0), ("9", 9), (200, 200), ("white", 255)]
)
def test_the_background_of_a_run_is_that_of_its_measuring(
    begin, tmp_path, background, level
):
    known = transparent_pictures(tmp_path / "pets")
    run_dir = tmp_path / "run"
    arguments = {"known": known, "unknown": ["uniform_noise"], "run_dir": run_dir}
    if background == "white":
        settings = begin(**arguments)
    else:
        settings = begin(background=background, **arguments)
    assert settings["background"] == level
    # Whose fingerprints are compared with those of the training.
    new = transparent_pictures(tmp_path / "new", "ab", seed=1)
    data = run_data.load_run_data(run_dir, [new])
    of_known, of_new = (
        {
            grey: pipelines.load(spec, background=grey, group_by=settings["group_by"])
            for grey in (level, 100)
        }
        for spec in (known, new)
    )
    for split, expected, other in (
        (data.known.test, of_known[level].test, of_known[100].test),
        # What is only tested on is tested on as a whole.
        (data.tests[new], of_new[level].whole_test(), of_new[100].whole_test()),
    ):
        np.testing.assert_array_equal(split.images, expected.images)
        assert not np.array_equal(expected.images, other.images)
    assert data.known.background == level


def test_a_run_of_before_there_was_a_background_drops_alpha(monkeypatch, tmp_path):
    settings = []

    def begin(*_, **options):
        settings.append(options["settings"])
        raise Begun

    monkeypatch.setattr(training, "fit", begin)
    known, run_dir = transparent_pictures(tmp_path / "pets"), tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "run.json").write_text(json.dumps({"settings": {}, "seed": 0}))
    with pytest.raises(Begun):
        workflows.train(
            known=known, unknown=["uniform_noise"], run_dir=run_dir, recipe="demo"
        )
    (run,) = settings
    # As it was: a new entry would make it another run.
    assert "background" not in run and "exif_orientation" not in run
    (run_dir / "run.json").write_text(json.dumps({"settings": run, "seed": 0}))
    (run_dir / "model.keras").touch()
    data = run_data.load_run_data(run_dir, ["gaussian_noise"])
    assert data.known.background is None and not data.known.exif_orientation
    np.testing.assert_array_equal(
        data.known.test.images, pipelines.load(known, background=None).test.images
    )


def test_a_background_that_is_none_is_explained(tmp_path):
    with pytest.raises(ValueError, match="white, black, or a grey level"):
        workflows.train(
            known="digits",
            unknown=["synthetic"],
            run_dir=tmp_path,
            recipe="demo",
            background="red",
        )


def write_unknown_pictures(folder, count=30):
    from PIL import Image

    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (28, 28), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return f"folder:{folder}"


def test_a_folder_of_unknown_pictures_is_tested_on_as_a_whole(run_dir, tmp_path):
    spec = write_unknown_pictures(tmp_path / "any")
    data = run_data.load_run_data(run_dir, [spec, "glyphs"])
    assert len(data.tests[spec]) == 30 and len(data.tests["glyphs"]) == 2592
    assert data.fingerprints[f"{spec}/test"]["images"] == 30
    # What selects the detector is not tested on.
    data = run_data.load_run_data(run_dir, [spec], validation_unknown=[spec])
    assert len(data.tests[spec]) == 6


def test_evaluate_says_how_many_images_were_tested(run_dir, monkeypatch, capsys):
    class Report:
        metrics = {  # noqa: RUF012
            "data": {
                "digits/test": {"images": 359},
                "folder:a/b/test": {"images": 1800},
            }
        }
        verdict = "Verdict: do not ship this model."

    monkeypatch.setattr(measuring, "evaluate", lambda **_: Report())
    monkeypatch.setattr(
        "sys.argv", ["ood-evaluate", "--run_dir=runs/a", "--unknown=folder:a/b"]
    )
    evaluate_command.main()
    shown = capsys.readouterr().out
    assert "359 images of digits\n" in shown
    assert "1,800 images of folder:a/b\n" in shown
    assert shown.index("Verdict: do not ship") > shown.index("1,800 images")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", "[]", "3"])
def test_a_record_that_is_none_is_refused(text, edited):
    with pytest.raises(ValueError, match=r"is not the run\.json of a run"):
        workflows.evaluate(run_dir=edited(text), unknown=["glyphs"])


def test_names_that_nobody_registered_are_said_before_anything_is_read(tmp_path):
    nowhere = {"run_dir": tmp_path / "nowhere", "output": tmp_path / "out"}
    with pytest.raises(ValueError, match=r"method 'conformel'.*conformal, conf"):
        workflows.export(**nowhere, method="conformel")
    with pytest.raises(ValueError, match="'lowest_cost' needs"):
        workflows.calibrate(
            model=tmp_path / "nowhere", known="digits", method="lowest_cost"
        )
    with pytest.raises(ValueError, match="name sources of them as --unknown"):
        workflows.calibrate(
            model=tmp_path / "nowhere",
            known="digits",
            method="lowest_cost",
            prior_unknown=0.1,
        )
    with pytest.raises(ValueError, match=r"takes no prior_unknown"):
        workflows.export(**nowhere, prior_unknown=0.1)
    with pytest.raises(ValueError, match="unknown metric 'fpr98'"):
        workflows.evaluate(
            run_dir=tmp_path / "nowhere", unknown=["glyphs"], further_metrics=["fpr98"]
        )
