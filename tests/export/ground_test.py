"""Negatives of the known images are noticed; nothing else is."""

import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.inference import ground


@pytest.fixture(scope="module")
def drawings():
    return pipelines.load("digits", image_shape=(28, 28, 1)).test.images[:40]


def test_the_level_of_the_ground(drawings):
    np.testing.assert_allclose(ground.levels(drawings), 0, atol=0.05)
    np.testing.assert_allclose(ground.levels(255 - drawings), 1, atol=0.05)
    colour = np.repeat(drawings, 3, axis=-1) / np.float32(255)
    np.testing.assert_allclose(ground.levels(colour), 0, atol=0.05)


def test_negatives_are_noticed_either_way(drawings):
    negatives = 255 - drawings
    assert "10 of 10 looked at are dark on light" in ground.describe_negative(
        drawings, negatives[:10]
    )
    assert "are light on dark; the known images are dark on light" in (
        ground.describe_negative(negatives, drawings / np.float32(255))
    )


def test_other_pictures_are_not_taken_for_negatives(drawings):
    mixed = np.concatenate([drawings[:10], 255 - drawings[:10]])
    photos = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 3), np.uint8)
    for known, rejected in (
        (drawings, drawings),
        (drawings, mixed),
        (mixed, 255 - drawings),
        (drawings, photos),
        (photos, 255 - drawings),
        (drawings, drawings[:0]),
    ):
        assert ground.describe_negative(known, rejected) is None
