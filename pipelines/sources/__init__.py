"""Data sources, one kind per file; each registers the names that it opens."""

from ood_keras.pipelines.sources import (
    cifar10,
    class_zips,
    digits,
    folder,
    glyphs,
    idx,
    idx_sets,
    noise,
    npz,
    omniglot,
    synthetic,
    tfds,
    tfrecord_files,
    zip_file,
)
from ood_keras.pipelines.sources.base import (
    DataNotFoundError,
    Request,
    Source,
    from_generator,
    from_parts,
)
from ood_keras.pipelines.sources.loading import forms, load
from ood_keras.pipelines.sources.registry import names, register

__all__ = [
    "DataNotFoundError",
    "Request",
    "Source",
    "cifar10",
    "class_zips",
    "digits",
    "folder",
    "forms",
    "from_generator",
    "from_parts",
    "glyphs",
    "idx",
    "idx_sets",
    "load",
    "names",
    "noise",
    "npz",
    "omniglot",
    "register",
    "synthetic",
    "tfds",
    "tfrecord_files",
    "zip_file",
]
