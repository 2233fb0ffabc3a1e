"""Zip files, never trusting what they say; nothing is ever unpacked to disk."""

import pathlib
import re
import stat
import zipfile
import zlib
from collections.abc import Callable

from ood_keras import file_content
from ood_keras.types import Path

# What reading a member raises: of encryption, of an unknown compression, of corrupt
# members.
ERRORS = (
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
)
_DRIVE = re.compile("[A-Za-z]:.*")
# Python unpacks these piece by piece. Of bzip2 and LZMA it unpacks at once whatever the
# bytes at hand become, which can be gigabytes.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def corrupt(path: Path | zipfile.Path, error: Exception) -> ValueError:
    """Returns the error for a zip file that cannot be read."""
    return ValueError(
        f"{path} is a corrupt or unreadable zip file ({error}); fetch it again"
    )


def members(
    path: Path, corrupt: Callable[[Path, Exception], Exception] = corrupt
) -> list[zipfile.ZipInfo]:
    """Returns the `ZipInfo` of each file in a zip file that may be data.

    Folders and what operating systems leave (`__MACOSX`, `.DS_Store`, ...) are left
    out.

    Args:
        path: The zip file.
        corrupt: Function `(path, error)` that returns the error to raise if it cannot
            be read.

    Raises:
        ValueError: it is no zip file; or a member is there twice, lies outside the
            folder that it would be unpacked to, has a backslash in its name or a colon
            at the start of its path, is a link, is encrypted or is compressed by
            anything but deflate.
    """
    with open_zip(path, corrupt) as archive:
        return [member for member in contents(path, archive) if not member.is_dir()]


def open_zip(
    path: Path, corrupt: Callable[[Path, Exception], Exception] = corrupt
) -> zipfile.ZipFile:
    """Opens a zip file, and raises what `corrupt` returns if it cannot be read."""
    try:
        return zipfile.ZipFile(path)
    # Besides `BadZipFile`: negative offsets, wrong encodings of names.
    except (*ERRORS, OverflowError, UnicodeDecodeError, ValueError) as error:
        raise corrupt(path, error) from error


def contents(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Returns the files of an open zip file that may be data, and its folders.

    Args:
        path: What messages call it.
        archive: The open `zipfile.ZipFile`.

    Raises:
        ValueError: as `members`.
    """
    kept, names = [], set()
    for member in archive.infolist():
        parts = pathlib.PurePosixPath(member.filename).parts
        if not parts and member.is_dir():  # "./", the folder itself.
            continue
        if member.is_dir():
            _check_place(path, member, parts)
        else:
            _check(path, member, parts)
        if any(map(file_content.is_clutter, parts)):
            continue
        if member.is_dir():
            kept.append(member)
            continue
        if member.filename in names:
            raise ValueError(
                f"{path} holds {member.filename!r} twice, and only one of them could "
                "be read. Pack it again"
            )
        names.add(member.filename)
        kept.append(member)
    return kept


def read(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """Returns the content of a member, `bytes`; never more than it says it has.

    Args:
        archive: The open `zipfile.ZipFile`.
        name: The member's name.
        max_bytes: The most that is read.

    Raises:
        ValueError: it says that it has more than `max_bytes`, or has not as many bytes
            as it says.
    """
    member = archive.getinfo(name)
    check_size(archive.filename, member, max_bytes)
    with archive.open(member) as file:
        content = file.read(max_bytes + 1)
    if len(content) != member.file_size:
        raise zipfile.BadZipFile(
            f"{name} says that it has {member.file_size} bytes, and has {len(content)}"
        )
    return content


def check_size(path: Path | None, member: zipfile.ZipInfo, max_bytes: int) -> None:
    """Raises if a member says that it has more than `max_bytes`."""
    if member.file_size > max_bytes:
        raise ValueError(
            f"{member.filename} in {path} says that it has {member.file_size} bytes; "
            f"at most {max_bytes} are read"
        )


def _check(path: Path, member: zipfile.ZipInfo, parts: tuple[str, ...]) -> None:
    _check_place(path, member, parts)
    if stat.S_ISLNK(member.external_attr >> 16):
        problem = "is a link"
    elif member.flag_bits & 1:
        problem = "is encrypted"
    elif member.compress_type not in _COMPRESSIONS:
        problem = (
            f"is compressed by method {member.compress_type}, where stored and deflate "
            "are read"
        )
    else:
        return
    raise _refusal(path, member, problem)


def _check_place(path: Path, member: zipfile.ZipInfo, parts: tuple[str, ...]) -> None:
    name = member.filename
    # By Windows' way to write paths too, "..\\x" and "C:\\x" are outside.
    folders = name.replace("\\", "/").split("/")
    if not parts or not folders[0] or ".." in folders or _DRIVE.fullmatch(folders[0]):
        problem = "lies outside the folder it would be unpacked to"
    elif "\\" in name:
        problem = "has a backslash in its name; in a zip file, / parts the folders"
    elif ":" in parts[0]:
        problem = "has a colon at the start of its path, which not all systems take"
    else:
        return
    raise _refusal(path, member, problem)


def _refusal(path: Path, member: zipfile.ZipInfo, problem: str) -> ValueError:
    return ValueError(f"{member.filename!r} in {path} {problem}. Pack it again")
