import numpy as np
import pytest
import tensorflow as tf

from ood_keras import resizing

RANDOM = np.random.default_rng(0)


def area_average(images, height, width):
    """Every pixel repeated until the sizes divide, then plain means."""
    images = images.astype(float)
    for axis, size in ((1, height), (2, width)):
        old = images.shape[axis]
        images = np.repeat(images, size, axis=axis)
        shape = (*images.shape[:axis], size, old, *images.shape[axis + 1 :])
        images = images.reshape(shape).mean(axis=axis + 1)
    return images


@pytest.mark.parametrize("new", [(28, 28), (5, 3), (1, 1), (105, 40)])
@pytest.mark.parametrize("channels", [1, 3])
def test_shrinking_averages_areas(new, channels):
    images = RANDOM.integers(0, 256, (3, 105, 40, channels), np.uint8)
    new = min(new[0], 105), min(new[1], 40)
    resized = resizing.adapt(images, (*new, channels))
    assert resized.dtype == np.uint8
    expected = area_average(images, *new)
    assert np.abs(resized - expected).max() <= 0.5 + 1e-3


def test_enlarging_is_bilinear():
    images = RANDOM.integers(0, 256, (2, 8, 5, 1), np.uint8)
    resized = resizing.adapt(images, (28, 13, 1))
    expected = tf.image.resize(images, (28, 13), method="bilinear").numpy()
    assert np.abs(resized - expected).max() <= 0.5 + 1e-3


def test_colours_become_grey_by_luma_and_grey_becomes_three_channels():
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    grey = resizing.adapt(colours.reshape(4, 1, 1, 3), (1, 1, 1))
    assert grey.ravel().tolist() == [76, 150, 29, 9]
    assert resizing.adapt(grey, (1, 1, 3)).reshape(4, 3).tolist() == [
        [value] * 3 for value in (76, 150, 29, 9)
    ]


def test_nothing_to_do_returns_the_same_array():
    images = np.zeros((2, 4, 4, 1), np.uint8)
    assert resizing.adapt(images, (4, 4, 1)) is images


def test_chunks_do_not_change_the_result(monkeypatch):
    images = RANDOM.integers(0, 256, (7, 9, 9, 3), np.uint8)
    whole = resizing.adapt(images, (4, 5, 1))
    monkeypatch.setattr(resizing, "_CHUNK_BYTES", 9 * 9 * 3 * 4 * 2)
    np.testing.assert_array_equal(resizing.adapt(images, (4, 5, 1)), whole)


def test_other_channel_counts_are_refused():
    with pytest.raises(ValueError, match="not 4 to 1"):
        resizing.adapt(np.zeros((1, 2, 2, 4), np.uint8), (2, 2, 1))
