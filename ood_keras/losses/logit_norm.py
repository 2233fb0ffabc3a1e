"""LogitNorm: a loss that sees the direction of the logits and not their length."""

import keras
from keras import ops

from ood_keras.conventions import check_number
from ood_keras.losses.base import at_least_float32
from ood_keras.losses.wrapped import LossAround
from ood_keras.types import DType, Json, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class LogitNorm(LossAround):
    """Another loss, on logits that are scaled to one length.

    Use it so that training does not end in overconfidence: cross-entropy goes on
    lengthening the logits of images that are classified right already, those of unknown
    images with them (Wei et al. 2022, "Mitigating neural network overconfidence with
    logit normalization", Eq. 6). An image with logits `z` costs

        loss(y, z / (temperature * sqrt(||z||^2 + 1e-6)))

    Only training normalises: the model gives `z`, whose length tells known from unknown
    images by `energy`, `max_logit` and so on. It goes around any loss of this room on
    logits, with an unknown class or without; with `keras.losses.
    SparseCategoricalCrossentropy(from_logits=True)` it is the paper's.

    Args:
        num_classes: Integer N >= 1, the number of known classes.
        loss: The other loss, of labels and logits, or its configuration. `None` means
            `ExtraClassCrossEntropy(num_classes)`.
        temperature: Float > 0, one over the length of the logits that the loss sees.
            Defaults to `0.04`, the paper's for CIFAR-10.
        reduction: As in `keras.losses.Loss`; that of `loss` has no say.
        name: Name of the loss. Defaults to `"logit_norm"`.
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
    >>> loss = ood_keras.losses.LogitNorm(num_classes=2, temperature=1.0)
    >>> logits = np.array([[2.0, 0.0, 0.0]], "float32")
    >>> bool(abs(loss([0], logits) - loss([0], 10 * logits)) < 1e-5)
    True
    """

    def __init__(
        self,
        num_classes: int,
        loss: keras.losses.Loss | Json | None = None,
        temperature: float = 0.04,
        reduction: str | None = "sum_over_batch_size",
        name: str = "logit_norm",
        dtype: DType = None,
    ) -> None:
        super().__init__(num_classes, loss, reduction=reduction, name=name, dtype=dtype)
        self.temperature = check_number(
            "temperature", temperature, "(0, inf)", "one over the length of the logits"
        )

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self.loss.call(y_true, normalize_logits(y_pred, self.temperature))

    def get_config(self) -> Json:
        return {**super().get_config(), "temperature": self.temperature}


def normalize_logits(logits: Tensor, temperature: float) -> Tensor:
    """Returns logits `(batch, K)` scaled to the length `1 / temperature`."""
    logits = at_least_float32(logits)
    squares = ops.sum(ops.square(logits), axis=-1, keepdims=True)
    # Without the summand the gradient at 0 is infinite; with less it is beyond 16 bits.
    return logits / (temperature * ops.sqrt(squares + 1e-6))
