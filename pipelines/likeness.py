"""What a picture looks like, in few numbers: for finding copies and neighbours."""

import hashlib

import numpy as np

from ood_keras import resizing

# What is described: every picture is first brought to this size, whatever its aspect.
SHAPE = (64, 64, 3)
# 16 x 16 comparisons.
CODE_BITS = 256
CODE_WORDS = CODE_BITS // 64

HASH_BYTES = 16

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_CELLS, _ANGLES = 4, 8
_THUMBNAIL = 8
_LEVELS = 4
NUM_FEATURES = 3 * _THUMBNAIL**2 + _CELLS**2 * _ANGLES + _LEVELS**3


def measure(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns `code` and `describe` of a picture of any size.

    Args:
        image: uint8 `(height, width, channels)`; of channels that are neither grey nor
            RGB, the mean is taken.
    """
    if image.shape[2] not in (1, 3):
        image = np.rint(image.mean(2, keepdims=True)).astype(np.uint8)
    small = resizing.adapt(image[np.newaxis], SHAPE)[0]
    return code(small), describe(small)


def hash_pixels(image: np.ndarray) -> bytes:
    """Returns a hash of the shape and the pixels of a picture."""
    content = repr(image.shape).encode() + image.tobytes()
    return hashlib.blake2b(content, digest_size=HASH_BYTES).digest()


def code(image: np.ndarray) -> np.ndarray:
    """Returns the difference hash of a picture, 256 bits.

    The picture is averaged to 16 rows of 17 grey values; each bit says whether a value
    is larger than its left neighbour (N. Krawetz, "Kind of like that", 2013). Scaling,
    compression, brightness and contrast change few bits; of unrelated pictures about
    half of the bits differ, but of plain ones, whose bits say little, fewer.

    Args:
        image: uint8 `SHAPE`.

    Returns:
        uint64 `(CODE_WORDS,)`.
    """
    grey = image @ _LUMA
    rows = grey.reshape(16, 4, 64).mean(1)
    # 17 columns of 64 / 17 pixels each, by the integral along the row.
    sums = np.concatenate([np.zeros((16, 1), np.float32), rows.cumsum(1)], axis=1)
    ends = np.linspace(0, 64, 18)
    low = np.minimum(ends.astype(int), 63)
    columns = np.diff(sums[:, low] + (ends - low) * (sums[:, low + 1] - sums[:, low]))
    # Half a level is rounding, not a difference.
    bits = np.diff(columns, axis=1) > 0.5 * 64 / 17
    return np.packbits(bits).view(np.uint64)


def describe(image: np.ndarray) -> np.ndarray:
    """Returns simple features of a picture: what is where, edges, colours.

    A thumbnail of 8 x 8; histograms of the directions of edges in 4 x 4 cells (Dalal
    and Triggs, 2005), each normalised; a histogram of 64 colours. The square roots of
    the histograms, so that Euclidean distances compare them as Hellinger's do.

    Args:
        image: uint8 `SHAPE`.

    Returns:
        float16 `(NUM_FEATURES,)`.
    """
    scaled = image.astype(np.float32) / 255
    step = 64 // _THUMBNAIL
    thumbnail = scaled.reshape(_THUMBNAIL, step, _THUMBNAIL, step, 3).mean((1, 3))
    levels = (image // (256 // _LEVELS)).reshape(-1, 3).astype(np.intp)
    places = levels @ np.array([_LEVELS**2, _LEVELS, 1])
    colours = np.bincount(places, minlength=_LEVELS**3) / len(places)
    parts = [thumbnail.ravel() / _THUMBNAIL, _edges(scaled @ _LUMA), np.sqrt(colours)]
    return np.concatenate(parts).astype(np.float16)


def _edges(grey: np.ndarray) -> np.ndarray:
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    angle = (np.arctan2(down, right) % np.pi) * (_ANGLES / np.pi)
    angle = np.minimum(angle.astype(np.intp), _ANGLES - 1)
    place = np.arange(64) // (64 // _CELLS)
    cell = place[:, np.newaxis] * _CELLS + place
    found = np.bincount(
        (cell * _ANGLES + angle).ravel(), strength.ravel(), _CELLS**2 * _ANGLES
    ).reshape(-1, _ANGLES)
    # Noise in a plain cell is no edge.
    shares = found / (found.sum(1, keepdims=True) + 1.0)
    return np.sqrt(shares).ravel() / _CELLS
