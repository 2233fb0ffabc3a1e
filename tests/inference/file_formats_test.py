"""The records of file formats: what each names is there, and they name all."""

import configparser
import dataclasses
import inspect
import pathlib

import pytest

from ood_keras import detectors, export, inference
from ood_keras.inference import edge_predictor, file_formats, loading

ROOT = pathlib.Path(__file__).parents[2]

every_format = pytest.mark.parametrize(
    "kind", file_formats.FILE_FORMATS, ids=lambda kind: kind.name
)


@every_format
def test_what_a_record_names_is_there(kind):
    parameters = inspect.signature(getattr(export, kind.name)).parameters
    common = {"known_images", "unknown_images", "target_acceptance"}
    formats = {"formats"} if kind.roundings else set()
    assert set(list(parameters)[2:]) == common | formats
    predictor = getattr(inference, kind.predictor)
    assert issubclass(predictor, edge_predictor.EdgePredictor)
    assert predictor.predict is not edge_predictor.EdgePredictor.predict
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extra = config["options.extras_require"][kind.name]
    assert all(name.replace("_", "-") in extra for name in kind.packages)
    assert kind.name in detectors.Detector.exports


def test_every_class_that_reads_files_has_a_record():
    readers = {
        name
        for name in inference.__all__
        if inspect.isclass(getattr(inference, name))
        and issubclass(getattr(inference, name), edge_predictor.EdgePredictor)
    }
    assert readers == {kind.predictor for kind in file_formats.FILE_FORMATS}


def test_files_of_all_choices_lie_apart():
    choices = [
        (kind.locate(choice), choice)
        for kind in file_formats.FILE_FORMATS
        for choice in kind.choices
    ]
    assert [choice for _, choice in choices] == list(file_formats.CHOICES)
    assert dict(choices)["tflite/int8/model.tflite"] == "int8"
    assert dict(choices)["onnx/model.onnx"] == "onnx"
    assert len(dict(choices)) == len(set(file_formats.CHOICES)) == 5


def test_another_record_is_enough_to_open_its_files(monkeypatch, tmp_path):
    """Neither the function that opens files nor its callers know the formats."""
    other = dataclasses.replace(file_formats.ONNX, name="other", predictor="Reader")
    monkeypatch.setattr(loading, "FILE_FORMATS", (other,))
    monkeypatch.setattr(inference, "Reader", str, raising=False)
    assert loading.kind_of("a/b.other") == "other"
    assert inference.load("a/b.other") == "a/b.other"
    assert loading.kind_of(tmp_path) == "saved_model"
    (tmp_path / "model.other").write_bytes(b"")
    assert inference.load(tmp_path) == str(tmp_path)
