"""Images that stay on disk: what a split holds in place of a large array."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ood_keras.types import PixelArray

CHUNK_BYTES = 2**22


class StoredImages(np.lib.mixins.NDArrayOperatorsMixin):
    """Images uint8 `(num_images, height, width, channels)` in a file, read as needed.

    What a `Split` holds where its images would take too much memory. Indices, slices,
    arrays of indices and of bools give NumPy arrays, as those of an array do; choosing
    images for another split reads nothing (`choose`). What wants a whole array, as
    `images / 255` and `numpy.asarray(images)` do, reads all of them into memory.

    Args:
        pixels: The images as a `numpy.memmap`.
        rows: Which of them, and in what order; all if left out.
        change: Function from uint8 images to as many, called on what is read.

    Example:

    >>> images = StoredImages(np.zeros((5, 2, 2, 1), np.uint8))
    >>> images.choose(np.array([3, 1]))[:1].shape
    (1, 2, 2, 1)
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        pixels: np.ndarray,
        rows: np.ndarray | None = None,
        change: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        # Of a `memmap`, every view would be one too, which is slower.
        self._pixels = np.asarray(pixels)
        self._rows = np.arange(len(pixels)) if rows is None else rows
        self._change = change
        shape = self._pixels.shape[1:]
        if change is not None:
            shape = change(np.zeros((1, *shape), np.uint8)).shape[1:]
        self.shape = (len(self._rows), *shape)
        self.size = self.nbytes = math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, tuple):
            first, *rest = key
            if first is Ellipsis or first is None:
                return np.asarray(self)[key]
            some = self[first]
            return some[(slice(None), *rest) if some.ndim == 4 else tuple(rest)]
        rows = self._rows[key]
        if np.ndim(rows) == 0:
            image = self._pixels[rows]
            return image if self._change is None else self._change(image[None])[0]
        # Unlike an index, `take` lets other threads of Python go on.
        images = np.take(self._pixels, rows, axis=0)
        return images if self._change is None else self._change(images)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("images on disk are only had as a copy")
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any
    ) -> Any:
        arrays = (
            np.asarray(value) if isinstance(value, StoredImages) else value
            for value in inputs
        )
        return getattr(ufunc, method)(*arrays, **options)

    def astype(self, dtype: Any) -> np.ndarray:
        """Returns all images as an array of numbers of another type."""
        return np.asarray(self, dtype)

    def __repr__(self) -> str:
        return f"<StoredImages {self.shape}>"

    def choose(self, rows: np.ndarray) -> "StoredImages":
        """Returns some of the images, without reading any.

        Args:
            rows: Their indices, or one bool for each image.
        """
        return StoredImages(self._pixels, self._rows[rows], self._change)

    def apply(self, change: Callable[[np.ndarray], np.ndarray]) -> "StoredImages":
        """Returns the images as they will be changed when they are read."""
        before = self._change
        both = change if before is None else lambda images: change(before(images))
        return StoredImages(self._pixels, self._rows, both)


class JoinedImages:
    """Images of several arrays or files, numbered through.

    Args:
        parts: Each an array or `StoredImages`, of one shape.
    """

    def __init__(self, parts: Sequence[PixelArray]) -> None:
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self._ends[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Returns the images with these numbers."""
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        which = np.searchsorted(self._ends, rows, side="right")
        for number, part in enumerate(self._parts):
            places = np.flatnonzero(which == number)
            if len(places):
                first = self._ends[number] - len(part)
                images[places] = part[rows[places] - first]
        return images


def is_on_disk(images: PixelArray) -> bool:
    """Whether images are read from a file as they are used."""
    return isinstance(images, StoredImages | JoinedImages)


def choose(images: PixelArray, rows: np.ndarray) -> PixelArray:
    """Returns some of the images; of those on disk, none is read."""
    return images.choose(rows) if isinstance(images, StoredImages) else images[rows]


def change(
    images: PixelArray, function: Callable[[np.ndarray], np.ndarray]
) -> PixelArray:
    """Returns images changed; of those on disk, each when it is read."""
    if isinstance(images, StoredImages):
        return images.apply(function)
    return function(images)


def join(parts: Sequence[PixelArray]) -> PixelArray:
    """Returns all images one after the other; an array if all are in memory."""
    if any(map(is_on_disk, parts)):
        return JoinedImages(parts)
    return np.concatenate(parts)


def walk(images: PixelArray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields all images in stretches, as `(rows, array)`.

    Args:
        images: uint8 `(num_images, height, width, channels)`.
    """
    size = max(1, CHUNK_BYTES // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        yield rows, images[rows]
