"""`ood-convert`, on the small model of the export tests' kind."""

import contextlib
import json
import pathlib

import keras
import numpy as np
import pytest

from ood_keras import calibration, detectors, export, files, pipelines
from ood_keras.export import parity
from ood_keras.inference import manifest
from ood_keras.workflows import conversion, run_data


@pytest.fixture(scope="module")
def digits():
    return pipelines.load("digits")


@pytest.fixture(scope="module")
def model(digits, tmp_path_factory):
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input(digits.image_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    detector = detectors.get("energy", num_classes=10).fit(network)
    scores = detector.score(digits.validation.dataset())
    with pytest.MonkeyPatch.context() as patch:
        # That it equals the live model is proved elsewhere, in a slow fresh process.
        patch.setattr(parity, "check", lambda *_: {})
        patch.setattr(parity, "FreshProcess", contextlib.nullcontext)
        return export.saved_model(
            network,
            detector,
            calibration.conformal(scores, 0.9),
            tmp_path_factory.mktemp("digits") / "1",
            operating_points={"strict": calibration.conformal(scores, 0.5)},
            training={"known": "digits", "unknown": ["uniform_noise"]},
        )


def test_all_files_come_with_reports_and_are_opened_by_their_path(
    model, digits, tmp_path
):
    path, table = conversion.convert(
        model=model, output=tmp_path / "edge", formats=["float16", "onnx", "browser"]
    )
    found = {str(file.relative_to(path)) for file in path.rglob("*.*")}
    assert found == {
        *(
            f"browser/{name}"
            for name in (
                "README.md",
                "index.html",
                "labels.json",
                "model.onnx",
                "model.tflite",
                "ood.js",
                "package.json",
            )
        ),
        "onnx/manifest.json",
        "onnx/model.onnx",
        "onnx/parity.json",
        "tflite/float16/manifest.json",
        "tflite/float16/model.tflite",
        "tflite/parity.json",
    }
    report = json.loads((path / "onnx" / "parity.json").read_text())
    assert report["num_known"] == len(digits.validation)
    assert report["num_unknown"] > 0
    lines = table.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["SavedModel", "onnx", "float16"]
    assert f"{report['files']['onnx']['auroc']:.2%}" in lines[2]
    # Made for the page alone, and so not kept.
    assert lines[4].split()[0] == "float32"
    labels = json.loads((path / "browser/labels.json").read_text())
    assert labels["class_names"] == [str(digit) for digit in range(10)]
    assert list(labels["runtimes"]) == ["onnx", "litert"]
    images = next(iter(digits.validation.dataset()))[0].numpy()
    reference = export.load(model)
    for name in ("onnx/model.onnx", "tflite/float16"):
        predictor = export.load(path / name)
        strict = predictor.predict(images, threshold="strict")
        expected = reference.predict(images, threshold="strict")
        assert np.mean(strict["accepted"] == expected["accepted"]) > 0.98
        assert strict["accepted"].sum() < predictor.predict(images)["accepted"].sum()


def test_known_images_of_another_place_and_another_share(model, digits, tmp_path):
    arrays = {}
    for split in (digits.train, digits.validation, digits.test):
        arrays[f"x_{split.role}"] = split.images
        arrays[f"y_{split.role}"] = split.labels
    np.savez(tmp_path / "other.npz", **arrays)
    path, table = conversion.convert(
        model=model,
        output=tmp_path / "edge",
        known=f"npz:{tmp_path / 'other.npz'}",
        formats=["onnx"],
        target_acceptance=0.6,
    )
    report = json.loads((path / "onnx" / "parity.json").read_text())
    assert report["num_unknown"] == 0
    assert report["files"]["onnx"]["accepted_known"] == pytest.approx(0.6, abs=0.02)
    assert "auroc" not in report["files"]["onnx"]
    assert export.load(path / "onnx").operating_points == {}
    assert "and 0 unknown" in table


@pytest.fixture
def converted(model, monkeypatch):
    """Converts with the manifest changed; returns what the formats are given."""
    given, read = {}, manifest.read

    def convert(output, changes, **options):
        monkeypatch.setattr(manifest, "read", lambda path: {**read(path), **changes})

        def write(kind, path, folder, choices, images):
            given.update(images)
            place = folder / kind.name
            place.mkdir()
            entry = {"num_known": 0, "num_unknown": 0, "saved_model": {}, "files": {}}
            files.write_json(place / "parity.json", entry)
            return place

        monkeypatch.setattr(conversion, "write", write)
        _, said = conversion.convert(
            model=model, output=output, formats=["onnx"], **options
        )
        return {
            name: np.concatenate([batch.numpy() for batch, _ in given[name]])
            for name in ("known_images", "unknown_images")
            if given.get(name) is not None
        }, said

    return convert


TRAINING = {"known": "digits", "unknown": ["uniform_noise"]}
RENDERED = {"recipe": {"name": "mine", "validation_augment": "mild_rendering"}}


@pytest.mark.parametrize(
    ("changes", "known", "augmentation"),
    [
        ({"training": {**TRAINING, **RENDERED}}, None, "mild_rendering"),
        ({"training": {**TRAINING, **RENDERED}}, "digits", "mild_rendering"),
        (
            {
                "training": {**TRAINING, **RENDERED},
                "metrics": {"validation_augment": "random_shift"},
            },
            None,
            "random_shift",
        ),
        (
            {
                "training": {**TRAINING, **RENDERED},
                "metrics": {"validation_augment": "none"},
            },
            None,
            None,
        ),
        # An older one, one of no recipe, one that ood-calibrate wrote.
        ({"training": {**TRAINING, "recipe": {"name": "fast"}}}, None, None),
        ({"training": {**TRAINING, "recipe": "by hand"}, "metrics": [1]}, None, None),
        (
            {"training": {**TRAINING, **RENDERED}, "recalibrated_from": {}},
            None,
            None,
        ),
        # The user's images.
        (
            {"training": {**TRAINING, **RENDERED, "known": "another"}},
            "digits",
            None,
        ),
    ],
)
def test_the_threshold_is_chosen_on_images_rendered_as_the_models_was(
    converted, digits, tmp_path, changes, known, augmentation
):
    found, said = converted(
        tmp_path / "edge", changes, known=known, unknown=["uniform_noise"]
    )
    noise = pipelines.load("uniform_noise", known=digits).validation
    for name, split in (
        ("known_images", digits.validation),
        ("unknown_images", noise.take(min(5000, len(noise)))),
    ):
        if augmentation is not None:
            split = pipelines.augment_once(split, augmentation)
        expected = split.images / np.float32(255)
        np.testing.assert_allclose(found[name], expected, atol=1e-6)
    assert ("rendered by" in said) == (augmentation is not None)
    assert augmentation is None or f"rendered by {augmentation}" in said


def test_the_models_own_images_are_known_wherever_they_are(converted, digits, tmp_path):
    data = {"another/validation": {"sha256": digits.validation.fingerprint()}}
    training = {**TRAINING, **RENDERED, "known": "another", "data": data}
    _, said = converted(tmp_path / "edge", {"training": training}, known="digits")
    assert "rendered by mild_rendering" in said


@pytest.mark.parametrize(
    ("name", "augmentation"),
    [
        ("mnist/1", None),
        ("mnist/2", "random_rendering"),
        ("mnist/3", "mild_rendering"),
        ("fashion_mnist/1", None),
        ("fashion_mnist/2", "random_photo_rendering"),
    ],
)
def test_what_ships_says_how_its_validation_images_were_rendered(name, augmentation):
    content = json.loads(pathlib.Path(f"saved_models/{name}/manifest.json").read_text())
    assert run_data.recorded_augmentation(content) == augmentation
    protocol = content["training"]["protocol"]
    if "validation images for" in protocol:
        assert augmentation in protocol


def test_what_cannot_be_done_is_said_and_leaves_nothing(model, tmp_path):
    output = tmp_path / "edge"
    with pytest.raises(ValueError, match=r"some of float32,.*Received: int4"):
        conversion.convert(model=model, output=output, formats=["int4"])
    with pytest.raises(FileNotFoundError, match="not an exported model"):
        conversion.convert(model=tmp_path / "nothing", output=output)
    with pytest.raises(ValueError, match="only the model has 5, 6, 7, 8, 9"):
        conversion.convert(model=model, output=output, known="digits[0-4]")
    assert not output.exists()
    output.mkdir()
    with pytest.raises(FileExistsError, match="never overwritten"):
        conversion.convert(model=model, output=output)


def test_a_file_that_decides_many_images_otherwise_is_named():
    def entry(equal):
        return {
            "bytes": 1024,
            "equal_decisions_before": 1.0,
            "equal_decisions_after": equal,
            "accepted_known": 0.95,
            "latency_ms": 1.0,
        }

    report = {
        "num_known": 100,
        "num_unknown": 0,
        "saved_model": {},
        "files": {"float16": entry(0.99), "int8": entry(0.175)},
    }
    said = conversion.table([report])
    assert "Look before you ship int8: it decides only 17.5 % of these" in said
    assert "ship float16" not in said


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_any_channels_are_read_for_a_model_of_such(
    channels, tmp_path, monkeypatch
):
    shape = (6, 5, channels)
    images = np.random.default_rng(0).integers(0, 256, (30, *shape), np.uint8)
    np.savez(tmp_path / "some.npz", images=images, labels=np.arange(30) % 3)
    content = {"input": {"image": {"shape": [None, *shape]}}}
    monkeypatch.setattr(conversion.manifest, "read", lambda _: content)
    spec = f"npz:{tmp_path}/some.npz"
    known = conversion._load(spec, None, tmp_path)
    assert known.image_shape == shape
    again = conversion._load(spec, None, tmp_path, known=known)
    assert again.validation.fingerprint() == known.validation.fingerprint()
