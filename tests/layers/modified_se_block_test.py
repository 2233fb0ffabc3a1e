"""The modified block against a pixel-by-pixel reference of Figure 1."""

import numpy as np
import pytest
from references import layers_reference

from ood_keras.layers import ModifiedSEBlock


def _with_random_weights(block, shape, rng):
    block.build(shape)
    for weight in block.weights:
        values = rng.normal(size=weight.shape)
        # Variances are positive, and the tests below want distinct branches.
        weight.assign(np.abs(values) if "variance" in weight.path else values)
    return block


def _branch_reference(x, convolution, normalization):
    return layers_reference.branch(
        x,
        np.asarray(convolution.kernel),
        np.asarray(normalization.gamma),
        np.asarray(normalization.beta),
        np.asarray(normalization.moving_mean),
        np.asarray(normalization.moving_variance),
        normalization.epsilon,
    )


def test_equals_the_reference():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 6, 4)).astype("float32")
    block = _with_random_weights(ModifiedSEBlock(filters=3, ratio=2), x.shape, rng)
    kernels = [convolution.kernel.shape for convolution in block.convolutions]
    assert kernels == [(3, 3, 4, 3), (5, 5, 4, 3)]
    branches = map(_branch_reference, [x, x], block.convolutions, block.normalizations)
    stacked = np.concatenate([x, *branches], axis=-1)
    excitation = block.squeeze_excitation.get_weights()
    expected = layers_reference.squeeze_excitation(stacked, *excitation)
    np.testing.assert_allclose(block(x, training=False), expected, rtol=1e-3, atol=1e-4)


def test_default_branches_have_a_quarter_of_the_channels():
    assert ModifiedSEBlock().compute_output_shape((None, 14, 14, 32)) == (
        None,
        14,
        14,
        48,
    )
    assert ModifiedSEBlock().compute_output_shape((1, 9, 9, 1)) == (1, 9, 9, 3)


def test_training_uses_the_statistics_of_the_batch():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 6, 4)).astype("float32")
    block = _with_random_weights(ModifiedSEBlock(filters=3), x.shape, rng)
    # A copy: PyTorch shows the weight itself, which then changes.
    before = np.array(block.normalizations[0].moving_mean)
    at_inference = np.asarray(block(x, training=False))
    in_training = np.asarray(block(x, training=True))
    assert np.abs(at_inference - in_training).max() > 0.01
    after = np.asarray(block.normalizations[0].moving_mean)
    assert np.abs(after - before).min() > 0


@pytest.mark.parametrize("argument", ["filters", "ratio"])
def test_arguments_out_of_range_are_errors(argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be an integer >= 1"):
        ModifiedSEBlock(**{argument: 0})


def test_wrong_shape_is_an_error():
    with pytest.raises(ValueError, match="expects images or feature maps of shape"):
        ModifiedSEBlock().build((2, 8))
