"""Thresholds on the `ood_score`, each with what it promises."""

from ood_keras.calibration.conformal import conformal, smallest_num_images
from ood_keras.calibration.quantile import quantile
from ood_keras.calibration.threshold import Threshold

__all__ = ["Threshold", "conformal", "quantile", "smallest_num_images"]
