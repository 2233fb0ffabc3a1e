"""One way to walk over images, whatever container the user brings."""

import numpy as np


def iterate(data, batch_size=256):
    """Yields `(images, labels)` batches from arrays or from a dataset.

    Args:
        data: One of: float images `(num_images, height, width, channels)` in [0, 1]; a
            pair `(images, labels)` of such arrays; or an iterable of batches, each
            `images` or `(images, labels)`, for example a `tf.data.Dataset`.
        batch_size: Rows per batch for arrays; an iterable is already batched.

    Yields:
        `(images, labels)`: float32 arrays `(batch, height, width, channels)` and int64
        arrays `(batch,)`; `labels` is `None` where the data has none.

    Raises:
        TypeError: images are integers; they must be divided by 255 first.
        ValueError: images do not have four axes, or there is not one label per image.
    """
    if isinstance(data, tuple):
        images, labels = data
        _check_pair(images, labels)
        for start in range(0, len(images), batch_size):
            stop = start + batch_size
            yield _images(images[start:stop]), _labels(labels[start:stop])
    elif hasattr(data, "shape"):
        for start in range(0, len(data), batch_size):
            yield _images(data[start : start + batch_size]), None
    else:
        for batch in data:
            if isinstance(batch, (tuple, list)):
                images, labels = batch[0], batch[1]
                _check_pair(images, labels)
                yield _images(images), _labels(labels)
            else:
                yield _images(batch), None


def _check_pair(images, labels):
    if len(images) != len(labels):
        raise ValueError(
            "expected one label per image. Received: "
            f"{len(images)} images and {len(labels)} labels"
        )


def _images(images):
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            "images must have the axes (batch, height, width, channels). Received: "
            f"shape {images.shape}"
        )
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(
            "images must be float32 in [0, 1]; divide bytes by 255. Received: dtype "
            f"{images.dtype}"
        )
    return images.astype(np.float32, copy=False)


def _labels(labels):
    return np.asarray(labels).reshape(-1).astype(np.int64)
