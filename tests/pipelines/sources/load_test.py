import collections

import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.pipelines import dealing


def test_names_lists_every_source_of_the_design():
    assert set(pipelines.names()) == {
        *("mnist", "fashion_mnist", "emnist/letters", "kmnist", "omniglot"),
        *("emnist/balanced", "emnist/byclass", "emnist/bymerge", "emnist/digits"),
        "emnist/mnist",
        *("kannada_mnist", "dig_mnist"),
        *("notmnist", "cifar10", "cifar100", "flowers"),
        *("tfds:NAME", "folder:PATH", "idx:PATH", "npz:PATH"),
        *("zip:PATH", "tfrecord:PATH"),
        *("uniform_noise", "gaussian_noise", "synthetic", "digits", "glyphs"),
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fasion_mnist", "'fasion_mnist'.*mean fashion_mnist.*Known sources: .*glyphs"),
        ("emnist", "mean .*emnist/letters"),
        ("Digits", "mean digits"),
        ("folder", "mean folder:PATH"),
        ("folder:", "Known sources"),
        ("csv:table", "Known sources"),
        ("", "Known sources"),
        ("digits[]", "'' is no class"),
        ("digits[3-", "unknown data source"),
        ("digits[ten]", "'ten' is no class.*0 to 9"),
        ("digits[8-12]", "10 classes, 0 to 9.*12"),
        ("digits[1,1]", "each class once"),
        ("digits[4-2]", "each class once"),
        ("uniform_noise[0]", "0 classes"),
    ],
)
def test_bad_specs_are_explained(spec, message):
    with pytest.raises(ValueError, match=message):
        pipelines.load(spec)


@pytest.mark.parametrize(
    "shape", [(28, 28), (28, 28, 4), (0, 28, 1), ("28", "28", "grey"), 28]
)
def test_bad_image_shapes_are_explained(shape):
    with pytest.raises(ValueError, match="`image_shape` must be"):
        pipelines.load("digits", image_shape=shape)


def test_unknown_images_may_have_the_channels_of_the_known_ones():
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 5), np.uint8)
    known = pipelines.as_split((images, np.arange(20) % 2), "known")
    for spec in ("synthetic", "uniform_noise"):
        made = pipelines.load(spec, known=known, image_shape=(6, 6, 5), count=9)
        assert made.train.images.shape == (9, 6, 6, 5)
    with pytest.raises(ValueError, match="`image_shape` must be"):
        pipelines.load("uniform_noise", known=known, image_shape=(6, 6, 4))


def test_classes_can_be_chosen_by_name():
    chosen = pipelines.load("glyphs[k, A]")
    assert chosen.class_names == ("K", "A")
    assert set(chosen.validation.labels.tolist()) == {0, 1}


def test_a_count_is_only_for_what_is_made():
    with pytest.raises(
        ValueError, match=r"`count` .*uniform_noise.*count=5 for digits"
    ):
        pipelines.load("digits", count=5)


def test_some_classes_can_be_known_and_the_others_unknown():
    known, others, more = (
        pipelines.load(f"digits[{classes}]").train for classes in ("0-4", "5-9", "4-9")
    )
    pipelines.check_roles({"train": known}, {"train": [others]})
    assert len(pipelines.Interleave(known, others, 5).order(0)) > len(known)
    with pytest.raises(ValueError, match=r"both known and unknown.*both have 4\."):
        pipelines.check_roles({"train": known}, {"train": [more]})


@pytest.mark.parametrize("share", [1 / 12, 0.2, 0.25])
def test_carving_is_stratified_and_exact(share):
    labels = np.random.default_rng(0).choice(4, 1000, p=[0.5, 0.3, 0.19, 0.01])
    rows = dealing.every_nth_of_each_class(labels, share)
    assert len(rows) == round(1000 * share)
    assert len(set(rows.tolist())) == len(rows)
    counts, taken = collections.Counter(labels), collections.Counter(labels[rows])
    for label, count in counts.items():
        assert abs(taken[label] - count * share) < 1
        places = np.searchsorted(
            np.flatnonzero(labels == label), rows[labels[rows] == label]
        )
        assert np.diff(places).max(initial=0) - np.diff(places).min(initial=99) <= 1


def test_carving_leaves_each_class_an_image_outside():
    labels = np.array([0, 1, 2, 2])
    assert set(dealing.every_nth_of_each_class(labels, 0.75)) <= {2, 3}


def test_splits_do_not_depend_on_the_seed():
    first, second = (pipelines.load("digits", seed=seed) for seed in (0, 1))
    for role in ("train", "validation", "test"):
        one, other = first.split(role), second.split(role)
        assert one.fingerprint() == other.fingerprint()
