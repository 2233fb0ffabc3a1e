"""The files and folders of a zip file, with the methods of paths that listings call."""

import pathlib
import threading
import zipfile
from collections.abc import Iterator
from typing import IO, Any, Protocol, TypeAlias, Union

from ood_keras import file_content
from ood_keras.pipelines.sources import archives

_SAYS_UTF8 = 0x800
_Tree: TypeAlias = dict[str, Union[zipfile.ZipInfo, "_Tree"]]


class FilePath(Protocol):
    """A file or folder of pictures: a `pathlib.Path`, or a `ZipPath`."""

    @property
    def name(self) -> str: ...
    @property
    def parent(self) -> "FilePath": ...
    def __truediv__(self, name: str, /) -> "FilePath": ...
    def __lt__(self, other: Any, /) -> bool: ...
    def absolute(self) -> "FilePath": ...
    def is_dir(self) -> bool: ...
    def is_file(self) -> bool: ...
    def iterdir(self) -> Iterator["FilePath"]: ...
    def open(self, mode: Any = ..., /) -> IO[Any]: ...
    def read_bytes(self) -> bytes: ...
    def relative_to(self, other: Any, /) -> pathlib.PurePath: ...
    def resolve(self) -> "FilePath": ...


class ZipPath:
    """A file or folder within a zip file; nothing of it is ever unpacked to disk.

    Args:
        archive: The zip file.
        parts: The names on the way to it, `("train", "cat", "1.png")`; none are the
            top of the zip file.

    Example:

    >>> photos = ZipPath(Archive("photos.zip"))
    >>> sorted(path.name for path in photos.iterdir())
    ['cat', 'dog']
    """

    __slots__ = ("archive", "parts")

    def __init__(self, archive: "Archive", parts: tuple[str, ...] = ()) -> None:
        self.archive, self.parts = archive, parts

    @property
    def name(self) -> str:
        return self.parts[-1] if self.parts else self.archive.path.name

    @property
    def parent(self) -> "ZipPath":
        return ZipPath(self.archive, self.parts[:-1])

    def __truediv__(self, name: str) -> "ZipPath":
        return ZipPath(self.archive, (*self.parts, name))

    def absolute(self) -> "ZipPath":
        return self

    def resolve(self) -> "ZipPath":
        return self

    def is_dir(self) -> bool:
        return isinstance(self.archive.find(self.parts), dict)

    def is_file(self) -> bool:
        return isinstance(self.archive.find(self.parts), zipfile.ZipInfo)

    def iterdir(self) -> Iterator["ZipPath"]:
        found = self.archive.find(self.parts)
        if not isinstance(found, dict):
            raise NotADirectoryError(f"{self} is no folder")
        return (self / name for name in found)

    def relative_to(self, other: "ZipPath") -> pathlib.PurePosixPath:
        return pathlib.PurePosixPath(*self.parts).relative_to(
            pathlib.PurePosixPath(*other.parts)
        )

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Opens the file for one thread to read; only `mode="rb"` is there."""
        return self.archive.open(self.parts)

    def read_bytes(self) -> bytes:
        """Returns what the file holds; several threads may call it.

        Raises:
            ValueError: it cannot be unpacked, lies about its size, or is larger than
                any picture.
        """
        return self.archive.read(self.parts)

    def stamp(self) -> tuple[int, int]:
        """Returns the size of the file and its checksum, as the zip file has them."""
        member = self.archive.member(self.parts)
        return member.file_size, member.CRC

    def __lt__(self, other: "ZipPath") -> bool:
        return self.parts < other.parts

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ZipPath)
            and self.parts == other.parts
            and self.archive is other.archive
        )

    def __hash__(self) -> int:
        return hash(self.parts)

    def __str__(self) -> str:
        return str(self.archive.path.joinpath(*self.parts))

    def __repr__(self) -> str:
        return f"ZipPath({str(self)!r})"


def _read_name(member: zipfile.ZipInfo) -> str:
    """The name of a member, also where it is UTF-8 and does not say so, as macOS's."""
    if member.flag_bits & _SAYS_UTF8:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


class Archive:
    """A zip file whose members are looked up and read, by several threads if need be.

    Args:
        path: The zip file.

    Raises:
        ValueError: it is corrupt, or a member is one that `archives.members` refuses.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = pathlib.Path(path)
        # One for all threads: each would keep a list of all members of its own. Only
        # unpacking is one after the other then, which takes far less than decoding.
        self._archive = archives.open_zip(self.path)
        self._lock = threading.Lock()
        self._tree: _Tree = {}
        for member in archives.contents(self.path, self._archive):
            self._add(member)

    def find(self, parts: tuple[str, ...]) -> "zipfile.ZipInfo | _Tree | None":
        """Returns the member at a place, the dict of a folder, or `None`."""
        found: Any = self._tree
        for part in parts:
            found = found.get(part) if isinstance(found, dict) else None
        return found

    def member(self, parts: tuple[str, ...]) -> zipfile.ZipInfo:
        """Returns the member of a file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        found = self.find(parts)
        if not isinstance(found, zipfile.ZipInfo):
            raise FileNotFoundError(f"{self.path} holds no file {'/'.join(parts)}")
        return found

    def open(self, parts: tuple[str, ...]) -> IO[bytes]:
        return self._archive.open(self.member(parts))

    def read(self, parts: tuple[str, ...]) -> bytes:
        name = self.member(parts).filename
        try:
            with self._lock:
                return archives.read(
                    self._archive, name, file_content.MAX_PICTURE_BYTES
                )
        except (*archives.ERRORS, ValueError) as error:
            raise ValueError(f"cannot be unpacked: {error}") from error

    def _add(self, member: zipfile.ZipInfo) -> None:
        *folders, name = pathlib.PurePosixPath(_read_name(member)).parts
        place: Any = self._tree
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                raise self._twice(member)
        if member.is_dir() and isinstance(place.setdefault(name, {}), dict):
            return
        if name in place:
            raise self._twice(member)
        place[name] = member

    def _twice(self, member: zipfile.ZipInfo) -> ValueError:
        return ValueError(
            f"{self.path} holds {member.filename!r} twice, or as a file and as a "
            "folder. Pack it again"
        )
