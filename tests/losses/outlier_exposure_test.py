"""Outlier exposure and the entropic open-set loss, which is its case weight = 1."""

import numpy as np
import pytest
from references import losses_reference

from ood_keras.losses import EntropicOpenSet, OutlierExposure


@pytest.mark.parametrize("scale", [1, 30, 10_000])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_equals_the_reference(scale, weight):
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 64)
    logits = (scale * rng.uniform(-1, 1, (64, 4))).astype("float32")
    values = OutlierExposure(4, weight, reduction=None)(labels, logits)
    expected = losses_reference.outlier_exposure(labels, logits, 4, weight)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def test_entropic_open_set_is_weight_one():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 64)
    logits = rng.normal(size=(64, 4)).astype("float32")
    values = EntropicOpenSet(4, reduction=None)(labels, logits)
    expected = losses_reference.outlier_exposure(labels, logits, 4, 1.0)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_documented_weight_gives_the_two_means_of_hendrycks():
    rng = np.random.default_rng(0)
    labels = np.array([0, 1, 2, 3, 0, 1, -1, -1, -1])
    logits = rng.normal(size=(9, 4)).astype("float32")
    each = losses_reference.outlier_exposure(labels, logits, 4, 1.0)
    two_means = each[:6].mean() + 0.5 * each[6:].mean()
    loss = OutlierExposure(4, weight=0.5 * 6 / 3)(labels, logits)
    assert float(loss) == pytest.approx(two_means * 6 / 9, rel=1e-5)


@pytest.mark.parametrize("weight", [-0.5, None, "0.5", float("inf")])
def test_weight_out_of_range_is_an_error(weight):
    with pytest.raises(ValueError, match=r"`weight` must be a number in \[0, inf\)"):
        OutlierExposure(4, weight=weight)
