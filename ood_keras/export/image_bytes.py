"""Image files to pixels, inside the graph, where nothing in a batch may fail.

TensorFlow's decoders raise on a broken file, and a raised error loses the whole batch.
Here every file is an element of a `tf.data` pipeline, whose `ignore_errors` drops the
broken ones; the rows they leave behind are marked as unreadable.

The rules are those of `image_files`. TensorFlow's decoders enforce few of them, so the
chunks of a PNG and the segments of a JPEG are walked here as they are there. A file is
decoded only when all that can be known from its own words is right.
"""

import tensorflow as tf

from ood_keras.export import graph_checks, graph_jpeg, graph_pixels, graph_png
from ood_keras.export.graph_png import MAX_UNPACKED
from ood_keras.image_files import (
    BACKGROUND,
    JPEG,
    MAX_JPEG_SCANS,
    MAX_PIXELS,
    MAX_SIDE,
)
from ood_keras.types import ImageShape, Tensor

__all__ = [
    "CONVERSION",
    "MAX_JPEG_SCANS",
    "MAX_PIXELS",
    "MAX_SIDE",
    "MAX_UNPACKED",
    "decode",
    "read",
    "scale",
]

# How files become pixels, for the manifest and for whoever prepares training images.
CONVERSION = (
    "PNG or JPEG; reduced to 8 bits; transparent pixels are laid on the grey level "
    "background (null: alpha is dropped); a JPEG is turned as its camera's note (EXIF) "
    "says, if exif_orientation is true; gamma and colour profiles are ignored; where "
    "the model takes one channel, colour becomes grey as 0.299 R + 0.587 G + 0.114 B; "
    "shrunk by averaging the covered area, enlarged bilinearly, each axis on its own; "
    "rounded to 8 bits and divided by 255"
)

_AT_A_TIME = 4


def decode(
    image_bytes: Tensor,
    image_shape: ImageShape,
    background: int | None = BACKGROUND,
    exif_orientation: bool = True,
) -> Tensor:
    """Decodes PNG and JPEG files; what cannot be decoded becomes NaN, never an error.

    Args:
        image_bytes: String tensor `(batch,)`, the content of one file each.
        image_shape: `(height, width, channels)` to make, with 1 or 3 channels.
        background: Grey level from 0 to 255 on which transparent pixels are laid;
            `None` drops alpha.
        exif_orientation: Whether to turn a JPEG as its camera's note says.

    Returns:
        Float32 `(batch, height, width, channels)` in [0, 1]; a row is all NaN if
        `read` cannot read it.
    """
    pixels, readable = read(image_bytes, image_shape, background, exif_orientation)
    readable = readable[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.where(readable, scale(pixels), float("nan"))


def scale(pixels: Tensor) -> Tensor:
    """uint8 pixels to float32 in [0, 1]."""
    # TensorFlow makes a division by 255 a product, which in float32 is another number.
    return tf.cast(tf.cast(pixels, tf.float64) * (1 / 255), tf.float32)


def read(
    image_bytes: Tensor,
    image_shape: ImageShape,
    background: int | None = BACKGROUND,
    exif_orientation: bool = True,
) -> tuple[Tensor, Tensor]:
    """Reads PNG and JPEG files as `image_files` says, and brings them to one shape.

    Grey, colour, palette, alpha and 16-bit files are converted as `CONVERSION` says. A
    file is not readable if its bytes are empty, truncated, corrupt, of another format,
    or beyond a limit of `image_files`. A JPEG carries no checksum: one whose damage
    still decodes cannot be told from a good one.

    Work and memory grow with the bytes of the files and with the pixels that they
    declare: nothing is unpacked that is not needed for the pixels, large images are
    decoded one at a time and resized block by block. The one exception is a PNG whose
    zlib stream goes on behind its last row: TensorFlow's decoder unpacks and drops
    the rest, up to `DEFLATE_RATIO` bytes for each of the file; `max_packed_bytes`
    bounds it.

    Args:
        image_bytes: String tensor `(batch,)`, the content of one file each.
        image_shape: `(height, width, channels)` to make, with 1 or 3 channels.
        background: Grey level from 0 to 255 on which transparent pixels are laid;
            `None` drops alpha.
        exif_orientation: Whether to turn a JPEG as its camera's note says.

    Returns:
        `(pixels, readable)`: uint8 `(batch, height, width, channels)` and bool
        `(batch,)`; the pixels of what is not readable are 0.
    """
    count = tf.size(image_bytes)
    heads = tf.io.decode_raw(image_bytes, tf.uint8, fixed_length=graph_checks.HEAD)
    plain = graph_png.is_plain(image_bytes, heads, image_shape)
    header = graph_png.read_header(heads)
    png = ~plain & graph_checks.start_with(heads, graph_png.START) & header.good

    def of_plain(row):
        return row, graph_png.read_plain(image_bytes[row], image_shape)

    def of_png(row):
        its_header = graph_png.Header(*(values[row] for values in header))
        return row, *graph_png.check_file(image_bytes[row], its_header), 1

    def of_jpeg(row):
        file, small, orientation = graph_jpeg.check_file(image_bytes[row])
        return row, file, small, False, orientation if exif_orientation else 1

    # Checked first, since only then the size of a JPEG is known.
    checked = _map(_rows(png), of_png).concatenate(
        _map(_rows(graph_checks.start_with(heads, JPEG)), of_jpeg)
    )
    places, files, small, transparent, orientations = _collect(
        checked, (count, "", False, False, 1)
    )
    decoded = _map(_rows(plain), of_plain)
    for chosen, at_a_time, resized in (
        (small, _AT_A_TIME, graph_pixels.resize),
        (~small, None, graph_pixels.resize_in_blocks),
    ):

        def adapt_checked(index, resized=resized):
            pixels = graph_pixels.decode_file(
                files[index], transparent[index], background
            )
            pixels = graph_pixels.turn(pixels, orientations[index])
            return places[index], graph_pixels.adapt(
                image_shape, resized, pixels, background
            )

        decoded = decoded.concatenate(_map(_rows(chosen), adapt_checked, at_a_time))
    rows, images = _collect(decoded, (count, tf.zeros(image_shape, tf.uint8)))
    rows = rows[:, tf.newaxis]
    pixels = tf.scatter_nd(rows, images, (count, *image_shape))
    readable = tf.scatter_nd(rows, tf.ones_like(rows[:, 0]), [count]) > 0
    return pixels, readable


def _rows(mask):
    rows = tf.cast(tf.where(mask)[:, 0], tf.int32)
    return tf.data.Dataset.from_tensor_slices(rows)


def _map(dataset, function, at_a_time=_AT_A_TIME):
    """`function` of each element; those for which it raises are dropped."""
    return dataset.map(function, num_parallel_calls=at_a_time).ignore_errors()


def _collect(dataset, filler):
    """The elements of a dataset, stacked; `filler` has their types and shapes.

    Args:
        dataset: A dataset of tuples.
        filler: One more element: there is always one to batch, and it is dropped.
    """
    # No more are in it than the rows of a slice, which memory has room for.
    batch = dataset.concatenate(tf.data.Dataset.from_tensors(filler)).batch(2**31 - 1)
    return [values[:-1] for values in batch.get_single_element()]
