"""TFRecord files and the features in them, without TensorFlow.

The format: https://www.tensorflow.org/tutorials/load_data/tfrecord. Reading it here
means that a wrong length is an error, where TensorFlow's reader allocates as much
memory as the file claims.
"""

import functools
import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ood_keras import file_content
from ood_keras.types import Stream

# What the usual writers call an encoded image.
IMAGE_NAMES = ("image/encoded", "image")

_BLOCK = 4096
_BYTES_FIELD = 2  # Protocol buffers' wire type of a field with a length.
# An Example may have as many fields of the kinds that are looked at, all levels
# together. Each takes a step in Python, and could be of two bytes.
_MAX_FIELDS = 20_000
_SHOWN_NAMES, _SHOWN_LETTERS = 20, 60


def begins(head: bytes) -> bool:
    """Whether a file with these first bytes is one of TFRecords, not packed."""
    return len(head) >= 12 and is_sound(head[:8], head[8:12])


def read(
    file: Stream, path: object, *, start: int = 0, max_bytes: int
) -> Iterator[bytes]:
    """Yields the records of a TFRecord file from number `start` on, as `bytes`.

    Args:
        file: The file, opened in binary, at its start.
        path: What error messages call it.
        start: How many records to pass over.
        max_bytes: The longest record that is read.

    Raises:
        ValueError: the file is corrupt or truncated, or a record is too long.
    """
    for number, length in enumerate(walk(file, path, max_bytes=max_bytes)):
        if number < start:
            file_content.pass_over(file, length + 4)
            continue
        content = file.read(length)
        if not is_sound(content, file.read(4)):
            raise ValueError(f"{path} is corrupt or truncated at record {number}")
        yield content


def walk(file: Stream, path: object, *, max_bytes: int) -> Iterator[int]:
    """Yields how many bytes each record of a TFRecord file has.

    Whoever asks for the next one has moved the file past the record and the four bytes
    behind it.

    Raises:
        ValueError: as for `read`.
    """
    number = 0
    while header := file.read(12):
        if len(header) < 12 or not is_sound(header[:8], header[8:]):
            raise ValueError(f"{path} is corrupt or truncated at record {number}")
        (length,) = struct.unpack_from("<Q", header)
        if length > max_bytes:
            raise ValueError(
                f"record {number} of {path} has {length} bytes; at most {max_bytes} "
                "are read"
            )
        yield length
        number += 1


class Feature(NamedTuple):
    """A feature of a `tf.train.Example`.

    Attributes:
        kind: "bytes", "float" or "int64".
        values: Of bytes a `memoryview` each, of int64 an `int` each, of several the
            first two: one is wanted, and two are too many. Of floats, none are read.
    """

    kind: str
    values: tuple[memoryview, ...] | tuple[int, ...]


def read_features(record: bytes) -> dict[str, Feature]:
    """Returns the features of a serialised `tf.train.Example` by name.

    Args:
        record: `bytes`; bytes in the features are views of it.

    Raises:
        NoExampleError: it is no Example.
    """
    left = iter(range(_MAX_FIELDS))
    found: dict[str, Feature] = {}
    try:
        for features in _fields(memoryview(record), 1, left):
            for entry in _fields(features, 1, left):
                name = b"".join(_fields(entry, 1, left)).decode()
                for value in _fields(entry, 2, left):
                    for number, content in _numbered(value, left):
                        feature = _read_feature(number, content, left)
                        if feature is not None:
                            found[name] = feature
    except (IndexError, UnicodeDecodeError, ValueError) as error:
        raise NoExampleError("the record is no tf.train.Example") from error
    return found


class NoExampleError(ValueError):
    """A record is no `tf.train.Example`."""


def image_in(record: bytes, feature: str | None = None) -> bytes:
    """The encoded image in a serialised `tf.train.Example`.

    Args:
        record: `bytes`.
        feature: Name of the bytes feature; `None` takes `image/encoded`, else `image`.

    Raises:
        ValueError: it is no Example, or has no such feature with one value.
    """
    try:
        found = read_features(record)
    except NoExampleError as error:
        raise ValueError(
            f"{error}. If records are encoded images themselves, give --raw_records"
        ) from error
    names = IMAGE_NAMES if feature is None else (feature,)
    image = find_image(found, names)
    if image is not None:
        return image
    held = {name: kept for name, kept in found.items() if kept.kind == "bytes"}
    raise ValueError(
        f"the Example has no bytes feature {' or '.join(map(repr, names))} with one "
        f"value; it has: {list_names(held) or 'none'}. Name it with --feature"
    )


def find_image(found: Mapping[str, Feature], names: Iterable[str]) -> bytes | None:
    """Returns the one value of the first of some bytes features, or `None`."""
    for name in names:
        feature = found.get(name)
        if feature is not None and feature.kind == "bytes" and len(feature.values) == 1:
            return bytes(feature.values[0])  # type: ignore[arg-type]
    return None


def list_names(names: Iterable[str]) -> str:
    """Returns names of features in order, shortened where there are very many."""
    names = sorted(names)
    shown = [name[:_SHOWN_LETTERS] for name in names[:_SHOWN_NAMES]]
    if len(names) > len(shown):
        shown.append(f"and {len(names) - len(shown)} more")
    return ", ".join(shown)


def _read_feature(
    number: int, content: memoryview, left: Iterator[int]
) -> Feature | None:
    """The feature of one of the fields of `tf.train.Feature`."""
    if number == 1:
        values = tuple(itertools.islice(_fields(content, 1, left), 2))
        return Feature("bytes", values)
    if number == 2:
        return Feature("float", ())
    if number == 3:
        return Feature("int64", tuple(itertools.islice(_integers(content, left), 2)))
    return None


def _integers(message: memoryview, left: Iterator[int]) -> Iterator[int]:
    """Yields the values of an `Int64List`, packed into one field or one by one."""
    position = 0
    while position < len(message):
        _count_field(left)
        key, position = _varint(message, position)
        if key == 1 << 3:
            value, position = _varint(message, position)
            yield _signed(value)
            continue
        if key != 1 << 3 | _BYTES_FIELD:
            raise ValueError("not a list of integers")
        length, position = _varint(message, position)
        stop = position + length
        if stop > len(message):
            raise ValueError("the message is truncated")
        while position < stop:
            value, position = _varint(message, position)
            yield _signed(value)


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def _fields(
    message: memoryview, number: int, left: Iterator[int]
) -> Iterator[memoryview]:
    """Yields the contents of those fields of a message that have this number."""
    for found, content in _numbered(message, left):
        if found == number:
            yield content


def _numbered(
    message: memoryview, left: Iterator[int]
) -> Iterator[tuple[int, memoryview]]:
    """Yields the number and the content of the fields of a message."""
    position = 0
    while position < len(message):
        _count_field(left)
        key, position = _varint(message, position)
        if key & 7 != _BYTES_FIELD:
            raise ValueError("not a field with a length")
        length, position = _varint(message, position)
        content = message[position : position + length]
        if len(content) < length:
            raise ValueError("the message is truncated")
        position += length
        yield key >> 3, content


def _count_field(left: Iterator[int]) -> None:
    if next(left, None) is None:
        raise ValueError(f"the message has more than {_MAX_FIELDS} fields")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is too long")


def is_sound(content: bytes, checksum: bytes) -> bool:
    """Whether a masked CRC-32C, as TFRecords have it, fits."""
    if len(checksum) < 4:
        return False
    value = crc32c(content)
    masked = ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return masked == struct.unpack("<I", checksum)[0]


def crc32c(content: bytes) -> int:
    """The Castagnoli checksum of `bytes`, RFC 3720.

    It is linear, so each byte's part, which depends on how many bytes follow, is looked
    up, and the parts are added (which is xor): in blocks, a state of four bytes being
    added to the first four of the next block.
    """
    table = _table()
    state = 0xFFFFFFFF
    values = np.frombuffer(content, np.uint8)
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK].copy()
        num = min(4, len(block))
        block[:num] ^= np.frombuffer(struct.pack("<I", state), np.uint8)[:num]
        following = np.arange(len(block) - 1, -1, -1)
        state >>= 8 * num
        state ^= int(np.bitwise_xor.reduce(table[following, block]))
    return state ^ 0xFFFFFFFF


@functools.cache
def _table() -> np.ndarray:
    """`table[n, b]`: the part of byte `b` when `n` bytes follow it."""
    first = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        first = np.where(first & 1, first >> 1 ^ 0x82F63B78, first >> 1)
    table = np.empty((_BLOCK, 256), np.uint32)
    table[0] = first
    for row in range(1, _BLOCK):
        table[row] = table[row - 1] >> 8 ^ first[table[row - 1] & 0xFF]
    return table
