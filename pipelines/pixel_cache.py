"""Pixels of large data sets, decoded once into files that stay for the next command.

A data set that takes little memory is an array, as ever. The pixels of a larger one are
written to a folder of their own, `CACHE/NAME_OF_SOURCE/FILES`, and read from there as
they are used. FILES says which files were decoded, by names, sizes and times, so that a
change of any of them makes others; what was made of earlier ones is then removed.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import PIL

from ood_keras import files, resizing
from ood_keras.conventions import (
    CACHE_VARIABLE,
    MEMORY_VARIABLE,
    MOST_GB_IN_MEMORY,
)
from ood_keras.pipelines import stored_images
from ood_keras.pipelines.data_warning import warn
from ood_keras.types import ImageShape, PixelArray

_GB = 10**9
# To be raised where decoding or resizing gives other pixels.
_DECODING = 2
_PIXELS, _ABOUT = "pixels.npy", "about.json"
_READ_BYTES = 2**24


@dataclasses.dataclass(frozen=True)
class Key:
    """What the pixels of a part of a source are made of.

    Attributes:
        name: What messages call the source.
        making: How they are made, plain JSON values: the folder, the shape, and so on.
        files: `(name, bytes, time of change in ns)` of each file that is read.
    """

    name: str
    making: Mapping[str, Any]
    files: Iterable[tuple[str, int, int]]


def find_folder() -> pathlib.Path:
    """Returns the folder of the pixels: `OOD_KERAS_CACHE_DIR`, or the user's own."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return pathlib.Path(named).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(caches).expanduser() / "ood_keras"


def fits_memory(shape: tuple[int, ...]) -> bool:
    """Whether pixels of a shape are kept in memory, by `OOD_KERAS_MEMORY_GB`.

    Raises:
        ValueError: the variable holds no number.
    """
    text = os.environ.get(MEMORY_VARIABLE)
    try:
        most = MOST_GB_IN_MEMORY if not text else float(text)
    except ValueError:
        most = math.nan
    if not most >= 0:
        raise ValueError(
            f"the environment variable {MEMORY_VARIABLE} (--memory_gb) must be a "
            f"number of gigabytes, such as 0.5. Received: {text!r}"
        )
    return math.prod(shape) <= most * _GB


def allocate(shape: tuple[int, ...]) -> np.ndarray:
    """Returns a uint8 array to be filled, of a file where memory is not enough.

    The file has no name and is gone when the array is. Give the array to `finish` once
    it is filled.

    Raises:
        OSError: the file does not fit on the disk.
    """
    if fits_memory(shape):
        return np.empty(shape, np.uint8)
    size = math.prod(shape)
    place = _make_folder()
    _check_space(place, size, f"{shape[0]:,} images that are made")
    with tempfile.TemporaryFile(dir=place, prefix=files.TEMPORARY) as file:
        # So that a full disk is an error now, and does not end the process later.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, np.uint8, "r+", shape=shape)


def finish(pixels: np.ndarray) -> PixelArray:
    """Returns what `allocate` made, filled, as images for a split."""
    if isinstance(pixels, np.memmap):
        return stored_images.StoredImages(pixels)
    return pixels


def adapt(images: PixelArray, image_shape: ImageShape) -> PixelArray:
    """Returns images in a shape, as `resizing.adapt`, on disk where they are too many.

    Args:
        images: uint8 `(num_images, height, width, channels)`.
        image_shape: `(height, width, channels)`.
    """
    shape = (len(images), *image_shape)
    if images.shape == shape or fits_memory(shape):
        return resizing.adapt(images, image_shape)
    adapted = allocate(shape)
    for rows, some in stored_images.walk(images):
        adapted[rows] = resizing.adapt(some, image_shape)
    return finish(adapted)


def read(
    key: Key,
    shape: tuple[int, ...],
    pictures: Callable[[], Iterable[np.ndarray]],
    notes: Callable[[], Mapping[str, np.ndarray]] = dict,
    note_names: Sequence[str] = (),
) -> tuple[PixelArray, Mapping[str, np.ndarray]]:
    """Returns the pixels of a part of a source, and what was noted while decoding.

    Args:
        key: What they are made of.
        shape: `(num_images, height, width, channels)`.
        pictures: Decodes all pictures, in order: uint8 images, or batches of them. Not
            called if the pixels are on disk.
        notes: Returns arrays that are kept beside the pixels; called after the last
            picture.
        note_names: Their names. Pixels that were written without them are decoded
            again.

    Raises:
        OSError: the pixels do not fit on the disk.
        ValueError: there are more or fewer pictures than `shape` says.
    """
    if fits_memory(shape):
        images, row = np.empty(shape, np.uint8), 0
        for some in _check_counts(key, shape, pictures()):
            images[row : row + len(some)] = some
            row += len(some)
        return images, notes()
    _make_folder()
    place = _place(key)
    place.parent.mkdir(exist_ok=True)
    with _hold(place.parent, key.name):
        found = _open(place, shape, note_names)
        if found is None:
            # Another process was first, where folders cannot be locked.
            with contextlib.suppress(FileExistsError):
                _write(key, place, shape, pictures, notes)
            found = _open(place, shape, note_names)
        if found is None:
            raise OSError(f"{place} was changed while it was written; try again")
        return found


def _make_folder() -> pathlib.Path:
    """Returns the folder of the pixels, made if it is not there, for its user alone."""
    place = find_folder()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(place, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write into {place} ({error.strerror}), which would keep pixels "
            "that are too many for memory. Name another folder, as --cache_dir or "
            f"{CACHE_VARIABLE}, or keep more in memory (--memory_gb or "
            f"{MEMORY_VARIABLE})",
        ) from error
    return place


def _place(key: Key) -> pathlib.Path:
    making = {"decoding": _DECODING, "pillow": PIL.__version__, **key.making}
    source = hashlib.sha256(json.dumps(making, sort_keys=True).encode()).hexdigest()
    listing = hashlib.sha256()
    for name, size, changed in key.files:
        line = f"{name}\0{size}\0{changed}\n"
        listing.update(line.encode(errors="surrogateescape"))
    name = re.sub(r"\W+", "_", key.name)[-40:].strip("_")
    return find_folder() / f"{name}_{source[:16]}" / listing.hexdigest()[:32]


@contextlib.contextmanager
def _hold(place: pathlib.Path, name: str) -> Iterator[None]:
    """Locks the folder of a source, so that its pictures are decoded by one process."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.lock_folder(place))
        except BlockingIOError:
            _say(f"{name}: waiting for another process, which decodes it")
            stack.enter_context(files.lock_folder(place, wait=True))
        yield


def _open(
    place: pathlib.Path, shape: tuple[int, ...], note_names: Sequence[str]
) -> tuple[PixelArray, Mapping[str, np.ndarray]] | None:
    """Returns what `_write` wrote, or `None` if it is not there, or damaged."""
    if not place.exists():
        return None
    try:
        about = json.loads((place / _ABOUT).read_text(encoding="utf-8"))
        pixels = _load(place, _PIXELS)
        if pixels.dtype != np.uint8 or pixels.shape != tuple(shape):
            raise ValueError(f"it holds {pixels.dtype} of shape {pixels.shape}")
        if _sum_file(place / _PIXELS) != about["crc32"]:
            raise ValueError("its bytes are not those that were written")
        if not set(note_names) <= set(about["notes"]):
            return None
        noted = {name: _load(place, f"{name}.npy") for name in note_names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        warn(f"{place} is damaged ({error}); its pictures are decoded again")
        return None
    return stored_images.StoredImages(pixels), noted


def _load(place: pathlib.Path, name: str) -> np.ndarray:
    return np.load(place / name, mmap_mode="r", allow_pickle=False)


def _sum_file(path: pathlib.Path) -> int:
    # Read and not mapped, so that the process does not seem to grow.
    with path.open("rb", buffering=0) as file:
        total, buffer = 0, bytearray(_READ_BYTES)
        while count := file.readinto(buffer):
            total = zlib.crc32(memoryview(buffer)[:count], total)
    return total


def _write(
    key: Key,
    place: pathlib.Path,
    shape: tuple[int, ...],
    pictures: Callable[[], Iterable[np.ndarray]],
    notes: Callable[[], Mapping[str, np.ndarray]],
) -> None:
    """Decodes all pictures into a folder, whole or not at all."""
    size = math.prod(shape)
    what = f"{shape[0]:,} pictures of {shape[1]} x {shape[2]} x {shape[3]}"
    shutil.rmtree(place, ignore_errors=True)
    _check_space(place.parent, size, f"{key.name}: {what}")
    _say(f"{key.name}: {what}, {size / _GB:.2f} GB, are decoded once into {place}")
    with files.atomic_directory(place) as temporary:
        with (temporary / _PIXELS).open("wb") as file, _bar(shape[0]) as tell:
            header = {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)}
            np.lib.format.write_array_header_1_0(file, header)
            # Written and not mapped: a full disk is then an error.
            for some in _check_counts(key, shape, pictures()):
                file.write(np.ascontiguousarray(some).data)
                tell(len(some))
        noted = notes()
        for name, array in noted.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        about = {
            "source": key.name,
            "made_of": dict(key.making),
            "crc32": _sum_file(temporary / _PIXELS),
            "notes": sorted(noted),
        }
        files.write_json(temporary / _ABOUT, about)
    for other in place.parent.iterdir():
        # Whoever reads it keeps what is mapped.
        if other != place and not other.name.startswith("."):
            shutil.rmtree(other, ignore_errors=True)


def _check_counts(
    key: Key, shape: tuple[int, ...], pictures: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """Yields batches, and raises if there are more or fewer pictures than expected."""
    count = 0
    for some in pictures:
        batch = some if some.ndim == 4 else some[np.newaxis]
        count += len(batch)
        if count > shape[0]:
            break
        yield batch
    if count != shape[0]:
        raise ValueError(
            f"{key.name}: expected {shape[0]:,} pictures. Received: "
            f"{'more' if count > shape[0] else f'{count:,}'}; was the data set "
            "changed while it was read?"
        )


def _check_space(place: pathlib.Path, size: int, what: str) -> None:
    free = shutil.disk_usage(place).free
    if size > free:
        raise OSError(
            errno.ENOSPC,
            f"{what} take {size / _GB:.2f} GB in {place}, and {free / _GB:.2f} GB are "
            "free. Make space; name a folder on another disk, as --cache_dir or "
            f"{CACHE_VARIABLE}; take smaller images (--image_shape); or keep more in "
            f"memory (--memory_gb or {MEMORY_VARIABLE})",
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[int], Any]]:
    from tqdm import tqdm

    # Only on a terminal.
    with tqdm(total=total, unit="picture", leave=False, disable=None) as bar:
        yield bar.update
