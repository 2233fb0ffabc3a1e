"""Thresholds on the `ood_score`, each with what it promises."""

from ood_keras.calibration.choose import TARGET_ACCEPTANCE, choose
from ood_keras.calibration.clopper_pearson import clopper_pearson
from ood_keras.calibration.conformal import conformal, smallest_num_images
from ood_keras.calibration.conformal_p_values import (
    ConformalPValues,
    benjamini_hochberg,
)
from ood_keras.calibration.conformal_per_class import (
    ClassThresholds,
    conformal_per_class,
)
from ood_keras.calibration.lowest_cost import lowest_cost
from ood_keras.calibration.operating_points import OperatingPoint, operating_points
from ood_keras.calibration.quantile import quantile
from ood_keras.calibration.registry import get, names, register
from ood_keras.calibration.threshold import Threshold

__all__ = [
    "TARGET_ACCEPTANCE",
    "ClassThresholds",
    "ConformalPValues",
    "OperatingPoint",
    "Threshold",
    "benjamini_hochberg",
    "choose",
    "clopper_pearson",
    "conformal",
    "conformal_per_class",
    "get",
    "lowest_cost",
    "names",
    "operating_points",
    "quantile",
    "register",
    "smallest_num_images",
]
