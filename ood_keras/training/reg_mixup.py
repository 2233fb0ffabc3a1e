"""RegMixup: every batch once as it is, and once mixed in pairs."""

from typing import Any

import tensorflow as tf

from ood_keras.conventions import check_number, is_integer
from ood_keras.types import Dataset, Json, Tensor


class RegMixup:
    """Data whose every batch is followed by its own images, mixed in pairs.

    Use it against overconfidence between classes, with any loss and with an unknown
    class or without (Pinto et al. 2022, "RegMixup: mixup as a regularizer can
    surprisingly improve accuracy and out distribution robustness", Eq. 3). With the
    images `x_i` of a batch, `j` a permutation of them and a number `l` from
    Beta(alpha, alpha) for each, a batch costs

        mean_i [ loss(y_i, x_i) + l loss(y_i, m_i) + (1 - l) loss(y_j, m_i) ] / 2
        m_i = l x_i + (1 - l) x_j

    half of the paper's sum, so that learning rates mean the same. Unknown images are
    mixed like all others: halfway to a known one, both labels count half. The mixed
    images are in the batch twice, once for each label and weighted by it, so a step
    takes about three times as long.

    Args:
        data: Has `steps_per_epoch` and `epoch(index, start_step)`, as
            `pipelines.Interleave`.
        alpha: Float > 0. The larger, the nearer to half and half; the paper has 10 and
            20.
        seed: Decides pairs and shares, for each epoch and step anew.

    Raises:
        ValueError: `alpha` or `seed` is out of its range.

    Example:

    >>> data = training.RegMixup(pipelines.Interleave(known, unknown, 10), alpha=10.0)
    >>> images, labels, weights = next(iter(data.epoch(0)))
    """

    def __init__(self, data: Any, alpha: float = 10.0, seed: int = 0) -> None:
        self._data = data
        self._alpha = check_number("alpha", alpha, "(0, inf)", "how near to halves")
        if not is_integer(seed) or seed < 0:
            raise ValueError(f"`seed` must be an integer >= 0. Received: {seed!r}")
        self._seed = int(seed)
        self.steps_per_epoch = data.steps_per_epoch

    def get_config(self) -> Json:
        return {**self._data.get_config(), "mixup": self._alpha}

    def epoch(self, index: int, start_step: int = 0) -> Dataset:
        """Returns the batches of one epoch, with weights, from `start_step` on."""

        def mix(step, batch):
            seed = tf.random.experimental.stateless_fold_in(
                [self._seed, index], tf.cast(step, tf.int32)
            )
            return mix_pairs(*batch, seed=seed, alpha=self._alpha)

        dataset = self._data.epoch(index, start_step).enumerate(start_step)
        return dataset.map(lambda step, batch: mix(step, batch))


def mix_pairs(
    images: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    seed: Tensor,
    alpha: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns `(images, labels, weights)` of a batch three times as long.

    Args:
        images: float32 `(batch, ...)`.
        labels: int32 `(batch,)`.
        weights: float32 `(batch,)`, or `None` for ones.
        seed: int32 `(2,)`.
        alpha: As in `RegMixup`.
    """
    count = tf.shape(images)[0]
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    # Beta(a, a) is G / (G + H) of two gamma variables.
    first, second = (
        tf.random.stateless_gamma([count], each, alpha) for each in seeds[:2]
    )
    share = first / (first + second)
    partner = tf.argsort(tf.random.stateless_uniform([count], seeds[2]))
    if weights is None:
        weights = tf.ones([count])
    factor = tf.reshape(share, [-1, *[1] * (len(images.shape) - 1)])
    mixed = factor * images + (1 - factor) * tf.gather(images, partner)
    mixed = tf.ensure_shape(mixed, images.shape)
    # The loss is the mean over three times as many images; half of the paper's sum.
    weighed = [
        weights,
        share * weights,
        (1 - share) * tf.gather(weights, partner),
    ]
    return (
        tf.concat([images, mixed, mixed], 0),
        tf.concat([labels, labels, tf.gather(labels, partner)], 0),
        1.5 * tf.concat(weighed, 0),
    )
