"""Label smoothing of any loss over integer labels."""

import keras
from keras import ops

from ood_keras.conventions import check_number
from ood_keras.losses.base import target_indices
from ood_keras.losses.wrapped import LossAround
from ood_keras.types import DType, Json, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class LabelSmoothing(LossAround):
    """Another loss, with a little of the weight on the other known classes.

    Use it against overconfidence and wrong labels (Szegedy et al. 2016, "Rethinking the
    inception architecture", section 7), with an unknown class or without. A known image
    of class `y` costs

        (1 - smoothing) loss(y, z) + smoothing / N * sum_k loss(k, z)     k = 0..N-1

    which, for cross-entropy over N classes, is that of the smoothed label. An unknown
    image costs `loss(-1, z)`: nothing says that it may be of a known class, and no
    known image is said to be unknown.

    Args:
        num_classes: Integer N >= 1, the number of known classes.
        loss: The other loss, of labels and logits, or its configuration. `None` means
            `ExtraClassCrossEntropy(num_classes)`. It is computed N + 1 times.
        smoothing: Fraction in [0, 1) of the weight. Defaults to `0.1`.
        reduction: As in `keras.losses.Loss`; that of `loss` has no say.
        name: Name of the loss. Defaults to `"label_smoothing"`.
        dtype: Float32 or float64; as in `keras.losses.Loss`. Defaults to float32.

    Call arguments:
        y_true: Integer labels `(batch,)` or `(batch, 1)`: 0..N-1 for known images, -1
            for unknown ones.
        y_pred: Logits, as `loss` takes them.
        sample_weight: Optional `(batch,)`, multiplies the value of each image.

    Returns:
        A scalar, or `(batch,)` with `reduction=None`.

    Raises:
        ValueError: an argument is out of its range, or `loss` is for another number of
            classes.
        TypeError: `loss` is no loss.

    Example:

    >>> import numpy as np, ood_keras
    >>> loss = ood_keras.losses.LabelSmoothing(num_classes=2, smoothing=0.2)
    >>> logits = np.array([[4.0, 0.0, 0.0]], "float32")
    >>> plain = ood_keras.losses.ExtraClassCrossEntropy(num_classes=2)
    >>> round(float(loss([0], logits) - plain([0], logits)), 4)  # 0.2 / 2 * 4
    0.4
    """

    def __init__(
        self,
        num_classes: int,
        loss: keras.losses.Loss | Json | None = None,
        smoothing: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "label_smoothing",
        dtype: DType = None,
    ) -> None:
        super().__init__(num_classes, loss, reduction=reduction, name=name, dtype=dtype)
        self.smoothing = check_number(
            "smoothing", smoothing, "[0, 1)", "the weight of the other classes"
        )

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        values = self.loss.call(y_true, y_pred)
        _, known = target_indices(y_true, self.num_classes, y_pred)
        of_each = [
            self.loss.call(ops.full_like(ops.cast(known, "int32"), label), y_pred)
            for label in range(self.num_classes)
        ]
        mean = sum(of_each[1:], of_each[0]) / self.num_classes
        smoothed = (1 - self.smoothing) * values + self.smoothing * mean
        return ops.where(known, smoothed, values)

    def get_config(self) -> Json:
        return {**super().get_config(), "smoothing": self.smoothing}
