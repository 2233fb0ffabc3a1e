import collections

import numpy as np
import pytest

from ood_keras.pipelines import Split, roles

IMAGES = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2, 1)
LABELS = np.array([2, 0, 1, 0, 0, 2])


def make(images=IMAGES, labels=LABELS, names=("a", "b", "c"), **others):
    return Split("mine", "train", images, labels, names, **others)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": IMAGES / 255}, TypeError, "uint8.*float64"),
        ({"images": IMAGES[..., 0]}, ValueError, r"four axes|axes .*\(6, 2, 2\)"),
        ({"labels": LABELS[:5]}, ValueError, r"6 images and labels of shape \(5,\)"),
        ({"labels": LABELS.astype(float)}, TypeError, "integers.*float64"),
        ({"labels": LABELS + 1}, ValueError, "0 to 2.*2 labels .* 3 at index 0"),
        ({"labels": LABELS - 2}, ValueError, "first is -2 at index 1"),
        ({"names": ()}, ValueError, "give `class_names`, one name.* 2 at index 0"),
    ],
)
def test_bad_content_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)


def test_an_unknown_role_lists_the_roles():
    with pytest.raises(ValueError, match=r"train, validation, test.*'val'"):
        Split("mine", "val", IMAGES, LABELS, ("a", "b", "c"))


def test_as_unknown_keeps_images_and_names():
    unknown = make().as_unknown()
    assert unknown.labels.tolist() == [-1] * 6
    assert unknown.class_names == ("a", "b", "c")
    assert np.array_equal(unknown.images, IMAGES)


def test_take_is_even_over_classes_and_seeded():
    labels = np.repeat([0, 1, 2], [50, 30, 3])
    images = np.arange(83, dtype=np.uint8).reshape(83, 1, 1, 1)
    split = make(images, labels)
    taken = split.take(23, seed=1)
    # Class 2 has only 3, the others share what is left.
    assert collections.Counter(taken.labels.tolist()) == {0: 10, 1: 10, 2: 3}
    assert len(set(taken.images.ravel().tolist())) == 23
    assert np.array_equal(labels[taken.images.ravel()], taken.labels)
    assert taken.fingerprint() == split.take(23, seed=1).fingerprint()
    assert taken.fingerprint() != split.take(23, seed=2).fingerprint()
    assert split.take(83).fingerprint() == split.fingerprint()
    with pytest.raises(ValueError, match="84 of 83"):
        split.take(84)


def test_select_relabels_in_the_given_order():
    chosen = make().select([2, 0])
    assert chosen.labels.tolist() == [0, 1, 1, 1, 0]
    assert chosen.class_names == ("c", "a")
    assert chosen.images[:, 0, 0, 0].tolist() == [0, 4, 12, 16, 20]


@pytest.mark.parametrize("classes", [[], [0, 0], [3], [-1]])
def test_select_refuses_what_is_no_choice(classes):
    with pytest.raises(ValueError, match="mine"):
        make().select(classes)


def test_select_after_as_unknown_says_what_to_do():
    with pytest.raises(ValueError, match="before `as_unknown`"):
        make().as_unknown().select([0])


def test_dataset_is_in_order_scaled_and_repeatable():
    dataset = make().dataset(batch_size=4)
    assert int(dataset.cardinality()) == 2
    for _ in range(2):
        batches = [(x.numpy(), y.numpy()) for x, y in dataset]
        assert [len(y) for _, y in batches] == [4, 2]
        images = np.concatenate([x for x, _ in batches])
        assert images.dtype == np.float32
        np.testing.assert_array_equal(images, IMAGES / np.float32(255))
        labels = np.concatenate([y for _, y in batches])
        assert labels.dtype == np.int32
        assert labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("batch_size", [0, -1, 2.5])
def test_dataset_refuses_what_is_no_batch_size(batch_size):
    with pytest.raises(ValueError, match="`batch_size` must be an integer >= 1"):
        make().dataset(batch_size)


def test_fingerprint_sees_pixels_shape_and_labels():
    changed = IMAGES.copy()
    changed[3, 1, 1, 0] += 1
    prints = {
        split.fingerprint()
        for split in (
            make(),
            make(changed),
            make(IMAGES.reshape(6, 4, 1, 1)),
            make(labels=np.roll(LABELS, 1)),
        )
    }
    assert len(prints) == 4
    assert make().fingerprint() == make(names=("x", "y", "z")).fingerprint()


def test_numbers_are_the_same_class_only_within_a_namespace():
    names = ("3", "Cat")
    first, second = (
        Split(source, "train", IMAGES, LABELS % 2, names) for source in ("one", "two")
    )
    assert first.class_identities[0] != second.class_identities[0]
    assert first.class_identities[1] == second.class_identities[1] == "cat"
    shared = [
        Split(source, "train", IMAGES, LABELS % 2, names, namespace="digit")
        for source in ("one", "two")
    ]
    assert shared[0].class_identities == shared[1].class_identities


@pytest.mark.parametrize("alike", ["CAFE\u0301  noir", " caf\u00e9\u00a0noir\ufeff"])
def test_names_that_look_the_same_are_the_same_class(alike):
    first, second = (
        Split(source, "train", IMAGES, LABELS % 1, (name,))
        for source, name in (("one", "caf\u00e9 noir"), ("two", alike))
    )
    assert first.class_identities == second.class_identities
    with pytest.raises(ValueError, match="both known and unknown"):
        roles.check_classes([first], [second])


def test_taking_from_an_empty_split_says_why_it_is_empty():
    empty = make(IMAGES[:0], LABELS[:0])
    with pytest.raises(ValueError, match=r"mine \(train\) is empty.*too few"):
        empty.take(0)
