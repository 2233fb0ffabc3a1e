"""One walk over arrays, pairs and datasets."""

import numpy as np
import pytest
import tensorflow as tf

from ood_keras import batches

IMAGES = np.random.default_rng(0).random((5, 2, 3, 1), np.float32)
LABELS = np.array([0, 1, -1, 0, 2])


def walk(data, **options):
    images, labels = zip(*batches.iterate(data, **options), strict=True)
    if labels[0] is None:
        assert set(labels) == {None}
        return np.concatenate(images), None
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.parametrize(
    "data",
    [
        (IMAGES, LABELS),
        (IMAGES.astype(np.float64), LABELS.reshape(-1, 1)),
        tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(2),
        [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])],
    ],
)
def test_pairs(data):
    images, labels = walk(data, batch_size=2)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert images.dtype == np.float32 and labels.dtype == np.int64


@pytest.mark.parametrize(
    "data",
    [IMAGES, tf.constant(IMAGES), tf.data.Dataset.from_tensor_slices(IMAGES).batch(2)],
)
def test_images_alone(data):
    images, labels = walk(data, batch_size=2)
    np.testing.assert_array_equal(images, IMAGES)
    assert labels is None


def test_arrays_come_in_batches():
    sizes = [len(images) for images, _ in batches.iterate(IMAGES, batch_size=2)]
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((IMAGES * 255).astype(np.uint8), TypeError, "divide bytes by 255"),
        (IMAGES[..., 0], ValueError, r"\(5, 2, 3\)"),
        ((IMAGES, LABELS[:4]), ValueError, "5 images and 4 labels"),
        ([(IMAGES, LABELS[:4])], ValueError, "5 images and 4 labels"),
    ],
)
def test_wrong_images_are_refused(data, error, message):
    with pytest.raises(error, match=message):
        walk(data)
