"""Networks for small images, with and without the modified block."""

from ood_keras.models.alexnet import alexnet, se_alexnet
from ood_keras.models.with_features import with_features

__all__ = ["alexnet", "se_alexnet", "with_features"]
