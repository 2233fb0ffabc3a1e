import dataclasses

import numpy as np
import pytest

from ood_keras.pipelines import check_known, check_roles, contents


@pytest.fixture
def roles(make_split):
    """An experiment without leaks."""

    def split(name, role, first, num_classes=None):
        return make_split(6, num_classes, name=name, role=role, first=first)

    known = {
        role: split("known", role, 100 * index, 3)
        for index, role in enumerate(("train", "validation", "test"))
    }
    unknown = {
        "train": [split("letters", "train", 400, 2), split("noise", "train", 500)],
        "validation": [split("letters", "validation", 600, 2)],
        "test": [split("letters", "test", 700, 2), split("kana", "test", 800, 4)],
    }
    return known, unknown


def test_an_experiment_without_leaks_passes(roles):
    check_roles(*roles)
    check_roles({"test": roles[0]["test"]}, {})


def test_the_same_split_in_two_roles(roles):
    known, unknown = roles
    known["validation"] = known["train"]
    with pytest.raises(
        ValueError, match=r"used twice: known .*known train.*validation"
    ):
        check_roles(known, unknown)


def test_the_same_images_under_another_name(roles):
    known, unknown = roles
    copied = dataclasses.replace(
        unknown["train"][0].as_unknown(), source="copy", role="test", class_names=()
    )
    unknown["test"].append(copied)
    with pytest.raises(ValueError, match=r"letters .*copy .*unknown test"):
        check_roles(known, unknown)


def test_a_test_split_is_never_trained_on(roles):
    known, unknown = roles
    unknown["train"].append(unknown["test"].pop())
    with pytest.raises(ValueError, match=r"kana \(test\) is a test split.*`.train`"):
        check_roles(known, unknown)


def test_a_class_both_known_and_unknown(roles, make_split):
    known, unknown = roles
    unknown["test"].append(make_split(6, 3, name="KNOWN", role="test", first=900))
    with pytest.raises(ValueError, match=r"both known and unknown.*known 0, known 1"):
        check_roles(known, unknown)


def test_a_class_stays_known_when_its_labels_are_hidden(roles, make_split):
    known, unknown = roles
    hidden = make_split(6, 3, name="known", role="test", first=900).as_unknown()
    unknown["test"].append(hidden)
    with pytest.raises(ValueError, match="both known and unknown"):
        check_roles(known, unknown)


def test_an_unknown_role_lists_the_roles(roles):
    with pytest.raises(ValueError, match=r"`val` is no role.*train, validation, test"):
        check_roles({"val": roles[0]["validation"]}, {})


def test_a_known_image_needs_a_class(roles, make_split):
    known, unknown = roles
    labels = known["validation"].labels.copy()
    labels[2] = -1
    known["validation"] = dataclasses.replace(known["validation"], labels=labels)
    with pytest.raises(ValueError, match=r"known \(validation\).*1 of 6 .*one folder"):
        check_roles(known, unknown)
    unlabelled = make_split(6, name="folder", role="validation", first=900)
    with pytest.raises(ValueError, match=r"folder \(validation\).*6 of 6 .*no label"):
        check_known(unlabelled)


@pytest.mark.parametrize(
    ("copies", "count", "refused"),
    [(1, 20, False), (2, 20, True), (4, 400, False), (5, 400, True)],
)
def test_copies_of_some_images_in_another_split(copies, count, refused, make_split):
    known = make_split(count, 2, name="known", first=0)
    test = make_split(count, name="pictures", role="test", first=count - copies)
    if not refused:
        check_roles({"train": known}, {"test": [test]})
        return
    with pytest.raises(
        ValueError, match=rf"{copies} images are in both known .*train.*pictures .*test"
    ):
        check_roles({"train": known}, {"test": [test]})


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_copies_in_another_form_are_copies(negative, transposed, make_split):
    """The negative of a training image, or its transpose, is no unseen image."""
    known, other = make_split(40, 2, name="known"), make_split(40, role="test")
    random = np.random.default_rng(0)
    first, second = random.integers(0, 256, (2, 40, 6, 4, 3), np.uint8)
    copies = 255 - first if negative else first
    copies = copies.swapaxes(1, 2) if transposed else copies
    others = second.swapaxes(1, 2) if transposed else second
    known = dataclasses.replace(known, images=first)
    fresh = dataclasses.replace(other, images=others)
    check_roles({"train": known}, {"test": [fresh]})
    mixed = np.concatenate([copies[:9], others[9:]])
    mixed = dataclasses.replace(other, images=mixed)
    with pytest.raises(ValueError, match=r"9 images are in both .*negative of an"):
        check_roles({"train": known}, {"test": [mixed]})


def test_copies_within_a_split_and_among_unknown_tests_are_fine(make_split):
    blank = make_split(1, name="blank", role="test", first=7)
    same = dataclasses.replace(
        blank, images=np.repeat(blank.images, 50, axis=0), labels=np.full(50, -1)
    )
    known = make_split(30, 2, name="known", first=0)
    part = make_split(20, name="part", role="test", first=100)
    whole = make_split(40, name="whole", role="test", first=100)
    check_roles({"train": known}, {"test": [same, part, whole]})


def test_images_are_told_apart_by_any_byte():
    images = np.zeros((2000, 10, 5, 1), np.uint8)
    flat = images.reshape(2000, -1)
    flat[np.arange(50), np.arange(50)] = 1
    flat[np.arange(50, 100), np.arange(50)] = 128
    flat[100:] = np.random.default_rng(0).integers(0, 256, (1900, 50))
    flat[100:200, :48] = 0
    distinct = len(np.unique(flat, axis=0))
    for hash_images in (contents.image_hashes, contents.hashes_in_any_form):
        assert len(np.unique(hash_images(images))) == distinct
