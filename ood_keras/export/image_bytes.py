"""Image files to pixels, inside the graph, where nothing in a batch may fail.

TensorFlow's decoders raise on a broken file, and a raised error loses the whole batch.
Here every file is an element of a `tf.data` pipeline, whose `ignore_errors` drops the
broken ones; the rows they leave behind are marked as unreadable.

The rules are those of `image_files`. TensorFlow's decoders enforce few of them, so the
chunks of a PNG and the segments of a JPEG are walked here as they are there. A file is
decoded only when all that can be known from its own words is right.

Most files of a busy server have the model's own size and are PNG files of three chunks:
those are recognised all at once by their first bytes, without a walk (`_is_plain`).
"""

import struct
import typing

import numpy as np
import tensorflow as tf

from ood_keras.image_files import (
    BACKGROUND,
    DEFLATE_RATIO,
    JPEG,
    JPEG_FRAMES,
    JPEG_PIXELS_A_BYTE,
    JPEG_SEGMENTS,
    MAX_JPEG_SCANS,
    MAX_PIXELS,
    MAX_SIDE,
    PNG,
    PNG_BITS,
    PNG_PASSES,
    PNG_SAMPLES,
    most_packed,
    most_parts,
)
from ood_keras.types import ImageShape, Tensor

# How files become pixels, for the manifest and for whoever prepares training images.
CONVERSION = (
    "PNG or JPEG; reduced to 8 bits; transparent pixels are laid on the grey level "
    "background (null: alpha is dropped); gamma, colour profiles and a camera's note "
    "on which side is up are ignored; where the model takes one channel, colour "
    "becomes grey as 0.299 R + 0.587 G + 0.114 B; "
    "shrunk by averaging the covered area, enlarged bilinearly, each axis on its own; "
    "rounded to 8 bits and divided by 255"
)

# TensorFlow unpacks a zlib stream whole or not at all. A PNG is unpacked apart from its
# pixels, to see whether there is more behind its last row, if that cannot make more
# than this many bytes, whatever it holds; of a longer one the rows alone are checked.
MAX_UNPACKED = 2**24

# Images of at most so many pixels and such sides are decoded several at a time, larger
# ones one by one.
_FEW_PIXELS = 2**20
_SHORT_SIDE = 2**11
_AT_A_TIME = 4
# Floats at a time while an image is resized.
_BLOCK = 2**20

_LUMA = (0.299, 0.587, 0.114)
_HEADER = b"\0\0\0\rIHDR"
_END = b"\0\0\0\0IEND\xaeB`\x82"
# Signature and IHDR take 33 bytes; with the head of the next chunk 41.
_HEAD = 41
# Long enough to end any block of deflate and to start another.
_BEHIND = bytes(np.random.default_rng(0).integers(0, 256, 600).astype(np.uint8))
_AROUND_PIXELS = _HEAD + 4 + len(_END)
# The chunks that make a difference, and their places in this list.
_KEPT = ("IHDR", "PLTE", "tRNS", "IDAT", "IEND")
_IHDR, _PLTE, _TRNS, _IDAT, _ = range(5)


class _Header(typing.NamedTuple):
    """What IHDR says, and whether it may."""

    good: tf.Tensor
    small: tf.Tensor
    height: tf.Tensor
    bits: tf.Tensor
    colour: tf.Tensor
    # Bytes of all rows.
    size: tf.Tensor


def decode(
    image_bytes: Tensor, image_shape: ImageShape, background: int | None = BACKGROUND
) -> Tensor:
    """Decodes PNG and JPEG files; what cannot be decoded becomes NaN, never an error.

    Args:
        image_bytes: String tensor `(batch,)`, the content of one file each.
        image_shape: `(height, width, channels)` to make, with 1 or 3 channels.
        background: Grey level from 0 to 255 on which transparent pixels are laid;
            `None` drops alpha.

    Returns:
        Float32 `(batch, height, width, channels)` in [0, 1]; a row is all NaN if
        `read` cannot read it.
    """
    pixels, readable = read(image_bytes, image_shape, background)
    readable = readable[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.where(readable, scaled(pixels), float("nan"))


def scaled(pixels: Tensor) -> Tensor:
    """uint8 pixels to float32 in [0, 1]."""
    # TensorFlow makes a division by 255 a product, which in float32 is another number.
    return tf.cast(tf.cast(pixels, tf.float64) * (1 / 255), tf.float32)


def read(
    image_bytes: Tensor, image_shape: ImageShape, background: int | None = BACKGROUND
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
    the rest, up to `DEFLATE_RATIO` bytes for each of the file; `most_packed` bounds it.

    Args:
        image_bytes: String tensor `(batch,)`, the content of one file each.
        image_shape: `(height, width, channels)` to make, with 1 or 3 channels.
        background: Grey level from 0 to 255 on which transparent pixels are laid;
            `None` drops alpha.

    Returns:
        `(pixels, readable)`: uint8 `(batch, height, width, channels)` and bool
        `(batch,)`; the pixels of what is not readable are 0.
    """
    count = tf.size(image_bytes)
    heads = tf.io.decode_raw(image_bytes, tf.uint8, fixed_length=_HEAD)
    plain = _is_plain(image_bytes, heads, image_shape)
    header = _png_header(heads)
    png = ~plain & _all_equal(heads, PNG + _HEADER) & header.good

    def of_plain(row):
        return row, _read_plain(image_bytes[row], image_shape)

    def of_png(row):
        its_header = _Header(*(values[row] for values in header))
        return row, *_checked_png(image_bytes[row], its_header)

    def of_jpeg(row):
        return row, *_checked_jpeg(image_bytes[row]), False

    # Checked first, since only then the size of a JPEG is known.
    checked = _mapped(_rows(png), of_png).concatenate(
        _mapped(_rows(_all_equal(heads, JPEG)), of_jpeg)
    )
    places, files, small, transparent = _collected(checked, (count, "", False, False))
    decoded = _mapped(_rows(plain), of_plain)
    for chosen, at_a_time, resized in (
        (small, _AT_A_TIME, _resized),
        (~small, None, _resized_in_blocks),
    ):

        def of_checked(index, resized=resized):
            pixels = _pixels(files[index], transparent[index], background)
            return places[index], _adapted(image_shape, resized, pixels, background)

        decoded = decoded.concatenate(_mapped(_rows(chosen), of_checked, at_a_time))
    rows, images = _collected(decoded, (count, tf.zeros(image_shape, tf.uint8)))
    rows = rows[:, tf.newaxis]
    pixels = tf.scatter_nd(rows, images, (count, *image_shape))
    readable = tf.scatter_nd(rows, tf.ones_like(rows[:, 0]), [count]) > 0
    return pixels, readable


def _rows(mask):
    rows = tf.cast(tf.where(mask)[:, 0], tf.int32)
    return tf.data.Dataset.from_tensor_slices(rows)


def _mapped(dataset, function, at_a_time=_AT_A_TIME):
    """`function` of each element; those for which it raises are dropped."""
    return dataset.map(function, num_parallel_calls=at_a_time).ignore_errors()


def _collected(dataset, filler):
    """The elements of a dataset, stacked; `filler` has their types and shapes.

    Args:
        dataset: A dataset of tuples.
        filler: One more element: there is always one to batch, and it is dropped.
    """
    # No more are in it than the rows of a slice, which memory has room for.
    batch = dataset.concatenate(tf.data.Dataset.from_tensors(filler)).batch(2**31 - 1)
    return [values[:-1] for values in batch.get_single_element()]


def _check(*conditions):
    """Raises, and so drops the file, unless all conditions hold."""
    good = tf.reduce_all(tf.stack([tf.convert_to_tensor(one) for one in conditions]))
    return tf.control_dependencies([tf.debugging.Assert(good, ["not readable"])])


def _all_equal(heads, prefix):
    """Whether each of `heads` `(batch, _HEAD)` starts with these bytes."""
    expected = tf.constant(list(prefix), tf.uint8)
    return tf.reduce_all(heads[:, : len(prefix)] == expected, axis=1)


def _big_endian(values):
    """The integers that the bytes on the last axis are, as int64."""
    places = 256 ** np.arange(values.shape[-1] - 1, -1, -1)
    return tf.reduce_sum(tf.cast(values, tf.int64) * places, axis=-1)


def _is_readable_size(sides):
    """Of int64 `(..., 2)`."""
    within = tf.reduce_all((sides > 0) & (sides <= MAX_SIDE), axis=-1)
    return within & (tf.reduce_prod(sides, axis=-1) <= MAX_PIXELS)


def _is_small(sides):
    """Of int64 `(..., 2)`."""
    short = tf.reduce_all(sides <= _SHORT_SIDE, axis=-1)
    return short & (tf.reduce_prod(sides, axis=-1) <= _FEW_PIXELS)


def _is_plain(contents, heads, image_shape):
    """Which files are PNG files of IHDR, one IDAT and IEND that need no conversion."""
    height, width, channels = image_shape
    header = struct.pack(">IIBBBBB", width, height, 8, channels - 1, 0, 0, 0)
    length = tf.cast(tf.strings.length(contents), tf.int64)
    packed = _big_endian(heads[:, 33:37])
    start, size = tf.maximum(length - len(_END), 0), tf.fill(tf.shape(length), 12)
    return (
        _all_equal(heads, PNG + _HEADER + header)
        & _all_equal(heads[:, 37:], b"IDAT")
        & (packed + _AROUND_PIXELS == length)
        & _may_hold(packed, _plain_size(image_shape), height)
        & (packed * DEFLATE_RATIO <= MAX_UNPACKED)
        & (tf.strings.substr(contents, start, tf.cast(size, tf.int64)) == _END)
    )


def _plain_size(image_shape):
    height, width, channels = image_shape
    return height * (1 + width * channels)


def _may_hold(packed, size, height):
    """Whether a zlib stream of `packed` bytes may be that of `size` bytes of rows."""
    return (packed * DEFLATE_RATIO >= size) & (packed <= most_packed(size, height))


def _read_plain(content, image_shape):
    packed = tf.strings.substr(
        content, _HEAD, tf.strings.length(content) - _AROUND_PIXELS
    )
    with _check(_unpacked_size(packed) == _plain_size(image_shape)):
        content = tf.identity(content)
    return tf.ensure_shape(tf.io.decode_png(content, image_shape[-1]), image_shape)


def _unpacked_size(packed):
    """How many bytes a zlib stream unpacks to; it raises, or errs, if it has no end.

    What is put behind it is ignored behind an end, and else read on: it is a wrong
    checksum, or more bytes.
    """
    return tf.strings.length(tf.io.decode_compressed(packed + _BEHIND, "ZLIB"))


def _png_header(heads):
    """What IHDR says, as a `_Header` of vectors."""
    sides = _big_endian(tf.reshape(heads[:, 16:24], (-1, 2, 4)))
    bits, colour, packing, filtering, laced = tf.unstack(
        tf.cast(heads[:, 24:29], tf.int64), axis=1
    )
    pairs = [32 * colour + bits for colour in PNG_BITS for bits in PNG_BITS[colour]]
    good = (
        _is_readable_size(sides)
        & tf.reduce_any((32 * colour + bits)[:, tf.newaxis] == pairs, axis=1)
        & (packing == 0)
        & (filtering == 0)
        & (laced <= 1)
    )
    samples = np.array([PNG_SAMPLES.get(colour, 0) for colour in range(256)])
    size = _size_of_rows(sides, bits * tf.gather(samples, colour), laced)
    return _Header(good, _is_small(sides), sides[:, 1], bits, colour, size)


def _size_of_rows(sides, bits, laced):
    """How many bytes all rows have, with the byte of the filter before each.

    Args:
        sides: int64 `(batch, 2)`: width and height.
        bits: Those of a pixel, `(batch,)`.
        laced: 1 if there are seven passes, each of which is an image of its own.
    """
    sizes = []
    for passes in (PNG_PASSES[0], PNG_PASSES[1]):
        left, top, right, down = np.array(passes, np.int64).T
        columns = (sides[:, :1] - left + right - 1) // right
        rows = (sides[:, 1:] - top + down - 1) // down
        size = rows * (1 + (columns * bits[:, tf.newaxis] + 7) // 8)
        empty = (columns <= 0) | (rows <= 0)
        sizes.append(tf.reduce_sum(tf.where(empty, tf.zeros_like(size), size), axis=1))
    return tf.where(laced == 1, sizes[1], sizes[0])


def _checked_png(content, header):
    """A PNG file without all that makes no difference; it raises by the rules.

    Args:
        content: Scalar string.
        header: Its `_Header`, of scalars.

    Returns:
        `(file, small, transparent)`: string; bool; whether there is any alpha.
    """
    kinds, lengths, pieces = _walk_png(content)
    # Which chunk is of which of the kinds that matter: `(chunks, kinds)`.
    of_kind = kinds[:, tf.newaxis] == tf.constant(_KEPT)
    packed = tf.reduce_sum(tf.where(of_kind[:, _IDAT], lengths, 0))
    counts = tf.reduce_sum(tf.cast(of_kind, tf.int32), axis=0)
    with _check(
        _are_in_order(kinds, of_kind, counts),
        _may_hold(packed, header.size, header.height),
        (header.colour != 3) | (counts[_PLTE] == 1),
    ):
        pieces = tf.identity(pieces)

    def unpacked_size():
        mine = tf.boolean_mask(pieces, of_kind[:, _IDAT])
        length = tf.boolean_mask(lengths, of_kind[:, _IDAT])
        eight = tf.fill(tf.shape(mine), tf.constant(8, tf.int64))
        chunks = tf.strings.substr(mine, eight, length)
        return tf.cast(_unpacked_size(tf.strings.reduce_join(chunks)), tf.int64)

    unpacked = tf.cond(
        packed * DEFLATE_RATIO <= MAX_UNPACKED, unpacked_size, lambda: header.size
    )
    transparent = counts[_TRNS] == 1
    checked = tf.cond(
        transparent | (counts[_PLTE] == 1),
        lambda: _are_good_colours(header, lengths, pieces, of_kind),
        lambda: tf.constant(True),
    )
    with _check(unpacked == header.size, checked):
        # Nothing else reaches the decoder: texts and profiles can be as large, once
        # unpacked, as their makers like.
        file = PNG + tf.strings.reduce_join(pieces)

    return file, header.small, transparent | (header.colour >= 4)


def _walk_png(content):
    """The chunks of a PNG: kinds, lengths, and those that matter, as they stand.

    Returns:
        String `(chunks,)`; int64 `(chunks,)`; string `(chunks,)`, empty where nothing
        is needed of the chunk.
    """
    file_length = tf.cast(tf.strings.length(content), tf.int64)
    most = most_parts(file_length)

    def goes_on(place, count, kind, length, *_):
        return (kind != "IEND") & (length >= 0) & (count < most)

    def walk(place, count, kind, length, *chunks):
        # It raises behind the end of the file.
        kind = tf.strings.substr(content, place + 4, 4)
        length = tf.io.decode_raw(
            tf.strings.substr(content, place, 4), tf.int32, little_endian=False
        )[0]
        end = place + 12 + tf.cast(length, tf.int64)
        kept = tf.reduce_any(kind == tf.constant(_KEPT))
        piece = tf.strings.substr(content, place, tf.where(kept, end - place, 0))
        chunks = [
            array.write(tf.cast(count, tf.int32), value)
            for array, value in zip(chunks, (kind, length, piece), strict=True)
        ]
        return end, count + 1, kind, length, *chunks

    arrays = [
        tf.TensorArray(dtype, size=0, dynamic_size=True, element_shape=[])
        for dtype in (tf.string, tf.int32, tf.string)
    ]
    start = tf.constant(len(PNG), tf.int64)
    end, _, kind, length, *chunks = tf.while_loop(
        goes_on,
        walk,
        (start, tf.constant(0, tf.int64), "", 0, *arrays),
        parallel_iterations=1,
    )
    with _check(kind == "IEND", length >= 0, end <= file_length):
        kinds, lengths, pieces = (array.stack() for array in chunks)
        return tf.identity(kinds), tf.cast(lengths, tf.int64), pieces


def _are_in_order(kinds, of_kind, counts):
    """Whether these chunks may be those of a PNG file, and stand where they may."""
    letters = tf.io.decode_raw(kinds, tf.uint8, fixed_length=4)
    small = tf.bitwise.bitwise_or(letters, np.uint8(0x20))
    known = tf.reduce_any(of_kind, axis=1) | (small[:, 0] == letters[:, 0])
    number = tf.size(kinds)
    places = tf.range(number)[:, tf.newaxis]
    first = tf.reduce_min(tf.where(of_kind, places, number), axis=0)
    last = tf.reduce_max(tf.where(of_kind, places, -1), axis=0)
    return tf.reduce_all(
        tf.stack(
            [
                tf.reduce_all((small >= ord("a")) & (small <= ord("z"))),
                tf.reduce_all(known),
                tf.reduce_all(tf.gather(counts, (_IHDR, _PLTE, _TRNS)) <= 1),
                last[_IDAT] - first[_IDAT] + 1 == counts[_IDAT],
                # Palette before transparency, and both before the pixels.
                tf.reduce_all(
                    tf.gather(last, (_PLTE, _PLTE, _TRNS))
                    < tf.gather(first, (_TRNS, _IDAT, _IDAT))
                ),
            ]
        )
    )


def _are_good_colours(header, lengths, pieces, of_kind):
    """Whether palette and transparency go with the header; it may raise."""
    of_kind = of_kind[:, _PLTE : _TRNS + 1]
    has_palette, transparent = tf.unstack(tf.reduce_any(of_kind, axis=0))
    palette, transparency = tf.unstack(
        tf.reduce_sum(tf.where(of_kind, lengths[:, tf.newaxis], 0), axis=0)
    )
    one = tf.ones_like(palette)
    named = tf.bitwise.left_shift(one, tf.minimum(header.bits, 8))
    colours = tf.minimum(palette // 3, named)
    colour = tf.minimum(header.colour, 4)
    shortest = tf.gather([2, 1, 6, 1, 1], colour)
    longest = tf.gather(tf.stack([2 * one, 0 * one, 6 * one, colours, 0 * one]), colour)
    good = (~has_palette | (palette > 0)) & (
        (colour != 3) | ((palette % 3 == 0) & (palette <= 768))
    )
    of_length = (transparency >= tf.cast(shortest, tf.int64)) & (
        transparency <= longest
    )
    piece = tf.strings.reduce_join(tf.where(of_kind[:, 1], pieces, ""))
    return good & tf.cond(
        transparent & of_length, lambda: _has_its_checksum(piece), lambda: ~transparent
    )


def _has_its_checksum(piece):
    """Whether a chunk of at most 256 bytes ends with its checksum; it may raise.

    A gzip file ends with the same checksum, and TensorFlow compares that one.
    """
    length = tf.strings.length(piece)
    content = tf.strings.substr(piece, 4, length - 8)
    low, high = (length - 8) % 256, (length - 8) // 256
    every_byte = tf.constant([bytes([value]) for value in range(256)])
    sizes = tf.gather(every_byte, tf.stack([low, high, 255 - low, 255 - high]))
    # The bytes of the checksum the other way round, and of the length.
    checksum = tf.strings.substr(
        tf.fill([4], piece), length - tf.constant([1, 2, 3, 4]), tf.fill([4], 1)
    )
    end = tf.gather(every_byte, tf.stack([low, high, 0, 0]))
    start = tf.constant([b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\x01"])
    file = tf.concat([start, sizes, [content], checksum, end], axis=0)
    unpacked = tf.io.decode_compressed(tf.strings.reduce_join(file), "GZIP")
    return tf.strings.length(unpacked) == length - 8


def _checked_jpeg(content):
    """A JPEG file without what follows its end; it raises by the rules.

    Returns:
        `(file, small)`: string; bool.
    """
    data = tf.io.decode_raw(content, tf.uint8)
    length = tf.size(data)
    starts, kinds, ends, stops = _markers(data)
    count, most = tf.size(starts), most_parts(length)
    # Where the walk goes on, from marker to marker; `count` is nowhere, for good.
    following = tf.where(stops, count, tf.searchsorted(starts, ends))
    following = tf.concat([following, [count]], axis=0)

    def walk(visited, following):
        # Twice as far as before.
        visited = tf.concat([visited, tf.gather(following, visited)], axis=0)
        return visited, tf.gather(following, following)

    visited = tf.zeros([1], tf.int32)
    for _ in range(4):
        visited, following = walk(visited, following)
    visited, _ = tf.while_loop(
        lambda visited, _: (visited[-1] < count) & (tf.size(visited) < most),
        walk,
        (visited, following),
        (tf.TensorShape([None]), tf.TensorShape([None])),
        parallel_iterations=1,
    )
    visited = tf.boolean_mask(visited, visited < count)
    with _check((count > 0) & (tf.size(visited) <= most)):
        last = visited[-1]
    seen = tf.gather(kinds, visited)
    frames = tf.boolean_mask(visited, _is_one_of(seen, JPEG_FRAMES))
    scans = tf.boolean_mask(visited, seen == 0xDA)
    with _check(
        kinds[last] == 0xD9,
        tf.size(frames) == 1,
        (tf.size(scans) >= 1) & (tf.size(scans) <= MAX_JPEG_SCANS),
        tf.reduce_all(frames < tf.reduce_min(scans)),
    ):
        frame = frames[0]
        start, end = starts[frame] + 4, ends[frame]
    with _check(end - start >= 6):
        bits, *sides, components = tf.unstack(
            tf.cast(data[start : start + 6], tf.int64), num=6
        )
    sides = tf.stack([256 * sides[0] + sides[1], 256 * sides[2] + sides[3]])
    with _check(
        bits == 8,
        (components == 1) | (components == 3) | (components == 4),
        tf.cast(end - start, tf.int64) == 6 + 3 * components,
        _is_readable_size(sides),
        tf.reduce_prod(sides) <= JPEG_PIXELS_A_BYTE * tf.cast(length, tf.int64),
        _are_complete(
            data, start, kinds[frame] == 0xC2, components, starts, ends, scans
        ),
    ):
        file = tf.strings.substr(content, 0, starts[last] + 2)
        return file, _is_small(sides)


def _are_complete(data, frame, progressive, components, starts, ends, scans):
    """Whether the scans are whole, and those of a progressive JPEG are all there."""
    last = tf.size(data) - 1

    def byte(places):
        return tf.cast(tf.gather(data, tf.minimum(places, last)), tf.int32)

    names = byte(frame + 6 + 3 * tf.range(4))
    absent = tf.range(4, dtype=tf.int64) >= components
    # The absent ones are called after nothing that a byte can be.
    names = tf.where(absent, 256 + tf.range(4), names)
    twice = tf.math.count_nonzero(names[:, tf.newaxis] == names) > 4
    heads = byte(tf.gather(starts, scans)[:, tf.newaxis] + 4 + tf.range(12))
    count = heads[:, 0]
    right = (count >= 1) & (count <= 4)
    right &= tf.gather(ends - starts, scans) == 8 + 2 * count
    count = tf.clip_by_value(count, 1, 4)[:, tf.newaxis]
    first, final, bits = (
        tf.gather(heads, 2 * count + place, batch_dims=1) for place in (1, 2, 3)
    )
    coefficients = tf.range(64)
    given = (coefficients >= first) & (coefficients <= final)
    in_full = tf.bitwise.bitwise_and(bits, 15) == 0
    named = (heads[:, 1:9:2, tf.newaxis] == names) & (tf.range(4) < count)[
        ..., tf.newaxis
    ]
    # (scans, components, coefficients)
    of_each = tf.reduce_any(named, axis=1)[..., tf.newaxis] & given[:, tf.newaxis]
    number = tf.range(1, tf.size(scans) + 1)[:, tf.newaxis, tf.newaxis]
    latest, latest_in_full = (
        tf.reduce_max(tf.where(chosen, number, 0), axis=0)
        for chosen in (of_each, of_each & in_full[..., tf.newaxis])
    )
    complete = tf.reduce_all((latest > 0) & (latest == latest_in_full), axis=1)
    complete = tf.reduce_all(complete | absent) | ~progressive
    return ~twice & tf.reduce_all(right) & complete


def _markers(data):
    """All that may be a marker of a segment, within the segments or not.

    Returns:
        `(starts, kinds, ends, stops)`, each `(markers,)`: where the marker is; its
        second byte; where its segment ends; whether the walk ends here, for better (at
        the end of the image) or worse.
    """
    follower = data[3:]
    # 0xD0 to 0xD7 differ in three bits.
    no_restart = tf.bitwise.bitwise_and(follower, np.uint8(0xF8)) != 0xD0
    is_marker = (data[2:-1] == 0xFF) & (follower > 1) & (follower < 0xFF) & no_restart
    starts = 2 + tf.cast(tf.where(is_marker)[:, 0], tf.int32)
    kinds = tf.cast(tf.gather(data, starts + 1), tf.int32)
    last = tf.size(data) - 1
    high, low = (
        tf.cast(tf.gather(data, tf.minimum(starts + place, last)), tf.int32)
        for place in (2, 3)
    )
    length = 256 * high + low
    ends = starts + 2 + length
    whole = (length >= 2) & (ends <= last + 1)
    known = _is_one_of(kinds, (0xDA, *JPEG_FRAMES, *JPEG_SEGMENTS))
    return starts, kinds, ends, ~(whole & known)


def _is_one_of(kinds, chosen):
    return tf.gather([kind in chosen for kind in range(256)], kinds)


def _pixels(file, transparent, background):
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


def _adapted(image_shape, resized, pixels, background):
    """Brings one image to a shape, as uint8 `image_shape`.

    Args:
        image_shape: `(height, width, channels)`.
        resized: `_resized` or `_resized_in_blocks`.
        pixels: uint8 `(height, width, 3)`, or 4 channels with alpha.
        background: Grey level that transparent pixels are laid on.
    """
    height, width, channels = image_shape

    def laid(part):
        if background is not None:
            part = tf.cond(
                tf.shape(part)[-1] == 4, lambda: _laid(part, background), lambda: part
            )
        return tf.cast(tf.ensure_shape(part, (None, None, 3)), tf.float32)

    same = tf.reduce_all(tf.shape(pixels)[:2] == (height, width))
    image = tf.cond(
        same, lambda: laid(pixels), lambda: resized(pixels, height, width, laid)
    )
    if channels == 1:
        red = image[..., :1]
        # Written so that grey stays exactly what it was.
        image = red + tf.reduce_sum(_LUMA * (image - red), axis=-1, keepdims=True)
    return tf.ensure_shape(tf.cast(tf.round(image), tf.uint8), image_shape)


def _laid(pixels, background):
    """RGBA on a background, as `image_files.compose` lays it."""
    pixels = tf.cast(pixels, tf.int32)
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    laid = (alpha * colour + (255 - alpha) * background + 127) // 255
    return tf.cast(laid, tf.uint8)


def _resized(pixels, height, width, prepared):
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


def _resized_in_blocks(pixels, height, width, prepared):
    """`_resized` without ever holding all of a large image as floats."""
    image = _rows_in_blocks(pixels, height, prepared)
    image = _rows_in_blocks(tf.transpose(image, (1, 0, 2)), width, tf.identity)
    return tf.transpose(image, (1, 0, 2))


def _rows_in_blocks(pixels, new_size, prepared):
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
