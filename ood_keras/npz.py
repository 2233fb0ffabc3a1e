"""Files of arrays (`.npz`), read as what strangers may have made: bounded, or an error.

NumPy reserves what the header of an array asks for before it looks whether so much is
there, and unpacks a thousand times what it reads. So sizes are compared first.
"""

import lzma
import math
import os
import tokenize
import warnings
import zipfile
import zlib
from typing import BinaryIO

import numpy as np

from ood_keras.types import Arrays, Names, Path

# 4 GiB of arrays; every file that this package writes is far smaller.
MAX_BYTES = 2**32
_END = ".npy"


def read(
    file: Path | BinaryIO,
    what: str,
    *,
    required: Names = (),
    max_bytes: int = MAX_BYTES,
) -> Arrays:
    """Reads all arrays of an `.npz` file into memory.

    Args:
        file: A path, or a file of bytes that can be sought in.
        what: What the file should be, for errors: "the examples of a model".
        required: Names that must be there.
        max_bytes: Most bytes that all arrays together may have, unpacked.

    Returns:
        `{name: array}`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no `.npz` file, is damaged, holds more than `max_bytes`,
            Python objects, the same name twice or files that are no arrays, or lacks a
            name. Nothing of a file that is too large is unpacked.
    """
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(file) as archive:
            # Of the compatibility of headers that Python 2 wrote.
            warnings.simplefilter("ignore", UserWarning)
            members = _check_members(archive, max_bytes)
            arrays = {
                name: _read_member(archive, member) for name, member in members.items()
            }
        missing = [name for name in required if name not in arrays]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}, only {list(arrays)}")
    except FileNotFoundError:
        raise
    except (
        ValueError,
        OSError,
        EOFError,
        MemoryError,
        OverflowError,  # Of an axis longer than any computer counts.
        KeyError,
        NotImplementedError,
        RuntimeError,  # Of an encrypted member.
        SyntaxError,  # Of a header that is no Python.
        tokenize.TokenError,
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        where = f" {file}" if isinstance(file, (str, os.PathLike)) else ""
        raise ValueError(
            f"the file{where} cannot be read as {what}: {error}. It is damaged, or was "
            "made by something else; copy it again from its source, or write it again"
        ) from error
    return arrays


def _check_members(
    archive: zipfile.ZipFile, max_bytes: int
) -> dict[str, zipfile.ZipInfo]:
    """`{name: ZipInfo}` of the arrays; an error if together they are too large."""
    members = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(_END)
        if not member.filename.endswith(_END) or name in members:
            reason = "twice" if name in members else "which is no array"
            raise ValueError(f"it holds {member.filename!r}, {reason}")
        members[name] = member
    total = sum(member.file_size for member in members.values())
    if total > max_bytes:
        raise ValueError(
            f"its arrays have {total:,} bytes; at most {max_bytes:,} are read"
        )
    return members


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array, whose header must ask for the bytes that there are, not for others."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"{member.filename!r} has the unknown version {version}")
        shape, by_columns, dtype = readers[version](file)
        if dtype.hasobject:
            raise ValueError(
                f"{member.filename!r} holds Python objects, which are never loaded"
            )
        expected = math.prod(shape) * dtype.itemsize
        received = member.file_size - file.tell()
        if min(shape, default=0) < 0 or expected != received or not dtype.itemsize:
            raise ValueError(
                f"{member.filename!r} should have {expected:,} bytes by its header, "
                f"and has {received:,}"
            )
        # To the end, where the checksum is compared.
        content = file.read()
    if len(content) != expected:
        raise ValueError(f"{member.filename!r} ends early")
    flat = np.frombuffer(content, dtype) if expected else np.empty(shape, dtype).ravel()
    # A copy, since what is read may be changed.
    return flat.reshape(shape, order="F" if by_columns else "C").copy()
