import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.pipelines.sources import glyphs

ROLES = ("train", "validation", "test")


def all_rows(source):
    return [bytes(image) for role in ROLES for image in source.split(role).images]


def test_digits_are_dealt_out_evenly():
    digits = pipelines.load("digits")
    assert digits.image_shape == (28, 28, 1)
    sizes = [len(digits.split(role)) for role in ROLES]
    assert sum(sizes) == 1797
    assert sizes == [1078, 360, 359] or sizes == [1078, 359, 360]
    for role, size in zip(ROLES, sizes, strict=True):
        counts = np.bincount(digits.split(role).labels, minlength=10)
        assert counts.max() - counts.min() <= size * 0.02 + 2
    assert digits.test.images.max() > 240
    assert digits.test.images.min() == 0


def test_digits_can_have_any_shape():
    split = pipelines.load("digits", image_shape=(8, 8, 3)).test
    assert split.image_shape == (8, 8, 3)
    from sklearn.datasets import load_digits

    originals = {
        bytes(np.rint(i * 255 / 16).astype(np.uint8)) for i in load_digits().images
    }
    assert {bytes(image[..., 1]) for image in split.images} <= originals


def test_glyphs_are_letters_on_black_with_other_fonts_in_every_split():
    letters = pipelines.load("glyphs")
    families = [
        {font.split("-")[0].removesuffix("BolIta") for font in glyphs.FONTS[role]}
        for role in ROLES
    ]
    assert not families[0] & families[1] and not families[2] & (
        families[0] | families[1]
    )
    assert not set("OQIZSBG") & set(letters.class_names)
    for role, fonts in zip(ROLES, (8, 4, 9), strict=True):
        split = letters.split(role)
        assert split.image_shape == (28, 28, 1)
        assert len(split) == fonts * 8 * len(glyphs.CHARACTERS)
        border = np.concatenate([split.images[:, 0], split.images[:, -1]], axis=1)
        assert (border == 0).mean() > 0.95
        assert (split.images.max((1, 2, 3)) > 120).all()
        assert set(split.labels.tolist()) == set(range(letters.num_classes))
    rows = all_rows(letters)
    assert len(set(rows)) > 0.999 * len(rows)
    assert letters.train.fingerprint() == pipelines.load("glyphs").train.fingerprint()


def test_characters_of_glyphs_change_fastest():
    places = [character.upper() for character in glyphs.CHARACTERS]
    assert places.count("A") == 2 and len(set(places)) < len(places)
    for split in map(pipelines.load("glyphs").split, ROLES):
        names = np.array(split.class_names)[split.labels].reshape(-1, len(places))
        assert (names == places).all()


def test_letters_are_no_unknowns_for_letters():
    letters, digits = pipelines.load("glyphs"), pipelines.load("digits")
    pipelines.check_roles({"validation": digits.validation}, {"test": [letters.test]})
    same = pipelines.load("glyphs[A]").test
    with pytest.raises(ValueError, match="both known and unknown"):
        pipelines.check_roles({"validation": letters.validation}, {"test": [same]})


@pytest.mark.parametrize("spec", ["uniform_noise", "gaussian_noise"])
def test_noise_is_seeded_and_differs_between_splits(spec):
    source = pipelines.load(spec, seed=4, count=50)
    assert source.image_shape == (28, 28, 1)
    assert len(set(all_rows(source))) == 150
    again = pipelines.load(spec, seed=4, count=50)
    assert again.test.fingerprint() == source.test.fingerprint()
    other = pipelines.load(spec, seed=5, count=50)
    assert other.test.fingerprint() != source.test.fingerprint()
    assert (source.test.labels == -1).all()
    assert len(pipelines.load(spec).test) == 10_000
    assert pipelines.load(spec, image_shape=(3, 5, 3), count=2).test.image_shape == (
        3,
        5,
        3,
    )


def test_noise_has_the_distribution_of_the_paper():
    uniform = pipelines.load("uniform_noise", count=500).test.images / 255
    assert abs(uniform.mean() - 0.5) < 0.003
    assert abs(uniform.std() - np.sqrt(1 / 12)) < 0.003
    gaussian = pipelines.load("gaussian_noise", count=500).test.images / 255
    # P(N(0.5, 1) < 0) = P(N > 1) = 0.3085; rounding adds half a byte.
    assert abs((gaussian == 0).mean() - 0.3085) < 0.004
    assert abs((gaussian == 1).mean() - 0.3085) < 0.004
    # Between them the normal density, higher in the middle: 0.3829 in all.
    middle = (abs(gaussian - 0.5) < 0.25).mean()
    assert abs(middle - 0.1974) < 0.004


@pytest.mark.parametrize("count", [0, -3, 2.5])
def test_a_bad_count_is_explained(count):
    with pytest.raises(ValueError, match="`count` must be an integer >= 1"):
        pipelines.load("uniform_noise", count=count)
