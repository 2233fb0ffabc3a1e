"""Heat maps lie where the strange part of a picture is known to be."""

import numpy as np
import patched_pictures
import pytest

from ood_keras import inference
from ood_keras.inference import heat_map


def bright_pixels(images):
    """A score: how many pixels are brighter than any known one."""
    return (images > 0.8).sum(axis=(1, 2, 3))


@pytest.fixture
def pictures():
    return patched_pictures.draw()


def test_the_heat_lies_on_a_patch(pictures):
    images, patch = pictures
    maps = inference.heat_maps(bright_pixels, images)
    assert maps.shape == (6, 24, 30) and maps.dtype == np.float32
    assert np.all(maps >= 0)
    share = (maps * patch).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
    # Ten times the share of the area, a twentieth.
    assert share.min() > 0.5
    hottest = maps.reshape(6, -1).argmax(axis=1)
    assert np.all(patch.reshape(6, -1)[np.arange(6), hottest])


def test_batches_and_neighbours_change_nothing(pictures):
    images, _ = pictures
    sizes = []

    def score(batch):
        sizes.append(len(batch))
        return bright_pixels(batch)

    maps = inference.heat_maps(score, images[:2], batch_size=7)
    assert max(sizes) == 7
    np.testing.assert_array_equal(maps, inference.heat_maps(bright_pixels, images)[:2])


def test_what_makes_no_image_more_known_has_no_heat(pictures):
    images, _ = pictures

    def rises(batch):
        """Higher for all images in which anything was covered."""
        return np.array([float(np.any(image != images[0])) for image in batch])

    for score in (rises, lambda batch: np.full(len(batch), 3.0)):
        maps = inference.heat_maps(score, images[:1])
        np.testing.assert_array_equal(maps, 0.0)
    assert inference.heat_maps(bright_pixels, images[:0]).shape == (0, 24, 30)


def test_every_pixel_is_covered_by_windows_of_both_sizes():
    for shape in ((28, 28, 1), (24, 30, 3), (7, 5, 1), (2, 9, 1)):
        windows = list(heat_map.list_windows(shape))
        for size in {side for _, _, side in windows}:
            count = np.zeros(shape[:2], int)
            for top, left, side in windows:
                assert 0 <= top <= shape[0] - side and 0 <= left <= shape[1] - side
                if side == size:
                    count[top : top + side, left : left + side] += 1
            assert count.min() >= 1


@pytest.mark.parametrize("place", [(0, 0, 4), (5, 3, 4), (8, 9, 4), (0, 1, 12)])
def test_a_window_is_filled_in_from_around_it(place):
    image = np.random.default_rng(1).uniform(size=(12, 13, 2)).astype(np.float32)
    top, left, side = place
    covered = heat_map.cover(image, top, left, side)
    inside = np.zeros((12, 13), bool)
    inside[top : top + side, left : left + side] = True
    np.testing.assert_array_equal(covered[~inside], image[~inside])
    for row, column in np.argwhere(inside):
        around = [
            (image[r, c], abs(row - r) + abs(column - c))
            for r, c in (
                (top - 1, column),
                (top + side, column),
                (row, left - 1),
                (row, left + side),
            )
            if 0 <= r < 12 and 0 <= c < 13
        ]
        expected = sum(pixel / distance for pixel, distance in around)
        expected = expected / sum(1 / distance for _, distance in around)
        np.testing.assert_allclose(covered[row, column], expected, rtol=1e-5)


def test_a_ramp_is_filled_in_as_it_was():
    rows, columns = np.mgrid[:12, :12].astype(np.float32)
    ramp = (rows / 20 + columns / 30)[..., None]
    np.testing.assert_allclose(heat_map.cover(ramp, 3, 4, 5), ramp, atol=1e-6)


def test_an_overlay_is_reddest_where_it_is_hottest():
    image = np.full((4, 4, 1), 0.5, np.float32)
    heat = np.zeros((4, 4))
    np.testing.assert_array_equal(
        heat_map.overlay(image, heat), np.full((4, 4, 3), 0.5)
    )
    heat[1, 2], heat[0, 0] = 2.0, 1.0
    red = heat_map.overlay(image, heat)
    redness = red[..., 0] - red[..., 1]
    assert redness.argmax() == 6 and redness[0, 0] > redness[3, 3] == 0
    assert red.min() >= 0 and red.max() <= 1


def test_what_is_no_image_or_no_score_is_an_error(pictures):
    images, _ = pictures
    for bad in (images[0], (255 * images).astype(np.uint8)):
        with pytest.raises(ValueError, match="float images"):
            inference.heat_maps(bright_pixels, bad)
    for score, message in (
        (lambda batch: np.zeros((len(batch), 2)), "one number for each"),
        (lambda batch: np.full(len(batch), np.nan), "no score"),
        (lambda batch: np.full(len(batch), 3.4028235e38), "no score"),
    ):
        with pytest.raises(ValueError, match=message):
            inference.heat_maps(score, images)


def test_a_shipped_model_points_at_a_patch_of_noise():
    predictor = inference.load("mnist")
    images = predictor.known_examples.images[::3].astype(np.float32) / 255
    generator = np.random.default_rng(0)
    patch = np.zeros(images.shape[:3], bool)
    pasted = images.copy()
    for number in range(len(images)):
        top, left = generator.integers(0, 19, 2)
        place = np.s_[number, top : top + 9, left : left + 9]
        patch[place] = True
        pasted[place] = generator.uniform(size=(9, 9, 1))

    def score(batch):
        return predictor.predict(batch)["ood_score"]

    # Those that the patch makes strange, and no others; a few are enough.
    is_strange = (score(images) <= predictor.threshold) & (
        score(pasted) > predictor.threshold
    )
    chosen = np.flatnonzero(is_strange)[:6]
    assert len(chosen) >= 4
    maps = inference.heat_maps(score, pasted[chosen])
    share = (maps * patch[chosen]).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
    # Three times the share of the area.
    assert share.mean() > 3 * 81 / 784
