"""Arrays in NumPy's .npz files."""

import io
import pathlib
import zipfile
import zlib

import numpy as np

from ood_keras.conventions import UNKNOWN
from ood_keras.pipelines.sources import base, idx
from ood_keras.pipelines.split import ROLES, check_label_range

_EXPECTED = (
    "`images` (and `labels`), or `x_train`, `x_validation`, `x_test` "
    "(and `y_train`, `y_validation`, `y_test`)"
)


def open_path(request):
    """Opens `npz:PATH`.

    The file has the arrays `x_train`, `x_validation`, `x_test` or some of these, with
    labels `y_...` (as Keras's mnist.npz), or `images` with `labels`, which are dealt
    out 60 : 20 : 20. Images are uint8 `(number, height, width)`, or with channels as
    the fourth axis; labels are integers from 0; -1, or no labels at all, is unknown.
    """
    path = pathlib.Path(request.argument).expanduser()
    if not path.is_file():
        raise base.DataNotFoundError(
            f"{request.spec}: there is no file {path.absolute()}. Expected an .npz "
            f"file with {_EXPECTED}"
        )
    keys = {"all": ("images", "labels")}
    keys |= {role: (f"x_{role}", f"y_{role}") for role in ROLES}
    with _opened(path) as archive:
        have = {name.removesuffix(".npy") for name in archive.namelist()}
        parts = [part for part, (images, _) in keys.items() if images in have]
        if not parts or ("all" in parts and len(parts) > 1):
            raise ValueError(
                f"{path}: expected {_EXPECTED}. Received: {', '.join(sorted(have))}"
            )
        unpaired = [keys[part] for part in parts if keys[part][1] not in have]
        if unpaired and len(unpaired) < len(parts):
            raise ValueError(f"{path} has {unpaired[0][0]} but no {unpaired[0][1]}")
        labels = {
            part: _labels(archive, path, keys[part][1])
            for part in parts
            if not unpaired
        }
    num_labels = sum(map(len, labels.values()))
    for part, found in labels.items():
        name = f"{path} has {num_labels} labels, so at most as many classes. "
        check_label_range(name + keys[part][1], found, max(1, num_labels))
        labels[part] = found.astype(np.int32)
    highest = [int(found.max(initial=-1)) for found in labels.values()]
    num_classes = 1 + max(highest, default=-1)

    def reader(part):
        def read():
            with _opened(path) as archive:
                images = _images(archive, path, keys[part][0])
            if part not in labels:
                return images, np.full(len(images), UNKNOWN, np.int32)
            if len(images) != len(labels[part]):
                raise ValueError(
                    f"{path}: expected one label per image. Received: {len(images)} "
                    f"images in {keys[part][0]} and {len(labels[part])} labels in "
                    f"{keys[part][1]}"
                )
            return images, labels[part]

        return read

    class_names = [str(index) for index in range(num_classes)]
    return base.from_parts(request, class_names, {part: reader(part) for part in parts})


def _opened(path):
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise _corrupt(path, error) from error


def _images(archive, path, key):
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


def _labels(archive, path, key):
    labels = _array(archive, path, key)
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise ValueError(
            f"{path}: {key} must be integers with one axis. Received: {labels.dtype} "
            f"of shape {labels.shape}"
        )
    return labels


def _array(archive, path, key):
    """Reads one array without pickle, and only if its header fits its size."""
    try:
        member = archive.getinfo(f"{key}.npy")
        if member.file_size > idx.MAX_BYTES:
            raise _corrupt(
                path, f"{key} says that it has {member.file_size} bytes, too many"
            )
        content = io.BytesIO(archive.read(member))
        version = np.lib.format.read_magic(content)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(content)
        if dtype.hasobject:
            raise _corrupt(path, f"{key} holds Python objects, which are never loaded")
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if size != member.file_size - content.tell():
            raise _corrupt(path, f"{key} has another size than its header says")
        content.seek(0)
        return np.lib.format.read_array(content, allow_pickle=False)
    except _CorruptError:
        raise
    except (
        # Of a missing array, of encryption, of corrupt members and headers.
        KeyError,
        RuntimeError,
        NotImplementedError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise _corrupt(path, error) from error


class _CorruptError(ValueError):
    pass


def _corrupt(path, reason):
    return _CorruptError(
        f"{path} is a corrupt, truncated or unreadable .npz file ({reason}); save or "
        "fetch it again"
    )
