"""A model of JAX or torch, without TensorFlow, is exported under TensorFlow."""

import pathlib

import keras
import numpy as np
import pytest
from backends import BACKENDS
from backends_test import run_on
from small_export import Python

from ood_keras import calibration, detectors, export

SCRIPT = pathlib.Path(__file__).with_name("trained_elsewhere.py")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_served_with_the_scores_that_it_had(backend, tmp_path):
    done = run_on(backend, str(SCRIPT), str(tmp_path))
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "scored.npz") as scored:
        images, expected = scored["images"], scored["scores"]
    # Torch's optimizer is a class that other backends do not have.
    model = keras.models.load_model(
        tmp_path / "model.keras", compile=backend != "torch"
    )
    detector = detectors.load(tmp_path, model)
    scores = detector.score(images)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5 * scale)
    path = export.saved_model(
        model,
        detector,
        calibration.quantile(scores, 0.9),
        tmp_path / "served" / "1",
        class_names=["a", "b", "c"],
    )
    served = Python(path)("serving_default", image=images)
    np.testing.assert_allclose(
        served["ood_score"], scores, rtol=1e-5, atol=1e-6 * scale
    )
    if backend != "torch":
        labels = np.arange(60) % 4 - 1
        model.fit(images, labels, batch_size=20, epochs=1, verbose=0)
