"""Records of TFRecord files as files of pictures: each is named, and read by itself."""

import collections
import contextlib
import dataclasses
import pathlib
import threading
from collections.abc import Generator, Iterator

from ood_keras import file_content, tfrecords
from ood_keras.types import Stream

# So much of what was unpacked stays at hand, and so many packed files open: several
# threads ask for neighbours in any order.
_KEPT_BYTES = 2**25
_OPEN_FILES = 4


class Unpacked:
    """Records of packed files, which can only be read one after the other.

    One for all files of a source. Several threads may ask for records in any order; it
    is quick where they are those of one file after the other, or nearly so.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By file, what is left of it and the number of the next record.
        self._open: collections.OrderedDict[
            Shard, tuple[Generator[bytes | None, None, None], int]
        ] = collections.OrderedDict()
        self._kept: collections.OrderedDict[tuple[Shard, int], bytes | None]
        self._kept = collections.OrderedDict()
        self._size = 0

    def read(self, shard: "Shard", number: int) -> bytes | None:
        """Returns a record, or `None` if it is damaged.

        Raises:
            StopIteration: there is none of this number.
            OSError, ValueError, EOFError, zlib.error: the file is damaged before it.
        """
        with self._lock:
            if (shard, number) in self._kept:
                return self._kept[shard, number]
            left, following = self._open.pop(shard, (None, 0))
            if left is None or number < following:
                if left is not None:
                    left.close()
                left, following = shard.walk(), 0
            for found in range(following, number + 1):
                content = next(left)
                self._keep((shard, found), content)
            self._open[shard] = left, number + 1
            while len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)[1][0].close()
            return content

    def _keep(self, key: tuple["Shard", int], content: bytes | None) -> None:
        self._size += len(content or b"") - len(self._kept.pop(key, None) or b"")
        self._kept[key] = content
        while self._size > _KEPT_BYTES and len(self._kept) > 1:
            self._size -= len(self._kept.popitem(last=False)[1] or b"")


class Shard:
    """A TFRecord file, packed by gzip or zlib or not; records are read one by one.

    Args:
        path: The file.
        name: What its records are called by: its path within the folder of the data.
        unpacked: What reads it if it is packed.
    """

    def __init__(self, path: pathlib.Path, name: str, unpacked: Unpacked) -> None:
        self.path, self.name = path, name
        with file_content.open_regular(path, unpacks=False) as file:
            head = file.read(file_content.HEAD_BYTES)
        self.is_packed = bool(head) and not tfrecords.begins(head)
        self._unpacked = unpacked

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
                content = self._unpacked.read(self, number)
            else:
                with contextlib.closing(self.walk(place)) as left:
                    content = next(left)
        except StopIteration:
            raise ValueError("is not there any more") from None
        except file_content.UNREADABLE as error:
            raise ValueError(f"cannot be read: {error}") from error
        if content is None:
            raise ValueError("is damaged: its checksum is wrong")
        return content

    def walk(self, place: int = 0) -> Generator[bytes | None, None, None]:
        """Yields records from a place on; `None` for those that are damaged."""
        with self._open() as file:
            if place:
                file.seek(place)
            for length in self._lengths(file):
                content = file.read(length)
                yield content if tfrecords.is_sound(content, file.read(4)) else None

    def _lengths(self, file: Stream) -> Iterator[int]:
        most = file_content.MAX_PICTURE_BYTES
        return tfrecords.walk(file, self.path, max_bytes=most)

    def _open(self) -> contextlib.AbstractContextManager[Stream]:
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
