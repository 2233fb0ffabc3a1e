"""Pixels inside the graph: decoded, laid on a background, resized."""

from collections.abc import Callable

import tensorflow as tf

from ood_keras.image_files import PNG, TURNS
from ood_keras.types import ImageShape, Tensor

# Floats at a time while an image is resized.
_BLOCK = 2**20
_LUMA = (0.299, 0.587, 0.114)


def decode_file(file: Tensor, transparent: Tensor, background: int | None) -> Tensor:
    """One checked file as uint8 `(height, width, 3)`, or 4 if alpha has a say."""

    def of_png():
        if background is None:
            return tf.io.decode_png(file, 3)
        return tf.cond(
            transparent,
            lambda: tf.io.decode_png(file, 4),
            lambda: tf.io.decode_png(file, 3),
        )

    return tf.cond(
        tf.strings.substr(file, 0, len(PNG)) == PNG,
        of_png,
        # The accurate transform is the one that other decoders use.
        lambda: tf.io.decode_jpeg(file, 3, dct_method="INTEGER_ACCURATE"),
    )


def turn(pixels: Tensor, orientation: Tensor) -> Tensor:
    """Turns and mirrors an image as EXIF's orientation says: `image_files.turn`."""

    def turned():
        swapped, rows_back, columns_back = tf.unstack(tf.gather(TURNS, orientation - 1))
        image = tf.cond(
            swapped, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels
        )
        image = tf.cond(rows_back, lambda: tf.reverse(image, [0]), lambda: image)
        return tf.cond(columns_back, lambda: tf.reverse(image, [1]), lambda: image)

    return tf.cond(orientation == 1, lambda: pixels, turned)


def adapt(
    image_shape: ImageShape,
    resized: Callable[..., Tensor],
    pixels: Tensor,
    background: int | None,
) -> Tensor:
    """Brings one image to a shape, as uint8 `image_shape`.

    Args:
        image_shape: `(height, width, channels)`.
        resized: `resize` or `resize_in_blocks`.
        pixels: uint8 `(height, width, 3)`, or 4 channels with alpha.
        background: Grey level that transparent pixels are laid on.
    """
    height, width, channels = image_shape

    def lay(part):
        if background is not None:
            part = tf.cond(
                tf.shape(part)[-1] == 4,
                lambda: _compose(part, background),
                lambda: part,
            )
        return tf.cast(tf.ensure_shape(part, (None, None, 3)), tf.float32)

    same = tf.reduce_all(tf.shape(pixels)[:2] == (height, width))
    image = tf.cond(
        same, lambda: lay(pixels), lambda: resized(pixels, height, width, lay)
    )
    if channels == 1:
        red = image[..., :1]
        # Written so that grey stays exactly what it was.
        image = red + tf.reduce_sum(_LUMA * (image - red), axis=-1, keepdims=True)
    return tf.ensure_shape(tf.cast(tf.round(image), tf.uint8), image_shape)


def _compose(pixels, background):
    """RGBA on a background, as `image_files.compose` lays it."""
    pixels = tf.cast(pixels, tf.int32)
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    laid = (alpha * colour + (255 - alpha) * background + 127) // 255
    return tf.cast(laid, tf.uint8)


def resize(
    pixels: Tensor, height: int, width: int, prepared: Callable[[Tensor], Tensor]
) -> Tensor:
    """Resizes an image as training does.

    Args:
        pixels: `(old_height, old_width, channels)`.
        height, width: The size to make.
        prepared: Makes float32 `(rows, old_width, 3)` of rows of the pixels.

    Returns:
        float32 `(height, width, 3)`.
    """
    old_height, old_width = tf.shape(pixels)[0], tf.shape(pixels)[1]
    rows = _weights(tf.range(old_height), tf.range(height), old_height, height)
    columns = _weights(tf.range(old_width), tf.range(width), old_width, width)
    flat = tf.reshape(prepared(pixels), (old_height, 3 * old_width))
    image = tf.reshape(tf.matmul(rows, flat), (height, old_width, 3))
    return tf.matmul(columns, image)


def resize_in_blocks(
    pixels: Tensor, height: int, width: int, prepared: Callable[[Tensor], Tensor]
) -> Tensor:
    """`resize` without ever holding all of a large image as floats."""
    image = _resize_rows(pixels, height, prepared)
    image = _resize_rows(tf.transpose(image, (1, 0, 2)), width, tf.identity)
    return tf.transpose(image, (1, 0, 2))


def _resize_rows(pixels, new_size, prepared):
    """Resizes the first axis alone, some of the new rows at a time."""
    size, other = tf.shape(pixels)[0], tf.shape(pixels)[1]
    scale = tf.cast(size, tf.float64) / new_size
    total = 3 * tf.cast(size, tf.int64) * tf.cast(other, tf.int64)
    step = tf.cast(tf.clip_by_value(_BLOCK * new_size // total, 1, new_size), tf.int32)

    def block(start, blocks):
        end = tf.minimum(start + step, new_size)
        # One more on either side, for the neighbours of bilinear enlarging.
        first = tf.cast(tf.cast(start, tf.float64) * scale, tf.int32) - 1
        last = tf.cast(tf.cast(end, tf.float64) * scale, tf.int32) + 2
        first, last = tf.maximum(first, 0), tf.minimum(last, size)
        weights = _weights(tf.range(first, last), tf.range(start, end), size, new_size)
        part = tf.reshape(prepared(pixels[first:last]), (last - first, 3 * other))
        part = tf.reshape(tf.matmul(weights, part), (end - start, other, 3))
        return end, blocks.write(start // step, part)

    blocks = tf.TensorArray(
        *(tf.float32, 0, True), infer_shape=False, element_shape=[None, None, 3]
    )
    _, blocks = tf.while_loop(
        lambda start, _: start < new_size, block, (0, blocks), parallel_iterations=1
    )
    return blocks.concat()


def _weights(old, new, size, new_size):
    """The float32 `(new, old)` part of the matrix that resizes one axis.

    Shrinking averages the covered area; enlarging is bilinear.

    Args:
        old, new: Places on the old and on the new axis, each next to the one before.
        size, new_size: Lengths of these axes.
    """
    old = tf.cast(old, tf.float64)
    new = tf.cast(new, tf.float64)[:, tf.newaxis]
    scale = tf.cast(size, tf.float64) / new_size

    def shrinking():
        start = new * scale
        covered = tf.minimum(old + 1, start + scale) - tf.maximum(old, start)
        return covered / scale

    def enlarging():
        last = tf.cast(size - 1, tf.float64)
        return 1 - tf.abs(tf.clip_by_value((new + 0.5) * scale - 0.5, 0, last) - old)

    weights = tf.cond(size > new_size, shrinking, enlarging)
    return tf.cast(tf.nn.relu(weights), tf.float32)
