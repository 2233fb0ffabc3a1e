"""Image files to tensors, inside the graph, where nothing in a batch may fail.

TensorFlow's decoders raise on a broken file, and a raised error loses the whole batch.
Here every file is decoded as an element of a small `tf.data` pipeline, whose
`ignore_errors` drops the broken ones; the rows they leave behind stay NaN, which the
model's own input check rejects.
"""

import tensorflow as tf

from ood_keras.image_files import (
    BACKGROUND,
    JPEG,
    MAX_JPEG_SCANS,
    MAX_PIXELS,
    MAX_SIDE,
    PNG,
)

# How files become pixels, for the manifest and for whoever prepares training images.
CONVERSION = (
    "PNG or JPEG; reduced to 8 bits; transparent pixels are laid on the grey level "
    "background (null: alpha is dropped); gamma, colour profiles and a camera's note "
    "on which side is up are ignored; where the model takes one channel, colour "
    "becomes grey as 0.299 R + 0.587 G + 0.114 B; "
    "shrunk by averaging the covered area, enlarged bilinearly, each axis on its own; "
    "rounded to 8 bits and divided by 255"
)

_LUMA = (0.299, 0.587, 0.114)


def decode(image_bytes, image_shape, background=BACKGROUND):
    """Decodes PNG and JPEG files; what cannot be decoded becomes NaN, never an error.

    Grey, colour, palette, alpha and 16-bit files are converted as `CONVERSION` says. A
    row is all NaN if its bytes are empty, truncated, corrupt, of another format, of
    more than `MAX_PIXELS` pixels or `MAX_SIDE` rows or columns, or a JPEG of more than
    `MAX_JPEG_SCANS` scans. A JPEG carries no checksum: one whose damage still decodes
    cannot be told from a good one.

    Args:
        image_bytes: String tensor `(batch,)`, the content of one file each.
        image_shape: `(height, width, channels)` to make, with 1 or 3 channels.
        background: Grey level from 0 to 255 on which transparent pixels are laid;
            `None` drops alpha.

    Returns:
        Float32 `(batch, height, width, channels)` in [0, 1], or NaN.
    """
    height, width, channels = image_shape

    def adapted(index, content):
        image = tf.cast(_pixels(content, background), tf.float32)
        image = tf.einsum("Hh,hwc->Hwc", _weights(tf.shape(image)[0], height), image)
        image = tf.einsum("Ww,Hwc->HWc", _weights(tf.shape(image)[1], width), image)
        if channels == 1:
            red = image[..., :1]
            # Written so that grey stays exactly what it was.
            image = red + tf.reduce_sum(_LUMA * (image - red), axis=-1, keepdims=True)
        return index, tf.ensure_shape(tf.round(image) / 255.0, image_shape)

    count = tf.size(image_bytes)
    decoded = (
        tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
        .filter(lambda index, content: _worth_decoding(content))
        .map(adapted)
        .ignore_errors()
        # One row more than asked for, so that there is always one to batch.
        .concatenate(tf.data.Dataset.from_tensors((count, tf.zeros(image_shape))))
        .batch(tf.cast(count + 1, tf.int64))
    )
    rows, images = decoded.get_single_element()
    blank = tf.fill([count + 1, height, width, channels], float("nan"))
    return tf.tensor_scatter_nd_update(blank, rows[:, tf.newaxis], images)[:count]


def _pixels(content, background):
    """One file as uint8 `(height, width, 3)`."""
    return tf.cond(
        _starts_with(content, PNG),
        lambda: _composed(tf.io.decode_png(content, 4), background),
        # The accurate transform is the one that other decoders use.
        lambda: tf.io.decode_jpeg(content, 3, dct_method="INTEGER_ACCURATE"),
    )


def _composed(pixels, background):
    """RGBA on the background, as `image_files.compose` lays it."""
    if background is None:
        return pixels[..., :3]
    colour, alpha = (
        tf.cast(pixels[..., :3], tf.int32),
        tf.cast(pixels[..., 3:], tf.int32),
    )
    laid = (alpha * colour + (255 - alpha) * background + 127) // 255
    return tf.cast(laid, tf.uint8)


def _weights(size, new_size):
    """The float32 `(new_size, size)` matrix that resizes one axis, as in training.

    Shrinking averages the covered area; enlarging is bilinear.
    """
    old = tf.range(tf.cast(size, tf.float64), dtype=tf.float64)
    new = tf.range(new_size, dtype=tf.float64)[:, tf.newaxis]
    last = tf.cast(size - 1, tf.float64)
    scale = tf.cast(size, tf.float64) / new_size
    start = new * scale
    covered = tf.minimum(old + 1, start + scale) - tf.maximum(old, start)
    centre = tf.clip_by_value((new + 0.5) * scale - 0.5, tf.zeros_like(last), last)
    weights = tf.where(size > new_size, covered / scale, 1 - tf.abs(centre - old))
    return tf.cast(tf.nn.relu(weights), tf.float32)


def _worth_decoding(content):
    """Whether the header promises an image of reasonable size."""
    return tf.cond(
        _starts_with(content, PNG),
        lambda: _is_reasonable_png(content),
        lambda: tf.cond(
            _starts_with(content, JPEG),
            lambda: _is_reasonable_jpeg(content),
            lambda: tf.constant(False),
        ),
    )


def _is_reasonable_png(content):
    # The first chunk must be IHDR: width and height are its first two integers.
    size = tf.io.decode_raw(
        tf.strings.substr(content, 16, 8), tf.int32, little_endian=False
    )
    return _starts_with(content, PNG + b"\0\0\0\rIHDR") & _is_reasonable(size)


def _is_reasonable_jpeg(content):
    data = tf.io.decode_raw(content, tf.uint8)
    scans = tf.math.count_nonzero((data[:-1] == 0xFF) & (data[1:] == 0xDA))
    size = tf.image.extract_jpeg_shape(content)[:2]
    return (scans <= MAX_JPEG_SCANS) & _is_reasonable(size)


def _is_reasonable(size):
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    return tf.reduce_all((size > 0) & (size <= MAX_SIDE)) & (pixels <= MAX_PIXELS)


def _starts_with(content, prefix):
    return tf.strings.substr(content, 0, len(prefix)) == prefix
