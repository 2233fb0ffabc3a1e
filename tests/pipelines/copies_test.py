"""Copies are those that a slow comparison of all pairs finds."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from ood_keras import resizing
from ood_keras.pipelines import copies, likeness


def slow_pairs(codes, max_distance):
    bits = np.unpackbits(codes.view(np.uint8), axis=1)
    distance = np.rint(squareform(pdist(bits, "hamming")) * bits.shape[1])
    first, second = np.nonzero(np.triu(distance <= max_distance, 1))
    return np.stack([first, second], axis=1)


@pytest.mark.parametrize("max_distance", [0, 3, 16, 28])
def test_pairs_within_a_distance(max_distance):
    random = np.random.default_rng(max_distance)
    # Bits of all degrees of variety, constant ones among them, and planted neighbours.
    share = np.repeat(np.linspace(0, 1, 16), 16)
    bits = random.random((300, 256)) < share
    for row in range(100):
        flipped = random.choice(256, random.integers(0, 33) * (row > 9), replace=False)
        bits[row + 100] = bits[row]
        bits[row + 100, flipped] ^= True
    codes = np.packbits(bits, axis=1).view(np.uint64)
    found = copies.near_pairs(codes, max_distance)
    expected = slow_pairs(codes, max_distance)
    assert len(expected) > 2
    np.testing.assert_array_equal(found, expected)


def test_no_codes_have_no_pairs():
    for count in (0, 1):
        assert copies.near_pairs(np.zeros((count, 4), np.uint64)).shape == (0, 2)


def test_groups_are_what_pairs_connect():
    pairs = np.array([[0, 3], [3, 5], [1, 2]])
    assert copies.connect(pairs, 7) == [[0, 3, 5], [1, 2]]
    assert copies.connect(np.zeros((0, 2), int), 7) == []


def picture(seed):
    """Something with large and small forms, as a photograph has."""
    random = np.random.default_rng(seed)
    layers = [
        resizing.adapt(
            random.integers(0, 256, (1, side, side, 3), np.uint8), (160, 200, 3)
        )[0].astype(float)
        for side in (3, 7, 25)
    ]
    return np.average(layers, axis=0, weights=(4, 2, 1)).astype(np.uint8)


def code(image):
    return likeness.code(resizing.adapt(image[np.newaxis], likeness.SHAPE)[0])


def test_a_code_survives_scaling_noise_and_tone_and_tells_pictures_apart():
    random = np.random.default_rng(0)
    distances = []
    for seed in range(10):
        image = picture(seed)
        changed = {
            "half": resizing.adapt(image[np.newaxis], (80, 100, 3))[0],
            "noise": np.clip(image + random.normal(0, 4, image.shape), 0, 255),
            "dark": image * 0.7,
            "grey": np.repeat(image @ [[0.299], [0.587], [0.114]], 3, axis=2),
        }
        for name, other in changed.items():
            near = np.bitwise_count(code(image) ^ code(other.astype(np.uint8))).sum()
            assert near <= copies.MAX_DISTANCE, (seed, name)
    for first, second in itertools.combinations(range(10), 2):
        differing = np.bitwise_count(code(picture(first)) ^ code(picture(second)))
        distances.append(differing.sum())
    assert min(distances) > 2 * copies.MAX_DISTANCE


def test_a_code_says_where_it_becomes_brighter_to_the_right():
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    image = np.broadcast_to(ramp[np.newaxis, :, np.newaxis], likeness.SHAPE)
    assert np.bitwise_count(likeness.code(image)).sum() == likeness.CODE_BITS
    assert np.bitwise_count(likeness.code(image[:, ::-1])).sum() == 0
    assert np.bitwise_count(likeness.code(image.swapaxes(0, 1))).sum() == 0


def test_features_are_alike_for_copies_alone():
    def describe(image):
        small = resizing.adapt(image[np.newaxis], likeness.SHAPE)[0]
        return likeness.describe(small).astype(np.float32)

    image, other = picture(0), picture(1)
    half = resizing.adapt(image[np.newaxis], (80, 100, 3))[0]
    assert describe(image).shape == (likeness.NUM_FEATURES,)
    assert np.linalg.norm(describe(image) - describe(half)) < 0.25
    assert np.linalg.norm(describe(image) - describe(other)) > 0.5
    assert np.linalg.norm(describe(image) - describe(image[:, ::-1])) > 0.25
