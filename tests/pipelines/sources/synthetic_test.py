import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.pipelines import Split
from ood_keras.pipelines.sources import synthetic

RANDOM = np.random.default_rng(0)


def known_split(shape=(14, 14, 1), role="train", count=40):
    """Class c has all pixels between 20 c + 1 and 20 c + 20."""
    labels = np.arange(count) % 4
    images = RANDOM.integers(1, 21, (count, *shape)) + 20 * labels[:, None, None, None]
    return Split("known", role, images.astype(np.uint8), labels, list("abcd"))


def make(kind, count=200, known=None, seed=1):
    known = known or known_split()
    random = np.random.default_rng(seed)
    made = synthetic.KINDS[kind](
        random, count, synthetic._Known(known.images, known.labels)
    )
    assert made.shape == (count, *known.image_shape)
    assert np.isfinite(made).all()
    return made


@pytest.mark.parametrize("shape", [(14, 14, 1), (9, 13, 3), (2, 2, 1), (1, 1, 3)])
@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_every_kind_makes_images_of_any_shape(kind, shape):
    known = known_split(shape)
    for count in (1, 20):
        made = make(kind, count, known)
        assert made.clip(0, 1).std() > 0 or min(shape[:2]) < 3 or count == 1


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_every_kind_varies_and_is_no_known_image(kind):
    images = RANDOM.integers(0, 256, (40, 14, 14, 1), np.uint8)
    known = Split("known", "train", images, np.arange(40) % 4, list("abcd"))
    made = np.rint(make(kind, 100, known).clip(0, 1) * 255).astype(np.uint8)
    rows = {bytes(image) for image in made}
    assert len(rows) > 85
    assert not rows & {bytes(image) for image in known.images}


def test_synthetic_has_equal_shares_its_own_seed_and_no_labels():
    known = known_split()
    source = pipelines.load("synthetic", known=known, count=130, seed=3)
    assert source.roles == ("train",)
    assert len(source.train) == 130
    assert source.train.labels.tolist() == [-1] * 130
    assert source.class_names == ()
    prints = [
        pipelines.load(
            "synthetic", known=known, count=130, seed=seed
        ).train.fingerprint()
        for seed in (3, 4)
    ]
    assert source.train.fingerprint() == prints[0] != prints[1]
    with pytest.raises(ValueError, match="no test split"):
        _ = source.test


def test_each_split_is_made_from_its_own_known_images():
    digits = pipelines.load("digits", image_shape=(8, 8, 1))
    source = pipelines.load("synthetic", known=digits, count=260)
    assert source.roles == ("train", "validation", "test")
    for role in source.roles:
        alone = pipelines.load("synthetic", known=digits.split(role), count=260)
        assert source.split(role).fingerprint() == alone.split(role).fingerprint()
    kinds = np.zeros((260, 8, 8, 1), np.uint8)
    assert source.train.images.shape == kinds.shape


def test_patch_shuffles_keep_the_pixels_and_move_them():
    known = known_split((12, 12, 1))
    sorted_known = {bytes(np.sort(image.ravel())) for image in known.images}
    # 12 divides by 3 and 4; of the third grid of 7 patches some pixels are cut off.
    made = np.rint(make("patch_shuffles", 30, known)[:20] * 255).astype(np.uint8)
    assert {bytes(np.sort(image.ravel())) for image in made} <= sorted_known


def test_pairs_are_always_of_different_classes():
    labels = np.array([0] * 50 + [1] * 3 + [5])
    images = np.broadcast_to(labels[:, None, None, None] * 10, (54, 2, 2, 1))
    known = synthetic._Known(images.astype(np.uint8), labels)
    first, second = known.draw_pairs(np.random.default_rng(0), 2000)
    values = [np.rint(part[:, 0, 0, 0] * 255) for part in (first, second)]
    assert (values[0] != values[1]).all()
    assert {int(value) for part in values for value in part} == {0, 10, 50}


def test_pairs_of_a_single_class_are_different_images():
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    known = synthetic._Known(images, np.full(5, -1))
    first, second = known.draw_pairs(np.random.default_rng(0), 500)
    assert (first != second).all()


def test_joined_halves_hold_two_classes():
    for image in np.rint(make("joined_halves", 50) * 255)[..., 0]:
        classes = (image - 1) // 20
        edges = {classes[0, 0], classes[-1, -1]}
        assert len(edges) == 2 and set(np.unique(classes)) == edges


def test_mixtures_are_far_from_both_of_their_images():
    # The second class covers the first, so their maximum is the second class alone.
    images = np.full((2, 8, 8, 1), 40, np.uint8)
    images[1] = 80
    known = Split("k", "train", images, [0, 1], list("ab"))
    for image in np.rint(make("blends", 50, known) * 255):
        assert (image == 60).all()
    for image in np.rint(make("joined_halves", 50, known) * 255):
        assert 50 <= image.mean() <= 70


def test_inversions_turn_bright_into_dark():
    dark = Split("k", "train", np.zeros((2, 4, 4, 1), np.uint8), [0, 1], ["a", "b"])
    bright = Split("k", "train", np.full((2, 4, 4, 1), 255, np.uint8), [0, 1], "ab")
    assert make("inversions", 50, dark).min() >= 0.6 - 1e-6
    assert make("inversions", 50, bright).max() <= 0.3 + 1e-6


def test_coloured_noise_reaches_from_white_to_slow():
    noise = make("coloured_noise", 200)[..., 0]
    noise = noise - noise.mean((1, 2), keepdims=True)
    noise = noise / noise.std((1, 2), keepdims=True)
    neighbours = (noise[:, 1:] * noise[:, :-1]).mean((1, 2))
    assert neighbours.min() < 0.2 and neighbours.max() > 0.8


def test_half_of_the_noise_in_colour_images_is_grey():
    noise = make("white_noise", 400, known_split((6, 6, 3)))
    is_grey = (noise == noise[..., :1]).all((1, 2, 3))
    assert 0.4 < is_grey.mean() < 0.6


def test_chunks_are_only_a_matter_of_memory(monkeypatch):
    monkeypatch.setattr(synthetic, "_CHUNK_BYTES", 14 * 14 * 4 * 3)
    known = known_split()
    made = synthetic.outliers(np.random.default_rng(0), 100, known.images, known.labels)
    assert made.shape == (100, 14, 14, 1)
    assert len({bytes(image) for image in made}) > 90


def test_a_spec_is_no_known_source():
    with pytest.raises(TypeError, match="Received: 'mnist'"):
        pipelines.load("synthetic", known="mnist")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, 'call `pipelines.load\\("synthetic", known=source\\)`'),
        ({"known": known_split(count=1)}, "at least two known images.*1"),
        ({"known": known_split(), "image_shape": (28, 28, 1)}, "shape of the known"),
    ],
)
def test_bad_requests_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        _ = pipelines.load("synthetic", **options).train
