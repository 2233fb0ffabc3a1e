"""The whole job in one process, on data that needs no download."""

import csv
import dataclasses
import json
import re

import keras
import numpy as np
import pytest

from ood_keras import export as exporting
from ood_keras import pipelines, training
from ood_keras.pipelines import recipes
from ood_keras.tools import app, conversion, jobs
from ood_keras.tools import train as train_command

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
        # Training was shown synthetic outliers, white noise among them.
        for source, result in detector["unknown"].items():
            assert result["seen"] is (source == "uniform_noise")


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
    assert jobs.objectosphere_on(recipe) == on


def test_evaluate_goes_by_what_the_loss_was(tmp_path):
    changes = {"loss": "entropic_open_set", "objectosphere_on": "features"}
    recipe = recipes.get("demo", epochs=1, gamma=50.0, **changes)
    jobs.train(known="digits", unknown=["synthetic"], run_dir=tmp_path, recipe=recipe)
    report = jobs.evaluate(run_dir=tmp_path, unknown=["glyphs"])
    # There is no unknown class.
    assert set(report.metrics["detectors"]) == set(jobs.DETECTORS[1:])
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
        ({"overrides": ["epochs=0"]}, "`epochs` must be an integer >= 1.*epochs=0"),
        ({"overrides": ["epochs=two"]}, "`epochs` must be .*epochs='two'"),
    ],
)
def test_bad_arguments_are_refused_before_training(arguments, message, tmp_path):
    arguments = {"known": "digits", "unknown": ["glyphs"], "recipe": "demo"} | arguments
    with pytest.raises(ValueError, match=message):
        jobs.train(run_dir=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("word", ["null", "None", "none"])
def test_an_override_can_be_none(word):
    fields = ("unknown_images", "beta", "augment")
    overrides = jobs._parse_overrides([f"{field}={word}" for field in fields])
    assert overrides == dict.fromkeys(fields)
    # Which is also what a block is called.
    assert jobs._parse_overrides(["block=none"]) == {"block": "none"}


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
    ],
)
def test_a_source_exposed_in_part_is_seen(spec, exposed, seen):
    assert (spec in jobs.seen([spec], ["digits", exposed])) == seen


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
            jobs.calibrate(model=exported[0], known=known)
        with pytest.raises(ValueError, match="known images need a class"):
            conversion.convert(model=exported[0], known=known, output=tmp_path / "edge")
        with pytest.raises(ValueError, match="known images need a class"):
            jobs.train(known=known, unknown=["glyphs"], run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists() and not (tmp_path / "edge").exists()


def test_calibrate_takes_the_classes_of_the_model_only(exported):
    with pytest.raises(ValueError, match=r"only the model has 5, 6, 7, 8, 9. Choose"):
        jobs.calibrate(model=exported[0], known="digits[0-4]")
    with pytest.raises(ValueError, match=r"only the model has 0, .*source has A, C, D"):
        jobs.calibrate(model=exported[0], known="glyphs")
    with pytest.raises(ValueError, match=r"'mnist' comes with ood_keras.*DIR/1"):
        jobs.calibrate(model="mnist", known="digits")


class Begun(Exception):
    """Raised where the training would begin."""


@pytest.fixture
def begin(monkeypatch):
    """A function that calls `jobs.train` up to the training; returns the settings."""
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
            jobs.train(recipe="demo", **arguments)
        return settings[-1]

    return begin


def test_another_number_of_judges_gets_the_same_images_again(begin, tmp_path):
    known = write_npz(tmp_path / "known.npz")
    judges = [
        write_npz(tmp_path / f"{name}.npz", num_classes=2, count=2600, seed=seed)
        for seed, name in enumerate("abc", 1)
    ]
    settings = begin(known=known, unknown=judges[:2], run_dir=tmp_path / "run")
    for chosen, counts in (
        (judges[:1], [2500]),
        (judges[:2], [2500, 2500]),
        (judges, [2500, 2500, 1666]),
        (judges[2:], [2600]),
    ):
        data = jobs.load_measured(tmp_path / "run", ["glyphs"], None, chosen)
        images = [len(labels) for _, labels in data.unknown_validation]
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
        jobs.load_measured(tmp_path / "run", [f"npz:{tmp_path / 'copy.npz'}"])


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
        jobs.train(run_dir=tmp_path / "run", recipe="demo", **arguments)
    settings = begin(
        run_dir=tmp_path / "run", image_shape=["30", "29", "3"], **arguments
    )
    assert settings["image_shape"] == [30, 29, 3]
    # What resumes an earlier run has no new entry.
    plain = begin(known="digits", unknown=["synthetic"], run_dir=tmp_path / "plain")
    assert settings.keys() == plain.keys()
    data = jobs.load_measured(tmp_path / "run", ["uniform_noise"])
    assert data.known.test.image_shape == (30, 29, 3)
    assert data.tests["uniform_noise"].image_shape == (30, 29, 3)


def test_image_shape_on_the_command_line(monkeypatch, tmp_path):
    received = {}

    class Jobs:
        @staticmethod
        def train(**arguments):
            received.update(arguments)

    monkeypatch.setattr(app, "load_jobs", Jobs)
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
    paths = jobs.write_samples(tmp_path, [test, long, other])
    assert len(set(paths)) == len(list(tmp_path.iterdir())) == 3 * 64
    assert paths[0].name == "digits_00_0.png"
    (tmp_path / ".digits_00_0.png.123.tmp.png").write_bytes(b"\x89PNG half")
    assert len(jobs._read_samples(tmp_path, test.image_shape)) == 3 * 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "expected JSON"),
        ("[" * 10**5, "expected JSON"),
        ("[]", 'an object "settings"'),
        ({"settings": 3}, 'an object "settings"'),
        ({"seed": "7"}, "'seed' to be a whole number, and not '7'"),
        ({"known": None}, "'known' to be a text, and not None"),
        ({"unknown": "kmnist"}, "'unknown' to be a list of texts"),
        ({"class_names": ["a", 2]}, "'class_names' to be a list of two or more"),
        ({"image_shape": [28, 28.0, 1]}, "'image_shape' to be a list of three whole"),
        ({"recipe": []}, "'recipe' to be an object"),
        ({"recipe": ...}, "'recipe' to be an object, and not 'nothing'"),
    ],
)
def test_an_edited_run_json_says_which_entry_is_wrong(change, message, tmp_path):
    settings = {
        "known": "mnist",
        "unknown": ["kmnist"],
        "class_names": ["a", "b"],
        "image_shape": [28, 28, 1],
        "recipe": {"name": "fast"},
    }
    run = {"settings": settings, "seed": 7}
    (tmp_path / "model.keras").touch()
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run))
    assert jobs.run_settings(tmp_path) == {**settings, "seed": 7}
    if isinstance(change, str):
        path.write_text(change)
    else:
        ((name, value),) = change.items()
        place = run if name in run else settings
        place[name] = value
        if value is ...:
            del place[name]
        path.write_text(json.dumps(run))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        jobs.run_settings(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("entries", [{"name": "fast", "speed": 3}, {"epochs": "many"}])
def test_an_edited_recipe_is_no_recipe(entries):
    with pytest.raises(ValueError, match=r"the recipe in run\.json is not what"):
        jobs.usual_detectors([entries])
