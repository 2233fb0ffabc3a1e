"""Plain cross-entropy with the unknown as one more class."""

import keras
from keras import ops

from ood_keras.losses.base import KnownUnknownLoss, check_logits, target_indices
from ood_keras.types import DType, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class ExtraClassCrossEntropy(KnownUnknownLoss):
    """Cross-entropy over N + 1 classes, of which the last one is the unknown.

    Use it as the baseline that `WeightedCrossEntropy` and `OpenSetLoss` must beat: a
    classifier with an extra class, trained without anything particular to unknowns.
    With `p` the softmax of the N + 1 logits, an image of class y costs `-log p_y`, and
    an unknown one `-log p_N`.

    Args:
        num_classes: Integer N >= 1, the number of known classes.
        reduction: As in `keras.losses.Loss`; `None` keeps one value per image.
        name: Name of the loss. Defaults to `"extra_class_cross_entropy"`.
        dtype: Float32 or float64; as in `keras.losses.Loss`. Defaults to float32.

    Call arguments:
        y_true: Integer labels `(batch,)` or `(batch, 1)`: 0..N-1 for known images, -1
            for unknown ones. Any other label counts as unknown too.
        y_pred: Logits `(batch, N + 1)`, the unknown class last. Not probabilities.
        sample_weight: Optional `(batch,)`, multiplies the value of each image.

    Returns:
        A scalar, or `(batch,)` with `reduction=None`.

    Raises:
        ValueError: an argument is out of its range; or `y_pred` or `y_true` has the
            wrong shape.

    Example:

    >>> import numpy as np, ood_keras
    >>> loss = ood_keras.losses.ExtraClassCrossEntropy(num_classes=3)
    >>> round(float(loss([-1], np.zeros((1, 4), "float32"))), 4)  # log 4
    1.3863
    """

    def __init__(
        self,
        num_classes: int,
        reduction: str | None = "sum_over_batch_size",
        name: str = "extra_class_cross_entropy",
        dtype: DType = None,
    ) -> None:
        super().__init__(num_classes, reduction=reduction, name=name, dtype=dtype)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return extra_class_cross_entropy(y_true, y_pred, self.num_classes)


def extra_class_cross_entropy(
    y_true: Tensor, logits: Tensor, num_classes: int
) -> Tensor:
    """Returns the loss of each image, `(batch,)`; see `ExtraClassCrossEntropy`."""
    logits = check_logits(logits, num_classes, unknown_class=True)
    targets, _ = target_indices(y_true, num_classes, logits)
    is_true = ops.one_hot(targets, num_classes + 1, dtype="bool")
    # Not a product, which is NaN where a logit is masked, -inf.
    log_p = ops.where(is_true, ops.log_softmax(logits, axis=-1), 0.0)
    return -ops.sum(log_p, axis=-1)
