"""Features of one length in training, as in T2FNorm."""

import keras
import numpy as np
import pytest

from ood_keras import models
from ood_keras.layers import TrainTimeNorm


def test_scales_in_training_alone():
    features = np.random.default_rng(0).normal(size=(9, 5)).astype("float32")
    layer = TrainTimeNorm(0.25)
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    scaled = layer(features, training=True)
    np.testing.assert_allclose(scaled, features / (0.25 * lengths), rtol=1e-5)
    for training in (False, None):
        np.testing.assert_array_equal(layer(features, training=training), features)
    assert np.isfinite(layer(np.zeros((2, 5)), training=True)).all()


def test_stands_between_features_and_logits():
    # So many units that no image leaves all of them at 0, which has no length.
    keras.utils.set_random_seed(0)
    model = models.residual(
        (16, 16, 3), 3, filters=(4, 6), hidden_size=64, feature_temperature=0.5
    )
    layer = model.get_layer("feature_norm")
    assert layer.input is model.get_layer("features").output
    assert model.get_layer("logits").input is layer.output
    images = np.random.default_rng(0).random((8, 16, 16, 3), "float32")
    inputs = keras.Model(model.input, layer.output)(images, training=True)
    np.testing.assert_allclose(np.linalg.norm(inputs, axis=1), 2.0, rtol=1e-4)


@pytest.mark.parametrize("temperature", [0, -1, None, "0.1"])
def test_temperatures_that_are_none(temperature):
    with pytest.raises(ValueError, match="`temperature` must be a number"):
        TrainTimeNorm(temperature)
