"""Networks: small ones with and without the modified block, and pretrained ones."""

from ood_keras.models.alexnet import alexnet, se_alexnet
from ood_keras.models.precision import in_float32, mixed_precision
from ood_keras.models.residual import residual
from ood_keras.models.transfer import cut, transfer, unfreeze
from ood_keras.models.with_features import with_features

__all__ = [
    "alexnet",
    "cut",
    "in_float32",
    "mixed_precision",
    "residual",
    "se_alexnet",
    "transfer",
    "unfreeze",
    "with_features",
]
