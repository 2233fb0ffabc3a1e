"""The objectosphere loss: a long output for the known, a short one for the unknown."""

from typing import Literal

import keras
from keras import ops

from ood_keras.conventions import check_number
from ood_keras.losses.base import (
    KnownUnknownLoss,
    at_least_float32,
    check_logits,
    target_indices,
)
from ood_keras.types import DType, Json, Tensor

_DEFAULT_GAMMA = {"softmax": 0.9, "features": 50.0}


@keras.saving.register_keras_serializable(package="ood_keras")
class Objectosphere(KnownUnknownLoss):
    """Pushes a norm above `gamma` for known images and to zero for unknown ones.

    Use it beside a cross-entropy, with a small weight, never alone: it does not tell
    the known classes apart. It is Eq. 3 of "Out-of-Distribution Classification with
    Adaptive Learning of Low-level Contextual Features", on the softmax, and the loss
    of Dhamija et al., "Reducing Network Agnostophobia" (NeurIPS 2018), on the features:

        known:    max(gamma - ||F||, 0)^2
        unknown:  ||F||^2

    With `on="softmax"`, F holds the probabilities of the N known classes: what an
    unknown image gives to the extra class does not count against it. With
    `on="features"`, F is what the layer before the classifier puts out; connect the
    loss to that output with `ood_keras.models.with_features`.

    Args:
        num_classes: Integer N >= 1, the number of known classes.
        gamma: Positive float, the norm that known images should reach. At most 1 on the
            softmax, where it is about the lowest probability that a known image should
            give to its class. `None` means 0.9 on the softmax and 50 on features (the
            xi of Dhamija et al.). Defaults to `None`.
        on: `"softmax"` or `"features"`. Defaults to `"softmax"`.
        reduction: As in `keras.losses.Loss`; `None` keeps one value per image.
        name: Name of the loss. Defaults to `"objectosphere"`.
        dtype: Float32 or float64; as in `keras.losses.Loss`. Defaults to float32.

    Call arguments:
        y_true: Integer labels `(batch,)` or `(batch, 1)`: 0..N-1 for known images, -1
            for unknown ones. Any other label counts as unknown too.
        y_pred: Logits `(batch, N + 1)`, the unknown class last, or with
            `on="features"` features `(batch, feature_size)`.
        sample_weight: Optional `(batch,)`, multiplies the value of each image.

    Returns:
        A scalar, or `(batch,)` with `reduction=None`.

    Raises:
        ValueError: an argument is out of its range; or `y_pred` or `y_true` has the
            wrong shape.

    Example:

    >>> import numpy as np, ood_keras
    >>> loss = ood_keras.losses.Objectosphere(
    ...     num_classes=2, gamma=10.0, on="features", reduction=None
    ... )
    >>> features = np.array([[3.0, 4.0], [3.0, 4.0]], "float32")
    >>> np.asarray(loss([0, -1], features)).tolist()  # (10 - 5)^2 and 5^2
    [25.0, 25.0]
    """

    def __init__(
        self,
        num_classes: int,
        gamma: float | None = None,
        on: Literal["softmax", "features"] = "softmax",
        reduction: str | None = "sum_over_batch_size",
        name: str = "objectosphere",
        dtype: DType = None,
    ) -> None:
        super().__init__(num_classes, reduction=reduction, name=name, dtype=dtype)
        if on not in _DEFAULT_GAMMA:
            raise ValueError(
                f'`on` must be "softmax" or "features". Received: on={on!r}'
            )
        self.on = on
        self.gamma = check_gamma(gamma, on)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        if self.on == "softmax":
            return softmax_objectosphere(y_true, y_pred, self.num_classes, self.gamma)
        return feature_objectosphere(y_true, y_pred, self.num_classes, self.gamma)

    def get_config(self) -> Json:
        return {**super().get_config(), "gamma": self.gamma, "on": self.on}


def softmax_objectosphere(
    y_true: Tensor, logits: Tensor, num_classes: int, gamma: float | None = None
) -> Tensor:
    """Returns Eq. 3 on the known probabilities for each image, `(batch,)`."""
    logits = check_logits(logits, num_classes, unknown_class=True)
    known_probabilities = ops.softmax(logits, axis=-1)[:, :num_classes]
    gamma = _DEFAULT_GAMMA["softmax"] if gamma is None else gamma
    return feature_objectosphere(y_true, known_probabilities, num_classes, gamma)


def feature_objectosphere(
    y_true: Tensor, features: Tensor, num_classes: int, gamma: float | None = None
) -> Tensor:
    """Returns Eq. 3 on features `(batch, feature_size)` for each image, `(batch,)`."""
    features = at_least_float32(features)
    if len(features.shape) != 2:
        raise ValueError(
            "expected features of shape (batch, feature_size); flatten or pool them "
            f"first. Received: shape {tuple(features.shape)}"
        )
    _, known = target_indices(y_true, num_classes, features)
    gamma = _DEFAULT_GAMMA["features"] if gamma is None else gamma
    squared = ops.sum(ops.square(features), axis=-1)
    # The floor makes the gradient at F = 0 zero instead of 0 / 0.
    norm = ops.sqrt(ops.maximum(squared, 1e-30))
    return ops.where(known, ops.square(ops.relu(gamma - norm)), squared)


def check_gamma(gamma: float | None, on: str) -> float | None:
    """Returns `gamma` as a float or `None`; raises if `on` does not allow it."""
    if gamma is None:
        return None
    interval = "(0, 1]" if on == "softmax" else "(0, inf)"
    meaning = f'with on="{on}" the norm that known images should reach'
    return check_number("gamma", gamma, interval, meaning)
