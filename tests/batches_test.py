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
        (IMAGES, LABELS.astype(np.float32)),
        (IMAGES.tolist(), LABELS.astype(np.int8).tolist()),
        [(IMAGES, LABELS, np.ones(5))],
    ],
)
def test_pairs(data):
    images, labels = walk(data, batch_size=2)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert images.dtype == np.float32 and labels.dtype == np.int64


@pytest.mark.parametrize(
    "data",
    [
        IMAGES,
        tf.constant(IMAGES),
        tf.data.Dataset.from_tensor_slices(IMAGES).batch(2),
        (IMAGES,),
        [(IMAGES[:4],), (IMAGES[4:],)],
    ],
)
def test_images_alone(data):
    images, labels = walk(data, batch_size=2)
    np.testing.assert_array_equal(images, IMAGES)
    assert labels is None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_images_of_half_precision(dtype):
    images, _ = walk(tf.cast(IMAGES, dtype))
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, IMAGES, atol=4e-3)


def test_labels_of_any_kind_are_not_looked_at_where_images_are_wanted():
    one_hot = np.eye(3)[LABELS]
    names = np.array(["a", "b", "c"])[LABELS]
    for data in ((IMAGES, one_hot), (IMAGES, names), [(IMAGES, one_hot)], IMAGES):
        images = list(batches.iterate_images(data, batch_size=2))
        np.testing.assert_array_equal(np.concatenate(images), IMAGES)


def test_arrays_come_in_batches():
    sizes = [len(images) for images, _ in batches.iterate(IMAGES, batch_size=2)]
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("size", [0, -1, 2.5, None])
def test_there_are_no_batches_of_such_a_size(size):
    for walk_over in (batches.iterate, batches.iterate_images):
        with pytest.raises(ValueError, match="`batch_size` must be an integer >= 1"):
            next(walk_over(IMAGES, batch_size=size))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((IMAGES * 255).astype(np.uint8), TypeError, "divide bytes by 255"),
        (IMAGES[..., 0], ValueError, r"\(5, 2, 3\)"),
        ((IMAGES, LABELS[:4]), ValueError, "5 images and 4 labels"),
        ([(IMAGES, LABELS[:4])], ValueError, "5 images and 4 labels"),
        ((IMAGES, np.eye(3)[LABELS]), ValueError, "argmax.*shape \\(5, 3\\)"),
        ((IMAGES, LABELS + 0.5), ValueError, "whole numbers. Received: 0.5"),
        ((IMAGES, LABELS * np.nan), ValueError, "whole numbers. Received: nan"),
        ((IMAGES, LABELS.astype(str)), TypeError, "integers, with -1"),
        ((), ValueError, r"\(images, labels\)"),
        ([IMAGES, LABELS], ValueError, r"as a tuple, .*\(5,\)"),
        ([IMAGES[0]], ValueError, r"batch a dataset of single images.*\(2, 3, 1\)"),
        ([{"image": IMAGES}], TypeError, "a dict with the keys image"),
        ({"image": IMAGES}, TypeError, "type dict"),
        (None, TypeError, "type NoneType"),
        (tf.data.Dataset.from_tensors(IMAGES).repeat(), ValueError, "with an end"),
        ("mnist", TypeError, "type str"),
    ],
)
def test_what_cannot_be_read_is_explained(data, error, message):
    with pytest.raises(error, match=message):
        walk(data)


def test_large_images_are_answered_fewer_at_a_time():
    assert batches.files_at_once((28, 28, 1)) == 256
    assert 1 < batches.files_at_once((224, 224, 3)) < 64
    assert batches.files_at_once((4096, 4096, 3)) == 1
