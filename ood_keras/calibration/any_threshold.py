"""What one threshold and one for each class have in common."""

from typing import TypeAlias

import numpy as np

from ood_keras.calibration.conformal_per_class import ClassThresholds
from ood_keras.calibration.threshold import Threshold
from ood_keras.types import Json, Labels

AnyThreshold: TypeAlias = Threshold | ClassThresholds


def from_dict(fields: Json) -> AnyThreshold:
    """The threshold, or the thresholds of classes, that `to_dict` wrote."""
    kind = ClassThresholds if "values" in fields else Threshold
    return kind.from_dict(fields)


def numbers(threshold: AnyThreshold) -> float | tuple[float, ...]:
    """The largest accepted `ood_score`: one number, or one for each class."""
    if isinstance(threshold, ClassThresholds):
        return threshold.values
    return threshold.value


def limits(threshold: AnyThreshold, predicted_classes: Labels) -> np.ndarray:
    """The largest accepted `ood_score` of each image, float32 `(num_images,)`.

    Args:
        threshold: One threshold, or one for each class.
        predicted_classes: Integers `(num_images,)`, the known class with the largest
            logit, also where the image is rejected.
    """
    values = np.asarray(numbers(threshold), np.float32)
    classes = np.asarray(predicted_classes)
    return values[classes] if values.ndim else np.full(classes.shape, values)
