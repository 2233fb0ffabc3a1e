import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from ood_keras.pipelines import augmentations, preprocessing

IMAGES = np.random.default_rng(0).random((5, 9, 12, 2), np.float32)


def reference(images, seed, max_shift, max_degrees, max_zoom):
    """One image at a time: where does each output pixel come from?"""
    batch, height, width, channels = images.shape
    draws = tf.random.stateless_uniform([4, batch], seed, -1.0, 1.0).numpy()
    moved = np.zeros_like(images)
    for row in range(batch):
        turn, zoom, right, down = draws[:, row]
        angle = np.deg2rad(turn * max_degrees)
        y, x = np.mgrid[:height, :width].astype(float)
        y, x = y - (height - 1) / 2, x - (width - 1) / 2
        factor = 1 / (1 + zoom * max_zoom)
        from_x = (np.cos(angle) * x - np.sin(angle) * y) * factor
        from_y = (np.sin(angle) * x + np.cos(angle) * y) * factor
        from_x += (width - 1) / 2 + right * max_shift * width
        from_y += (height - 1) / 2 + down * max_shift * height
        for channel in range(channels):
            # A black frame, so that pixels fade into it as outside ones do.
            framed = np.pad(images[row, :, :, channel], 1)
            moved[row, :, :, channel] = ndimage.map_coordinates(
                framed, [from_y + 1, from_x + 1], order=1, mode="constant"
            )
    return moved


@pytest.mark.parametrize(
    "limits",
    [
        {"max_shift": 0.2, "max_degrees": 0.0, "max_zoom": 0.0},
        {"max_shift": 0.0, "max_degrees": 40.0, "max_zoom": 0.0},
        {"max_shift": 0.0, "max_degrees": 0.0, "max_zoom": 0.3},
        {"max_shift": 0.1, "max_degrees": 15.0, "max_zoom": 0.1},
    ],
)
def test_random_affine_matches_a_slow_reference(limits):
    moved = preprocessing.random_affine(tf.constant(IMAGES), [3, 4], **limits)
    expected = reference(IMAGES, [3, 4], **limits)
    np.testing.assert_allclose(moved, expected, atol=2e-4)
    assert np.abs(moved - IMAGES).max() > 0.1


def test_random_affine_within_no_limits_changes_nothing():
    moved = preprocessing.random_affine(
        tf.constant(IMAGES), [1, 2], max_shift=0.0, max_degrees=0.0, max_zoom=0.0
    )
    np.testing.assert_allclose(moved, IMAGES, atol=1e-6)


@pytest.mark.parametrize("name", augmentations.names())
def test_augmentations_are_stateless_and_keep_the_range(name):
    augment = augmentations.get(name)
    images = tf.constant(IMAGES)
    first = augment(images, [1, 2])
    np.testing.assert_array_equal(first, augment(images, [1, 2]))
    assert np.any(first != augment(images, [1, 3]))
    assert np.any(first != augment(images, [2, 2]))
    assert first.dtype == tf.float32 and first.shape == IMAGES.shape
    assert float(tf.reduce_min(first)) >= 0 and float(tf.reduce_max(first)) <= 1


@pytest.mark.parametrize("name", augmentations.names())
def test_augmentations_work_in_a_dataset_map(name):
    augment = augmentations.get(name)
    dataset = tf.data.Dataset.from_tensor_slices(IMAGES).batch(3)
    mapped = dataset.map(lambda images: augment(images, [1, 2]))
    assert mapped.element_spec.shape.as_list() == [None, 9, 12, 2]
    for received, images in zip(mapped, dataset, strict=True):
        np.testing.assert_allclose(received, augment(images, [1, 2]), atol=1e-6)


def test_to_float_scales_every_byte_as_numpy_does():
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    floats = preprocessing.to_float(values)
    np.testing.assert_array_equal(floats, values / np.float32(255))
    mapped = tf.data.Dataset.from_tensors(values).map(preprocessing.to_float)
    np.testing.assert_array_equal(next(iter(mapped)), floats)


def test_random_shift_moves_whole_pixels_and_fills_with_black():
    seed = [7, 9]
    moved = preprocessing.random_shift(tf.constant(IMAGES), seed, max_pixels=3).numpy()
    pixels = tf.random.stateless_uniform([2, 5], seed, -3, 4, tf.int32).numpy()
    assert len(np.unique(pixels, axis=1).T) > 1
    for row, (right, down) in enumerate(pixels.T):
        framed = np.pad(IMAGES[row], ((3, 3), (3, 3), (0, 0)))
        expected = framed[3 + down : 12 + down, 3 + right : 15 + right]
        np.testing.assert_array_equal(moved[row], expected)


def test_random_shift_flip_mirrors_half_of_the_shifted_images():
    images = tf.constant(np.tile(IMAGES, (40, 1, 1, 1)))
    seed = [7, 9]
    moved = preprocessing.random_shift_flip(images, seed).numpy()
    first, _ = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    shifted = preprocessing.random_shift(images, first).numpy()
    as_it_was = (moved == shifted).all((1, 2, 3))
    mirrored = (moved == shifted[:, :, ::-1]).all((1, 2, 3))
    assert (as_it_was ^ mirrored).all()
    assert 0.4 < mirrored.mean() < 0.6


def test_random_shift_flip_erase_blackens_one_rectangle_of_half_the_images():
    images, seed = tf.ones((400, 28, 20, 1)), tf.constant([3, 4])
    moved = preprocessing.random_shift_flip_erase(images, seed, max_pixels=0).numpy()
    erased = moved[..., 0] == 0
    shares = erased.mean(axis=(1, 2))
    assert 0.4 < np.mean(shares > 0) < 0.6
    assert shares.max() <= 0.25 + 0.05
    for image in erased[shares > 0]:
        rows, columns = image.any(axis=1), image.any(axis=0)
        np.testing.assert_array_equal(image, np.outer(rows, columns))
        assert np.flatnonzero(np.diff(np.flatnonzero(rows)) > 1).size == 0
