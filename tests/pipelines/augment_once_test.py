"""A split in random renderings: the same each time, and nothing else changed."""

import numpy as np
import pytest

from ood_keras import pipelines


@pytest.fixture(scope="module")
def split():
    return pipelines.load("digits").validation


def test_images_change_alike_each_time_and_labels_stay(split):
    rendered = pipelines.augment_once(split, "random_rendering")
    again = pipelines.augment_once(split, "random_rendering")
    np.testing.assert_array_equal(rendered.images, again.images)
    np.testing.assert_array_equal(rendered.labels, split.labels)
    assert rendered.class_names == split.class_names
    changed = (rendered.images != split.images).any(axis=(1, 2, 3)).mean()
    # One in five stays as it is, and a few more have no change of any sort.
    assert 0.65 < changed < 0.9
    other = pipelines.augment_once(split, "random_rendering", seed=1)
    assert (other.images != rendered.images).any()


def test_rows_beyond_the_first_batch_have_changes_of_their_own(split):
    several = pipelines.Split(
        "many", "test", np.repeat(split.images[:1], 1100, 0), np.full(1100, -1)
    )
    rendered = pipelines.augment_once(several, "random_rendering").images
    assert len(rendered) == 1100
    assert (rendered[:512] != rendered[512:1024]).any(axis=(1, 2, 3)).mean() > 0.5


def test_a_function_of_your_own(split):
    halved = pipelines.augment_once(split, lambda images, seed: images / 2)
    np.testing.assert_allclose(halved.images, split.images / 2, atol=0.51)


def test_a_function_of_your_own_may_read_what_changes(split):
    gain = 0.5

    def scale(images, seed):
        return images * gain

    pipelines.augment_once(split, scale)
    gain = 0.25
    quartered = pipelines.augment_once(split, scale)
    np.testing.assert_allclose(quartered.images, split.images / 4, atol=0.51)


def test_an_unknown_name_is_explained(split):
    with pytest.raises(ValueError, match=r"random_photo_rendering.*random_shift"):
        pipelines.augment_once(split, "no_such")
