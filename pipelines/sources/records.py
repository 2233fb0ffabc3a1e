"""Records of TFRecord files as files of pictures: each is named, and read by itself."""

import collections
import dataclasses
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

from ood_keras import file_content, tfrecords
from ood_keras.types import Stream

# Of a packed file, so much of what was read stays at hand: several threads ask for
# neighbours in any order.
_KEPT_BYTES = 2**25


class Shard:
    """A TFRecord file, packed by gzip or zlib or not; records are read one by one.

    Args:
        path: The file.
        name: What its records are called by: its path within the folder of the data.
    """

    def __init__(self, path: pathlib.Path, name: str) -> None:
        self.path, self.name = path, name
        with file_content.open_regular(path, unpacks=False) as file:
            head = file.read(file_content.HEAD_BYTES)
        self.is_packed = bool(head) and not tfrecords.begins(head)
        self._lock = threading.Lock()
        self._left: Iterator[bytes | None] | None = None
        self._next = 0
        self._kept: collections.OrderedDict[int, bytes | None]
        self._kept = collections.OrderedDict()
        self._size = 0

    def scan(self) -> Iterator[tuple[int, int, bytes]]:
        """Yields number, place in the file and content of each record, in order.

        Checksums of contents are left to `read`.

        Raises:
            ValueError: the file is damaged or ends too early; what comes before was
                yielded.
        """
        place = 0
        with self._open() as file:
            try:
                for number, length in enumerate(self._lengths(file)):
                    content = file.read(length)
                    if len(content) < length or len(file.read(4)) < 4:
                        raise ValueError(f"{self.path} ends within record {number}")
                    yield number, place, content
                    place += length + 16
            except file_content.UNREADABLE as error:
                raise ValueError(getattr(error, "strerror", None) or error) from error

    def read(self, number: int, place: int) -> bytes:
        """Returns a record whose checksum is right; several threads may ask.

        Args:
            number: Its number.
            place: Where it begins in the file, unpacked.

        Raises:
            ValueError: it is damaged, or the file was changed.
        """
        try:
            if self.is_packed:
                with self._lock:
                    content = self._read_packed(number)
            else:
                with self._open() as file:
                    file.seek(place)
                    content = next(self._walk(file))
        except StopIteration:
            raise ValueError("is not there any more") from None
        except file_content.UNREADABLE as error:
            raise ValueError(f"cannot be read: {error}") from error
        if content is None:
            raise ValueError("is damaged: its checksum is wrong")
        return content

    def _read_packed(self, number: int) -> bytes | None:
        """Reads on from the last record, or anew where that is behind."""
        if number in self._kept:
            return self._kept[number]
        if self._left is None or number < self._next:
            self._kept.clear()
            self._left, self._next, self._size = self._walk_all(), 0, 0
        while True:
            content, found = next(self._left), self._next
            self._next += 1
            self._kept[found] = content
            self._size += len(content or b"")
            while self._size > _KEPT_BYTES and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1] or b"")
            if found == number:
                return content

    def _walk_all(self) -> Iterator[bytes | None]:
        with self._open() as file:
            yield from self._walk(file)

    def _walk(self, file: Stream) -> Iterator[bytes | None]:
        """Yields records from here on; `None` for those that are damaged."""
        for length in self._lengths(file):
            content = file.read(length)
            yield content if tfrecords.is_sound(content, file.read(4)) else None

    def _lengths(self, file: Stream) -> Iterator[int]:
        most = file_content.MAX_PICTURE_BYTES
        return tfrecords.walk(file, self.path, max_bytes=most)

    def _open(self) -> Any:
        return file_content.open_regular(
            self.path, tfrecords.begins, unpacks=self.is_packed
        )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A record that holds a picture, or should.

    Attributes:
        shard: Its file.
        number: Its number in the file, from 0.
        place: Where it begins in the file, unpacked.
        image: Name of the feature that holds the encoded picture.
        filename: What the picture's file was called, or "".
        error: Why it cannot be read, as far as that is known, or "".
    """

    shard: Shard
    number: int
    place: int
    image: str
    filename: str = ""
    error: str = ""

    @property
    def name(self) -> str:
        return f"{self.shard.name}[{self.number}]"

    def read_bytes(self) -> bytes:
        """Returns the encoded picture.

        Raises:
            ValueError: it cannot be read; the message is the reason.
        """
        if self.error:
            raise ValueError(self.error)
        content = self.shard.read(self.number, self.place)
        found = tfrecords.read_features(content)
        image = tfrecords.find_image(found, [self.image])
        if image is None:
            raise ValueError(f"has no picture in its feature {self.image!r}")
        return image

    def __str__(self) -> str:
        return f"{self.shard.path}[{self.number}]"
