"""RegMixup: the loss of a batch and of its mixtures."""

import numpy as np
import pytest
import tensorflow as tf

from ood_keras import losses, training
from ood_keras.training.reg_mixup import mix_pairs

RNG = np.random.default_rng(0)
IMAGES = RNG.random((12, 4, 4, 1)).astype("float32")
LABELS = np.array([0, 1, 2, -1] * 3, np.int32)
WEIGHTS = RNG.random(12).astype("float32")


class Data:
    steps_per_epoch = 3

    def get_config(self):
        return {"name": "data"}

    def epoch(self, index, start_step=0):
        arrays = (IMAGES, LABELS + 0 * index)
        return tf.data.Dataset.from_tensor_slices(arrays).batch(4).skip(start_step)


def test_the_loss_is_half_of_the_paper_s_sum():
    images, labels, weights = (
        np.asarray(part)
        for part in mix_pairs(IMAGES, LABELS, WEIGHTS, seed=[1, 2], alpha=2.0)
    )
    assert len(images) == len(labels) == len(weights) == 36
    np.testing.assert_array_equal(images[:12], IMAGES)
    np.testing.assert_array_equal(images[12:24], images[24:])
    np.testing.assert_array_equal(labels[:24], np.tile(LABELS, 2))
    # The share and the partner are found again from the mixture itself.
    logits_of = RNG.normal(size=(16, 4))
    expected = []
    partners = set()
    for row, mixed in enumerate(images[12:24]):
        if np.allclose(mixed, IMAGES[row]):  # Mixed with itself.
            partners.add(row)
            continue
        fits = []
        for partner in range(12):
            direction = (IMAGES[row] - IMAGES[partner]).ravel()
            rest = (mixed - IMAGES[partner]).ravel()
            share = rest @ direction / max(direction @ direction, 1e-12)
            fits.append((np.abs(rest - share * direction).max(), partner, share))
        error, partner, share = min(fits)
        assert error < 1e-5
        partners.add(partner)
        assert 0 < share < 1
        assert labels[24 + row] == LABELS[partner]
        np.testing.assert_allclose(
            weights[[12 + row, 24 + row]],
            [1.5 * share * WEIGHTS[row], 1.5 * (1 - share) * WEIGHTS[partner]],
            rtol=1e-3,
        )
    assert partners == set(range(12))
    loss = losses.ExtraClassCrossEntropy(3, reduction=None)
    each = np.asarray(loss(labels, images.reshape(36, 16) @ logits_of))
    whole = losses.ExtraClassCrossEntropy(3)(
        labels, images.reshape(36, 16) @ logits_of, sample_weight=weights
    )
    own = np.mean(WEIGHTS * each[:12])
    expected = own + np.mean((weights * each / 1.5)[12:].reshape(2, 12).sum(axis=0))
    assert float(whole) == pytest.approx(expected / 2, rel=1e-4)


def test_shares_are_of_a_beta_distribution():
    images = np.stack([np.zeros(20_000), np.ones(20_000)], 1).reshape(-1, 1, 1, 1)
    labels = np.zeros(len(images), np.int32)
    _, _, weights = mix_pairs(np.float32(images), labels, seed=[1, 2], alpha=10.0)
    shares = np.asarray(weights)[len(images) : 2 * len(images)] / 1.5
    assert shares.mean() == pytest.approx(0.5, abs=0.005)
    # The variance of Beta(a, a) is 1 / (4 (2 a + 1)).
    assert shares.var() == pytest.approx(1 / 84, rel=0.05)


def test_epochs_can_be_entered_anywhere():
    data = training.RegMixup(Data(), alpha=5.0, seed=3)
    whole = list(data.epoch(1))
    assert data.steps_per_epoch == len(whole) == 3
    for expected, found in zip(whole[1:], data.epoch(1, 1), strict=True):
        for part, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(part, other)
    assert np.any(whole[0][0] != next(iter(data.epoch(2)))[0])
    assert data.get_config() == {"name": "data", "mixup": 5.0}


@pytest.mark.parametrize(("alpha", "seed"), [(0, 0), (-1.0, 0), ("1", 0), (1.0, -1)])
def test_numbers_out_of_range(alpha, seed):
    with pytest.raises(ValueError, match=r"`alpha`|`seed`"):
        training.RegMixup(Data(), alpha, seed)
