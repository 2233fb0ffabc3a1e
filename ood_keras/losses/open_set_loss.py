"""The paper's loss, Eq. 4: weighted cross-entropy plus objectosphere."""

import keras

from ood_keras.conventions import check_number
from ood_keras.losses.base import KnownUnknownLoss
from ood_keras.losses.objectosphere import check_gamma, softmax_objectosphere
from ood_keras.losses.weighted_cross_entropy import (
    check_beta,
    check_unknown_weight,
    weighted_cross_entropy,
)
from ood_keras.types import DType, Json, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class OpenSetLoss(KnownUnknownLoss):
    """The weighted cross-entropy and the objectosphere loss on the softmax, summed.

    Use it to train a classifier with an extra unknown class on known and unknown
    images. It is Eq. 4 of "Out-of-Distribution Classification with Adaptive Learning
    of Low-level Contextual Features"; each image costs

        weighted_cross_entropy + objectosphere_weight * objectosphere

    as `ood_keras.losses.WeightedCrossEntropy` and `ood_keras.losses.Objectosphere`
    define them. For the objectosphere loss on features, give the two losses to two
    outputs; `ood_keras.models.with_features` shows how. The defaults are explained in
    `docs/decisions/losses.md`.

    Args:
        num_classes: Integer N >= 1, the number of known classes.
        beta: Fraction in [0, 1], the weight of the true class of a known image. `None`
            means N / (N + 1). Defaults to `None`.
        gamma: Float in (0, 1], the norm that the known probabilities of a known image
            should reach. `None` means 0.9. Defaults to `None`.
        objectosphere_weight: Float >= 0, the lambda of Eq. 4. Defaults to `0.1`.
        unknown_weight: Float >= 0, the weight of an unknown image in the cross-entropy.
            `None` means the 1 / N of Eq. 2. Defaults to `None`.
        reduction: As in `keras.losses.Loss`; `None` keeps one value per image.
        name: Name of the loss. Defaults to `"open_set_loss"`.
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
    >>> loss = ood_keras.losses.OpenSetLoss(num_classes=2)
    >>> logits = np.array([[9.0, 0.0, 0.0], [0.0, 0.0, 9.0]], "float32")
    >>> float(loss([0, -1], logits)) < 0.01 < float(loss([-1, 0], logits))
    True
    """

    def __init__(
        self,
        num_classes: int,
        beta: float | None = None,
        gamma: float | None = None,
        objectosphere_weight: float = 0.1,
        unknown_weight: float | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "open_set_loss",
        dtype: DType = None,
    ) -> None:
        super().__init__(num_classes, reduction=reduction, name=name, dtype=dtype)
        self.beta = check_beta(beta)
        self.gamma = check_gamma(gamma, "softmax")
        self.objectosphere_weight = check_number(
            "objectosphere_weight",
            objectosphere_weight,
            "[0, inf)",
            "where 0 leaves only the weighted cross-entropy",
        )
        self.unknown_weight = check_unknown_weight(unknown_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return open_set_loss(
            y_true,
            y_pred,
            self.num_classes,
            self.beta,
            self.gamma,
            self.objectosphere_weight,
            self.unknown_weight,
        )

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "beta": self.beta,
            "gamma": self.gamma,
            "objectosphere_weight": self.objectosphere_weight,
            "unknown_weight": self.unknown_weight,
        }


def open_set_loss(
    y_true: Tensor,
    logits: Tensor,
    num_classes: int,
    beta: float | None = None,
    gamma: float | None = None,
    objectosphere_weight: float = 0.1,
    unknown_weight: float | None = None,
) -> Tensor:
    """Returns Eq. 4 for each image, `(batch,)`; see `OpenSetLoss`."""
    entropy = weighted_cross_entropy(y_true, logits, num_classes, beta, unknown_weight)
    objectosphere = softmax_objectosphere(y_true, logits, num_classes, gamma)
    return entropy + objectosphere_weight * objectosphere
