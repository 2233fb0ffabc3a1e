"""Layers that weigh channels by what the whole image shows."""

from ood_keras.layers.modified_se_block import ModifiedSEBlock
from ood_keras.layers.squeeze_excitation import SqueezeExcitation

__all__ = ["ModifiedSEBlock", "SqueezeExcitation"]
