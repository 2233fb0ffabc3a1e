"""What the type hints of the package stand for.

Type checkers know little about Keras and TensorFlow, so these names say in words what
they cannot check. They are for annotations only: `isinstance` does not take them.
"""

import io
import os
from collections.abc import Iterable, Mapping
from typing import IO, Any, Protocol, TypeAlias

import numpy as np

#: A tensor of the backend that Keras runs on, or what Keras makes one of: a NumPy
#: array, a number, nested lists of numbers.
Tensor: TypeAlias = Any

#: One-dimensional numbers: a NumPy array, a tensor, a list.
Scores: TypeAlias = Any

#: One-dimensional integers: classes 0 to N - 1, and -1 where unknown images may occur.
Labels: TypeAlias = Any

#: One-dimensional bools.
Flags: TypeAlias = Any

#: Images float32 `(num_images, height, width, channels)` in [0, 1], or batches of
#: them: an array, a pair `(images, labels)`, a `tf.data.Dataset`, or a list of batches.
#: Labels are integers, 0 to N - 1 for known images and -1 for unknown ones.
Images: TypeAlias = Any

#: A `tf.data.Dataset` of batches `(images, labels)`.
Dataset: TypeAlias = Any

#: Batches `(images, labels)` as `ood_keras.batches.iterate` yields them; `labels` is
#: `None` where the data has none.
Batches: TypeAlias = Iterable[tuple[np.ndarray, np.ndarray | None]]

#: uint8 `(num_images, height, width, channels)`: an array, or, where it would take too
#: much memory, `pipelines.StoredImages`, of which indices give arrays.
PixelArray: TypeAlias = Any

#: `(height, width, channels)`.
ImageShape: TypeAlias = tuple[int, int, int]

#: The shape of a tensor: integers, `None` for an axis whose size is free.
Shape: TypeAlias = tuple[Any, ...]

#: A type of numbers as Keras takes it: "float32", a `keras.DTypePolicy`, or `None`.
DType: TypeAlias = Any

#: Where a file or folder is.
Path: TypeAlias = str | os.PathLike[str]

#: A file that is open for reading bytes, also one that is unpacked on the way.
Stream: TypeAlias = IO[bytes] | io.BufferedIOBase

#: A dict that can be written as JSON.
Json: TypeAlias = dict[str, Any]

#: NumPy arrays by name.
Arrays: TypeAlias = dict[str, np.ndarray]

#: What a pass of a network gives: tensors by name, `logits` `(batch, K)`, `features`
#: `(batch, D)` and, where inner layers are read, `layers`, a dict of their outputs.
Outputs: TypeAlias = dict[str, Any]

#: What an exported model answers: one array for each output, one row for each image.
Answer: TypeAlias = dict[str, np.ndarray]

#: Several names, of detectors or of data sources.
Names: TypeAlias = Iterable[str]


class TrainingData(Protocol):
    """What `training.fit` trains on: a `pipelines.Interleave`, or what is like it."""

    @property
    def steps_per_epoch(self) -> int: ...

    def epoch(self, index: int, start_step: int, /) -> Dataset: ...


class Validator(Protocol):
    """What measures a model after each epoch of `training.fit`."""

    def measure(self) -> Mapping[str, float]: ...


class LiveModel(Protocol):
    """What an export is compared with: a fitted detector, or an earlier export."""

    @property
    def num_classes(self) -> int | None: ...

    def call(self, images: Tensor, /) -> Any: ...
