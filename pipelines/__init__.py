"""Data in, tensors out: sources, splits, and the mixture of known and unknown."""

from ood_keras import _lazy

_lazy.check_tensorflow(__name__)

from ood_keras.pipelines import augmentations, mixing, preprocessing, rendering
from ood_keras.pipelines.as_split import as_split
from ood_keras.pipelines.augment_once import augment_once
from ood_keras.pipelines.class_weight import weigh_classes
from ood_keras.pipelines.data_warning import DataWarning
from ood_keras.pipelines.dealing import deal_out
from ood_keras.pipelines.interleave import Interleave, interleave
from ood_keras.pipelines.roles import check_known, check_roles
from ood_keras.pipelines.sources import (
    DataNotFoundError,
    Request,
    Source,
    forms,
    from_generator,
    from_parts,
    load,
    names,
    register,
)
from ood_keras.pipelines.split import Split
from ood_keras.pipelines.stored_images import StoredImages

__all__ = [
    "DataNotFoundError",
    "DataWarning",
    "Interleave",
    "Request",
    "Source",
    "Split",
    "StoredImages",
    "as_split",
    "augment_once",
    "augmentations",
    "check_known",
    "check_roles",
    "deal_out",
    "forms",
    "from_generator",
    "from_parts",
    "interleave",
    "load",
    "mixing",
    "names",
    "preprocessing",
    "register",
    "rendering",
    "weigh_classes",
]
