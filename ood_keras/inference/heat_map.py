"""Why an image is rejected: a heat map of what in it is strange."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ood_keras.conventions import REJECTED_SCORE, check_count
from ood_keras.types import ImageShape, Scores, Tensor

# Sides of the windows, as shares of the shorter side of the image. A part that is much
# larger than a window is not covered by it, one that is much smaller is blurred by it.
_SHARES = (0.15, 0.3)


class NoHeatError(ValueError):
    """An image, or one with a part covered, has no score."""


def heat_maps(
    score: Callable[[np.ndarray], Scores], images: Tensor, *, batch_size: int = 256
) -> np.ndarray:
    """By how much the `ood_score` of an image falls where a part of it is covered.

    Occlusion, as in Zeiler and Fergus, "Visualizing and Understanding Convolutional
    Networks", ECCV 2014, of the score that decides: a square window of the image is
    filled in from the pixels around it and the image scored again, at about two hundred
    places and in two sizes, 15 and 30 % of the shorter side. The fall of the score,
    over the number of pixels in the window, is the window's heat; where the score
    rises, since something known was covered, there is none. A pixel's heat is the sum
    over both sizes of the median over the windows that cover it: the median, since a
    window beside a strange part may still reach into it. So it works with every
    detector and every exported format, and says what the decision itself depends on. An
    image that is strange as a whole, such as noise, has no place that is.

    Args:
        score: From float images `(n, height, width, channels)` in [0, 1] to their
            `ood_score`s `(n,)`, higher for what is more likely unknown:
            `detector.score`, or `lambda images: predictor.predict(images)["ood_score"]`
            of an exported model.
        images: Float images `(num_images, height, width, channels)` in [0, 1].
        batch_size: Images that `score` is given at once, at most.

    Returns:
        Float32 array `(num_images, height, width)`, at least 0, in units of the score
        for each pixel; all 0 for an image no part of which makes it more known.

    Raises:
        NoHeatError: one of them has no finite score, or not with every part covered.
        ValueError: images are no such array.

    Example:

    >>> predictor = export.load("mnist")
    >>> maps = heat_maps(lambda images: predictor.predict(images)["ood_score"], images)
    """
    images = np.asarray(images)
    if images.ndim != 4 or not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            "expected float images in [0, 1] of shape (num_images, height, width, "
            f"channels). Received: {images.dtype} of shape {images.shape}"
        )
    batch_size = check_count("batch_size", batch_size)
    windows = list(list_windows(images.shape[1:]))
    maps = [_heat_map(score, image, windows, batch_size) for image in images]
    return np.stack(maps) if maps else np.zeros(images.shape[:3], np.float32)


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image with its heat in red over it.

    Args:
        image: Float `(height, width, channels)` in [0, 1], 1 or 3 channels.
        heat: What `heat_maps` returned of it, `(height, width)`.

    Returns:
        Float32 array `(height, width, 3)` in [0, 1]; the hottest pixel is the reddest,
        and an image without heat is grey or coloured as it is.
    """
    share = 0.75 * heat[..., None] / max(float(heat.max()), 1e-30)
    colours = np.broadcast_to(np.clip(image, 0, 1), (*heat.shape, 3))
    red = np.array([1.0, 0.1, 0.1])
    return ((1 - share) * colours + share * red).astype(np.float32)


def list_windows(image_shape: ImageShape) -> Iterator[tuple[int, int, int]]:
    """Yields `(top, left, side)` of every window, the sizes one after the other."""
    height, width = image_shape[:2]
    for share in _SHARES:
        side = max(1, round(share * min(height, width)))
        step = max(1, side // 2)
        for top in _starts(height, side, step):
            for left in _starts(width, side, step):
                yield top, left, side


def cover(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """A copy of an image with a window filled in from the pixels around it.

    Each pixel is the mean of the four pixels next to the window in its row and column,
    weighted by one over the distance; beyond the edge of the image there are none.

    Args:
        image: `(height, width, channels)`, larger than the window.
        top: First row of the window.
        left: First column.
        side: Of the window, in pixels.
    """
    rows, columns = slice(top, top + side), slice(left, left + side)
    near = np.arange(1, side + 1, dtype=np.float32)
    vertical, horizontal = np.s_[:, None, None], np.s_[None, :, None]
    total: Any = 0.0
    weights: Any = 0.0
    for exists, pixels, weight in (
        (top > 0, image[None, top - 1, columns], 1 / near[vertical]),
        (
            top + side < image.shape[0],
            image[None, (top + side) % image.shape[0], columns],
            1 / near[::-1][vertical],
        ),
        (left > 0, image[rows, left - 1, None], 1 / near[horizontal]),
        (
            left + side < image.shape[1],
            image[rows, (left + side) % image.shape[1], None],
            1 / near[::-1][horizontal],
        ),
    ):
        if exists:
            total, weights = total + weight * pixels, weights + weight
    covered = image.copy()
    # An image of one pixel has none around it.
    covered[rows, columns] = total / weights if np.any(weights) else 0.0
    return covered


def _starts(length: int, side: int, step: int) -> list[int]:
    """Where windows begin, so that the last ends where the image does."""
    return [*range(0, length - side, step), length - side]


def _heat_map(score, image, windows, batch_size):
    scores = [_score(score, image[None])]
    for start in range(0, len(windows), batch_size):
        covered = [cover(image, *each) for each in windows[start : start + batch_size]]
        scores.append(_score(score, np.stack(covered)))
    whole, *rest = np.concatenate(scores)
    heat = np.zeros(image.shape[:2])
    for size in sorted({side for _, _, side in windows}):
        falls = [
            (place, max(whole - covered, 0.0) / size**2)
            for place, covered in zip(windows, rest, strict=True)
            if place[2] == size
        ]
        layers = np.full((len(falls), *image.shape[:2]), np.nan, np.float32)
        for layer, ((top, left, side), fall) in zip(layers, falls, strict=True):
            layer[top : top + side, left : left + side] = fall
        heat += np.nanmedian(layers, axis=0)
    return heat.astype(np.float32)


def _score(score, images):
    scores = np.asarray(score(images), np.float64)
    if scores.shape != (len(images),):
        raise ValueError(
            f"`score` must return one number for each of {len(images)} images. "
            f"Received: an array of shape {scores.shape}"
        )
    if not np.all(np.isfinite(scores) & (scores < REJECTED_SCORE)):
        raise NoHeatError(
            "an image has no score, so that nothing can be said of its parts. Expected "
            "finite pixels in [0, 1]"
        )
    return scores
