"""The sum of both losses (Eq. 4) against the references of its parts."""

import numpy as np
import pytest
from references import losses_reference

from ood_keras.losses import OpenSetLoss, WeightedCrossEntropy


@pytest.mark.parametrize("scale", [1, 10_000])
def test_is_the_weighted_sum_of_its_parts(scale):
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 64)
    logits = (scale * rng.uniform(-1, 1, (64, 5))).astype("float32")
    loss = OpenSetLoss(
        4,
        beta=0.6,
        gamma=0.8,
        objectosphere_weight=0.3,
        unknown_weight=0.9,
        reduction=None,
    )
    expected = losses_reference.weighted_cross_entropy(
        labels, logits, 4, 0.6, 0.9
    ) + 0.3 * losses_reference.objectosphere_on_softmax(labels, logits, 4, 0.8)
    np.testing.assert_allclose(loss(labels, logits), expected, rtol=1e-5, atol=1e-6)


def test_without_objectosphere_it_is_the_weighted_cross_entropy():
    logits = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    labels = [0, 1, 2, 3, -1, -1, 0, 1]
    np.testing.assert_array_equal(
        OpenSetLoss(4, objectosphere_weight=0.0)(labels, logits),
        WeightedCrossEntropy(4)(labels, logits),
    )


@pytest.mark.parametrize("weight", [-1.0, None, "0.1", float("inf")])
def test_weight_out_of_range_is_an_error(weight):
    message = r"`objectosphere_weight` must be a number in \[0, inf\)"
    with pytest.raises(ValueError, match=message):
        OpenSetLoss(10, objectosphere_weight=weight)
