"""Arrays in NumPy's .npz files."""

import io
import pathlib
import re
import zipfile
from collections.abc import Sequence

import numpy as np

from ood_keras.conventions import UNKNOWN
from ood_keras.pipelines.sources import archives, base, idx
from ood_keras.pipelines.sources.registry import register
from ood_keras.pipelines.split import ROLES, check_label_range

_EXPECTED = (
    "`images` (and `labels`), or `x_train`, `x_validation`, `x_test` "
    "(and `y_train`, `y_validation`, `y_test`)"
)
# What names of arrays are made of, as `x_train`, `trainX` or `test_labels`.
_IMAGES = ("x", "images", "image", "imgs", "img", "data")
_LABELS = ("y", "labels", "label", "targets", "target")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
# `xtrain`, in which nothing says where a word ends.
_JOINED = re.compile(r"(x|y)(train|val|valid|test)|(train|val|valid|test)(x|y)")
_HEADER_BYTES = 20_000
_CHUNK_BYTES = 16 * 2**20


@register(name="npz", argument="PATH")
def open_path(request: base.Request) -> base.Source:
    """Opens `npz:PATH`.

    The file has the arrays `x_train`, `x_validation`, `x_test` or some of these, with
    labels `y_...` (as Keras's mnist.npz), or `images` with `labels`, which are dealt
    out 60 : 20 : 20. Other usual names are understood: `X_val`, `train_images`,
    `test_labels`. Images are uint8 `(number, height, width)`, or with channels as the
    fourth axis; labels are integers from 0; -1, or no labels at all, is unknown.
    """
    path = pathlib.Path(request.argument).expanduser()
    if not path.is_file():
        raise base.DataNotFoundError(
            f"{request.spec}: there is no file {path.absolute()}. Expected an .npz "
            f"file with {_EXPECTED}"
        )
    return open_file(request, path)


def open_file(
    request: base.Request,
    path: pathlib.Path,
    class_names: Sequence[str] | None = None,
    *,
    namespace: str | None = None,
) -> base.Source:
    """Opens an .npz file for a request, see `open_path`.

    Args:
        request: The `Request`.
        path: The file.
        class_names: One name per class; by default the labels are the names.
        namespace: See `Split`.
    """
    keys = _keys(request, path)
    parts = list(keys)
    with _open(path) as archive:
        labels = {
            part: _labels(archive, path, found["labels"])
            for part, found in keys.items()
            if "labels" in found
        }
    if class_names is None:
        num_labels = sum(map(len, labels.values()))
        name = f"{path} has {num_labels} labels, so at most as many classes. "
        num_classes = max(1, num_labels)
    else:
        name, num_classes = f"{path}: ", len(class_names)
    for part, found in labels.items():
        check_label_range(name + keys[part]["labels"], found, num_classes)
        labels[part] = found.astype(np.int32)
    if class_names is None:
        highest = [int(found.max(initial=-1)) for found in labels.values()]
        class_names = [str(index) for index in range(1 + max(highest, default=-1))]

    def reader(part):
        def read():
            with _open(path) as archive:
                images = _images(archive, path, keys[part]["images"])
            if part not in labels:
                return images, np.full(len(images), UNKNOWN, np.int32)
            if len(images) != len(labels[part]):
                raise ValueError(
                    f"{path}: expected one label per image. Received: {len(images)} "
                    f"images in {keys[part]['images']} and {len(labels[part])} labels "
                    f"in {keys[part]['labels']}"
                )
            return images, labels[part]

        return read

    readers = {part: reader(part) for part in parts}
    return base.from_parts(request, class_names, readers, namespace=namespace)


def _keys(request, path):
    """Returns `{part: {"images": name, "labels": name}}`, the arrays to read.

    Raises:
        ValueError: there are no images; an array that seems to hold images or labels
            would be left out; two arrays have the same meaning; or only some parts
            have labels.
    """
    members = [member.filename for member in archives.members(path, _corrupt)]
    have = {name.removesuffix(".npy") for name in members}
    received = f"Received: {', '.join(sorted(have)) or 'no arrays'}"
    keys, others = {}, []
    for name in sorted(have):
        meaning = _meaning(name)
        if meaning is None:
            others.append(name)
            continue
        part, kind = meaning
        taken = keys.setdefault(part, {}).setdefault(kind, name)
        if taken != name:
            raise ValueError(
                f"{path} has both {taken} and {name} for the {kind} of {part}. Keep "
                f"one of them. {received}"
            )
    keys = {part: keys[part] for part in ("all", *ROLES) if part in keys}
    if not keys or ("all" in keys and len(keys) > 1):
        raise ValueError(f"{path}: expected {_EXPECTED}. {received}")
    for part, found in keys.items():
        if "images" not in found:
            raise ValueError(
                f"{path} has {found['labels']}, but no images of {part}: expected "
                f"{_EXPECTED}. {received}"
            )
    without = [found["images"] for found in keys.values() if "labels" not in found]
    if without and len(without) < len(keys):
        raise ValueError(
            f"{path} has {without[0]} but no {_labels_of(without[0])}. {received}"
        )
    doubtful = [name for name in others if _may_be_data(name)]
    if doubtful:
        raise ValueError(
            f"{path}: {', '.join(doubtful)} would be left out. Expected {_EXPECTED}; "
            f"rename or remove what is called otherwise. {received}"
        )
    if others:
        base.warn(
            f"{request.spec}: {', '.join(others)} in {path} are not used, only "
            f"{', '.join(name for found in keys.values() for name in found.values())}"
        )
    return keys


def _words(name: str) -> list[str]:
    joined = _JOINED.fullmatch(name.casefold())
    if joined:
        return [word for word in joined.groups() if word]
    return [word.casefold() for word in _WORD.findall(name)]


def _meaning(name):
    """Returns a part and "images" or "labels" for an array's name, or `None`."""
    words = _words(name)
    kinds = ["images" if word in _IMAGES else "labels" for word in words if _kind(word)]
    roles = [base.role_of(word) for word in words if base.role_of(word)]
    if len(kinds) == 1 and len(kinds) + len(roles) == len(words) and len(roles) <= 1:
        return (roles or ["all"])[0], kinds[0]
    return None


def _kind(word: str) -> bool:
    return word in _IMAGES or word in _LABELS


def _may_be_data(name: str) -> bool:
    """Whether an array without a meaning may be one that was meant to be used."""
    words = _words(name)
    return any(_kind(word) or base.role_of(word) for word in words) or name in (
        *("train", "test", "extra", "unlabeled", "unlabelled"),
        *(f"arr_{number}" for number in range(10)),
    )


def _labels_of(name: str) -> str:
    """What the labels to some images would be called."""
    swapped = name.replace("x_", "y_", 1).replace("images", "labels")
    return swapped if swapped != name else "labels"


def _open(path):
    try:
        return zipfile.ZipFile(path)
    except archives.ERRORS as error:
        raise _corrupt(path, error) from error


def _images(archive: zipfile.ZipFile, path: pathlib.Path, key: str) -> np.ndarray:
    images = _array(archive, path, key)
    if images.dtype != np.uint8:
        raise ValueError(
            f"{path}: {key} must be uint8, 0 to 255 (for floats in [0, 1]: "
            f"`np.round(images * 255).astype('uint8')`). Received: {images.dtype}"
        )
    if images.ndim not in (3, 4):
        raise ValueError(
            f"{path}: {key} must have the axes (number, height, width) or (number, "
            f"height, width, channels). Received: shape {images.shape}"
        )
    return images if images.ndim == 4 else images[..., None]


def _labels(archive: zipfile.ZipFile, path: pathlib.Path, key: str) -> np.ndarray:
    labels = _array(archive, path, key)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise ValueError(
            f"{path}: {key} must be integers with one axis. Received: {labels.dtype} "
            f"of shape {labels.shape}"
        )
    return labels


def _array(archive: zipfile.ZipFile, path: pathlib.Path, key: str) -> np.ndarray:
    """Reads one array without pickle, and only if its header fits its size."""
    try:
        member = archive.getinfo(f"{key}.npy")
        if member.file_size > idx.MAX_BYTES:
            raise _corrupt(
                path, f"{key} says that it has {member.file_size} bytes, too many"
            )
        with archive.open(member) as file:
            head = file.read(_HEADER_BYTES)
            shape, fortran_order, dtype, start = _header(path, key, head)
            size = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if size != member.file_size - start:
                raise _corrupt(path, f"{key} has another size than its header says")
            content = bytearray(head[start:])
            # In pieces: a lying header cannot make us reserve what is not there.
            while len(content) < size:
                piece = file.read(min(_CHUNK_BYTES, size - len(content)))
                if not piece:
                    raise _corrupt(path, f"{key} is shorter than its header says")
                content += piece
            if file.read(1) or len(content) != size:
                raise _corrupt(path, f"{key} is longer than its header says")
        array = np.frombuffer(content, dtype)
        return array.reshape(shape, order="F" if fortran_order else "C")
    except _CorruptError:
        raise
    # Of a missing array, and of shapes that no array can have.
    except (*archives.ERRORS, KeyError, ValueError, OverflowError) as error:
        raise _corrupt(path, error) from error


def _header(path, key, head):
    """Returns the shape, order and dtype that a header says, and its length."""
    file = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran_order, dtype = read_header(file)
    # A header is Python source, and broken source raises many types, `TokenError` and
    # `RecursionError` among them.
    except Exception as error:
        raise _corrupt(path, f"the header of {key}: {error}") from error
    if dtype.hasobject:
        raise _corrupt(path, f"{key} holds Python objects, which are never loaded")
    if dtype.fields or dtype.subdtype or not dtype.itemsize:
        raise _corrupt(path, f"{key} holds no plain numbers, but {dtype}")
    if min(shape, default=0) < 0:
        raise _corrupt(path, f"{key} has the shape {shape}")
    return shape, fortran_order, dtype, file.tell()


class _CorruptError(ValueError):
    pass


def _corrupt(path, reason):
    return _CorruptError(
        f"{path} is a corrupt, truncated or unreadable .npz file ({reason}); save or "
        "fetch it again"
    )
