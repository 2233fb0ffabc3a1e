"""One part of a data source: images, labels and the role they may play."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import numpy as np

from ood_keras.conventions import UNKNOWN
from ood_keras.names import fold
from ood_keras.pipelines import stored_images
from ood_keras.types import Dataset, ImageShape, PixelArray

# What images may be used for.
Role: TypeAlias = Literal["train", "validation", "test"]

ROLES: tuple[Role, ...] = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images of one source for one role, kept as bytes until they are used.

    `pipelines.load(spec).train` makes one; build one by hand for data that is already
    in memory.

    Args:
        source: Name of the source, for messages and reports.
        role: `"train"`, `"validation"` or `"test"`.
        images: uint8 `(num_images, height, width, channels)`, an array or
            `StoredImages`, of which indices and slices give arrays.
        labels: Integers `(num_images,)` or `(num_images, 1)`, kept as int32
            `(num_images,)`: `0..len(class_names)-1`, or -1 for unknown.
        class_names: One name per class. Kept when the labels are made unknown, so
            that a class that is both known and unknown can be found.
        namespace: What numeric class names belong to: the `"3"` of two sources is the
            same class if they share a namespace. Defaults to `source`.
        files: One name per image, for messages, such as that of its file; or none.

    Raises:
        TypeError: images are not uint8, or labels are not integers.
        ValueError: images do not have four axes, there is not one label per image, or
            a label is outside `-1..len(class_names)-1`.

    Example:

    >>> images = np.zeros((4, 28, 28, 1), np.uint8)
    >>> split = Split("mine", "train", images, np.array([0, 1, 0, 1]), ("cat", "dog"))
    >>> len(split), split.num_classes
    (4, 2)
    """

    source: str
    role: Role
    images: PixelArray
    labels: np.ndarray
    class_names: tuple[str, ...] = ()
    namespace: str | None = None
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(
                f"`role` must be one of {', '.join(ROLES)}. Received: {self.role!r}"
            )
        images, labels = self.images, np.asarray(self.labels)
        if not stored_images.is_on_disk(images):
            images = np.asarray(images)
        if images.dtype != np.uint8:
            raise TypeError(
                f"{self.source}: images must be uint8, 0 to 255 (for floats in [0, 1]: "
                f"`np.round(images * 255).astype('uint8')`). Received: {images.dtype}"
            )
        if images.ndim != 4:
            raise ValueError(
                f"{self.source}: images must have the axes (num_images, height, width, "
                f"channels); add the last one with `images[..., None]`. Received: "
                f"shape {images.shape}"
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise TypeError(
                f"{self.source}: labels must be integers. Received: {labels.dtype}"
            )
        if labels.shape == (len(images), 1):  # As `keras.datasets` has them.
            labels = labels[:, 0]
        if labels.shape != (len(images),):
            raise ValueError(
                f"{self.source}: expected one label per image. Received: "
                f"{len(images)} images and labels of shape {labels.shape}"
            )
        check_label_range(self.source, labels, len(self.class_names))
        # A copy with other images, by `dataclasses.replace`, has other files.
        same = len(self.files) == len(images)
        object.__setattr__(self, "files", tuple(self.files) if same else ())
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.astype(np.int32))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "namespace", self.namespace or self.source)

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        return f"{self.source} ({self.role})"

    def __repr__(self) -> str:
        return f"<Split {self}: {len(self)} images {self.image_shape}>"

    @property
    def image_shape(self) -> ImageShape:
        """`(height, width, channels)`."""
        return self.images.shape[1:]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def class_identities(self) -> tuple[str, ...]:
        """One string per class, equal for equal classes of different sources.

        Names are compared as `names.fold` makes them, without case. A number says
        nothing by itself, so it counts within the namespace only: `"3"` in mnist and
        digits, but not in kmnist.
        """
        return tuple(
            f"{self.namespace}/{name}" if name.isdigit() else fold(name)
            for name in self.class_names
        )

    def as_unknown(self) -> "Split":
        """Returns the same images, every label -1."""
        return dataclasses.replace(self, labels=np.full(len(self), UNKNOWN, np.int32))

    def take(self, num_images: int, seed: int = 0) -> "Split":
        """Returns a random subset, spread as evenly over the classes as they allow.

        Args:
            num_images: Size of the subset, at most `len(self)`.
            seed: Decides which images; the same seed always takes the same ones.

        Raises:
            ValueError: there are fewer images than asked for.
        """
        if not len(self):
            raise ValueError(
                f"{self} is empty, so no images can be taken: its source has too few "
                "to give some to each split. Add images, or use another source"
            )
        if not 0 < num_images <= len(self):
            raise ValueError(
                f"{self}: cannot take {num_images} of {len(self)} images; ask for "
                f"1 to {len(self)}"
            )
        order = np.random.default_rng(seed).permutation(len(self))
        # The k-th image of every class comes before the k+1-th of any.
        rank = np.empty(len(self), np.int64)
        for label in np.unique(self.labels):
            members = np.flatnonzero(self.labels[order] == label)
            rank[members] = np.arange(len(members))
        chosen = order[np.argsort(rank, kind="stable")[:num_images]]
        return self.rows(np.sort(chosen))

    def select(self, classes: Iterable[int]) -> "Split":
        """Returns the images of some classes only, relabelled `0..len(classes)-1`.

        Args:
            classes: Indices into `class_names`, in the new order.

        Raises:
            ValueError: an index is out of range or repeated, or the split's labels were
                already made unknown.
        """
        classes = check_classes(self.source, classes, self.class_names)
        if len(self) and np.all(self.labels == UNKNOWN):
            raise ValueError(
                f"{self} has no labels left to select classes by; call `select` before "
                "`as_unknown`"
            )
        relabelled = np.full(self.num_classes + 1, UNKNOWN, np.int32)
        relabelled[classes] = np.arange(len(classes), dtype=np.int32)
        rows = np.flatnonzero(np.isin(self.labels, classes))
        return dataclasses.replace(
            self,
            images=stored_images.choose(self.images, rows),
            labels=relabelled[self.labels[rows]],
            files=self._files(rows),
            class_names=tuple(self.class_names[index] for index in classes),
        )

    def dataset(self, batch_size: int = 256) -> Dataset:
        """Returns a `tf.data.Dataset` of `(images, labels)` batches, in order.

        Images are float32 `(batch, height, width, channels)` in [0, 1], labels int32
        `(batch,)`. Nothing is random: this is the input of evaluation. The last batch
        may be smaller. The dataset has an attribute `class_names`, as those of
        `keras.utils.image_dataset_from_directory` have, from which detectors and the
        export know them; what `map` or `batch` make of it has none, and nor has a split
        whose labels are all unknown.

        Raises:
            ValueError: `batch_size` is not positive.
        """
        from ood_keras.pipelines import batching, class_weight

        order = np.arange(len(self), dtype=np.int32)
        dataset = batching.batches(self.images, self.labels, order, batch_size)
        if self.class_names and np.any(self.labels != UNKNOWN):
            dataset.class_names = list(self.class_names)
        return class_weight.explain(dataset) if (self.labels < 0).any() else dataset

    def fingerprint(self) -> str:
        """Returns a SHA-256, as hex, of the shape, the pixels and the labels."""
        digest = hashlib.sha256(self.pixel_fingerprint.encode())
        digest.update(self.labels.astype("<i4").tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def pixel_fingerprint(self) -> str:
        """SHA-256, as hex, of the shape and the pixels, whatever the labels say."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        for _, images in stored_images.walk(self.images):
            digest.update(np.ascontiguousarray(images))  # type: ignore[arg-type]
        return digest.hexdigest()

    def rows(self, rows: np.ndarray) -> "Split":
        """Returns some of the images: their indices, or one bool for each image."""
        rows = np.arange(len(self))[rows]
        return dataclasses.replace(
            self,
            images=stored_images.choose(self.images, rows),
            labels=self.labels[rows],
            files=self._files(rows),
        )

    def _files(self, rows: np.ndarray) -> tuple[str, ...]:
        return tuple(self.files[row] for row in rows) if self.files else ()


def check_label_range(name: str, labels: np.ndarray, num_classes: int) -> None:
    """Raises unless every label is a class, or -1 for unknown."""
    outside = np.flatnonzero((labels < UNKNOWN) | (labels >= num_classes))
    if len(outside):
        known = f"0 to {num_classes - 1}, or " if num_classes else ""
        todo = "" if num_classes else "; give `class_names`, one name per known class"
        raise ValueError(
            f"{name}: labels must be {known}{UNKNOWN} for unknown{todo}. Received: "
            f"{len(outside)} labels out of range, the first is "
            f"{labels[outside[0]]} at index {outside[0]}"
        )


def check_classes(
    name: str, classes: Iterable[int], class_names: Sequence[str]
) -> list[int]:
    """Returns `classes` as a list, or raises if it is no choice of `class_names`."""
    classes = list(classes)
    count = len(class_names)
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"{name}: choose each class once. Received: {classes}")
    if not all(0 <= index < count for index in classes):
        raise ValueError(
            f"{name} has {count} classes, 0 to {count - 1}. Received: {classes}"
        )
    return classes


def even_shares(total: int, count: int) -> list[int]:
    """Splits `total` into `count` integers, the remainder to the first ones.

    >>> even_shares(8, 3)
    [3, 3, 2]
    """
    return [total // count + (index < total % count) for index in range(count)]
