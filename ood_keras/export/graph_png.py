"""PNG files inside the graph: by the rules of `image_files`, whose chunks are walked.

Most files of a busy server have the model's own size and are PNG files of three chunks:
those are recognised all at once by their first bytes, without a walk (`is_plain`).
"""

import struct
import typing

import numpy as np
import tensorflow as tf

from ood_keras.export import graph_checks
from ood_keras.image_files import (
    DEFLATE_RATIO,
    PNG,
    PNG_BITS,
    PNG_PASSES,
    PNG_SAMPLES,
    most_packed,
    most_parts,
)
from ood_keras.types import ImageShape, Tensor

# TensorFlow unpacks a zlib stream whole or not at all. A PNG is unpacked apart from its
# pixels, to see whether there is more behind its last row, if that cannot make more
# than this many bytes, whatever it holds; of a longer one the rows alone are checked.
MAX_UNPACKED = 2**24

START = PNG + b"\0\0\0\rIHDR"
_END = b"\0\0\0\0IEND\xaeB`\x82"
# Long enough to end any block of deflate and to start another.
_BEHIND = bytes(np.random.default_rng(0).integers(0, 256, 600).astype(np.uint8))
_AROUND_PIXELS = graph_checks.HEAD + 4 + len(_END)
# The chunks that make a difference, and their places in this list.
_KEPT = ("IHDR", "PLTE", "tRNS", "IDAT", "IEND")
_IHDR, _PLTE, _TRNS, _IDAT, _ = range(5)


class Header(typing.NamedTuple):
    """What IHDR says, and whether it may."""

    good: tf.Tensor
    small: tf.Tensor
    height: tf.Tensor
    bits: tf.Tensor
    colour: tf.Tensor
    # Bytes of all rows.
    size: tf.Tensor


def read_header(heads: Tensor) -> Header:
    """What IHDR says, as a `Header` of vectors."""
    sides = graph_checks.read_big_endian(tf.reshape(heads[:, 16:24], (-1, 2, 4)))
    bits, colour, packing, filtering, laced = tf.unstack(
        tf.cast(heads[:, 24:29], tf.int64), axis=1
    )
    pairs = [32 * colour + bits for colour in PNG_BITS for bits in PNG_BITS[colour]]
    good = (
        graph_checks.is_readable_size(sides)
        & tf.reduce_any((32 * colour + bits)[:, tf.newaxis] == pairs, axis=1)
        & (packing == 0)
        & (filtering == 0)
        & (laced <= 1)
    )
    samples = np.array([PNG_SAMPLES.get(colour, 0) for colour in range(256)])
    size = _size_of_rows(sides, bits * tf.gather(samples, colour), laced)
    return Header(good, graph_checks.is_small(sides), sides[:, 1], bits, colour, size)


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


def is_plain(contents: Tensor, heads: Tensor, image_shape: ImageShape) -> Tensor:
    """Which files are PNG files of IHDR, one IDAT and IEND that need no conversion."""
    height, width, channels = image_shape
    header = struct.pack(">IIBBBBB", width, height, 8, channels - 1, 0, 0, 0)
    length = tf.cast(tf.strings.length(contents), tf.int64)
    packed = graph_checks.read_big_endian(heads[:, 33:37])
    start, size = tf.maximum(length - len(_END), 0), tf.fill(tf.shape(length), 12)
    return (
        graph_checks.start_with(heads, START + header)
        & graph_checks.start_with(heads[:, 37:], b"IDAT")
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


def read_plain(content: Tensor, image_shape: ImageShape) -> Tensor:
    """The pixels of one file that is plain; it raises by the rules."""
    packed = tf.strings.substr(
        content, graph_checks.HEAD, tf.strings.length(content) - _AROUND_PIXELS
    )
    with graph_checks.check(_unpacked_size(packed) == _plain_size(image_shape)):
        content = tf.identity(content)
    return tf.ensure_shape(tf.io.decode_png(content, image_shape[-1]), image_shape)


def _unpacked_size(packed):
    """How many bytes a zlib stream unpacks to; it raises, or errs, if it has no end.

    What is put behind it is ignored behind an end, and else read on: it is a wrong
    checksum, or more bytes.
    """
    return tf.strings.length(tf.io.decode_compressed(packed + _BEHIND, "ZLIB"))


def check_file(content: Tensor, header: Header) -> tuple[Tensor, Tensor, Tensor]:
    """A PNG file without all that makes no difference; it raises by the rules.

    Args:
        content: Scalar string.
        header: Its `Header`, of scalars.

    Returns:
        `(file, small, transparent)`: string; bool; whether there is any alpha.
    """
    kinds, lengths, pieces = _walk_png(content)
    # Which chunk is of which of the kinds that matter: `(chunks, kinds)`.
    of_kind = kinds[:, tf.newaxis] == tf.constant(_KEPT)
    packed = tf.reduce_sum(tf.where(of_kind[:, _IDAT], lengths, 0))
    counts = tf.reduce_sum(tf.cast(of_kind, tf.int32), axis=0)
    with graph_checks.check(
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
    with graph_checks.check(unpacked == header.size, checked):
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
    with graph_checks.check(kind == "IEND", length >= 0, end <= file_length):
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
