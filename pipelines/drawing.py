"""A drawing made by hand, brought into the form of handwritten digits."""

from typing import Any

import numpy as np

from ood_keras.types import ImageShape


def center(
    ink: np.ndarray, image_shape: ImageShape, *, dark_ink: bool = False
) -> np.ndarray | None:
    """Brings a drawing into the form of MNIST: cropped, shrunk, centred.

    A pen on a screen draws anywhere, in any size; a model of handwritten digits has
    seen them in one form only. This is what LeCun et al. did to make MNIST: the
    bounding box of the ink is shrunk by averaging the covered area, keeping its
    proportions, so that the longer side is 20 of 28 pixels; then it is placed so that
    its centre of mass is the centre of the image. For drawings only: image files are
    not touched by this.

    Args:
        ink: The drawing, float `(height, width)` in [0, 1]: 0 is paper and 1 is ink.
        image_shape: `(height, width, channels)` to make.
        dark_ink: Whether the known images are dark on bright, so that ink becomes 0.

    Returns:
        float32 `image_shape` in [0, 1], or `None` for an empty sheet.

    Raises:
        ValueError: `ink` is not a plane of numbers in [0, 1].

    Example:

    >>> ink = np.zeros((280, 280))
    >>> ink[40:240, 120:150] = 1  # A one.
    >>> center(ink, (28, 28, 1)).shape
    (28, 28, 1)
    """
    from PIL import Image

    ink = np.asarray(ink, np.float32)
    if ink.ndim != 2 or not np.all((ink >= 0) & (ink <= 1)):
        raise ValueError(
            "expected a drawing of shape (height, width) with values in [0, 1]. "
            f"Received: shape {ink.shape}"
        )
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return None
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width, channels = image_shape
    box = round(min(height, width) * 20 / 28)
    scale = box / max(ink.shape)
    size = [max(1, round(scale * side)) for side in ink.shape]
    small: Any = Image.fromarray(ink).resize(size[::-1], Image.Resampling.BOX)
    small = np.asarray(small).clip(0, 1)
    image = np.zeros((height, width), np.float32)
    top, left = (
        _start(small.sum(axis=1 - axis), total)
        for axis, total in enumerate((height, width))
    )
    image[top : top + size[0], left : left + size[1]] = small
    image = 1 - image if dark_ink else image
    return np.repeat(image[..., None], channels, axis=-1)


def _start(mass: np.ndarray, total: int) -> int:
    """Where to begin so that the centre of `mass` comes to the middle of `total`."""
    centre = np.average(np.arange(len(mass)), weights=mass)
    return int(np.clip(round((total - 1) / 2 - centre), 0, total - len(mass)))
