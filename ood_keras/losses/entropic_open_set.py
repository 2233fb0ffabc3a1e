"""The entropic open-set loss: unknown images should look like every class alike."""

import keras
from keras import ops

from ood_keras.losses.base import KnownUnknownLoss, check_logits, target_indices
from ood_keras.types import DType, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class EntropicOpenSet(KnownUnknownLoss):
    """Cross-entropy with the uniform distribution as the target of unknown images.

    Use it to train a classifier without an extra class on known and unknown images, so
    that a low largest probability betrays the unknown. It is Eq. 1 of Dhamija et al.,
    "Reducing Network Agnostophobia" (NeurIPS 2018). With `p` the softmax of the N
    logits, each image costs

        known:    -log p_y
        unknown:  -(1 / N) sum_k log p_k

    Args:
        num_classes: Integer N >= 2, the number of known classes.
        reduction: As in `keras.losses.Loss`; `None` keeps one value per image.
        name: Name of the loss. Defaults to `"entropic_open_set"`.
        dtype: Float32 or float64; as in `keras.losses.Loss`. Defaults to float32.

    Call arguments:
        y_true: Integer labels `(batch,)` or `(batch, 1)`: 0..N-1 for known images, -1
            for unknown ones. Any other label counts as unknown too.
        y_pred: Logits `(batch, N)`, of a model built with `unknown_class=False`.
        sample_weight: Optional `(batch,)`, multiplies the value of each image.

    Returns:
        A scalar, or `(batch,)` with `reduction=None`.

    Raises:
        ValueError: an argument is out of its range; or `y_pred` or `y_true` has the
            wrong shape.

    Example:

    >>> import numpy as np, ood_keras
    >>> loss = ood_keras.losses.EntropicOpenSet(num_classes=4)
    >>> logits = np.zeros((1, 4), "float32")  # uniform, the best for an unknown image
    >>> round(float(loss([-1], logits)), 4)  # log 4
    1.3863
    """

    _least_classes = 2

    def __init__(
        self,
        num_classes: int,
        reduction: str | None = "sum_over_batch_size",
        name: str = "entropic_open_set",
        dtype: DType = None,
    ) -> None:
        super().__init__(num_classes, reduction=reduction, name=name, dtype=dtype)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return entropic_open_set(y_true, y_pred, self.num_classes)


def entropic_open_set(y_true: Tensor, logits: Tensor, num_classes: int) -> Tensor:
    """Returns the loss of each image, `(batch,)`; see `EntropicOpenSet`."""
    logits = check_logits(logits, num_classes, unknown_class=False)
    targets, known = target_indices(y_true, num_classes, logits)
    log_p = ops.log_softmax(logits, axis=-1)
    # An unknown label, N, has no column of its own; PyTorch refuses it without one.
    is_true = ops.one_hot(targets, num_classes + 1, dtype="bool")[:, :num_classes]
    # Not a product, which is NaN where a logit is masked, -inf.
    true = ops.sum(ops.where(is_true, log_p, 0.0), axis=-1)
    return -ops.where(known, true, ops.mean(log_p, axis=-1))
