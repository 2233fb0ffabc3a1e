"""A shipped model in today's graph: the same decisions, and today's way with files."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from ood_keras import export
from ood_keras.workflows import reexporting

ROOT = pathlib.Path(__file__).parents[2]
FITTED = ROOT / "saved_models" / "probability_and_log_distances.json"


def test_a_shipped_model_is_exported_again(tmp_path):
    old = export.load("mnist")
    path = reexporting.reexport("mnist", tmp_path / "mnist", FITTED)
    new = export.load(path)
    images = old.known_examples.images[:64].astype(np.float32) / 255
    was, now = old.predict(images), new.predict(images)
    for name in ("class_id", "accepted", "label"):
        np.testing.assert_array_equal(now[name], was[name])
    np.testing.assert_allclose(now["ood_score"], was["ood_score"], atol=1e-5)
    for name in ("class_names", "detector", "threshold", "metrics", "training"):
        assert new.manifest[name] == old.manifest[name]
    for field in dataclasses.fields(old.known_examples):
        np.testing.assert_array_equal(
            *(getattr(model.known_examples, field.name) for model in (old, new))
        )
    # A film behind a photograph, as telephones make it.
    jpeg = tf.io.encode_jpeg(old.known_examples.images[0]).numpy()
    motion = jpeg + b"\xff\xda" * 500
    answer = new.predict_bytes([jpeg, motion, b""])
    np.testing.assert_array_equal(answer["valid"], [True, True, False])
    np.testing.assert_array_equal(*answer["ood_score"][:2])


def test_a_model_of_no_recipe_is_refused(tmp_path, monkeypatch):
    model = export.load("mnist")
    model.manifest["training"] = None
    monkeypatch.setattr(export, "Predictor", lambda path: model)
    with pytest.raises(ValueError, match="made by a recipe"):
        reexporting.reexport("mnist", tmp_path / "mnist")
    assert not (tmp_path / "mnist").exists()


def test_a_detector_that_has_learnt_is_needed(tmp_path):
    with pytest.raises(ValueError, match=r"learnt from features.*RUN/detectors/prob"):
        reexporting.reexport("mnist", tmp_path / "mnist")
    earlier = ROOT / "saved_models" / "mnist" / "2"
    with pytest.raises(ValueError, match="is not the detector of"):
        reexporting.reexport(earlier, tmp_path / "mnist", FITTED)
    assert not (tmp_path / "mnist").exists()
