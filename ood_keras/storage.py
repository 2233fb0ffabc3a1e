"""Files on this machine or at a URL, such as an object store's, written whole.

Paths are those of this machine; what has `://` in it is a URL of `fsspec`
(`s3://BUCKET/answers`, `gs://...`, `memory://...`), which has to be installed, with the
package for that store. An object store cannot rename, so a file is made here first and
put there at once: it is there whole, or not at all.
"""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from ood_keras import files
from ood_keras.types import Path


def is_url(path: Path) -> bool:
    """Whether a path is a URL."""
    return "://" in os.fspath(path)


def absolute(path: Path) -> str:
    """The path as other processes find it; a URL without a slash at its end."""
    if is_url(path):
        return os.fspath(path).rstrip("/")
    return os.path.abspath(path)


def join(path: Path, *names: str) -> str:
    """The path of something in a folder."""
    if is_url(path):
        return "/".join([os.fspath(path).rstrip("/"), *names])
    return os.path.join(path, *names)


def exists(path: Path) -> bool:
    """Whether there is such a file, or folder."""
    if is_url(path):
        system, place = _open_system(path)
        return system.exists(place)
    return os.path.exists(path)


def list_names(folder: Path) -> list[str]:
    """The names of the files in a folder, sorted; none if there is no folder."""
    if not exists(folder):
        return []
    if is_url(folder):
        system, place = _open_system(folder)
        found = system.ls(place, detail=False, refresh=True)
        return sorted(pathlib.PurePosixPath(each).name for each in found)
    return sorted(os.listdir(folder))


def read(path: Path) -> bytes:
    """The content of a file.

    Raises:
        FileNotFoundError: there is none.
    """
    with open_file(path) as file:
        return file.read()


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(read(path))


def open_file(path: Path) -> Any:
    """A file to read bytes from, in which one can seek; a context manager."""
    if is_url(path):
        system, place = _open_system(path)
        return system.open(place, "rb")
    return open(path, "rb")


@contextlib.contextmanager
def local_copy(path: Path) -> Iterator[pathlib.Path]:
    """Yields a file of this machine with the content of one that may be at a URL."""
    if not is_url(path):
        yield pathlib.Path(path)
        return
    with tempfile.TemporaryDirectory(prefix=files.TEMPORARY) as folder:
        copy = pathlib.Path(folder) / pathlib.PurePosixPath(os.fspath(path)).name
        copy.write_bytes(read(path))
        yield copy


@contextlib.contextmanager
def writing(path: Path) -> Iterator[pathlib.Path]:
    """Yields a path of this machine to write to; what is there is put to `path`.

    Whole or not at all: by renaming, or, to a URL, by one put.
    """
    if not is_url(path):
        with files.atomic_file(path) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory(prefix=files.TEMPORARY) as folder:
        made = pathlib.Path(folder) / pathlib.PurePosixPath(os.fspath(path)).name
        yield made
        system, place = _open_system(path)
        system.makedirs(system._parent(place), exist_ok=True)
        system.put_file(str(made), place)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    with writing(path) as made:
        files.write_json(made, value)


def _open_system(path: Path) -> tuple[Any, str]:
    """The `fsspec` file system of a URL, and the place in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ImportError(
            f"{os.fspath(path)} is a URL, which needs fsspec: pip install "
            "fsspec, and the package for that store, such as s3fs"
        ) from error
    system, place = url_to_fs(os.fspath(path), use_listings_cache=False)
    return system, place
