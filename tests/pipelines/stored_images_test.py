import dataclasses

import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.pipelines import Interleave, StoredImages, contents, stored_images

RANDOM = np.random.default_rng(0)


@pytest.fixture
def array():
    return RANDOM.integers(0, 256, (50, 6, 5, 3), np.uint8)


@pytest.fixture
def stored(array, tmp_path):
    np.save(tmp_path / "pixels.npy", array)
    return StoredImages(np.load(tmp_path / "pixels.npy", mmap_mode="r"))


@pytest.fixture
def to_disk(tmp_path):
    """Returns a split with its images in a file."""

    def move(split):
        path = tmp_path / f"{split.source}_{split.role}.npy"
        np.save(path, split.images)
        images = StoredImages(np.load(path, mmap_mode="r"))
        return dataclasses.replace(split, images=images)

    return move


KEYS = [
    3,
    -1,
    np.int64(7),
    slice(2, 40, 3),
    slice(None),
    [4, 4, 1],
    np.array([9, 0], np.int32),
    np.arange(50) % 2 == 0,
    (slice(3), slice(None), 2),
    (4, 2),
    ([5, 3], ..., 1),
    (..., 0),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_an_index_gives_what_it_gives_of_an_array(array, stored, key):
    expected = array[key]
    found = stored[key]
    assert type(found) is np.ndarray and found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("key", KEYS[3:8], ids=str)
def test_chosen_images_and_choices_of_these_are_those_of_an_array(array, stored, key):
    chosen = stored.choose(np.arange(50)[key])
    assert chosen.shape == array[key].shape
    np.testing.assert_array_equal(chosen, array[key])
    np.testing.assert_array_equal(chosen.choose(np.array([1, 0])), array[key][[1, 0]])


def test_changes_are_made_as_images_are_read(array, stored):
    changed = stored.apply(lambda images: 255 - images)
    changed = changed.apply(lambda images: images.swapaxes(1, 2))
    expected = (255 - array).swapaxes(1, 2)
    assert changed.shape == expected.shape
    np.testing.assert_array_equal(changed, expected)
    np.testing.assert_array_equal(changed[3], expected[3])
    np.testing.assert_array_equal(changed.choose(np.array([9]))[:], expected[[9]])


def test_arithmetic_is_that_of_an_array(array, stored):
    np.testing.assert_array_equal(stored / np.float32(255), array / np.float32(255))
    np.testing.assert_array_equal(255 - stored, 255 - array)
    np.testing.assert_array_equal(stored.astype("float32"), array.astype("float32"))
    assert np.max(stored) == array.max()


def test_images_of_arrays_and_files_are_numbered_through(array, stored):
    joined = stored_images.join([array[:20], stored, array[:3]])
    expected = np.concatenate([array[:20], array, array[:3]])
    rows = RANDOM.permutation(73)[:40]
    assert joined.shape == expected.shape
    np.testing.assert_array_equal(joined[rows], expected[rows])
    assert type(stored_images.join([array, array])) is np.ndarray


def test_a_split_on_disk_is_the_same_split(make_split, to_disk):
    split = make_split(90, 3, name="mine")
    disk = to_disk(split)
    assert disk.fingerprint() == split.fingerprint()
    for change in (
        lambda one: one.take(20, seed=4),
        lambda one: one.select([2, 0]),
        lambda one: one.rows(one.labels == 1),
        lambda one: one.as_unknown(),
        lambda one: pipelines.augment_once(one, "random_affine", seed=2),
    ):
        assert change(disk).fingerprint() == change(split).fingerprint()
    for ours, theirs in zip(disk.dataset(32), split.dataset(32), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
    for function in (
        contents.image_hashes,
        contents.hashes_in_any_form,
        contents.measure_spread,
    ):
        np.testing.assert_array_equal(function(disk.images), function(split.images))


def test_choosing_reads_nothing(make_split, to_disk, monkeypatch):
    disk = to_disk(make_split(90, 3, name="mine"))
    monkeypatch.setattr(StoredImages, "__getitem__", None)
    for split in (disk.take(20), disk.select([1]), disk.rows(disk.labels == 1)):
        assert isinstance(split.images, StoredImages)


@pytest.mark.parametrize("augment", [None, "random_affine"])
def test_epochs_are_the_same_bit_for_bit(make_split, to_disk, augment):
    known = make_split(203, 4, name="known")
    unknown = [
        make_split(40, name="a", first=1000),
        make_split(7, name="b", first=2000),
    ]
    mixed = Interleave(known, unknown, 4, batch_size=32, augment=augment)
    moved = [to_disk(unknown[0]), unknown[1]]
    disk = Interleave(to_disk(known), moved, 4, batch_size=32, augment=augment)
    assert disk.get_config() == mixed.get_config()
    assert disk.num_rows == mixed.num_rows
    pairs = [
        (disk.epoch(1, start_step=3), mixed.epoch(1, start_step=3)),
        (disk.rendering(1), mixed.rendering(1)),
        (disk.dataset(), mixed.dataset()),
    ]
    for ours, theirs in pairs:
        assert ours.cardinality() == theirs.cardinality()
        for our, their in zip(ours, theirs, strict=True):
            for one, other in zip(our, their, strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_class_that_is_one_picture_is_found_on_disk(make_split, to_disk):
    split = make_split(40, 2, name="known")
    flat = np.where(split.labels[:, None, None, None] == 1, 7, split.images)
    split = dataclasses.replace(split, images=flat.astype(np.uint8))
    with pytest.raises(
        ValueError, match="class known 1: 20 of 20 images are of one colour"
    ):
        contents.check(to_disk(split), known=True)
