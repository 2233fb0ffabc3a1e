"""Checks of image files inside the graph: what PNG and JPEG have in common."""

from contextlib import AbstractContextManager

import numpy as np
import tensorflow as tf

from ood_keras.image_files import MAX_PIXELS, MAX_SIDE
from ood_keras.types import Tensor

# Signature and IHDR of a PNG take 33 bytes; with the head of the next chunk 41.
HEAD = 41
# Images of at most so many pixels and such sides are decoded several at a time, larger
# ones one by one.
_FEW_PIXELS = 2**20
_SHORT_SIDE = 2**11


def check(*conditions: Tensor | bool) -> AbstractContextManager:
    """Raises, and so drops the file, unless all conditions hold."""
    good = tf.reduce_all(tf.stack([tf.convert_to_tensor(one) for one in conditions]))
    return tf.control_dependencies([tf.debugging.Assert(good, ["not readable"])])


def read_big_endian(values: Tensor) -> Tensor:
    """The integers that the bytes on the last axis are, as int64."""
    places = 256 ** np.arange(values.shape[-1] - 1, -1, -1)
    return tf.reduce_sum(tf.cast(values, tf.int64) * places, axis=-1)


def is_readable_size(sides: Tensor) -> Tensor:
    """Whether images of these sides are read: int64 `(..., 2)` to bool `(...)`."""
    within = tf.reduce_all((sides > 0) & (sides <= MAX_SIDE), axis=-1)
    return within & (tf.reduce_prod(sides, axis=-1) <= MAX_PIXELS)


def is_small(sides: Tensor) -> Tensor:
    """Whether images of these sides are small: int64 `(..., 2)` to bool `(...)`."""
    short = tf.reduce_all(sides <= _SHORT_SIDE, axis=-1)
    return short & (tf.reduce_prod(sides, axis=-1) <= _FEW_PIXELS)


def start_with(heads: Tensor, prefix: bytes) -> Tensor:
    """Whether each of `heads` `(batch, HEAD)` starts with these bytes."""
    expected = tf.constant(list(prefix), tf.uint8)
    return tf.reduce_all(heads[:, : len(prefix)] == expected, axis=1)
