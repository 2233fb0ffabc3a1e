"""Cutout and PixMix, against slow NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from ood_keras import pipelines
from ood_keras.pipelines import augmentations, mixing

RNG = np.random.default_rng(0)
IMAGES = RNG.random((64, 20, 24, 3)).astype("float32")


def test_cutout_covers_a_square_with_the_mean_colour():
    covered = mixing.cutout(tf.constant(IMAGES), [1, 2], size=0.5).numpy()
    sizes = []
    for image, before in zip(covered, IMAGES, strict=True):
        changed = np.any(image != before, axis=-1)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        assert changed[np.ix_(rows, columns)].all()
        assert len(rows) == np.ptp(rows) + 1 and len(columns) == np.ptp(columns) + 1
        expected = np.broadcast_to(before.mean(axis=(0, 1)), image[changed].shape)
        np.testing.assert_allclose(image[changed], expected, rtol=1e-4)
        sizes.append((len(rows), len(columns)))
    # 10 pixels a side, less where the square lies partly outside.
    assert np.max(sizes) == 10 and np.min(sizes) >= 4
    assert len(set(sizes)) > 5


def test_mixing_is_that_of_pixmix():
    first, second = IMAGES[:1, :2, :2], IMAGES[1:2, :2, :2]
    for a, b in [(0.7, 0.2), (1.3, -0.2)]:
        expected = ((first * 2 - 1) * a + (second * 2 - 1) * b + 1) / 2
        np.testing.assert_allclose(mixing.add(first, second, a, b), expected, rtol=1e-5)
        expected = (first * 2) ** a * (second * 2) ** b / 2
        np.testing.assert_allclose(
            mixing.multiply(first, second, a, b), expected, rtol=1e-5
        )
    assert np.isfinite(mixing.multiply(0 * first, 0 * second, 1.3, -0.2)).all()


def test_weights_have_the_distributions_of_pixmix():
    convex = tf.constant(np.arange(20_000) % 2 == 0)[:, None, None, None]
    first, second = (
        np.ravel(part) for part in mixing._draw_weights(20_000, [3, 4], convex)
    )
    both = np.ravel(convex)
    # Means and deviations of Beta(3, 1) and Beta(1, 3), by hand.
    assert first[both].mean() == pytest.approx(3 / 4, abs=0.01)
    assert second[both].mean() == pytest.approx(1 / 4, abs=0.01)
    assert first[~both].mean() == pytest.approx(1 + 1 / 4, abs=0.01)
    assert second[~both].mean() == pytest.approx(-1 / 4, abs=0.01)
    for part in (first[both], second[both], first[~both], second[~both]):
        assert part.std() == pytest.approx((3 / 80) ** 0.5, abs=0.01)
    assert abs(np.corrcoef(first[~both], second[~both])[0, 1]) < 0.05


def test_one_image_in_ten_stays_as_it_is_and_all_stay_in_range():
    images = tf.constant(np.tile(IMAGES[:8, :16, :16], (50, 1, 1, 1)))
    mixed = mixing.pixmix(images, [5, 6]).numpy()
    assert mixed.min() >= 0 and mixed.max() <= 1
    # No round (1/5) of an image that begins as it is (1/2); or begins in a rendering
    # that changes nothing (1/2 * 1/5, half of them mirrored).
    same = np.mean([np.allclose(a, b) for a, b in zip(mixed, images, strict=True)])
    assert same == pytest.approx(0.11, abs=0.04)
    np.testing.assert_array_equal(mixed, mixing.pixmix(images, [5, 6]))
    assert np.any(mixed != mixing.pixmix(images, [5, 7]))


@pytest.mark.parametrize("shape", [(16, 20, 3), (28, 28, 1)])
def test_generated_pictures_are_rich_and_all_different(shape):
    pictures = mixing.mixing_pictures(shape)
    assert pictures.shape == (64, *shape) and pictures.dtype == np.float32
    assert pictures.min() >= 0 and pictures.max() <= 1
    assert (pictures.std(axis=(1, 2, 3)) > 0.02).all()
    assert len({picture.tobytes() for picture in pictures}) == 64
    mixing.mixing_pictures.cache_clear()
    np.testing.assert_array_equal(mixing.mixing_pictures(shape), pictures)


def test_augmentations_are_chained_by_name():
    chained = augmentations.get("random_shift + cutout")
    first, second = tf.unstack(tf.random.experimental.stateless_split([1, 2], 2))
    images = tf.constant(IMAGES)
    expected = mixing.cutout(augmentations.get("random_shift")(images, first), second)
    np.testing.assert_array_equal(chained(images, [1, 2]), expected)
    with pytest.raises(ValueError, match="'cutuot'"):
        augmentations.get("random_shift+cutuot")
    known = pipelines.Split(
        "a", "train", np.uint8(255 * IMAGES), np.arange(64) % 2, ("x", "y")
    )
    data = pipelines.Interleave(known, None, 2, augment="cutout+random_shift")
    assert data.get_config()["augment"] == "cutout+random_shift"
    for images, _ in data.epoch(0):
        assert images.shape[1:] == (20, 24, 3)
