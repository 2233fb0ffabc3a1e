"""Losses that learn from known and unknown images."""

from ood_keras.losses.entropic_open_set import EntropicOpenSet
from ood_keras.losses.extra_class_cross_entropy import ExtraClassCrossEntropy
from ood_keras.losses.label_smoothing import LabelSmoothing
from ood_keras.losses.logit_norm import LogitNorm
from ood_keras.losses.objectosphere import Objectosphere
from ood_keras.losses.open_set_loss import OpenSetLoss
from ood_keras.losses.outlier_exposure import OutlierExposure
from ood_keras.losses.prior_network import PriorNetwork
from ood_keras.losses.weighted_cross_entropy import WeightedCrossEntropy

__all__ = [
    "EntropicOpenSet",
    "ExtraClassCrossEntropy",
    "LabelSmoothing",
    "LogitNorm",
    "Objectosphere",
    "OpenSetLoss",
    "OutlierExposure",
    "PriorNetwork",
    "WeightedCrossEntropy",
]
