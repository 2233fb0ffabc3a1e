"""Data in, tensors out: sources, splits, and the mixture of known and unknown."""

from ood_keras.pipelines import preprocessing
from ood_keras.pipelines.augment_once import augment_once
from ood_keras.pipelines.class_weight import weigh_classes
from ood_keras.pipelines.interleave import Interleave, interleave
from ood_keras.pipelines.roles import check_known, check_roles
from ood_keras.pipelines.sources import (
    DataNotFoundError,
    DataWarning,
    Source,
    load,
    names,
)
from ood_keras.pipelines.split import Split

__all__ = [
    "DataNotFoundError",
    "DataWarning",
    "Interleave",
    "Source",
    "Split",
    "augment_once",
    "check_known",
    "check_roles",
    "interleave",
    "load",
    "names",
    "preprocessing",
    "weigh_classes",
]
