"""One representative of each other family of methods, for the study's comparison.

All have the same shape: `scores = Baseline(...).fit(...).score(images)`, one float32
per image, higher means more likely unknown. They are not exported.
"""

from ood_keras.training.baselines.learned_confidence import LearnedConfidence
from ood_keras.training.baselines.likelihood_ratio import (
    AutoencoderPair,
    LikelihoodRatio,
)
from ood_keras.training.baselines.one_class_svm import OneClassSVM
from ood_keras.training.baselines.prior_network import PriorNetwork
from ood_keras.training.baselines.temperature_scaling import TemperatureScaling

__all__ = [
    "AutoencoderPair",
    "LearnedConfidence",
    "LikelihoodRatio",
    "OneClassSVM",
    "PriorNetwork",
    "TemperatureScaling",
]
