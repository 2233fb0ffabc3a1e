"""Images that show nothing are found, and honest ones never are."""

import dataclasses
import warnings

import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.pipelines import Split, contents

RANDOM = np.random.default_rng(0)


def split(images, labels=None):
    labels = np.arange(len(images)) % 2 if labels is None else labels
    return Split("made", "train", images, labels, ("cat", "dog"))


def lively(count, channels=3):
    return RANDOM.integers(0, 256, (count, 8, 8, channels), np.uint8)


def with_class(images):
    """A split of a lively class, `cat`, and of these images as `dog`."""
    labels = np.repeat((0, 1), len(images))
    return split(np.concatenate([lively(len(images)), images]), labels)


BLACK = np.zeros((20, 8, 8, 3), np.uint8)
PLAIN = np.broadcast_to(RANDOM.integers(0, 256, (20, 1, 1, 3), np.uint8), BLACK.shape)
SAME = np.repeat(lively(1), 20, axis=0)
# Of JPEG files of one colour.
NEARLY = PLAIN // 2 + RANDOM.integers(0, 8, BLACK.shape, np.uint8)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (BLACK, "class dog: 20 of 20 images are of one colour each"),
        (PLAIN, "class dog: 20 of 20 images are of one colour each"),
        (SAME, "class dog: 20 of 20 images are the same picture"),
        (np.concatenate([BLACK[:18], lively(2)]), "class dog: 18 of 20 .* one colour"),
        (np.concatenate([SAME[:18], lively(2)]), "class dog: 18 of 20 .* same picture"),
    ],
)
def test_a_class_that_shows_nothing_is_refused(images, message):
    made = with_class(images)
    with pytest.raises(ValueError, match=rf"made \(train\): {message}.*transparency"):
        pipelines.check_known(made)
    with pytest.raises(ValueError, match=message):
        pipelines.check_roles({"train": made}, {})
    # As a test of what a model does with blanks it is fair, if it is meant.
    unknown = dataclasses.replace(made.select([1]).as_unknown(), role="test")
    with pytest.warns(pipelines.DataWarning, match="unknown: .* of 20 images are"):
        pipelines.check_roles({}, {"test": [unknown]})


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (NEARLY, "20 of 20 images are of nearly one colour"),
        (SAME // 2 + NEARLY % 8, "all 20 images are nearly the same picture"),
        (np.concatenate([BLACK[:11], lively(9)]), "11 of 20 images are of one colour"),
        (
            np.concatenate([SAME[:11], lively(9)]),
            "11 of 20 images are the same picture",
        ),
        (BLACK[:3], "3 of 3 images are of one colour"),
    ],
)
def test_a_class_that_shows_little_is_doubted(images, message):
    with pytest.warns(pipelines.DataWarning, match=message):
        pipelines.check_known(with_class(images))


def test_classes_of_one_picture_each_are_looked_at_together():
    names = tuple(f"class {number}" for number in range(5))
    made = Split("made", "train", BLACK[:5], np.arange(5), names)
    with pytest.raises(ValueError, match="all images: 5 of 5 images are of one colour"):
        pipelines.check_known(made)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_unknown_images_that_are_black_are_doubted_as_known_ones_are(dtype):
    random = np.random.default_rng(0)
    known = random.random((20, 6, 6, 1)), np.arange(20) % 2
    unknown = random.integers(0, 2, (20, 6, 6, 1)).astype(dtype)
    with pytest.warns(pipelines.DataWarning, match=r"unknown.*20 images are of nearly"):
        pipelines.interleave(known, unknown, 2)


def test_nothing_is_found_in_honest_images():
    some_plain = np.concatenate([PLAIN[:10], lively(10)])
    faint = np.zeros((20, 8, 8, 3), np.uint8)
    faint[np.arange(20), RANDOM.integers(8, size=20), RANDOM.integers(8, size=20)] = 90
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for images in (some_plain, faint, lively(20)):
            contents.check(with_class(images), known=True)
        contents.check(split(lively(1)), known=True)
        contents.check(split(lively(0)), known=True)
        for spec in ("digits", "glyphs", "uniform_noise", "gaussian_noise"):
            source = pipelines.load(spec)
            for role in source.roles:
                for known in (False, bool(source.class_names)):
                    contents.check(source.split(role), known=known)
        made = pipelines.load("synthetic", known=pipelines.load("digits"), count=2000)
        contents.check(made.train, known=False)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "spec",
    [
        *("mnist", "fashion_mnist", "emnist/letters", "kmnist", "notmnist", "cifar10"),
        *("idx:{}/kannada_mnist", "idx:{}/dig_mnist"),
    ],
)
def test_nothing_is_found_in_real_test_sets(spec, real_data_dir):
    test = pipelines.load(spec.format(real_data_dir), data_dir=real_data_dir).test
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        contents.check(test, known=True)


def test_copies_under_two_labels_are_found():
    images = lively(40, 1)
    images[33] = images[8]
    labels = np.arange(40) % 2
    rows = contents.copies_across_classes(contents.image_hashes(images), labels)
    assert [group.tolist() for group in rows] == [[8, 33]]
    # The same class twice, or no class at all, is no contradiction.
    for row, label in ((34, 0), (33, -1)):
        other, changed = lively(40, 1), labels.copy()
        other[row], changed[row] = other[8], label
        hashes = contents.image_hashes(other)
        assert contents.copies_across_classes(hashes, changed) == []
    with pytest.warns(pipelines.DataWarning, match="1 images .*: cat and dog"):
        pipelines.check_known(split(images, labels))


def test_transparent_pictures_do_not_train_in_silence(tmp_path):
    """Whatever becomes of their transparency, equal pictures are not passed on."""
    from PIL import Image

    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(12):
            picture = np.zeros((8, 8, 4), np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"{number}.png")
    train = pipelines.load(f"folder:{tmp_path}").train
    with pytest.raises(ValueError, match=r"class a: 7 of 7 images are of one colour"):
        pipelines.check_known(train)
