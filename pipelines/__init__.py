"""Data in, tensors out: sources, splits, and the mixture of known and unknown."""

from ood_keras.pipelines import preprocessing, recipes
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
    "check_known",
    "check_roles",
    "interleave",
    "load",
    "names",
    "preprocessing",
    "recipes",
]
