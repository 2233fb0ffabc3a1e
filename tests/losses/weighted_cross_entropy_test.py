"""Weighted cross-entropy against decimal arithmetic and hand-worked numbers."""

import numpy as np
import pytest
from references import losses_reference

from ood_keras.losses import WeightedCrossEntropy
from ood_keras.losses.weighted_cross_entropy import log_probabilities


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("scale", [1, 30, 10_000])
def test_equals_the_reference(beta, scale):
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 64)
    logits = (scale * rng.uniform(-1, 1, (64, 5))).astype("float32")
    loss = WeightedCrossEntropy(4, beta, reduction=None)
    expected = losses_reference.weighted_cross_entropy(labels, logits, 4, beta)
    np.testing.assert_allclose(loss(labels, logits), expected, rtol=1e-5, atol=1e-7)


def test_hand_worked_numbers():
    # Softmax (1/2, 1/4, 1/4), N = 2.
    logits = np.log([[0.5, 0.25, 0.25]] * 3).astype("float32")
    half, quarter, rest = np.log(2), np.log(4), np.log(4 / 3)
    values = WeightedCrossEntropy(2, beta=0.9, reduction=None)([0, 1, -1], logits)
    expected = [
        0.9 * half + 0.1 * (rest + rest),
        0.9 * quarter + 0.1 * (half + rest),
        (quarter + half + rest) / 2,
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_default_beta_balances_one_output_with_the_n_others():
    logits = np.random.default_rng(0).normal(size=(8, 11)).astype("float32")
    labels = np.arange(8)
    balanced = WeightedCrossEntropy(10)(labels, logits)
    np.testing.assert_allclose(
        balanced, WeightedCrossEntropy(10, beta=10 / 11)(labels, logits)
    )


@pytest.mark.parametrize(
    "logits",
    [
        [0.0, -20.0, -40.0],  # 1 - p_0 = 2e-9 is lost in float32
        [0.0, 0.0, 0.0],
        [5.0, 5.0, -5.0],  # two largest
        [1e4, 1e4 - 1, 0.0],
        [-1e4, 1e4, 0.0],
    ],
)
def test_log_probabilities_are_exact_next_to_zero_and_one(logits):
    z = np.array(logits)
    others = [np.delete(z, k) for k in range(3)]
    total = np.logaddexp.reduce(z)
    log_p, log_not_p = log_probabilities(z[None].astype("float32"))
    np.testing.assert_allclose(log_p[0], z - total, rtol=1e-5, atol=1e-7)
    expected = [np.logaddexp.reduce(rest) - total for rest in others]
    np.testing.assert_allclose(log_not_p[0], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan"), "0.5"])
def test_beta_out_of_range_is_an_error(beta):
    with pytest.raises(ValueError, match=r"`beta` must be a number in \[0, 1\]"):
        WeightedCrossEntropy(10, beta=beta)


def test_unknown_weight_stands_in_for_one_over_n():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 64)
    logits = rng.normal(size=(64, 5)).astype("float32")
    loss = WeightedCrossEntropy(4, 0.7, unknown_weight=1.5, reduction=None)
    expected = losses_reference.weighted_cross_entropy(labels, logits, 4, 0.7, 1.5)
    np.testing.assert_allclose(loss(labels, logits), expected, rtol=1e-5)


def test_negative_unknown_weight_is_an_error():
    with pytest.raises(ValueError, match=r"`unknown_weight` must be a number in \[0, "):
        WeightedCrossEntropy(10, unknown_weight=-0.5)
