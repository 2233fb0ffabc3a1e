"""The weighted cross-entropy, Eq. 1 and 2 of the paper."""

import keras
from keras import ops

from ood_keras.conventions import check_number
from ood_keras.losses.base import KnownUnknownLoss, check_logits, target_indices
from ood_keras.types import DType, Json, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class WeightedCrossEntropy(KnownUnknownLoss):
    """Cross-entropy over N+1 outputs that gives all unknown images a small weight.

    Use it to train a classifier with an extra unknown class on known and unknown
    images. It is Eq. 1 and 2 of "Out-of-Distribution Classification with Adaptive
    Learning of Low-level Contextual Features". With `p` the softmax of the N+1 logits
    and `y` the index of the true class (N for an unknown image), each image costs

        known:    -beta log p_y - (1 - beta) sum_{k != y} log(1 - p_k)
        unknown:  (-log p_N - sum_{k != N} log(1 - p_k)) / N

    Args:
        num_classes: Integer N >= 1, the number of known classes.
        beta: Fraction in [0, 1], the weight of the true class of a known image against
            the weight 1 - beta of its other outputs. `None` means N / (N + 1), which
            balances the one true output with the N others (Zhou et al. 2017, "EAST",
            Eq. 6, from which the notation comes). Defaults to `None`.
        unknown_weight: Float >= 0, the weight of an unknown image. `None` means the
            1 / N of Eq. 2. Defaults to `None`.
        reduction: As in `keras.losses.Loss`; `None` keeps one value per image.
        name: Name of the loss. Defaults to `"weighted_cross_entropy"`.
        dtype: Float32 or float64; as in `keras.losses.Loss`. Defaults to float32.

    Call arguments:
        y_true: Integer labels `(batch,)` or `(batch, 1)`: 0..N-1 for known images, -1
            for unknown ones. Any other label counts as unknown too, since nothing can
            raise an error inside a graph.
        y_pred: Logits `(batch, N + 1)`, the unknown class last. Not probabilities.
        sample_weight: Optional `(batch,)`, multiplies the value of each image.

    Returns:
        A scalar, or `(batch,)` with `reduction=None`.

    Raises:
        ValueError: an argument is out of its range; or `y_pred` or `y_true` has the
            wrong shape.

    Example:

    >>> import numpy as np, ood_keras
    >>> loss = ood_keras.losses.WeightedCrossEntropy(num_classes=2, beta=0.5)
    >>> logits = np.zeros((1, 3), "float32")  # each probability is 1/3
    >>> round(float(loss([0], logits)), 4)  # 0.5 log 3 + 0.5 * 2 log 1.5
    0.9548
    """

    def __init__(
        self,
        num_classes: int,
        beta: float | None = None,
        unknown_weight: float | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "weighted_cross_entropy",
        dtype: DType = None,
    ) -> None:
        super().__init__(num_classes, reduction=reduction, name=name, dtype=dtype)
        self.beta = check_beta(beta)
        self.unknown_weight = check_unknown_weight(unknown_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return weighted_cross_entropy(
            y_true, y_pred, self.num_classes, self.beta, self.unknown_weight
        )

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "beta": self.beta,
            "unknown_weight": self.unknown_weight,
        }


def weighted_cross_entropy(
    y_true: Tensor,
    logits: Tensor,
    num_classes: int,
    beta: float | None = None,
    unknown_weight: float | None = None,
) -> Tensor:
    """Returns Eq. 2 for each image, `(batch,)`; see `WeightedCrossEntropy`."""
    logits = check_logits(logits, num_classes, unknown_class=True)
    targets, known = target_indices(y_true, num_classes, logits)
    beta = num_classes / (num_classes + 1) if beta is None else beta
    unknown_weight = 1 / num_classes if unknown_weight is None else unknown_weight

    log_p, log_not_p = log_probabilities(logits)
    is_true = ops.one_hot(targets, num_classes + 1, dtype="bool")
    # Not products, which are NaN where a logit is masked, -inf.
    true = -ops.sum(ops.where(is_true, log_p, 0.0), axis=-1)
    others = -ops.sum(ops.where(is_true, 0.0, log_not_p), axis=-1)
    return ops.where(
        known, beta * true + (1 - beta) * others, unknown_weight * (true + others)
    )


def log_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns `log p` and `log(1 - p)` of the softmax, exact also next to 0 and 1.

    With `rest_k` the log-sum-exp of all other logits,
    `log(1 - p_k) = log_sigmoid(rest_k - z_k)`. Only the largest logit needs that form,
    so one more log-sum-exp per row is enough; every other probability is at most 1/2,
    where `log1p(-p_k)` is exact.

    Args:
        logits: `(batch, num_outputs)`, float32 or float64, two outputs or more.

    Returns:
        `(log_p, log_not_p)`, both of the shape of `logits`.
    """
    num_outputs = logits.shape[-1]
    top = ops.argmax(logits, axis=-1)
    is_top = ops.one_hot(top, num_outputs, dtype="bool")
    log_p = ops.log_softmax(logits, axis=-1)

    lowest = ops.cast(-1e30, logits.dtype)
    rest = ops.logsumexp(ops.where(is_top, lowest, logits), axis=-1, keepdims=True)
    # With a start, since a maximum without one refuses an empty batch.
    largest = ops.max(logits, axis=-1, keepdims=True, initial=-1e30)
    # The unused side of a `where` must be finite too, else its gradient is 0 * inf.
    others = ops.where(is_top, ops.cast(-1.0, logits.dtype), log_p)
    log_not_p = ops.where(
        is_top, ops.log_sigmoid(rest - largest), ops.log1p(-ops.exp(others))
    )
    return log_p, log_not_p


def check_beta(beta: float | None) -> float | None:
    """Returns `beta` as a float or `None`; raises if it is not in [0, 1]."""
    if beta is None:
        return None
    return check_number("beta", beta, "[0, 1]", "the weight of the true class")


def check_unknown_weight(unknown_weight: float | None) -> float | None:
    """Returns `unknown_weight` as a float or `None`; raises if it is negative."""
    if unknown_weight is None:
        return None
    meaning = "the weight of an unknown image"
    return check_number("unknown_weight", unknown_weight, "[0, inf)", meaning)
