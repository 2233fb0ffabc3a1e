"""What a file holds, told by its bytes: names and extensions may say anything."""

import contextlib
import gzip
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from ood_keras.types import Path, Stream

# Enough of a file to tell by.
HEAD_BYTES = 32
# No picture that is decoded at all is larger, even without compression.
MAX_PICTURE_BYTES = 2**27
# What reading a file raises that may be packed.
UNREADABLE = (OSError, ValueError, EOFError, zlib.error)
# What operating systems leave in folders; never meant as data.
CLUTTER = ("__macosx", "desktop.ini", "thumbs.db")

_CHUNK_BYTES = 2**16
_BEHIND_ALL = 2**62
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"8BPS": "PSD",
    b"\0\0\1\0": "ICO",
    b"v/1\1": "OpenEXR",
    b"qoif": "QOI",
    b"DDS ": "DDS",
}


def picture_format(head: bytes) -> str | None:
    """Returns what format of pictures a file begins like, or `None`.

    Args:
        head: The first `HEAD_BYTES` of the file, `bytes`.

    Example:

    >>> picture_format(b"\\x89PNG\\r\\n\\x1a\\n....")
    'PNG'
    """
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    # Two letters say little; of BMP, four bytes are reserved and 0.
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    if head[4:8] == b"ftyp":
        if head[8:12] in (b"avif", b"avis"):
            return "AVIF"
        if head[8:12] in _HEIF_BRANDS:
            return "AVIF" if b"avif" in head[16:] else "HEIC"
    return None


def is_clutter(name: str) -> bool:
    """Whether a file or folder is called like what operating systems leave behind."""
    return name.startswith(".") or name.casefold() in CLUTTER


def unpack(
    file: IO[bytes], is_plain: Callable[[bytes], bool] | None = None
) -> "Stream":
    """Returns a stream of a file's content, unpacked if its bytes are gzip or zlib.

    It unpacks as it is read, whatever the file would grow to.

    Args:
        file: The file, opened in binary, at its start.
        is_plain: Function from the first bytes to whether they are of a format that is
            not packed, where one of its files may begin like a packed one.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if is_plain is not None and is_plain(head):
        return file
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if _is_zlib(head):
        return io.BufferedReader(_Inflated(file))
    return file


@contextlib.contextmanager
def open_regular(
    path: "Path",
    is_plain: Callable[[bytes], bool] | None = None,
    *,
    unpacks: bool = True,
) -> "Iterator[Stream]":
    """Opens a regular file to be read; never waits for a pipe.

    Args:
        path: The file.
        is_plain: As for `unpack`.
        unpacks: Whether to unpack it if it is packed.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is a folder, a pipe or a device.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        yield unpack(file, is_plain) if unpacks else file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def pass_over(stream: "Stream", num_bytes: int) -> None:
    """Moves a stream forward, by reading where it cannot be moved otherwise.

    A header may say any number: behind the end of any file there is nothing.
    """
    if stream.seekable():
        stream.seek(min(num_bytes, _BEHIND_ALL), 1)
        return
    while num_bytes > 0:
        piece = stream.read(min(num_bytes, _CHUNK_BYTES))
        if not piece:
            return
        num_bytes -= len(piece)


def _is_zlib(head: bytes) -> bool:
    """Whether a zlib stream may begin so: deflate, no dictionary; RFC 1950, 2.2."""
    return (
        len(head) > 2
        and head[0] & 15 == 8
        and head[0] >> 4 <= 7
        and not head[1] & 32
        and int.from_bytes(head[:2], "big") % 31 == 0
    )


class _Inflated(io.RawIOBase):
    """The content of a zlib stream; `gzip.GzipFile` reads gzip's only."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inflater = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer):
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._file.read(_CHUNK_BYTES)
            if not packed:
                raise EOFError("the zlib stream ends too early")
            content = self._inflater.decompress(packed, len(buffer))
            if content:
                buffer[: len(content)] = content
                return len(content)
        if self._inflater.unused_data or self._file.read(1):
            raise zlib.error("there is more behind the end of the zlib stream")
        return 0
