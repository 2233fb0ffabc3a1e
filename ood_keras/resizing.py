"""Brings images of any size and colour to one shape, without TensorFlow."""

import functools

import numpy as np

from ood_keras.types import ImageShape

_GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
_CHUNK_BYTES = 64 * 2**20


def adapt(images: np.ndarray, image_shape: ImageShape) -> np.ndarray:
    """Returns `images` in the given shape: colour is converted first, then size.

    Shrinking averages the covered area; enlarging is bilinear; each axis on its own, so
    the aspect ratio is not kept. RGB becomes grey by the luma weights 0.299, 0.587,
    0.114 (ITU-R BT.601); grey becomes RGB by repetition.

    Args:
        images: uint8 `(num_images, height, width, channels)`.
        image_shape: `(height, width, channels)`, channels 1 or 3.

    Returns:
        uint8 `(num_images, *image_shape)`; the same array if nothing is to be done.

    Raises:
        ValueError: the number of channels cannot be converted.
    """
    height, width, channels = image_shape
    if images.shape[1:] == (height, width, channels):
        return images
    have = images.shape[3]
    if have != channels and (have, channels) not in ((1, 3), (3, 1)):
        raise ValueError(
            f"can convert 1 channel to 3 and back, not {have} to {channels}. Received: "
            f"images of shape {images.shape[1:]} for image_shape={tuple(image_shape)}"
        )
    rows, columns = _weights(images.shape[1], height), _weights(images.shape[2], width)
    result = np.empty((len(images), height, width, channels), np.uint8)
    chunk = max(1, _CHUNK_BYTES // (4 * int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk].astype(np.float32)
        if (have, channels) == (3, 1):
            part = (part @ _GREY_WEIGHTS)[..., None]
        if rows is not None:
            flat = part.reshape(len(part), part.shape[1], -1)
            part = (rows @ flat).reshape(len(part), height, *part.shape[2:])
        if columns is not None:
            part = (part.swapaxes(2, 3) @ columns.T).swapaxes(2, 3)
        result[start : start + chunk] = np.rint(part).clip(0, 255)
    return result


# Few, since those of large photographs take megabytes each.
@functools.lru_cache(maxsize=16)
def _weights(size: int, new_size: int) -> np.ndarray | None:
    """Returns the `(new_size, size)` matrix that resizes one axis; `None` if equal."""
    if new_size == size:
        return None
    scale = size / new_size
    old = np.arange(size)
    if new_size < size:
        start = np.arange(new_size)[:, None] * scale
        covered = np.minimum(old + 1, start + scale) - np.maximum(old, start)
        weights = covered.clip(0) / scale
    else:
        centre = (np.arange(new_size)[:, None] + 0.5) * scale - 0.5
        weights = (1 - np.abs(centre.clip(0, size - 1) - old)).clip(0)
    return weights.astype(np.float32)
