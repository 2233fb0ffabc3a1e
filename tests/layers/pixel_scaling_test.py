"""The two ends of an adopted network."""

import json
import types

import keras
import numpy as np
import pytest

from ood_keras.layers import LogitsOfProbabilities, PixelScaling
from ood_keras.workflows.adoption import pixel_ranges


def test_pixels_are_scaled_in_float32_under_any_policy():
    image = np.array([0.0, 0.25, 1.0], np.float32).reshape(1, 1, 1, 3)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = PixelScaling([255, 2, 4], [0, -1, 0.5], reverse_channels=True)
    finally:
        keras.config.set_dtype_policy("float32")
    made = layer(image)
    assert keras.backend.standardize_dtype(made.dtype) == "float32"
    np.testing.assert_allclose(np.ravel(made), [255, -0.5, 0.5])
    with pytest.raises(ValueError, match="`scale` has 2 numbers for 3 channels"):
        PixelScaling([1.0, 2.0])(image)


@pytest.mark.parametrize("number", [np.float32(255), np.int64(255), np.array(255.0)])
def test_a_number_of_numpy_is_one_number(number):
    layer = PixelScaling(number, -number)
    config = json.loads(json.dumps(layer.get_config()))
    assert (config["scale"], config["offset"]) == (255.0, -255.0)
    image = np.ones((1, 1, 1, 3), np.float32)
    np.testing.assert_array_equal(PixelScaling.from_config(config)(image), 0 * image)


def test_a_preprocessor_may_hold_numbers_of_numpy():
    """Those of KerasHub are read from JSON, and set by hand too."""
    converter = types.SimpleNamespace(
        scale=np.float32(0.5), offset=np.array(-1.0), image_size=None
    )
    preprocessor = types.SimpleNamespace(image_converter=converter)
    pixels, size = pixel_ranges.of_preprocessor(preprocessor)
    assert (pixels.scale, pixels.offset, size) == (127.5, -1.0, None)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_a_softmax_is_given_back(num_classes):
    logits = np.random.default_rng(0).normal(0, 3, (20, num_classes))
    exponentials = np.exp(logits)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    found = np.asarray(LogitsOfProbabilities()(probabilities.astype(np.float32)))
    centred = logits - logits.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, centred, atol=1e-4)


def test_sigmoids_are_undone_and_extremes_stay_finite():
    log_odds = np.array([[-6.0, 0.0, 2.0]])
    sigmoids = 1 / (1 + np.exp(-log_odds))
    layer = LogitsOfProbabilities("sigmoid")
    np.testing.assert_allclose(layer(sigmoids.astype(np.float32)), log_odds, rtol=1e-3)
    for activation in ("softmax", "sigmoid"):
        made = LogitsOfProbabilities(activation)(np.array([[0.0, 1.0]], np.float32))
        made = np.asarray(made)
        assert np.isfinite(made).all()
        assert made[0, 0] < -7 < 7 < made[0, 1]
    with pytest.raises(ValueError, match="'softmax' or 'sigmoid'"):
        LogitsOfProbabilities("relu")
