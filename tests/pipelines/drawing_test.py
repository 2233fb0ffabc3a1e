"""Drawings in the form of handwritten digits."""

import numpy as np
import pytest
from scipy import ndimage

from ood_keras.pipelines import drawing

SHAPE = (28, 28, 1)


def sheet(*boxes, size=(280, 280)):
    ink = np.zeros(size, np.float32)
    for top, bottom, left, right in boxes:
        ink[top:bottom, left:right] = 1
    return ink


SEVEN = [(30, 50, 20, 120), (50, 180, 100, 120)]


@pytest.mark.parametrize("shift", [0, 37, 90])
@pytest.mark.parametrize("zoom", [1, 2])
def test_it_is_centred_by_mass_in_a_box_of_twenty(shift, zoom):
    boxes = [tuple(zoom * (edge + shift) for edge in box) for box in SEVEN]
    image = drawing.center(sheet(*boxes, size=(600, 600)), SHAPE)
    assert image.shape == SHAPE
    assert image.dtype == np.float32
    rows, columns = np.nonzero(image[..., 0])
    assert rows.max() - rows.min() + 1 == 20
    assert columns.max() - columns.min() + 1 == 13
    centre = ndimage.center_of_mass(image[..., 0])
    np.testing.assert_allclose(centre, (13.5, 13.5), atol=0.51)


def test_shrinking_averages_the_covered_area():
    ink = np.random.default_rng(0).uniform(0.1, 1, (200, 200)).astype(np.float32)
    image = drawing.center(ink, SHAPE)
    blocks = ink.reshape(20, 10, 20, 10).mean(axis=(1, 3))
    np.testing.assert_allclose(image[4:24, 4:24, 0], blocks, atol=1e-5)
    assert image.sum() == pytest.approx(blocks.sum(), rel=1e-5)


@pytest.mark.real_data
def test_a_digit_that_has_the_form_already_stays_as_it_is(real_data_dir):
    from ood_keras import pipelines

    digits = pipelines.load("mnist", data_dir=real_data_dir).validation.images[:50]
    changed = 0
    for digit in digits[..., 0] / np.float32(255):
        image = drawing.center(digit, SHAPE)[..., 0]
        shifts = [
            np.abs(np.roll(digit, (down, right), (0, 1)) - image).max()
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
        ]
        changed += min(shifts) > 0.01
    assert changed <= 5


def test_dark_ink_and_colour():
    bright = drawing.center(sheet(*SEVEN), SHAPE)
    dark = drawing.center(sheet(*SEVEN), (28, 28, 3), dark_ink=True)
    assert dark.shape == (28, 28, 3)
    np.testing.assert_array_equal(dark, np.repeat(1 - bright, 3, axis=-1))


def test_a_dot_in_the_corner_and_a_long_line_fit():
    assert drawing.center(sheet((0, 1, 279, 280)), SHAPE).sum() > 0
    line = drawing.center(sheet((140, 141, 0, 280)), SHAPE)
    assert 0 < line.max() <= 1
    assert np.count_nonzero(line.any(axis=(0, 2))) == 20


def test_an_empty_sheet_is_no_image():
    assert drawing.center(sheet(), SHAPE) is None


@pytest.mark.parametrize("ink", [np.ones((4, 4, 1)), np.full((4, 4), 255.0)])
def test_what_is_no_drawing_is_refused(ink):
    with pytest.raises(ValueError, match=r"\(height, width\).*shape \(4, 4"):
        drawing.center(ink, SHAPE)
