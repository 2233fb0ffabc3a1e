"""`ood-convert`, on the small model of the export tests' kind."""

import contextlib
import json

import keras
import numpy as np
import pytest

from ood_keras import calibration, detectors, export, pipelines
from ood_keras.export import parity
from ood_keras.workflows import conversion


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
