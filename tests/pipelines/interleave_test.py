import collections
import functools
import json

import keras
import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.pipelines import Interleave, Split


def numbers(images):
    """The number that each image of `make_split` holds."""
    pixels = np.rint(np.asarray(images) * 255).astype(int)
    return pixels[:, 0, 0, 0] * 256 + pixels[:, 0, 1, 0]


def read(dataset):
    batches = [(numbers(images), labels.numpy()) for images, labels in dataset]
    assert all(labels.dtype == np.int32 for _, labels in batches)
    return batches


def flat(batches):
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.fixture
def splits(make_split):
    known = make_split(203, 4, name="known")
    unknown = [
        make_split(40, 2, name="first", first=1000),
        make_split(7, name="second", first=2000),
    ]
    return known, unknown


def test_an_epoch_holds_every_known_image_once_and_its_share_of_unknowns(splits):
    known, unknown = splits
    mixed = Interleave(known, unknown, 4, batch_size=32, seed=3)
    # round(203 / 4) = 51: 26 of the first source, 25 of the second.
    assert (mixed.num_unknown, mixed.num_images) == (51, 254)
    assert mixed.steps_per_epoch == 8
    for epoch in range(3):
        batches = read(mixed.epoch(epoch))
        assert [len(labels) for _, labels in batches] == [32] * 7 + [30]
        images, labels = flat(batches)
        is_known = labels >= 0
        assert sorted(images[is_known]) == list(range(203))
        assert np.array_equal(labels[is_known], images[is_known] % 4)
        assert (labels[~is_known] == -1).all()
        assert (images[~is_known] < 2000).sum() == 26
        assert (images[~is_known] >= 2000).sum() == 25


@pytest.mark.parametrize("batch_size", [1, 7, 32, 254])
def test_every_batch_has_the_ratio_up_to_one_image(splits, batch_size):
    known, unknown = splits
    mixed = Interleave(known, unknown, 4, batch_size=batch_size)
    for _, labels in read(mixed.epoch(1)):
        exact = len(labels) * 51 / 254
        assert abs((labels == -1).sum() - exact) < 1


def test_unknown_images_are_used_up_before_any_repeats(splits):
    known, unknown = splits
    mixed = Interleave(known, unknown, 4)
    used = collections.Counter()
    for epoch in range(6):
        images, labels = flat(read(mixed.epoch(epoch)))
        used.update(images[labels == -1].tolist())
        for first, count in ((1000, 40), (2000, 7)):
            counts = [used[first + index] for index in range(count)]
            assert max(counts) - min(counts) <= 1


def test_without_normalisation_every_unknown_appears_once(splits):
    known, unknown = splits
    mixed = Interleave(known, unknown, 4, normalize=False)
    for epoch in range(2):
        images, labels = flat(read(mixed.epoch(epoch)))
        expected = [*range(1000, 1040), *range(2000, 2007)]
        assert sorted(images[labels == -1]) == expected


def test_more_unknown_than_known_images_keep_an_exact_ratio(make_split):
    known, unknown = make_split(10, 2), make_split(90, first=500, name="u")
    mixed = Interleave(known, unknown, 2, batch_size=10, normalize=False)
    for _, labels in read(mixed.epoch(0)):
        assert (labels >= 0).sum() in (0, 1, 2)
    assert sorted(flat(read(mixed.epoch(0)))[0]) == [*range(10), *range(500, 590)]


def test_epochs_are_pure_functions_of_seed_and_number(splits):
    known, unknown = splits
    first = flat(read(Interleave(known, unknown, 4, seed=5).epoch(2)))
    other = Interleave(known, unknown, 4, seed=5)
    read(other.epoch(7))
    again = flat(read(other.epoch(2)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, flat(read(other.epoch(3))))
    assert not np.array_equal(
        first, flat(read(Interleave(known, unknown, 4, seed=6).epoch(2)))
    )


def test_an_epoch_can_start_at_any_step(splits):
    known, unknown = splits
    mixed = Interleave(known, unknown, 4, batch_size=32, augment="random_affine")
    whole = [images.numpy() for images, _ in mixed.epoch(4)]
    for start in (0, 1, 5, 8):
        rest = [images.numpy() for images, _ in mixed.epoch(4, start)]
        assert len(rest) == 8 - start
        for expected, received in zip(whole[start:], rest, strict=True):
            np.testing.assert_array_equal(received, expected)
    with pytest.raises(ValueError, match=r"0 to 8.*start_step=9"):
        mixed.epoch(0, 9)


def test_interleave_gives_the_next_epoch_at_every_iteration(splits):
    known, unknown = splits
    options = {"batch_size": 32, "seed": 9, "augment": "random_affine"}
    dataset = pipelines.interleave(known, unknown, 4, **options)
    mixed = Interleave(known, unknown, 4, **options)
    assert int(dataset.cardinality()) == 8
    for epoch in range(3):
        for received, expected in zip(dataset, mixed.epoch(epoch), strict=True):
            np.testing.assert_array_equal(received[0], expected[0])
            np.testing.assert_array_equal(received[1], expected[1])


def test_no_dataset_is_tuned_while_it_runs(splits):
    # An iterator that ends would wait for TensorFlow's tuner, up to a minute.
    known, unknown = splits
    mixed = Interleave(known, unknown, 4)
    for dataset in (
        known.dataset(),
        mixed.epoch(0),
        mixed.dataset(),
        mixed.epoch(0).map(lambda images, labels: images),
    ):
        assert dataset.options().autotune.enabled is False
        assert dataset.options().deterministic is True


def test_a_keras_model_trains_on_it_epoch_after_epoch(splits):
    known, unknown = splits
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    seen = []

    def loss(labels, logits):
        seen.append(labels.shape)
        return keras.ops.mean(logits, axis=-1)

    model.compile("sgd", loss=loss)
    dataset = pipelines.interleave(known, unknown, 4, batch_size=32)
    history = model.fit(dataset, epochs=2, shuffle=False, verbose=0)
    assert len(history.history["loss"]) == 2
    assert seen


def test_augmentation_gets_a_new_seed_at_every_step_and_epoch(splits):
    known, unknown = splits
    seeds = []

    def augment(images, seed):
        import tensorflow as tf

        tf.py_function(lambda s: seeds.append(tuple(s.numpy())), [seed], [])
        return images

    mixed = Interleave(known, unknown, 4, batch_size=32, augment=augment)
    for epoch in range(2):
        read(mixed.epoch(epoch))
    assert len(seeds) == len(set(seeds)) == 16


def test_few_known_images_still_meet_every_unknown_source(make_split):
    known = make_split(2, 2)
    unknown = [make_split(3, name=f"u{n}", first=10 * n + 10) for n in range(3)]
    images, labels = flat(read(Interleave(known, unknown, 2).epoch(0)))
    assert {number // 10 for number in images[labels == -1]} == {1, 2, 3}


def make_bad(case, make_split):
    known, unknown = make_split(8, 2, name="k"), make_split(4, name="u", first=50)
    if case == "no sources":
        return known, [], 2
    if case == "empty class":
        return known, unknown, 3
    if case == "label out of range":
        return make_split(8, 4, name="k"), unknown, 3
    if case == "unknown among known":
        return known.as_unknown(), unknown, 2
    if case == "shapes":
        return known, make_split(4, name="u", first=50, size=3), 2
    if case == "both":
        return known, known, 2
    raise KeyError(case)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no sources", "no unknown images.*empty list"),
        ("empty class", "none of class 2"),
        ("label out of range", "0 to 2.*2 labels out of range.* 3 at index 3"),
        ("unknown among known", "8 labels out of range.*-1 at index 0"),
        ("shapes", r"one shape.*\(2, 2, 1\).*\(3, 3, 1\).*image_shape=\(2, 2, 1\)"),
        ("both", "both known and unknown.*k 0, k 1"),
    ],
)
def test_bad_input_is_explained_at_construction(case, message, make_split):
    with pytest.raises(ValueError, match=message):
        Interleave(*make_bad(case, make_split))


def test_an_empty_unknown_split_is_explained(make_split):
    empty = Split("u", "train", np.zeros((0, 2, 2, 1), np.uint8), np.zeros(0, int))
    with pytest.raises(ValueError, match=r"no unknown images in u \(train\)"):
        Interleave(make_split(8, 2), empty, 2)


def test_an_empty_known_split_is_explained(make_split):
    empty = Split("k", "train", np.zeros((0, 2, 2, 1), np.uint8), np.zeros(0, int))
    with pytest.raises(ValueError, match=r"k \(train\) has no images"):
        Interleave(empty, make_split(8), 2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "`batch_size`.*0"),
        ({"seed": -1}, ValueError, "`seed`.*-1"),
        ({"augment": "mirror"}, ValueError, "'mirror'.*random_affine"),
    ],
)
def test_bad_options_are_explained(options, error, message, splits):
    with pytest.raises(error, match=message):
        Interleave(*splits, 4, **options)


def test_a_source_in_place_of_a_split_is_explained(make_split):
    source = pipelines.load("uniform_noise", count=3, image_shape=(2, 2, 1))
    with pytest.raises(TypeError, match=r"`source.train`.*uniform_noise"):
        Interleave(make_split(8, 2), source, 2)


def test_unknown_per_epoch_is_spread_evenly_over_the_sources(splits):
    known, unknown = splits
    mixed = Interleave(known, unknown, 4, unknown_per_epoch=21)
    images, labels = flat(read(mixed.epoch(0)))
    used = images[labels == -1]
    assert ((used < 2000).sum(), (used >= 2000).sum()) == (11, 10)
    assert mixed.num_unknown == 21


def test_the_config_tells_mixtures_apart(splits):
    known, unknown = splits
    options = {"seed": 3, "batch_size": 8, "augment": "random_shift"}
    config = Interleave(known, unknown, 4, **options).get_config()
    assert json.loads(json.dumps(config)) == config
    assert Interleave(known, unknown, 4, **options).get_config() == config
    for change in (
        {"seed": 4},
        {"batch_size": 9},
        {"augment": None},
        {"augment": functools.partial(max, 0)},
        {"unknown_per_epoch": np.int64(51)},
    ):
        other = Interleave(known, unknown, 4, **{**options, **change}).get_config()
        assert json.loads(json.dumps(other)) == other != config
    assert Interleave(known, unknown[:1], 4, **options).get_config() != config
    unlabelled = [split.as_unknown() for split in unknown]
    assert Interleave(known, unlabelled, 4, **options).get_config() == config


def test_known_images_alone_must_be_asked_for(splits):
    known, unknown = splits
    mixed = Interleave(known, None, 4)
    images, labels = flat(read(mixed.epoch(3)))
    assert mixed.num_unknown == 0 and (labels >= 0).all()
    assert sorted(images) == sorted(range(len(known)))
    with pytest.raises(ValueError, match="no unknown images"):
        Interleave(known, [], 4)
    for given, options in ((None, {}), (unknown, {"normalize": False})):
        with pytest.raises(ValueError, match="unknown_per_epoch"):
            Interleave(known, given, 4, unknown_per_epoch=5, **options)
    with pytest.raises(ValueError, match="unknown_per_epoch"):
        Interleave(known, unknown, 4, unknown_per_epoch=0)
