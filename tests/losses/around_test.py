"""LogitNorm and label smoothing, around losses with and without an unknown class."""

import keras
import numpy as np
import pytest
from references import losses_reference

from ood_keras import losses

RNG = np.random.default_rng(0)
LABELS = RNG.integers(-1, 4, 64)
LOGITS = RNG.normal(size=(64, 5)).astype("float32")
LENGTHS = np.sqrt((LOGITS.astype(np.float64) ** 2).sum(axis=1, keepdims=True))


def log_softmax(logits):
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("temperature", [0.04, 1.0])
def test_logit_norm_is_the_other_loss_on_logits_of_one_length(temperature):
    scaled = LOGITS / (temperature * LENGTHS)
    for inner, expected in (
        (None, -log_softmax(scaled)[np.arange(64), np.where(LABELS < 0, 4, LABELS)]),
        (
            losses.WeightedCrossEntropy(4, beta=0.7),
            losses_reference.weighted_cross_entropy(LABELS, scaled, 4, 0.7),
        ),
    ):
        loss = losses.LogitNorm(4, inner, temperature, reduction=None)
        np.testing.assert_allclose(loss(LABELS, LOGITS), expected, rtol=2e-4, atol=1e-5)
        np.testing.assert_allclose(
            loss(LABELS, 7 * LOGITS), loss(LABELS, LOGITS), rtol=1e-3, atol=1e-5
        )


def test_logit_norm_of_keras_s_cross_entropy_is_the_paper_s():
    known = LABELS >= 0
    inner = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    loss = losses.LogitNorm(4, inner, 0.5, reduction=None)
    logits = LOGITS[known, :4]
    lengths = np.linalg.norm(logits, axis=1, keepdims=True)
    expected = -log_softmax(logits / (0.5 * lengths))
    expected = expected[np.arange(len(logits)), LABELS[known]]
    np.testing.assert_allclose(loss(LABELS[known], logits), expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_label_smoothing_of_cross_entropy_smooths_the_label(smoothing):
    known = LABELS >= 0
    inner = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    loss = losses.LabelSmoothing(4, inner, smoothing, reduction=None)
    targets = np.eye(4)[LABELS[known]] * (1 - smoothing) + smoothing / 4
    expected = -(targets * log_softmax(LOGITS[known, :4])).sum(axis=1)
    np.testing.assert_allclose(loss(LABELS[known], LOGITS[known, :4]), expected, 1e-5)
    by_keras = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing, reduction=None
    )(np.eye(4)[LABELS[known]], LOGITS[known, :4])
    np.testing.assert_allclose(loss(LABELS[known], LOGITS[known, :4]), by_keras, 1e-5)


def test_unknown_images_are_not_smoothed_and_known_ones_never_towards_unknown():
    plain = losses.ExtraClassCrossEntropy(4, reduction=None)(LABELS, LOGITS)
    loss = losses.LabelSmoothing(4, smoothing=0.2, reduction=None)(LABELS, LOGITS)
    unknown = LABELS < 0
    np.testing.assert_array_equal(np.asarray(loss)[unknown], np.asarray(plain)[unknown])
    # Of N + 1 classes, the weight is on the first N.
    targets = np.concatenate([0.8 * np.eye(4)[LABELS] + 0.05, np.zeros((64, 1))], 1)
    expected = -(targets * log_softmax(LOGITS)).sum(axis=1)
    np.testing.assert_allclose(loss[~unknown], expected[~unknown], rtol=1e-5)


@pytest.mark.parametrize("kind", [losses.LogitNorm, losses.LabelSmoothing])
def test_what_cannot_be_wrapped_is_said(kind):
    with pytest.raises(TypeError, match=r"keras\.losses\.Loss.*Received: 'mse'"):
        kind(4, "mse")
    with pytest.raises(ValueError, match=r"for 3 known classes.*num_classes=4"):
        kind(4, losses.OpenSetLoss(3))
    with pytest.raises(ValueError, match=r"a number in [\[(]0"):
        kind(4, None, -0.1)
