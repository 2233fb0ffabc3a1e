"""One way to walk over images, whatever container the user brings."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ood_keras.conventions import check_count
from ood_keras.types import Images, ImageShape

# So many files are answered at a time, and fewer if their images have more bytes.
_MOST_FILES = 256
_SLICE_BYTES = 2**24


def iterate(
    data: Images, batch_size: int = 256
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yields `(images, labels)` batches from arrays or from a dataset.

    Args:
        data: One of: float images `(num_images, height, width, channels)` in [0, 1]; a
            pair `(images, labels)` of such arrays; or an iterable of batches, each
            `images` or `(images, labels)`, for example a `tf.data.Dataset`. What
            follows the labels in a batch, such as sample weights, is left out.
        batch_size: Rows per batch for arrays; an iterable is already batched.

    Yields:
        `(images, labels)`: float32 arrays `(batch, height, width, channels)` and int64
        arrays `(batch,)`; `labels` is `None` where the data has none.

    Raises:
        TypeError: `data` is none of the above; images are integers, which must be
            divided by 255 first; or labels are not numbers.
        ValueError: images do not have four axes, there is not one label, a whole
            number, per image, a dataset has no end, or `batch_size` is not positive.
    """
    for images, labels in _walk(data, batch_size):
        images = _images(images)
        yield images, None if labels is None else _labels(labels, len(images))


def files_at_once(image_shape: ImageShape) -> int:
    """How many image files, or images, are worked on at a time: fewer large ones.

    A request of many small files, or empty ones, would else take the memory of as many
    images at once.

    Args:
        image_shape: `(height, width, channels)` that they become.
    """
    return max(1, min(_MOST_FILES, _SLICE_BYTES // (4 * math.prod(image_shape))))


def eager_at_once(image_shape: ImageShape) -> int:
    """How many images at a time a network is given that does not run compiled.

    Keras then holds the output of every layer until the last has run.

    Args:
        image_shape: `(height, width, channels)`.
    """
    return max(1, files_at_once(image_shape) // 4)


def iterate_images(
    data: Images,
    batch_size: int = 256,
    *,
    takes_bytes: Callable[[], bool] = lambda: False,
) -> Iterator[np.ndarray]:
    """Yields the images alone, as `iterate`; labels of any kind are not looked at.

    Where `takes_bytes()` is true, which is asked once there are such, uint8 images are
    taken too and divided by 255, as those of image files are; it may raise what says
    why not.
    """
    divides = None
    for images, _ in _walk(data, batch_size):
        images = np.asarray(images)
        if images.dtype == np.uint8 and divides is None:
            divides = takes_bytes()
        if images.dtype == np.uint8 and divides:
            images = images.astype(np.float32) / 255
        yield _images(images)


def _walk(data: Images, batch_size: int) -> Iterator[tuple[Any, Any]]:
    """Yields `(images, labels)` as they are."""
    batch_size = check_count("batch_size", batch_size)
    if isinstance(data, tuple):
        images, labels = _pair(data)
        if labels is not None:
            _check_lengths(len(images), len(labels))
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            yield images[rows], None if labels is None else labels[rows]
    elif hasattr(data, "shape"):
        for start in range(0, len(data), batch_size):
            yield data[start : start + batch_size], None
    else:
        for batch in _iterator(data):
            yield _pair(batch) if isinstance(batch, (tuple, list)) else (batch, None)


def _iterator(data: Any) -> Iterator[Any]:
    # TensorFlow's datasets know their length; -1 stands for one without end.
    if hasattr(data, "cardinality") and int(data.cardinality()) == -1:
        raise ValueError(
            "expected a dataset with an end. Received: one that repeats; leave "
            "`repeat` out, or give it a number"
        )
    try:
        if not isinstance(data, (str, bytes, dict)):
            return iter(data)
    except TypeError:
        pass
    raise TypeError(
        "expected images, a tuple (images, labels), or a dataset of such batches. "
        f"Received: an object of type {type(data).__name__}"
    )


def _pair(parts: Any) -> tuple[Any, Any]:
    if not parts:
        raise ValueError("expected (images, labels) or (images,). Received: ()")
    return parts[0], parts[1] if len(parts) > 1 else None


def _check_lengths(num_images: int, num_labels: int) -> None:
    if num_images != num_labels:
        raise ValueError(
            "expected one label per image. Received: "
            f"{num_images} images and {num_labels} labels"
        )


def _images(images: Any) -> np.ndarray:
    if isinstance(images, dict):
        raise TypeError(
            "expected batches (images, labels); turn a batch that is a dict into one, "
            f"with `map`. Received: a dict with the keys {', '.join(map(str, images))}"
        )
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            "images must have the axes (batch, height, width, channels); batch a "
            "dataset of single images, and give arrays with labels as a tuple, "
            f"(images, labels). Received: shape {images.shape}"
        )
    # NumPy takes bfloat16 for no kind of number.
    if not (images.dtype.kind == "f" or images.dtype.name == "bfloat16"):
        raise TypeError(
            "images must be float32 in [0, 1]; divide bytes by 255. Received: dtype "
            f"{images.dtype}"
        )
    return images.astype(np.float32, copy=False)


def _labels(labels: Any, num_images: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim > 2 or (labels.ndim == 2 and labels.shape[1] != 1):
        raise ValueError(
            "labels must be integers of shape (batch,) or (batch, 1), with -1 for "
            "unknown images; turn one-hot labels into integers with argmax. Received: "
            f"labels of shape {labels.shape}"
        )
    labels = labels.reshape(-1)
    if labels.dtype.kind not in "biuf":
        raise TypeError(
            "labels must be integers, with -1 for unknown images. Received: dtype "
            f"{labels.dtype}"
        )
    _check_lengths(num_images, len(labels))
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int64)
    if not np.array_equal(whole, labels):
        raise ValueError(
            "labels must be whole numbers. Received: "
            f"{labels[whole != labels][0]}, for example"
        )
    return whole
