"""IDX files, the format of MNIST, packed or not."""

import collections
import gzip
import math
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ood_keras import file_content, idx_header
from ood_keras.pipelines.sources import archives, base, orientation
from ood_keras.pipelines.sources.registry import register

# Where an IDX file is: on disk, or within a zip file.
IdxPath: TypeAlias = pathlib.Path | zipfile.Path

# A file that says it holds more is refused before anything is read: 4 GiB is 90 times
# MNIST, and more does not fit this package's in-memory design anyway.
MAX_BYTES = 4 * 2**30
_CHUNK_BYTES = 16 * 2**20
_NAME = re.compile(
    r"(?:(?P<set>.+)[-_.])?(?P<part>[a-z0-9]+)[-_.](?P<kind>images|labels)"
    r"[-_.]idx(?P<axes>[1-4])(?:[-_.]ubyte)?(?P<packed>\.[a-z]+)?",
    re.IGNORECASE,
)
_PARTS = {"train": "train", "t10k": "test"}
_EMNIST = "emnist"


@register(name="idx", argument="PATH")
def open_path(request: base.Request) -> base.Source:
    """Opens `idx:PATH`, a folder of IDX files with the usual names."""
    folder = pathlib.Path(request.argument).expanduser()
    if not folder.is_dir():
        raise base.DataNotFoundError(
            f"{request.spec}: there is no folder {folder}. Expected a folder with "
            f"{_usual_names()}"
        )
    found = find(folder)
    if not found:
        raise base.DataNotFoundError(
            f"{request.spec}: no IDX files in {folder}. Expected {_usual_names()}"
        )
    prefix = "" if "" in found else min(found)
    others = sorted(set(found) - {prefix})
    if others and prefix:
        raise ValueError(
            f"{folder} has the files of several data sets: {', '.join(sorted(found))}. "
            "Move each into a folder of its own"
        )
    if others:
        base.warn(
            f"{request.spec}: of {folder} only the files are read whose names begin "
            f"with train or t10k; those of {', '.join(others)} are left out. Move them "
            "into folders of their own"
        )
    parts = found[prefix]
    labels = [read_labels(labels_path) for _, labels_path in parts.values()]
    num_classes = 1 + max(int(part.max(initial=0)) for part in labels)
    class_names = [str(index) for index in range(num_classes)]
    turn = None
    if _EMNIST in f"{folder.absolute()}/{prefix}".casefold():
        turn = turner(folder, prefix)
    return open_parts(request, parts, class_names, turn=turn)


def open_parts(
    request: base.Request,
    parts: Mapping[str, tuple[IdxPath, IdxPath]],
    class_names: Sequence[str],
    *,
    first_label: int = 0,
    namespace: str | None = None,
    turn: Callable[[np.ndarray, IdxPath], np.ndarray] | None = None,
) -> base.Source:
    """Returns the `Source` of the files of one data set that `find` found.

    Args:
        request: The `Request`.
        parts: `{"train": (images path, labels path), ...}`.
        class_names: One name per class.
        first_label: The label of class 0 in the file (1 in EMNIST letters).
        namespace: See `Split`.
        turn: Function `(images, path)` that returns the images upright, or `None`.
    """

    def reader(images_path, labels_path):
        def read():
            images, labels = read_images(images_path), read_labels(labels_path)
            if len(images) != len(labels):
                raise ValueError(
                    f"expected one label per image. Received: {len(images)} images in "
                    f"{images_path} and {len(labels)} labels in {labels_path}"
                )
            labels = labels.astype(np.int32)
            last_label = first_label + len(class_names) - 1
            outside = np.flatnonzero((labels < first_label) | (labels > last_label))
            if len(outside):
                raise ValueError(
                    f"{labels_path}: labels of {request.spec} must be {first_label} to "
                    f"{last_label}. Received: {len(outside)} labels out of range, the "
                    f"first is {labels[outside[0]]} at index {outside[0]}"
                )
            if turn is not None:
                images = turn(images, images_path)
            return images, labels - first_label

        return read

    readers = {part: reader(*paths) for part, paths in parts.items()}
    return base.from_parts(request, class_names, readers, namespace=namespace)


def turner(
    folder: pathlib.Path, prefix: str
) -> Callable[[np.ndarray, IdxPath], np.ndarray]:
    """Returns the function `(images, path)` that puts images of EMNIST upright.

    Args:
        folder: Where the files lie, or the zip file that they lie in.
        prefix: What comes before "train" in their names: the publisher's have one, and
            hold transposed images.
    """
    by_publisher = prefix.casefold().startswith(_EMNIST)
    beside = folder if folder.is_dir() else folder.parent

    def turn(images, path):
        expected = orientation.Expected(
            name=str(path),
            otherwise=(orientation.TRANSPOSED if by_publisher else orientation.UPRIGHT),
            sure=by_publisher,
            marked=orientation.marked(beside),
        )
        return orientation.upright(images, expected)

    return turn


def find(place: pathlib.Path) -> dict[str, dict[str, tuple[IdxPath, IdxPath]]]:
    """Returns the IDX files of a folder or zip file, by data set and part.

    Names are those of MNIST's files, such as `train-images-idx3-ubyte`, after which
    anything may follow that says how it is packed. A dot or an underscore may stand for
    a hyphen, `test` for `t10k`; and the name of a data set may come first, as in
    `emnist-letters-train-images-idx3-ubyte.gz`.

    Args:
        place: The folder or zip file; there need not be any.

    Returns:
        `{data set, or "": {part: (images path, labels path)}}`; paths within a zip file
        are `zipfile.Path`s.

    Raises:
        FileNotFoundError: a part has images without labels or labels without images.
        ValueError: a part is there under two names, or the zip file is corrupt.
    """
    found: dict[str, dict[tuple[str, str], list]] = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )
    for path in _files(place):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        part = _PARTS.get(match["part"].casefold()) or base.role_of(match["part"])
        if part is None or (match["kind"].casefold() == "labels") != (
            match["axes"] == "1"
        ):
            continue
        # Axes first, then those that are packed, as the publishers' are.
        order = (match["axes"], match["packed"] is None, path.name)
        slot = (part, match["kind"].casefold())
        found[(match["set"] or "").casefold()][slot].append(
            (order, match["part"].casefold(), path)
        )
    return {
        name: _pairs(place, {slot: sorted(files) for slot, files in slots.items()})
        for name, slots in found.items()
    }


def _pairs(place, slots):
    """Returns `{part: (images path, labels path)}` of one data set."""
    pairs = {}
    for part in dict.fromkeys(part for part, _ in sorted(slots)):
        files = [slots.get((part, kind), ()) for kind in ("images", "labels")]
        some = files[0] or files[1]
        if not all(files):
            missing = "labels-idx1" if files[0] else "images-idx3"
            raise base.DataNotFoundError(
                f"{place} has {some[0][2].name}, but no {some[0][1]}-{missing}-ubyte"
                "[.gz] to go with it"
            )
        spelled = sorted({spelling for found in files for _, spelling, _ in found})
        if len(spelled) > 1:
            raise ValueError(
                f"{place} has files for {part} under several names: "
                f"{' and '.join(spelled)}. Remove or rename one of them"
            )
        pairs[part] = tuple(found[0][2] for found in files)
    return {part: pairs[part] for part in base.ROLES if part in pairs}


def _files(place: pathlib.Path) -> Iterator[IdxPath]:
    """Yields the paths of the files in a folder or zip file, whatever they hold."""
    if place.is_dir():
        yield from (path for path in place.iterdir() if path.is_file())
    elif place.is_file():
        for member in archives.members(place):
            if _NAME.fullmatch(pathlib.PurePosixPath(member.filename).name):
                yield zipfile.Path(place, member.filename)


def read_images(path: IdxPath) -> np.ndarray:
    """Returns the images as uint8 `(num_images, height, width, channels)`.

    Raises:
        ValueError: the file is corrupt, truncated, or holds no images.
    """
    images = read(path)
    if images.ndim not in (3, 4):
        raise ValueError(
            f"{path}: images need 3 axes (number, height, width), or 4 with channels. "
            f"Received: shape {images.shape}; is this a file of labels?"
        )
    return images if images.ndim == 4 else images[..., None]


def read_labels(path: IdxPath) -> np.ndarray:
    """Returns the labels as uint8 `(num_labels,)`.

    Raises:
        ValueError: the file is corrupt, truncated, or holds no labels.
    """
    labels = read(path)
    if labels.ndim != 1:
        raise ValueError(
            f"{path}: labels need 1 axis. Received: shape {labels.shape}; is this a "
            "file of images?"
        )
    return labels


def read(path: IdxPath) -> np.ndarray:
    """Returns the array of an IDX file of unsigned bytes, packed or not.

    Args:
        path: A path, or a `zipfile.Path`.

    Raises:
        ValueError: wrong magic number, corrupt gzip, or more or fewer bytes than the
            header says; the message names the file.
    """
    path = path if isinstance(path, zipfile.Path) else pathlib.Path(path)
    try:
        with path.open("rb") as packed:
            file = file_content.unpacked(packed, idx_header.begins)
            if file is packed and path.name.endswith(".gz"):
                _check_no_gzip(packed)
            return _parse(file, path)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f"{path} is a corrupt or truncated gzip file ({error}); fetch it again"
        ) from error
    except archives.ERRORS as error:
        raise archives.corrupt(path, error) from error


def _check_no_gzip(file):
    """Raises unless a file that is called .gz is empty, or IDX that is not packed."""
    head = file.read(file_content.HEAD_BYTES)
    file.seek(0)
    if head and not idx_header.begins(head):
        raise gzip.BadGzipFile(f"it begins with {head[:4].hex(' ')}")


def _parse(file, path):
    shape = idx_header.read(file, path)
    size = math.prod(shape)
    if size > MAX_BYTES:
        raise ValueError(
            f"{path} says that it holds {size} bytes, shape {shape}; at most "
            f"{MAX_BYTES} are read. The header is probably corrupt; fetch it again"
        )
    content = bytearray()
    # In pieces, so that a lying header cannot make us reserve what is not there.
    while len(content) <= size:
        piece = file.read(min(_CHUNK_BYTES, size + 1 - len(content)))
        if not piece:
            break
        content += piece
    if len(content) != size:
        state = "truncated" if len(content) < size else "longer than its header says"
        raise ValueError(
            f"{path} is {state}: expected {size} bytes for shape {shape}. Received: "
            f"{'more' if len(content) > size else len(content)}; fetch it again"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _usual_names() -> str:
    return (
        "train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz], and the same "
        "with t10k for test, or one of the pairs"
    )
