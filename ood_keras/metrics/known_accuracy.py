"""Accuracy of the classifier on known images."""

import keras
from keras import ops

from ood_keras.conventions import check_num_classes
from ood_keras.metrics.labels import split_labels
from ood_keras.types import DType, Json, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class KnownAccuracy(keras.metrics.Mean):
    """Fraction of known images whose largest known logit is that of their class.

    Unknown images (label -1) are left out, and so is the logit of an extra unknown
    class: this is the accuracy among the known classes, before anything is rejected.
    It is 0 while no known image has been seen. Images with NaN logits count as wrong.

    Args:
        num_classes: Integer N >= 1, the number of known classes. `y_true` holds
            integers `(batch,)` or `(batch, 1)`, -1 for unknown images; `y_pred` holds
            logits (or probabilities) `(batch, N)` or `(batch, N + 1)`.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: `num_classes` is not an integer >= 1; in `update_state`, `y_pred`
            does not have N or N + 1 columns, or not one row per label.

    Example:

    >>> metric = KnownAccuracy(num_classes=2)
    >>> metric.update_state([0, 1, -1], [[2., 1., 0.], [2., 1., 0.], [2., 1., 5.]])
    >>> float(metric.result())
    0.5
    """

    # Callbacks that monitor a metric look at this in their `mode="auto"`.
    _direction = "up"

    def __init__(
        self, num_classes: int, name: str = "known_accuracy", dtype: DType = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.num_classes = check_num_classes(num_classes, least=1)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        logits = check_logits(y_pred, self.num_classes)[:, : self.num_classes]
        known, labels = split_labels(y_true, self.num_classes, logits)
        predicted = ops.cast(ops.argmax(logits, axis=-1), "int32")
        broken = ops.any(ops.isnan(logits), axis=-1)
        correct = ops.logical_and(predicted == labels, ops.logical_not(broken))
        correct = ops.cast(correct, self.dtype)
        weight = ops.cast(known, self.dtype)
        if sample_weight is not None:
            weight *= ops.reshape(ops.cast(sample_weight, self.dtype), (-1,))
        super().update_state(correct, sample_weight=weight)

    def get_config(self) -> Json:
        return {**super().get_config(), "num_classes": self.num_classes}


def check_logits(y_pred: Tensor, num_classes: int) -> Tensor:
    """`y_pred` as a tensor, if it has one column per known class, or one more."""
    y_pred = ops.convert_to_tensor(y_pred)
    if len(y_pred.shape) != 2 or y_pred.shape[1] not in (num_classes, num_classes + 1):
        raise ValueError(
            f"expected logits of shape (batch, {num_classes}), or (batch, "
            f"{num_classes + 1}) with an unknown class, for num_classes={num_classes}. "
            f"Received: shape {tuple(y_pred.shape)}"
        )
    return y_pred
