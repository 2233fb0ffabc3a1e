"""IDX files, the format of MNIST, gzip'd or not."""

import gzip
import math
import pathlib
import zlib

import numpy as np

from ood_keras import idx_header
from ood_keras.pipelines.sources import base

# A file that says it holds more is refused before anything is read: 4 GiB is 90 times
# MNIST, and more does not fit this package's in-memory design anyway.
MAX_BYTES = 4 * 2**30
_CHUNK_BYTES = 16 * 2**20
_PARTS = {"train": "train", "test": "t10k"}


def open_path(request):
    """Opens `idx:PATH`, a folder of IDX files with the usual names."""
    folder = pathlib.Path(request.argument).expanduser()
    if not folder.is_dir():
        raise base.DataNotFoundError(
            f"{request.spec}: there is no folder {folder}. Expected a folder with "
            f"{_usual_names()}"
        )
    parts = find(folder)
    if not parts:
        raise base.DataNotFoundError(
            f"{request.spec}: no IDX files in {folder}. Expected {_usual_names()}"
        )
    labels = [read_labels(labels_path) for _, labels_path in parts.values()]
    num_classes = 1 + max(int(part.max(initial=0)) for part in labels)
    class_names = [str(index) for index in range(num_classes)]
    return open_parts(request, parts, class_names)


def open_parts(request, parts, class_names, *, first_label=0, namespace=None):
    """Returns the `Source` of the files that `find` found.

    Args:
        request: The `Request`.
        parts: `{"train": (images path, labels path), ...}`.
        class_names: One name per class.
        first_label: The label of class 0 in the file (1 in EMNIST letters).
        namespace: See `Split`.
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
            return images, labels - first_label

        return read

    readers = {part: reader(*paths) for part, paths in parts.items()}
    return base.from_parts(request, class_names, readers, namespace=namespace)


def find(folder):
    """Returns `{part: (images path, labels path)}` for the parts in a folder.

    Raises:
        FileNotFoundError: a part has images without labels or labels without images.
    """
    found = {}
    for part, prefix in _PARTS.items():
        images = _first(folder, [f"{prefix}-images-idx{axes}-ubyte" for axes in (3, 4)])
        labels = _first(folder, [f"{prefix}-labels-idx1-ubyte"])
        if images and labels:
            found[part] = (images, labels)
        elif images or labels:
            missing = "labels-idx1" if images else "images-idx3"
            raise base.DataNotFoundError(
                f"{folder} has {(images or labels).name}, but no "
                f"{prefix}-{missing}-ubyte[.gz] to go with it"
            )
    return found


def read_images(path):
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


def read_labels(path):
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


def read(path):
    """Returns the array of an IDX file of unsigned bytes, gzip'd if it ends in .gz.

    Raises:
        ValueError: wrong magic number, corrupt gzip, or more or fewer bytes than the
            header says; the message names the file.
    """
    path = pathlib.Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            return _parse(file, path)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f"{path} is a corrupt or truncated gzip file ({error}); fetch it again"
        ) from error


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


def _first(folder, stems):
    for stem in stems:
        for name in (f"{stem}.gz", stem):
            if (folder / name).is_file():
                return folder / name
    return None


def _usual_names():
    return (
        "train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz], and the same "
        "with t10k for test, or one of the pairs"
    )
