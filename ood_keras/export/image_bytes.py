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

# Files of at most so many pixels are decoded several at a time, larger ones one by one.
_FEW_PIXELS = 2**20
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
_KEPT = ("IHDR", "PLTE", "tRNS", "IDAT", "IEND")


def decode(image_bytes, image_shape, background=BACKGROUND):
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


def scaled(pixels):
    """uint8 pixels to float32 in [0, 1]."""
    # Looked up, since TensorFlow may make a division by 255 a product that is not it.
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    return tf.gather(levels, tf.cast(pixels, tf.int32))


def read(image_bytes, image_shape, background=BACKGROUND):
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
    png = ~plain & _all_equal(heads, PNG + _HEADER)
    sides = _big_endian(tf.reshape(heads[:, 16:24], (-1, 2, 4)))
    few = _is_readable_size(sides) & (tf.reduce_prod(sides, -1) <= _FEW_PIXELS)

    def of_png(row):
        return row, _read_png(image_bytes[row], image_shape, background)

    def of_plain(row):
        return row, _read_plain(image_bytes[row], image_shape)

    def of_jpeg(row, end, *_):
        return row, _read_jpeg(tf.strings.substr(image_bytes[row], 0, end), image_shape)

    def of_segments(row):
        return row, *_walk_jpeg(image_bytes[row])

    # Walked first, since only the walk finds the size.
    jpegs, ends, sizes = _collected(
        _mapped(_rows(_all_equal(heads, JPEG)), of_segments),
        (count, 0, tf.constant(0, tf.int64)),
    )
    small = sizes <= _FEW_PIXELS
    jpegs = [
        tf.data.Dataset.from_tensor_slices(
            (tf.boolean_mask(jpegs, mask), tf.boolean_mask(ends, mask))
        )
        for mask in (small, ~small)
    ]
    decoded = _mapped(_rows(plain), of_plain)
    for part, function, at_a_time in (
        (_rows(png & few), of_png, _AT_A_TIME),
        (jpegs[0], of_jpeg, _AT_A_TIME),
        (_rows(png & ~few), of_png, None),
        (jpegs[1], of_jpeg, None),
    ):
        decoded = decoded.concatenate(_mapped(part, function, at_a_time))
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
        & _may_hold(packed, _plain_size(image_shape))
        & (packed * DEFLATE_RATIO <= MAX_UNPACKED)
        & (tf.strings.substr(contents, start, tf.cast(size, tf.int64)) == _END)
    )


def _plain_size(image_shape):
    height, width, channels = image_shape
    return height * (1 + width * channels)


def _may_hold(packed, size):
    """Whether a zlib stream of `packed` bytes may be that of `size` bytes of rows."""
    return (packed * DEFLATE_RATIO >= size) & (packed <= most_packed(size))


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


def _read_png(content, image_shape, background):
    """Any PNG file, walked chunk by chunk, as uint8 `image_shape`."""
    kinds, lengths, pieces = _walk_png(content)
    pixel_chunks = kinds == "IDAT"
    packed = tf.reduce_sum(tf.where(pixel_chunks, lengths, 0))
    colour, size, good = _check_header(content, kinds, lengths)
    with _check(good, _are_in_order(kinds), _may_hold(packed, size)):
        pieces = tf.identity(pieces)

    def unpacked_size():
        mine = tf.boolean_mask(pieces, pixel_chunks)
        length = tf.boolean_mask(lengths, pixel_chunks)
        eight = tf.constant(8, tf.int64)
        chunks = tf.strings.substr(mine, tf.fill(tf.shape(mine), eight), length)
        return tf.cast(_unpacked_size(tf.strings.reduce_join(chunks)), tf.int64)

    unpacked = tf.cond(
        packed * DEFLATE_RATIO <= MAX_UNPACKED, unpacked_size, lambda: size
    )
    transparency = tf.reduce_any(kinds == "tRNS")
    checked = tf.cond(
        transparency, lambda: _has_its_checksum(_piece(kinds, pieces, "tRNS")), _true
    )
    with _check(unpacked == size, checked):
        # Nothing else reaches the decoder: texts and profiles can be as large, once
        # unpacked, as their makers like.
        file = PNG + tf.strings.reduce_join(pieces)

    def opaque():
        return _adapted(tf.io.decode_png(file, 3), image_shape)

    def transparent():
        return _adapted(tf.io.decode_png(file, 4), image_shape, background)

    if background is None:
        return opaque()
    return tf.cond(transparency | (colour >= 4), transparent, opaque)


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


def _piece(kinds, pieces, kind):
    """The one chunk of this kind, or nothing."""
    return tf.strings.reduce_join(tf.where(kinds == kind, pieces, ""))


def _check_header(content, kinds, lengths):
    """What IHDR says, and whether palette and transparency go with it.

    Returns:
        `(colour, size, good)`: the colour type; how many bytes the rows have; bool.
    """
    header = tf.io.decode_raw(tf.strings.substr(content, 16, 13), tf.uint8)
    sides = _big_endian(tf.reshape(header[:8], (2, 4)))
    bits, colour, packing, filtering, laced = tf.unstack(
        tf.cast(header[8:], tf.int64), num=5
    )
    pairs = [32 * colour + bits for colour in PNG_BITS for bits in PNG_BITS[colour]]
    palettes, transparencies = kinds == "PLTE", kinds == "tRNS"
    palette = tf.reduce_sum(tf.where(palettes, lengths, 0))
    transparency = tf.reduce_sum(tf.where(transparencies, lengths, 0))
    has_palette, is_transparent = (
        tf.reduce_any(chosen) for chosen in (palettes, transparencies)
    )
    # To each colour type the shortest and the longest tRNS.
    one = tf.ones_like(bits)
    named = tf.bitwise.left_shift(one, tf.minimum(bits, 8))
    colours = tf.minimum(palette // 3, named)
    shortest = tf.gather(tf.stack([2 * one, one, 6 * one, one]), colour % 4)
    longest = tf.gather(tf.stack([2 * one, 0 * one, 6 * one, colours]), colour % 4)
    good = tf.stack(
        [
            _is_readable_size(sides),
            tf.reduce_any(32 * colour + bits == pairs),
            (packing == 0) & (filtering == 0) & (laced <= 1),
            ~has_palette | (palette > 0),
            (colour != 3) | (has_palette & (palette % 3 == 0) & (palette <= 768)),
            ~is_transparent
            | ((colour < 4) & (transparency >= shortest) & (transparency <= longest)),
        ]
    )
    samples = tf.gather([PNG_SAMPLES.get(colour, 0) for colour in range(7)], colour % 7)
    size = _size_of_rows(sides, bits * tf.cast(samples, tf.int64), laced)
    return colour, size, tf.reduce_all(good)


def _size_of_rows(sides, bits, laced):
    """How many bytes all rows have, with the byte of the filter before each.

    Args:
        sides: int64 `(2,)`: width and height.
        bits: Those of a pixel.
        laced: 1 if there are seven passes, each of which is an image of its own.
    """
    sizes = []
    for passes in (PNG_PASSES[0], PNG_PASSES[1]):
        left, top, right, down = np.array(passes, np.int64).T
        columns = (sides[0] - left + right - 1) // right
        rows = (sides[1] - top + down - 1) // down
        size = tf.where(columns > 0, rows * (1 + (columns * bits + 7) // 8), 0)
        sizes.append(tf.reduce_sum(tf.maximum(size, 0)))
    return tf.where(laced == 1, sizes[1], sizes[0])


def _are_in_order(kinds):
    """Whether these chunks may be those of a PNG file, and stand where they may."""
    letters = tf.io.decode_raw(kinds, tf.uint8, fixed_length=4)
    small = tf.bitwise.bitwise_or(letters, np.uint8(0x20))
    known = tf.reduce_any(kinds[:, tf.newaxis] == tf.constant(_KEPT), axis=1)
    places = tf.range(tf.size(kinds))
    pixels, palette, transparency = (
        tf.boolean_mask(places, kinds == kind) for kind in ("IDAT", "PLTE", "tRNS")
    )
    first = tf.reduce_min(pixels)
    return tf.reduce_all(
        tf.stack(
            [
                tf.reduce_all((small >= ord("a")) & (small <= ord("z"))),
                tf.reduce_all(known | (small[:, 0] == letters[:, 0])),
                tf.math.count_nonzero(kinds == "IHDR") == 1,
                (tf.size(palette) <= 1) & (tf.size(transparency) <= 1),
                tf.reduce_max(pixels) - first + 1 == tf.size(pixels),
                tf.reduce_all(palette < first) & tf.reduce_all(transparency < first),
                # Without transparency, its first place is beyond all others.
                tf.reduce_all(palette < tf.reduce_min(transparency)),
            ]
        )
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


def _true():
    return tf.constant(True)


def _walk_jpeg(content):
    """Where the image of a JPEG ends, and its size; it raises by the rules.

    Returns:
        `(end, pixels)`: int32, behind the end marker; int64.
    """
    data = tf.io.decode_raw(content, tf.uint8)
    length = tf.size(data)
    starts, kinds, ends, stops = _markers(data)
    count = tf.size(starts)
    following = tf.searchsorted(starts, ends)
    most = most_parts(length)

    def goes_on(place, number, _):
        # One may be behind the last: then there is nothing to look up.
        inside = tf.minimum(place, count - 1)
        return (place < count) & ~tf.gather(stops, inside) & (number < most)

    def walk(place, number, visited):
        return tf.gather(following, place), number + 1, visited.write(number, place)

    array = tf.TensorArray(tf.int32, size=0, dynamic_size=True, element_shape=[])
    with _check(count > 0):
        zero = tf.constant(0)
    place, number, visited = tf.while_loop(
        goes_on, walk, (zero, zero, array), parallel_iterations=1
    )
    visited = visited.stack()
    seen = tf.gather(kinds, visited)
    frames = tf.boolean_mask(visited, _is_one_of(seen, JPEG_FRAMES))
    scans = tf.boolean_mask(visited, seen == 0xDA)
    with _check(
        place < count,
        number < most,
        tf.gather(kinds, tf.minimum(place, count - 1)) == 0xD9,
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
    height, width = 256 * sides[0] + sides[1], 256 * sides[2] + sides[3]
    with _check(
        bits == 8,
        (components == 1) | (components == 3) | (components == 4),
        tf.cast(end - start, tf.int64) == 6 + 3 * components,
        _is_readable_size(tf.stack([width, height])),
        width * height <= JPEG_PIXELS_A_BYTE * tf.cast(length, tf.int64),
    ):
        return starts[place] + 2, width * height


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


def _read_jpeg(content, image_shape):
    # The accurate transform is the one that other decoders use.
    pixels = tf.io.decode_jpeg(content, 3, dct_method="INTEGER_ACCURATE")
    return _adapted(pixels, image_shape)


def _adapted(pixels, image_shape, background=None):
    """Brings one image to a shape, as uint8 `image_shape`.

    Args:
        pixels: uint8 `(height, width, 3)`, or 4 with a background.
        image_shape: `(height, width, channels)`.
        background: Grey level that transparent pixels are laid on.
    """
    height, width, channels = image_shape
    image = _resized(pixels, height, lambda part: _laid(part, background))
    image = tf.transpose(_resized(tf.transpose(image, (1, 0, 2)), width), (1, 0, 2))
    if channels == 1:
        red = image[..., :1]
        # Written so that grey stays exactly what it was.
        image = red + tf.reduce_sum(_LUMA * (image - red), axis=-1, keepdims=True)
    return tf.ensure_shape(tf.cast(tf.round(image), tf.uint8), image_shape)


def _laid(pixels, background):
    """RGBA on a background, as `image_files.compose` lays it; else as it is."""
    if background is None:
        return pixels
    pixels = tf.cast(pixels, tf.int32)
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    return (alpha * colour + (255 - alpha) * background + 127) // 255


def _resized(pixels, new_size, prepared=tf.identity):
    """Resizes the first axis, as in training, block by block.

    Args:
        pixels: `(size, other, channels)`.
        new_size: How many rows to make.
        prepared: A function of a block of rows.

    Returns:
        float32 `(new_size, other, 3)`.
    """
    size, other = tf.shape(pixels)[0], tf.shape(pixels)[1]
    scale = tf.cast(size, tf.float64) / new_size
    pixels_at_once = tf.cast(_BLOCK // 3 * new_size, tf.int64)
    total = tf.cast(size, tf.int64) * tf.cast(other, tf.int64)
    step = tf.cast(tf.clip_by_value(pixels_at_once // total, 1, new_size), tf.int32)

    def block(start, blocks):
        new = tf.range(start, tf.minimum(start + step, new_size))
        # One more on either side, for the neighbours of bilinear enlarging.
        first = tf.cast(tf.cast(start, tf.float64) * scale, tf.int32) - 1
        last = tf.cast(tf.cast(start + step, tf.float64) * scale, tf.int32) + 2
        first, last = tf.maximum(first, 0), tf.minimum(last, size)
        weights = _weights(tf.range(first, last), new, size, new_size)
        part = tf.cast(prepared(pixels[first:last]), tf.float32)
        part = tf.matmul(weights, tf.reshape(part, (last - first, 3 * other)))
        index = start // step
        return start + step, blocks.write(index, tf.reshape(part, (-1, other, 3)))

    def in_blocks():
        blocks = tf.TensorArray(
            tf.float32, 0, dynamic_size=True, infer_shape=False, element_shape=None
        )
        _, blocks = tf.while_loop(
            lambda start, _: start < new_size, block, (0, blocks), parallel_iterations=1
        )
        return blocks.concat()

    return tf.cond(
        size == new_size, lambda: tf.cast(prepared(pixels), tf.float32), in_blocks
    )


def _weights(old, new, size, new_size):
    """The float32 `(new, old)` part of the matrix that resizes one axis.

    Shrinking averages the covered area; enlarging is bilinear.

    Args:
        old, new: Places on the old and on the new axis.
        size, new_size: Lengths of these axes.
    """
    old, new = tf.cast(old, tf.float64), tf.cast(new, tf.float64)[:, tf.newaxis]
    last = tf.cast(size - 1, tf.float64)
    scale = tf.cast(size, tf.float64) / new_size
    start = new * scale
    covered = tf.minimum(old + 1, start + scale) - tf.maximum(old, start)
    centre = tf.clip_by_value((new + 0.5) * scale - 0.5, tf.zeros_like(last), last)
    weights = tf.where(size > new_size, covered / scale, 1 - tf.abs(centre - old))
    return tf.cast(tf.nn.relu(weights), tf.float32)
