"""Squeeze-and-excitation against a pixel-by-pixel reference."""

import numpy as np
import pytest
from references import layers_reference

from ood_keras.layers import SqueezeExcitation


def test_equals_the_reference():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 5, 4, 8)).astype("float32")
    layer = SqueezeExcitation(ratio=2)
    layer.build(x.shape)
    weights = [rng.normal(size=w.shape) for w in layer.get_weights()]
    layer.set_weights(weights)
    expected = layers_reference.squeeze_excitation(x, *weights)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_fewer_channels_than_the_ratio_keep_one_hidden_unit():
    layer = SqueezeExcitation(ratio=16)
    layer.build((None, 8, 8, 3))
    assert layer.hidden.units == 1


@pytest.mark.parametrize("ratio", [0, -1, 1.5, True])
def test_ratio_out_of_range_is_an_error(ratio):
    with pytest.raises(ValueError, match="`ratio` must be an integer >= 1"):
        SqueezeExcitation(ratio=ratio)


@pytest.mark.parametrize("shape", [(2, 8), (2, 8, 8), (2, 8, 8, None)])
def test_wrong_shape_is_an_error(shape):
    with pytest.raises(ValueError, match="expects images or feature maps of shape"):
        SqueezeExcitation().build(shape)
