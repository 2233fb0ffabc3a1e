"""Outlier exposure: cross-entropy, and a weighted pull of unknowns to uniform."""

import keras
from keras import ops

from ood_keras.conventions import check_number
from ood_keras.losses.base import KnownUnknownLoss, target_indices
from ood_keras.losses.entropic_open_set import entropic_open_set
from ood_keras.types import DType, Json, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class OutlierExposure(KnownUnknownLoss):
    """Cross-entropy for known images, a weighted one to uniform for unknown images.

    Use it as the baseline of Hendrycks et al., "Deep Anomaly Detection with Outlier
    Exposure" (ICLR 2019), section 4. With `p` the softmax of the N logits, each image
    costs

        known:    -log p_y
        unknown:  -(weight / N) sum_k log p_k

    so that `weight=1` is `ood_keras.losses.EntropicOpenSet`. Hendrycks et al. average
    known and unknown images of a batch separately and add the two means. Here every
    image has its own value and the batch one mean; with n_known and n_unknown images in
    a batch, `weight = 0.5 * n_known / n_unknown` gives their sum, up to the common
    factor `n_known / (n_known + n_unknown)` that the learning rate absorbs. Their
    batches hold twice as many unknown images, where 0.25 is the same.

    Args:
        num_classes: Integer N >= 2, the number of known classes.
        weight: Float >= 0, the weight of an unknown image. Defaults to `0.5`.
        reduction: As in `keras.losses.Loss`; `None` keeps one value per image.
        name: Name of the loss. Defaults to `"outlier_exposure"`.
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
    >>> loss = ood_keras.losses.OutlierExposure(num_classes=4, weight=0.5)
    >>> logits = np.zeros((1, 4), "float32")
    >>> round(float(loss([-1], logits)), 4)  # 0.5 log 4
    0.6931
    """

    _least_classes = 2

    def __init__(
        self,
        num_classes: int,
        weight: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "outlier_exposure",
        dtype: DType = None,
    ) -> None:
        super().__init__(num_classes, reduction=reduction, name=name, dtype=dtype)
        self.weight = check_number(
            "weight", weight, "[0, inf)", "the weight of an unknown image"
        )

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return outlier_exposure(y_true, y_pred, self.num_classes, self.weight)

    def get_config(self) -> Json:
        return {**super().get_config(), "weight": self.weight}


def outlier_exposure(
    y_true: Tensor, logits: Tensor, num_classes: int, weight: float = 0.5
) -> Tensor:
    """Returns the loss of each image, `(batch,)`; see `OutlierExposure`."""
    values = entropic_open_set(y_true, logits, num_classes)
    _, known = target_indices(y_true, num_classes, values)
    return ops.where(known, values, weight * values)
