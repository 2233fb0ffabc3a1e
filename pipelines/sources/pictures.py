"""Reads pictures of all formats that can be read here, never trusting what they say."""

import collections
import concurrent.futures
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import threadpoolctl

from ood_keras import file_content, image_files, machine, resizing, transcoding
from ood_keras.pipelines import grouping, pixel_cache
from ood_keras.pipelines.sources import archives, base
from ood_keras.types import ImageShape, Path, PixelArray

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")

# What a member of a zip may claim before anything of it is unpacked: a small file can
# say that it holds gigabytes.
MAX_BYTES = 64 * 2**20
_NUM_PROBLEMS = 100


def decode(
    content: bytes,
    name: Path,
    background: int | None = image_files.BACKGROUND,
    exif_orientation: bool = True,
) -> np.ndarray:
    """Returns the picture as uint8 `(height, width, channels)`, channels 1 or 3.

    By the rules of `image_files`, as exported models read their files; other formats,
    which they do not take, and large photographs as `transcoding` says.

    Args:
        content: The bytes of the file.
        name: What error messages call it.
        background: Grey level on which transparent pixels are laid; `None` drops alpha.
        exif_orientation: Whether to turn it as its camera's note says.

    Raises:
        ValueError: corrupt, truncated, too large, or of more than 8 bits per channel,
            but for PNG, whose 16 bits become 8.
    """
    try:
        return image_files.read(
            transcoding.as_read(content, exif_orientation), background, exif_orientation
        )
    except image_files.Refused as error:
        raise ValueError(f"{name} {error}") from error


def check(content: bytes, name: Path) -> None:
    """Raises a `ValueError` if a file cannot be read, as far as that is soon told.

    PNG and JPEG files are not decoded, see `image_files.check`; the others are.
    """
    if transcoding.is_direct(content):
        try:
            image_files.check(content)
        except image_files.Refused as error:
            raise ValueError(f"{name} {error}") from error
    else:
        decode(content, name)


class Zip:
    """The pictures of a zip file, read in memory and never unpacked to disk.

    Args:
        path: The zip file.

    Raises:
        ValueError: it is no zip file, a picture in it says that it is huge, or a
            member is one that `archives.members` refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = pathlib.Path(path)
        members = archives.members(self.path)
        with self._open() as archive:
            heads = (
                (member.filename, lambda member=member: _head(archive, member))  # type: ignore[misc]
                for member in members
            )
            # Data sets as they are published hold no others.
            kept, others = usable(heads, transcoding.FIRST_FORMATS)
        self.names = sorted(kept)
        if not self.names:
            raise ValueError(
                f"{self.path} holds no pictures ({', '.join(SUFFIXES)})"
                + (f", but {describe_others(count(others))}" if others else "")
            )
        if others:
            base.warn(f"{self.path}: {describe_others(count(others))} are left out")
        for member in members:
            if member.filename in kept:
                archives.check_size(self.path, member, MAX_BYTES)

    def check_part(self, part: str) -> None:
        """Raises if a picture lies in a folder that is called like another split."""
        for name in self.names:
            for folder in name.split("/")[:-1]:
                role = base.role_of(folder)
                if role not in (None, part):
                    raise ValueError(
                        f"{name} in {self.path} is for {role} by its folder's name, "
                        f"but the zip file is for {part}. Pack each split into a zip "
                        "file of its own"
                    )

    def read(
        self, background: int | None = image_files.BACKGROUND
    ) -> Iterator[np.ndarray]:
        """Yields the decoded pictures in the order of `names`; see `decode`."""
        with self._open() as archive:
            for name in self.names:
                try:
                    content = archives.read(archive, name, MAX_BYTES)
                except archives.ERRORS as error:
                    raise archives.corrupt(self.path, error) from error
                yield decode(content, f"{name} in {self.path}", background)

    def _open(self) -> zipfile.ZipFile:
        return archives.open_zip(self.path)


def usable(
    files: Iterable[tuple[str, Callable[[], bytes]]],
    formats: Sequence[str] | None = None,
) -> tuple[set[str], dict[str, str]]:
    """Sorts files into the pictures that are read and the others.

    A name with one of `SUFFIXES` promises a picture, and it is an error later if it
    holds none. All others are told by their bytes.

    Args:
        files: Pairs of a name and a function that returns its first bytes.
        formats: The formats that are read; `None` is `transcoding.formats()`.

    Returns:
        The names of the pictures, a set; and `{name: what it is}` of the others, by
        extension and by what they hold, such as ".heic (HEIC)".
    """
    formats = transcoding.formats() if formats is None else formats
    kept: set[str] = set()
    others: dict[str, str] = {}
    for name, head in files:
        suffix = pathlib.PurePath(name).suffix.lower()
        if suffix in SUFFIXES:
            kept.add(name)
            continue
        found = file_content.picture_format(head())
        if found is not None and found.upper() in formats:
            kept.add(name)
        else:
            others[name] = f"{suffix or 'without extension'} ({found or 'no picture'})"
    return kept, others


def count(others: Mapping[Any, str]) -> dict[str, int]:
    """Returns how many there are of each kind of what `usable` leaves out."""
    return dict(collections.Counter(others.values()))


def describe_others(others: Mapping[str, int]) -> str:
    """What `count` returns, as text; to be put before "are left out".

    >>> describe_others({".heic (HEIC)": 5, ".txt (no picture)": 1})
    '6 files (5 .heic (HEIC), 1 .txt (no picture))'
    """
    most = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in most[:20])
    return f"{sum(others.values()):,} files ({kinds})"


def advise(others: Mapping[str, int]) -> str:
    """What would read some of what is left out; "" if nothing would.

    Args:
        others: What `count` returns.
    """
    cures = {
        name: transcoding.find_cure(name)
        for name in ("HEIC", "AVIF")
        if any(f"({name})" in kind for kind in others)
    }
    return "".join(f". {name}: {cure}" for name, cure in cures.items() if cure)


def _head(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(member) as file:
            return file.read(file_content.HEAD_BYTES)
    except archives.ERRORS:
        return b""


def stack(
    pictures: Iterable[np.ndarray],
    names: Sequence[Path],
    image_shape: ImageShape | None = None,
) -> PixelArray:
    """Returns pictures as uint8 images, on disk where they are too many for memory.

    Args:
        pictures: Iterable of uint8 `(height, width, channels)`.
        names: One name per picture, for messages.
        image_shape: Shape to bring each picture to, or `None` to keep the one they
            share.

    Raises:
        ValueError: without `image_shape`, two pictures have different shapes.
    """
    images: np.ndarray | None = None
    waiting: list[np.ndarray] = []
    shape, row = image_shape, 0

    def flush():
        nonlocal images, row
        if waiting:
            batch = np.stack(waiting)
            if image_shape is not None:
                batch = resizing.adapt(batch, image_shape)
            if images is None:
                images = pixel_cache.allocate((len(names), *batch.shape[1:]))
            images[row : row + len(batch)] = batch
            row += len(batch)
            waiting.clear()

    for picture, name in zip(pictures, names, strict=True):
        shape = shape or picture.shape
        if image_shape is None and picture.shape != shape:
            raise _shape_error(names[0], shape, name, picture.shape)
        # Neighbours of one size are resized together.
        if waiting and (waiting[0].shape != picture.shape or len(waiting) == 256):
            flush()
        waiting.append(picture)
    flush()
    if images is None:
        raise ValueError("there are no pictures to stack")
    return pixel_cache.finish(images)


def read_all(
    paths: Sequence[Any],
    key: pixel_cache.Key,
    background: int | None = image_files.BACKGROUND,
    image_shape: ImageShape | None = None,
    *,
    exif_orientation: bool = True,
    find_looks: bool = False,
) -> tuple[PixelArray, Mapping[str, np.ndarray]]:
    """Reads files of pictures, on all cores, into memory or into the pixel cache.

    Args:
        paths: The files, or what has a `read_bytes` as they have, which raises a
            `ValueError` that says why where nothing can be read.
        key: What the pixel cache knows them by.
        background: As for `decode`.
        image_shape: Shape to bring each picture to, or `None` to keep the one they
            share.
        exif_orientation: As for `decode`.
        find_looks: Whether to note what the pictures look like.

    Returns:
        `(images, looks)`: the pictures, and what `grouping.Looks.arrays` returns of
        them as they were before they were brought to a shape, or nothing.

    Raises:
        ValueError: some cannot be read, and it names them all, up to a hundred; or,
            without `image_shape`, two have different shapes.

    Warns:
        DataWarning: some hold more pictures than the one that is read.
    """
    looks = grouping.Looks(len(paths)) if find_looks else None
    several: set[str] = set()

    def read_one(path):
        try:
            content = path.read_bytes()
        except ValueError as error:
            return None, f"{path} {error}"
        try:
            pixels = decode(content, path, background, exif_orientation)
            if transcoding.holds_several(content):
                several.add(str(path))
        except ValueError as error:
            return None, str(error)
        look = looks.measure(pixels) if looks is not None else None
        if image_shape is not None:
            pixels = resizing.adapt(pixels[np.newaxis], image_shape)[0]
        return pixels, look

    def read_each():
        problems, first = [], None
        for path, (pixels, look) in zip(paths, _map(read_one, paths), strict=True):
            if pixels is None:
                problems.append(look)
                continue
            first = first or (path, pixels.shape)
            if pixels.shape != first[1]:
                raise _shape_error(*first, path, pixels.shape)
            if looks is not None:
                looks.add(look)
            if not problems:
                yield pixels
        if problems:
            raise _problems_error(problems)
        if several:
            base.warn(
                f"only the first of several frames or pages is used of {min(several)}"
                + (f" and {len(several) - 1:,} others" if len(several) > 1 else "")
                + ". If the others count too, save each as a file of its own"
            )

    shape: tuple[int, ...] | None = image_shape
    if shape is None:
        found = _find_shape(paths, background, exif_orientation)
        # Where none can be read, all are named below.
        shape = (1, 1, 1) if found is None else found[1]
    return pixel_cache.read(
        key,
        (len(paths), *shape),
        read_each,
        looks.arrays if looks is not None else dict,
        grouping.Looks.NAMES if looks is not None else (),
    )


def check_parts(
    parts: Iterable[Iterable[Any]],
    background: int | None = image_files.BACKGROUND,
    *,
    exif_orientation: bool = True,
) -> None:
    """Raises a `ValueError` if parts of a source begin with pictures of other shapes.

    Args:
        parts: The files of each part, as for `read_all`; the first of each that can be
            read is decoded.
        background: As for `decode`.
        exif_orientation: As for `decode`.
    """
    first = None
    for paths in parts:
        found = _find_shape(paths, background, exif_orientation)
        first = first or found
        if first and found and found[1] != first[1]:
            raise _shape_error(*first, *found)


def _find_shape(
    paths: Iterable[Any], background: int | None, exif_orientation: bool
) -> tuple[Any, tuple[int, ...]] | None:
    """The first file that can be read, and its shape; `None` if none can."""
    for path in paths:
        try:
            pixels = decode(path.read_bytes(), path, background, exif_orientation)
        except ValueError:
            continue
        return path, pixels.shape
    return None


def _map(
    function: Callable[[Any], Any], items: Sequence[Any]
) -> Iterator[tuple[Any, Any]]:
    """Yields what a function returns of each item, in order, by all cores."""
    num_cores = machine.num_cores()
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    # What a picture is compared and resized by is small: threads of the linear algebra
    # would only be in the way of each other. Decoding leaves Python free.
    one_thread_each = threadpoolctl.threadpool_limits(1)
    with (
        one_thread_each,
        concurrent.futures.ThreadPoolExecutor(num_cores) as pool,
    ):
        for item in items:
            waiting.append(pool.submit(function, item))
            # Decoded pictures may be large, so that only a few wait.
            if len(waiting) > 4 * num_cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _shape_error(
    first: Path, shape: tuple[int, ...], other: Path, other_shape: tuple[int, ...]
) -> ValueError:
    return ValueError(
        "pictures must have one size and either all be grey or all RGB. Received: "
        f"{first} {shape}, {other} {other_shape}. Give image_shape=(height, width, "
        "channels), --image_shape=H,W,C of ood-train, to convert them all"
    )


def _problems_error(problems: Sequence[str]) -> ValueError:
    if len(problems) == 1:
        return ValueError(problems[0])
    more = len(problems) - _NUM_PROBLEMS
    lines = [*problems[:_NUM_PROBLEMS], *([f"and {more:,} more"] if more > 0 else [])]
    return ValueError(
        f"{len(problems):,} pictures cannot be read:\n  " + "\n  ".join(lines)
    )


def reduce(
    picture: np.ndarray, image_shape: ImageShape, resampling: str = "bilinear"
) -> np.ndarray:
    """Returns a picture at the given height and width by a filter of Pillow.

    For sets that are compared with published results, which reduce them so; all others
    are reduced by `resizing.adapt`, which averages areas. Smaller pictures and the
    number of channels stay as they are.

    Args:
        picture: uint8 `(height, width, channels)`, channels 1 or 3.
        image_shape: `(height, width, channels)` to be had in the end.
        resampling: "bilinear", its support widened to the reduction; "area", the mean
            of the covered area; or "nearest".
    """
    from PIL import Image

    height, width = image_shape[:2]
    if picture.shape[0] < height or picture.shape[1] < width:
        return picture
    grey = picture.shape[2] == 1
    image = Image.fromarray(picture[..., 0] if grey else picture)
    # What others call an area average is a box to Pillow.
    name = "BOX" if resampling == "area" else resampling.upper()
    small = np.asarray(image.resize((width, height), Image.Resampling[name]))
    return small[..., None] if grey else small
