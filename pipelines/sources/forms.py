"""Forms that any source can be had in: the same images, prepared as others do."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from ood_keras.types import ImageShape

_TRANSPOSED = "transposed"


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to prepare images.

    Attributes:
        description: What it does, for lists of forms.
        change: Function from uint8 `(num_images, height, width, channels)` to such.
    """

    description: str
    change: Callable[[np.ndarray], np.ndarray]


def negate(images: np.ndarray) -> np.ndarray:
    """Makes bright dark and dark bright."""
    return 255 - images


def transpose(images: np.ndarray) -> np.ndarray:
    """Exchanges rows and columns, which lays characters on their side."""
    return np.ascontiguousarray(images.swapaxes(1, 2))


GENERAL = {
    "negative": Form("dark where it was bright: 255 - v for each level v", negate),
    _TRANSPOSED: Form(
        "on its side, rows for columns, as EMNIST's publisher ships it", transpose
    ),
}


def leave_own(names: Iterable[str]) -> tuple[str, ...]:
    """Returns those forms that are a source's own: all but the general ones.

    >>> leave_own(["area", "negative"])
    ('area',)
    """
    return tuple(name for name in names if name not in GENERAL)


def apply(names: Iterable[str], images: np.ndarray) -> np.ndarray:
    """Returns images in forms of `GENERAL`, one after the other.

    Args:
        names: Names of forms.
        images: uint8 `(num_images, height, width, channels)`.
    """
    for name in names:
        images = GENERAL[name].change(images)
    return images


def shape_before(
    names: Iterable[str], image_shape: ImageShape | None
) -> ImageShape | None:
    """Returns the shape that images need for `apply` to give them `image_shape`."""
    if image_shape is None or _TRANSPOSED not in names:
        return image_shape
    height, width, channels = image_shape
    return width, height, channels
