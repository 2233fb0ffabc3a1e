"""Images from files, folders, globs, IDX and TFRecord files, in constant memory.

What there is to read is first listed on disk, so that neither the number of images nor
a change of the folder on the way matters. A file that cannot be read is an item that
says why; nothing that a file holds raises. What a folder holds besides is counted.
"""

import collections
import contextlib
import fnmatch
import glob
import heapq
import itertools
import json
import math
import os
import pathlib
import re
import tempfile
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import IO

import numpy as np

from ood_keras import (
    file_content,
    files,
    idx_header,
    tfrecords,
    transcoding,
)
from ood_keras.types import ImageShape, Path, Stream

SUFFIXES = (".jpeg", ".jpg", ".png")
MAX_BYTES = file_content.MAX_PICTURE_BYTES

_IDX = re.compile(r"(idx([1-4])-ubyte|\.idx([1-4]?))(\.gz)?$")
_UNREADABLE = file_content.UNREADABLE
# A batch ends at so many bytes; and so many names of a listing are sorted in memory.
_BATCH_BYTES = 2**26
_SORTED_AT_ONCE = 2**18
# What gzip makes of a byte, at most.
_MOST_PACKED = 1032
# Extensions that are counted apart; the rest together.
_MAX_EXTENSIONS = 100
_OTHERS = "others"


class WrongShapeError(ValueError):
    """A file of images that the model does not take."""


class Item(typing.NamedTuple):
    """One image, or what stands in its place.

    Attributes:
        path: The file.
        index: Its number within an IDX or TFRecord file, else `None`.
        content: `bytes` of an image file, or uint8 pixels, or `None`.
        error: Why there is no content, or `None`.
        position: Where to read on from after it.
    """

    path: str
    index: int | None  # type: ignore[assignment]
    content: bytes | np.ndarray | None
    error: str | None
    position: tuple[int, int]


def as_texts(paths: Iterable[Path]) -> list[str]:
    """The paths of a list as a list of `str`.

    Raises:
        TypeError: it is one path and no list, or one of them is no path.
    """
    if isinstance(paths, (str, bytes, os.PathLike)):
        raise TypeError(
            f"expected a list of paths. Received: {paths!r}; put it into brackets"
        )
    return [os.fsdecode(path) for path in paths]


def write_listing(
    listing: Path, paths: Iterable[str], *, linked: bool = False
) -> int | None:
    """Lists on disk all that is to be read.

    Args:
        listing: The file to write.
        paths: PNG, JPEG, IDX and TFRecord files, whatever they are called, the latter
            two packed by gzip or zlib or not; folders and globs; in this order. What
            lies in a folder, at any depth, or matches a glob is sorted by its name;
            hidden files and those of other kinds are left out of it, see
            `read_left_out`, and links to folders are not followed. A file that is named
            itself is listed in any case.
        linked: Whether links to folders that lie in a folder of `paths` itself, and not
            deeper, are followed: class folders are often links.

    Returns:
        How many images there are; `None` if TFRecord files are among them, which do not
        say.

    Raises:
        FileNotFoundError: a path does not exist, or leads to no images.
    """
    check(paths)
    total: int | None = 0
    skipped: collections.Counter[str] = collections.Counter()
    # It counts only when all of it was written, so it need not be there whole or not.
    with open(listing, "w") as file:
        for path in paths:
            lines = (json.dumps(entry) + "\n" for entry in _find(path, skipped, linked))
            empty = True
            # Two `**` find a file more than once.
            for line, _ in itertools.groupby(_sort(lines)):
                empty = False
                file.write(line)
                count = _count(*json.loads(line))
                total = None if None in (total, count) else total + count  # type: ignore[operator]
            if empty:
                besides = f". It has {describe(skipped)}" if skipped else ""
                raise FileNotFoundError(
                    f"no images in {path}{besides}. Expected PNG, JPEG, IDX or "
                    "TFRecord files"
                )
        file.flush()
        os.fsync(file.fileno())
    files.write_json(left_out_path(listing), dict(skipped))
    return total


def left_out_path(listing: Path) -> pathlib.Path:
    """Returns the path of the file that counts what a listing leaves out."""
    return pathlib.Path(f"{os.fspath(listing)}.left_out")


def read_left_out(listing: Path) -> dict[str, int]:
    """Returns how many files of folders and globs a listing leaves out, and why.

    Args:
        listing: What `write_listing` wrote.

    Returns:
        `{".heic (HEIC)": 5, ".txt (no picture)": 1}`; hidden files, and what operating
        systems leave in folders, are not counted.
    """
    path = left_out_path(listing)
    return json.loads(path.read_text()) if path.is_file() else {}


def describe(counts: Mapping[str, int]) -> str:
    """What `read_left_out` returns, as text.

    >>> describe({".heic (HEIC)": 5, ".txt (no picture)": 1})
    '6 other files: 5 .heic (HEIC), 1 .txt (no picture)'
    """
    total = sum(counts.values())
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in most)
    return f"{total:,} other {'file' if total == 1 else 'files'}: {kinds}"


def check(paths: Iterable[str]) -> None:
    """Raises a FileNotFoundError that names all paths that lead nowhere."""
    missing = [
        path for path in paths if not os.path.lexists(path) and not glob.has_magic(path)
    ]
    if missing:
        raise FileNotFoundError(f"no such image file: {', '.join(missing)}")


def check_shapes(paths: Iterable[str], image_shape: ImageShape) -> None:
    """Raises a ValueError if an IDX file among the paths holds other images."""
    for path in paths:
        try:
            if _kind(path) != "idx":
                continue
            with _open(path) as file:
                _num_images(file, path, image_shape)
        except WrongShapeError:
            raise
        except _UNREADABLE:
            continue  # It becomes a row that says so.


def items(
    listing: Path,
    position: tuple[int, int],
    image_shape: ImageShape,
    feature: str | None = None,
    raw_records: bool = False,
    exif_orientation: bool = True,
) -> Iterator[Item]:
    """Yields an `Item` for every image from a position on.

    Args:
        listing: What `write_listing` wrote.
        position: `(0, 0)`, or that of the last item.
        image_shape: `(height, width, channels)` that images of IDX files must have.
        feature, raw_records: See `batch_scoring.score`.
        exif_orientation: Whether the model turns files as their camera's note says.
    """
    offset, start = position
    with open(listing, "rb") as file:
        file.seek(offset)
        while line := file.readline():
            path, kind, *span = json.loads(line)
            after = (file.tell(), 0)
            # A listing that was split has spans of files, see `split_listing`.
            first, stop = span or (0, None)
            start = max(start, first)
            contents = (
                _unreadable_folder(path)
                if kind == "folder"
                else _contents(
                    path,
                    kind,
                    start,
                    image_shape,
                    feature,
                    raw_records,
                    exif_orientation,
                )
            )
            if stop is not None:
                contents = itertools.islice(contents, stop - start)
            index = start
            try:
                for content, error in contents:
                    if kind == "image":
                        yield Item(path, None, content, error, after)
                    else:
                        yield Item(path, index, content, error, (offset, index + 1))
                    index += 1
            except _UNREADABLE as error:
                reason = getattr(error, "strerror", None) or str(error)
                number = index if kind in ("idx", "tfrecord") else None
                yield Item(path, number, None, reason, after)
            offset, start = after


def split_listing(
    listing: Path,
    folder: Path,
    num_parts: int,
    image_shape: ImageShape | None = None,
) -> list[pathlib.Path]:
    """Splits a listing into listings of about as many images each.

    Files of images are not divided, IDX and TFRecord files are. Of these it counts the
    images, which reads their headers alone, unless they are packed.

    Args:
        listing: What `write_listing` wrote.
        folder: Receives the new listings; they are written whole or not at all.
        num_parts: How many at most; fewer if there are fewer images.
        image_shape: `(height, width, channels)` that images of IDX files must have; a
            file of others is one item, an error. `None` if that is not known.

    Returns:
        The paths of the new listings, in order; none if there is no image. Read one
        after the other they yield what `listing` does. Where a TFRecord file is
        damaged, the images behind that place are left out up to the end of the part, as
        they are left out up to the end of the file without parts.
    """
    folder = pathlib.Path(folder)
    # Only of files that hold many: there may be very many of one image each.
    counts: dict[int, int] = {}
    total = 0
    with open(listing, "rb") as file:
        for number, line in enumerate(file):
            path, kind = json.loads(line)
            if kind in ("idx", "tfrecord"):
                counts[number] = _count_items(path, kind, image_shape)
            total += counts.get(number, 1)
    size = max(1, -(-total // num_parts))
    parts: list[pathlib.Path] = []
    with open(listing, "rb") as file, contextlib.ExitStack() as open_part:
        room, output = 0, None
        for number, line in enumerate(file):
            path, kind = json.loads(line)
            count = counts.get(number, 1)
            start = 0
            while start < count:
                if room == 0:
                    open_part.close()
                    parts.append(folder / f"shard-{len(parts):05d}.jsonl")
                    temporary = open_part.enter_context(files.atomic_file(parts[-1]))
                    output = open_part.enter_context(open(temporary, "w"))
                    room = size
                stop = min(count, start + room)
                whole = (start, stop) == (0, count)
                entry = [path, kind] if whole else [path, kind, start, stop]
                output.write(json.dumps(entry) + "\n")  # type: ignore[union-attr]
                room -= stop - start
                start = stop
    return parts


def _count_items(path: str, kind: str, image_shape: ImageShape | None) -> int:
    """How many items an IDX or TFRecord file makes, an error at its end among them."""
    count = 0
    with contextlib.suppress(*_UNREADABLE), _open(path) as file:
        if kind == "tfrecord":
            for length in tfrecords.walk(file, path, max_bytes=MAX_BYTES):
                file_content.pass_over(file, length + 4)
                count += 1
            return count
        number, *shape = idx_header.read(file, path)
        size = math.prod(shape)
        if not size or image_shape not in (None, _image_shape(shape)):
            return 1  # It is an error, whatever its header promises.
        file_content.pass_over(file, max(0, number * size - 1))
        if number == 0 or file.read(1):
            # One more row says so where the file is longer than its header.
            return number + bool(file.read(1))
    if kind == "tfrecord":
        return count + 1
    # It is damaged: look where.
    with contextlib.suppress(*_UNREADABLE), _open(path) as file:
        size = math.prod(idx_header.read(file, path)[1:])
        # Images of that many bytes are none that a model takes.
        while size <= MAX_BYTES and len(file.read(size)) == size:
            count += 1
    return count + 1


def read_again(
    path: str,
    index: int | None,
    image_shape: ImageShape,
    feature: str | None = None,
    raw_records: bool = False,
    exif_orientation: bool = True,
) -> bytes | np.ndarray | None:
    """The content of one image that was read before.

    Raises:
        OSError, ValueError, EOFError, zlib.error: it is gone, or the file is another.
    """
    kind = _kind(path) or "image"
    contents = _contents(
        path, kind, index or 0, image_shape, feature, raw_records, exif_orientation
    )
    for content, error in contents:
        if error is None:
            return content
        break
    raise ValueError(f"{path} was changed since it was read")


def group(stream: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yields lists of at most `size` items that can be scored together."""
    batch: list[Item] = []
    kinds: set[type] = set()
    num_bytes = 0
    for item in stream:
        kind, length = _kind_and_bytes(item.content)
        if batch and (
            len(batch) == size
            or num_bytes + length > _BATCH_BYTES
            or (kind and kinds - {kind})
        ):
            yield batch
            batch, kinds, num_bytes = [], set(), 0
        batch.append(item)
        kinds |= {kind} - {None}  # type: ignore[arg-type]
        num_bytes += length
    if batch:
        yield batch


def _kind_and_bytes(content: bytes | np.ndarray | None) -> tuple[type | None, int]:
    if content is None:
        return None, 0
    return type(content), getattr(content, "nbytes", None) or len(content)


def _find(
    path: str, skipped: collections.Counter, linked: bool
) -> Iterator[tuple[str, str]]:
    """Yields `(path, kind)` for all that a path of the user leads to.

    Args:
        path: The path.
        skipped: A `Counter` of what is left out.
        linked: As for `write_listing`.
    """
    if os.path.isdir(path):
        yield from _in_folder(path, skipped, linked)
    elif os.path.lexists(path):
        yield path, _kind(path) or "image"
    else:
        parts = [part for part in path.split(os.sep) if part]
        known = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
        top = os.path.join(os.sep if os.path.isabs(path) else "", *known)
        rest = parts[len(known) :]
        yield from _matching(top, rest, skipped, recursive="**" in parts)


def _matching(
    folder: str, parts: list[str], skipped: collections.Counter, recursive: bool
) -> Iterator[tuple[str, str]]:
    """Yields `(path, kind)` for what matches a glob's parts below a folder."""
    part, *rest = parts
    if part == "**":
        rest = list(itertools.dropwhile("**".__eq__, rest))
        if not rest:
            yield from _in_folder(folder or ".", skipped)
        for inner in _folders(folder) if rest else ():
            yield from _matching(inner, rest, skipped, recursive)
        return
    with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
        for entry in entries:
            hidden = entry.name.startswith(".") and not part.startswith(".")
            if hidden or not fnmatch.fnmatchcase(entry.name, part):
                continue
            path = os.path.join(folder, entry.name)
            is_folder = entry.is_dir(follow_symlinks=False)
            if rest:
                if is_folder:
                    yield from _matching(path, rest, skipped, recursive)
            elif is_folder:
                if not recursive:
                    yield from _in_folder(path, skipped)
            elif not os.path.isdir(path) and (kind := _kind_to_read(path, skipped)):
                yield path, kind


def _in_folder(
    top: str, skipped: collections.Counter, linked: bool = False
) -> Iterator[tuple[str, str]]:
    """Yields `(path, kind)` for the images below a folder, and unreadable folders."""
    for folder in _folders(top, linked):
        follow = linked and folder == top
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    hidden = entry.name.startswith(".")
                    if hidden or entry.is_dir(follow_symlinks=follow):
                        continue
                    path = os.path.join(folder, entry.name)
                    if kind := _kind_to_read(path, skipped):
                        yield path, kind
        except OSError:
            yield folder, "folder"


def _folders(top: str, linked: bool = False) -> Iterator[str]:
    """Yields a folder and all below it; links and hidden ones are not followed.

    With `linked`, links in the first one are.
    """
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        follow = linked and folder == top
        yield folder
        with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
            waiting += [
                os.path.join(folder, entry.name)
                for entry in entries
                if entry.is_dir(follow_symlinks=follow) and entry.name[0] != "."
            ]


def _kind(path: str) -> str | None:
    """Returns what a file is read as, or `None`.

    A name that promises an image is believed, which spares opening the file: its bytes
    are looked at when it is decoded. All other files are told by their bytes. A name
    that promises IDX or TFRecords makes an error of what is neither.
    """
    name = os.path.basename(path).lower()
    if name.endswith(SUFFIXES):
        return "image"
    head = _head(path)
    if tfrecords.begins(head):
        return "tfrecord"
    if idx_header.begins(head):
        return "idx"
    if _IDX.search(name):
        return "idx"
    if ".tfrecord" in name:
        return "tfrecord"
    found = file_content.picture_format(head)
    return "image" if found and found.upper() in transcoding.formats() else None


def _kind_to_read(path, skipped):
    """The kind of a file that was come upon; `None`, and counted, if it is left out."""
    name = os.path.basename(path)
    if file_content.is_clutter(name) and not name.startswith("."):
        return None
    kind = _kind(path)
    if kind == "idx" and _holds_labels(path):
        kind, reason = None, "IDX labels"
    elif kind is None and os.path.isdir(path):
        reason = "link to a folder"
    elif kind is None:
        reason = file_content.picture_format(_head(path)) or "no picture"
    if kind is None:
        extension = os.path.splitext(name)[1].lower()[:20] or "without extension"
        counted = f"{extension} ({reason})"
        if counted not in skipped and len(skipped) >= _MAX_EXTENSIONS:
            counted = _OTHERS
        skipped[counted] += 1
    return kind


def _holds_labels(path: str) -> bool:
    found = _IDX.search(os.path.basename(path).lower())
    if found is not None and (found[2] or found[3]):
        return (found[2] or found[3]) in ("1", "2")
    head = _head(path)
    return idx_header.begins(head) and head[3] <= 2


def _head(path: str) -> bytes:
    """The first bytes of a file, unpacked; empty if it cannot be read."""
    try:
        with _open(path) as file:
            return file.read(file_content.HEAD_BYTES)
    except _UNREADABLE:
        return b""


def _sort(lines: Iterator[str]) -> Iterator[str]:
    """Yields strings in order, in constant memory: sorted pieces on disk, merged."""
    with contextlib.ExitStack() as stack:
        pieces: list[IO[str]] = []
        while piece := sorted(itertools.islice(lines, _SORTED_AT_ONCE)):
            if not pieces and len(piece) < _SORTED_AT_ONCE:
                yield from piece
                return
            file = stack.enter_context(tempfile.TemporaryFile("w+"))
            file.writelines(piece)
            file.seek(0)
            pieces.append(file)
        yield from heapq.merge(*pieces)


def _count(path: str, kind: str) -> int | None:
    """How many items a file makes, as far as that is known beforehand."""
    if kind != "idx":
        return None if kind == "tfrecord" else 1
    try:
        with _open(path) as file:
            number, *shape = idx_header.read(file, path)
        size = math.prod(shape)
        # Else it is an error, whatever its header promises.
        holds = size > 0 and number * size <= _MOST_PACKED * os.path.getsize(path)
        return number if holds else 1
    except _UNREADABLE:
        return 1


def _contents(
    path, kind, start, image_shape, feature, raw_records, exif_orientation=True
):
    """Yields `(content, error)` for the images in a file, from number `start` on."""
    if kind == "idx":
        return _pixels(path, start, image_shape)
    if kind == "tfrecord":
        return _records(path, start, feature, raw_records, exif_orientation)
    return _content(path, exif_orientation)


def _content(
    path: str, exif_orientation: bool
) -> Iterator[tuple[bytes | None, str | None]]:
    with _open(path, unpack=False) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"the file has more than the {MAX_BYTES} bytes that are read")
    yield _as_read(content, exif_orientation), None


def _as_read(content: bytes, exif_orientation: bool) -> bytes:
    """What a model is given for a picture; a ValueError says why it is not read."""
    if file_content.picture_format(content[: file_content.HEAD_BYTES]) is None:
        return content  # The model says that it is no picture.
    return transcoding.as_read(content, exif_orientation)


def _pixels(path, start, image_shape):
    with _open(path) as file:
        num_images = _num_images(file, path, image_shape)
        size = math.prod(image_shape)
        file_content.pass_over(file, start * size)
        for number in range(start, num_images):
            content = file.read(size)
            if len(content) < size:
                raise ValueError(
                    f"{path} is truncated: its header says {num_images} images, and it "
                    f"ends within number {number}"
                )
            yield np.frombuffer(content, np.uint8).reshape(image_shape), None
        if file.read(1):
            raise ValueError(f"{path} is longer than its header says")


def _num_images(file, path, image_shape):
    """Reads the header of an IDX file."""
    shape = idx_header.read(file, path)
    if _image_shape(shape[1:]) != image_shape:
        raise WrongShapeError(
            f"{path} holds an array of shape {shape}, and the model takes images of "
            f"shape {image_shape}: expected (num_images, "
            f"{', '.join(map(str, image_shape))})"
        )
    return shape[0]


def _image_shape(axes):
    """The shape of images with these axes, of which that of the channels may miss."""
    return (*axes, 1)[:3]


def _records(path, start, feature, raw_records, exif_orientation):
    with _open(path) as file:
        for record in tfrecords.read(file, path, start=start, max_bytes=MAX_BYTES):
            content, error = None, None
            try:
                picture = record if raw_records else tfrecords.image_in(record, feature)
                content = _as_read(picture, exif_orientation)
            except ValueError as problem:
                error = str(problem)
            yield content, error


def _unreadable_folder(path):
    os.scandir(path).close()
    raise ValueError("the folder could not be read when the images were listed")
    yield


def _open(path: str, unpack: bool = True) -> contextlib.AbstractContextManager[Stream]:
    """Opens a regular file, unpacked if it is packed; never waits for a pipe."""
    return file_content.open_regular(path, tfrecords.begins, unpacks=unpack)
