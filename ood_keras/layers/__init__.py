"""Layers that weigh channels by the whole image, and one that scales features."""

from ood_keras.layers.modified_se_block import ModifiedSEBlock
from ood_keras.layers.squeeze_excitation import SqueezeExcitation
from ood_keras.layers.train_time_norm import TrainTimeNorm

__all__ = ["ModifiedSEBlock", "SqueezeExcitation", "TrainTimeNorm"]
