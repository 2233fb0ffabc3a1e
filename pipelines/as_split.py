"""Images from whatever holds them, as a split: arrays, datasets, a `PyDataset`."""

import reprlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ood_keras.conventions import UNKNOWN
from ood_keras.pipelines import contents, pixel_cache
from ood_keras.pipelines.data_warning import warn
from ood_keras.pipelines.sources import base
from ood_keras.pipelines.split import Role, Split

_short = reprlib.Repr()
_short.maxother = 120


def as_split(data: Any, name: str, role: Role = "train") -> Split:
    """Returns images and labels as a `Split`, read once, whatever holds them.

    `interleave` does it by itself; use it where a split is asked for otherwise, as by
    `augment_once`.

    Pixels are bytes in a split. Integers are taken as 0 to 255; floats as 0 to 1 if
    none is above 1, and else as 0 to 255, which `image_dataset_from_directory` gives;
    true as white. They are rounded to bytes.

    All of it is in memory from then on, as the dataset gives it while it is read; a
    warning says so where that is much. Folders and data sets of TFDS are better opened
    with `pipelines.load`, which reads large ones from disk.

    A dataset may hand out its images in any order: it is read once, to the end, and
    sorted by what the images show, so that the same images make the same split. What is
    random in it, such as an augmentation, is drawn that once.

    Args:
        data: A `Split`, which is returned as it is; an array of images, or a pair
            `(images, labels)` of arrays; a `tf.data.Dataset` of images or of pairs,
            batched or not, with an end; or a `keras.utils.PyDataset`. Labels are
            integers, -1 for unknown.
        name: What messages call it.
        role: What the images may be used for.

    Returns:
        A `Split` with the `class_names` of the dataset, if it has any; labels are -1
        where there are none.

    Raises:
        TypeError: `data` is of another kind, or its elements are.
        ValueError: the dataset has no end, the images differ in size, the pixels are in
            no range that is known, or there is not one integer label per image.

    Warns:
        DataWarning: a dataset takes more memory than sources are allowed to.

    Example:

    ```python
    photos = keras.utils.image_dataset_from_directory("photos", image_size=(96, 96))
    noise = np.random.default_rng(0).random((500, 96, 96, 3))
    mixed = pipelines.interleave(photos, noise, num_classes=len(photos.class_names))
    ```
    """
    if isinstance(data, Split):
        return data
    is_array = hasattr(data, "shape") or isinstance(data, tuple)
    parts, size, is_large = [], 0, False
    for part in _batches(data, name):
        parts.append(_pair(part, name))
        size += parts[-1][0].nbytes
        if not (is_array or is_large or pixel_cache.fits_memory((size,))):
            is_large = True
            warn(
                f"{name} takes more than {size / 1e9:.1f} GB in memory and is still "
                "being read. Pictures in folders, as folder:PATH, and data sets of "
                "TFDS, as tfds:NAME, are read from disk: pipelines.load(spec).train"
            )
    if not parts:
        raise ValueError(f"{name} has no images")
    shapes = sorted({part[0].shape[1:] for part in parts})
    if len(shapes) > 1:
        raise ValueError(
            f"{name}: all images must have one size. Received: {shapes[:3]}. Resize "
            "them, with `dataset.map(lambda image, label: (tf.image.resize(image, "
            "(96, 96)), label))` or `image_size` of `image_dataset_from_directory`"
        )
    images = _to_bytes([part[0] for part in parts], name)
    base.check_axes(name, images.shape)
    labels = _to_integers([part[1] for part in parts], [len(x) for x, _ in parts], name)
    if not is_array:
        order = np.lexsort((labels, contents.image_hashes(images)))
        images, labels = images[order], labels[order]
    class_names = tuple(getattr(data, "class_names", None) or ())
    if not class_names and labels.max(initial=UNKNOWN) >= 0:
        class_names = tuple(map(str, range(int(labels.max()) + 1)))
    return Split(name, role, images, labels, class_names)


def _batches(data: Any, name: str) -> Iterator[Any]:
    """The batches of `data`, each images or a tuple that begins with them."""
    if isinstance(data, tuple) or hasattr(data, "shape"):
        return iter([data])
    if isinstance(data, tf.data.Dataset):
        if int(data.cardinality()) == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                f"{name} is a dataset without end, and an exact ratio needs the number "
                "of its images: leave `repeat` out, or add `.take(number_of_batches)`"
            )
        first = tf.nest.flatten(data.element_spec)[0]
        if getattr(first, "shape", None) is not None and first.shape.rank == 3:
            return (
                tf.nest.map_structure(lambda x: np.asarray(x)[None], element)
                for element in data.as_numpy_iterator()
            )
        return data.as_numpy_iterator()
    import keras

    if isinstance(data, keras.utils.PyDataset):
        if data.num_batches is None:
            raise ValueError(
                f"{name} is a PyDataset without end, and an exact ratio needs the "
                "number of its images: give it a length"
            )
        return (data[index] for index in range(data.num_batches))
    raise TypeError(
        f"{name} must be a split such as `source.train`, images or (images, labels) as "
        "arrays, a tf.data.Dataset, or a keras.utils.PyDataset. Received: a "
        f"{type(data).__name__}, {_short.repr(data)}"
    )


def _pair(part: Any, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    images, *rest = part if isinstance(part, tuple | list) else (part,)
    if isinstance(images, dict) or len(rest) > 1:
        raise TypeError(
            f"{name} must have elements `images` or `(images, labels)`. Received: "
            + (
                f"a dict with the keys {', '.join(map(str, images))}; choose with `map`"
                if isinstance(images, dict)
                else f"{1 + len(rest)} parts; weights of classes are given as "
                "`class_weight`"
            )
        )
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            f"{name}: images must have the axes (batch, height, width, channels). "
            f"Received: shape {images.shape}"
        )
    return images, np.asarray(rest[0]) if rest and rest[0] is not None else None


def _to_bytes(parts: list[np.ndarray], name: str) -> np.ndarray:
    """All images as uint8."""
    if all(part.dtype == np.uint8 for part in parts):
        return np.concatenate(parts)
    # NumPy takes bfloat16 for no kind of number; of a mask, true is white.
    parts = [
        part.astype(np.float32) if part.dtype.name in ("bfloat16", "bool") else part
        for part in parts
    ]
    lowest = float(np.min([part.min(initial=0) for part in parts]))
    highest = float(np.max([part.max(initial=0) for part in parts]))
    if not (lowest >= 0 and highest <= 255):  # False for NaN, too.
        raise ValueError(
            f"{name}: pixels must be 0 to 255, or floats from 0 to 1. Received: from "
            f"{lowest:.4g} to {highest:.4g}. Bring them into one of the two ranges, as "
            "(images + 1) / 2 does for -1 to 1; a network that wants another one gets "
            "a Rescaling layer at its start"
        )
    kinds = {part.dtype.kind for part in parts}
    if "f" in kinds and 1 < highest <= contents.NEARLY:
        raise ValueError(
            f"{name}: pixels are floats up to {highest:.4g}, too large for 0 to 1 and "
            "nearly black for 0 to 255. Where resizing or an augmentation brought them "
            "above 1, clip them, as tf.clip_by_value(images, 0, 1) does; else bring "
            "them into one of the two ranges"
        )
    scale = 255.0 if "f" in kinds and highest <= 1 else 1.0
    return np.concatenate([np.rint(part * scale).astype(np.uint8) for part in parts])


def _to_integers(
    parts: Iterable[np.ndarray | None], counts: list[int], name: str
) -> np.ndarray:
    """All labels as int32 `(num_images,)`; -1 where there are none."""
    made = []
    for labels, count in zip(parts, counts, strict=True):
        if labels is None:
            made.append(np.full(count, UNKNOWN, np.int32))
            continue
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.shape != (count,):
            hint = (
                '. Turn one-hot labels into integers, with argmax or label_mode="int"'
                if labels.ndim == 2
                else ""
            )
            raise ValueError(
                f"{name}: expected one integer label per image. Received: labels of "
                f"shape {labels.shape} for {count} images{hint}"
            )
        is_number = labels.dtype.kind in "biuf"
        with np.errstate(invalid="ignore"):  # Of NaN, which then differs.
            whole = labels.astype(np.int32) if is_number else labels
        if not is_number or np.any(whole != labels):
            raise ValueError(
                f"{name}: labels must be integers. Received: {labels[:3].tolist()}, ..."
            )
        made.append(whole)
    return np.concatenate(made)
