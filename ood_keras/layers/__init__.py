"""Layers: channels weighed, features scaled, and the two ends of an adopted network.

The latter are pixels in the range that a network takes, constants for its other inputs,
and logits of probabilities.
"""

from ood_keras.layers.batch_normalization import BatchNormalization
from ood_keras.layers.constant_input import ConstantInput
from ood_keras.layers.logits_of_probabilities import LogitsOfProbabilities
from ood_keras.layers.modified_se_block import ModifiedSEBlock
from ood_keras.layers.pixel_scaling import PixelScaling
from ood_keras.layers.squeeze_excitation import SqueezeExcitation
from ood_keras.layers.train_time_norm import TrainTimeNorm

__all__ = [
    "BatchNormalization",
    "ConstantInput",
    "LogitsOfProbabilities",
    "ModifiedSEBlock",
    "PixelScaling",
    "SqueezeExcitation",
    "TrainTimeNorm",
]
