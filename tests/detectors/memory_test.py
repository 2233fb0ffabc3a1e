"""What a detector remembers of the images that it scored."""

import types

import numpy as np
import pytest

from ood_keras import calibration, detectors
from ood_keras.detectors import memory


@pytest.fixture
def detector(trained):
    return detectors.get("energy", num_classes=3).fit(trained[3])


def images(num_images, seed=0, low=0.0, high=1.0):
    generator = np.random.default_rng(seed)
    return generator.uniform(low, high, (num_images, 8, 8, 1)).astype(np.float32)


@pytest.mark.parametrize("num_images", [1, 5, 64, 65, 1000])
@pytest.mark.parametrize("batch_size", [3, 64, 256])
def test_a_few_images_stay_with_their_scores(detector, num_images, batch_size):
    x = images(num_images)
    scores = detector.score(x, batch_size=batch_size)
    kept = detector.memory.of_all()
    assert kept.num_images == num_images
    assert len(kept.images) == min(num_images, memory.MOST_IMAGES)
    rows = [
        int(np.flatnonzero((x == image).all((1, 2, 3)))[0]) for image in kept.images
    ]
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(kept.image_scores, scores[rows])
    assert kept.pixel_range == (x.min(), x.max())
    assert kept.num_out_of_range == 0


def test_the_sample_is_of_the_whole_stream(detector):
    marks = np.arange(2000, dtype=np.float32) / 2000
    detector.score(np.broadcast_to(marks[:, None, None, None], (2000, 8, 8, 1)))
    kept = np.sort(detector.memory.of_all().images[:, 0, 0, 0])
    # The largest gap of 64 uniform draws stays below this in all but 1 of 10,000.
    assert np.diff([0, *kept, 1]).max() < 0.22


def test_memory_is_bounded_for_images_of_any_size():
    for size in (8, 100, 600):
        kept = memory.Memory((size, size, 3))
        for _ in range(20):
            watch = kept.watch([np.zeros((70, size, size, 3), np.float32)])
            count = sum(len(batch) for batch in watch)
            kept.add(watch, np.zeros(count, np.float32))
        values = kept.of_all().images.size
        assert values <= max(2**20, size * size * 3)
        assert len(kept.of_all().images) >= 1
        assert len(kept._calls) <= 4
        assert kept.of_all().num_images == 20 * 70


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, 0), (-0.0005, 1.0005, 0), (0, 255, 50), (-1, 1, 50), (np.nan, 1, 50)],
)
def test_what_is_out_of_range_is_counted(detector, low, high, expected):
    x = images(50, high=1.0)
    x[:, 0, 0, 0], x[:, 1, 0, 0] = low, high
    detector.score(x)
    assert detector.memory.of_all().num_out_of_range == expected


@pytest.mark.parametrize("method", [calibration.conformal, calibration.quantile])
def test_the_call_that_chose_the_threshold_is_known(detector, method):
    calls = [images(200, seed, high=high) for seed, high in enumerate((0.4, 0.7, 1.0))]
    scores = [detector.score(x) for x in calls]
    for x, one in zip(calls, scores, strict=True):
        found = detector.memory.of_threshold(method(one, 0.9))
        assert found.pixel_range == (x.min(), x.max())
    other = calibration.conformal(scores[0][:150], 0.9)
    assert detector.memory.of_threshold(other) is None


def test_a_call_of_as_many_other_images_is_not_taken_for_it(detector):
    threshold = calibration.conformal(detector.score(images(200)), 0.9)
    others = detectors.get("energy", num_classes=3).fit(detector.network.model)
    others.score(images(200, seed=1, low=0.9, high=20.0))
    assert others.memory.of_threshold(threshold) is None


def test_equal_scores_are_no_hindrance(detector):
    x = images(200)
    x[100:] = x[100]
    scores = detector.score(x)
    for target in (0.3, 0.6, 0.9):
        threshold = calibration.quantile(scores, target)
        assert detector.memory.of_threshold(threshold) is not None


def test_fitting_forgets(detector):
    detector.score(images(3))
    detector.fit(detector.network.model)
    assert detector.memory.of_all() is None


def test_weights_of_layers_forget_the_scores_of_before(trained, data):
    layers = [layer.name for layer in trained[3].layers if layer.weights]
    detector = detectors.get("mahalanobis", layers=layers).fit(trained[3], data.train)
    detector.score(data.known)
    detector.weigh_layers(data.known, data.unknown)
    assert detector.memory.of_all() is None


def test_it_is_in_no_file(detector, tmp_path):
    detector.score(images(50))
    path = detectors.save(detector, tmp_path)
    assert detectors.load(path, detector.network.model).memory.of_all() is None
    assert "memory" not in path.read_text()
    with np.load(path.with_suffix(".npz")) as arrays:
        assert not arrays.files


def test_what_the_user_does_to_the_arrays_changes_nothing(detector):
    x = images(50)
    scores = detector.score(x)
    threshold = calibration.conformal(scores, 0.9)
    kept = detector.memory.of_threshold(threshold)
    before = kept.images.copy(), kept.scores.copy(), kept.image_scores.copy()
    x[:], scores[:] = 7, 7
    for array, copied in zip(
        (kept.images, kept.scores, kept.image_scores), before, strict=True
    ):
        np.testing.assert_array_equal(array, copied)


@pytest.mark.parametrize("sizes", [[1] * 200, [1, 2, 3] * 50, [40, 70, 1, 63, 64, 1]])
@pytest.mark.parametrize("in_one_call", [True, False])
def test_small_calls_and_batches_count_as_large_ones(detector, sizes, in_one_call):
    x = images(sum(sizes))
    x[3, 0, 0, 0], x[-1, 0, 0, 0], x[-2, 0, 0, 0] = 9, -4, np.nan
    parts = np.split(x, np.cumsum(sizes)[:-1])
    if in_one_call:
        scores = detector.score(parts)
    else:
        scores = np.concatenate([detector.score(part) for part in parts])
    kept = detector.memory.of_all()
    assert (kept.num_images, kept.num_out_of_range) == (len(x), 3)
    assert kept.pixel_range == (-4, 9)
    assert len(kept.images) == memory.MOST_IMAGES
    known = ~np.isnan(kept.images).any((1, 2, 3))
    rows = [
        int(np.flatnonzero((x == image).all((1, 2, 3)))[0])
        for image in kept.images[known]
    ]
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(kept.image_scores[known], scores[rows])


def test_of_small_calls_the_last_four_are_told_apart(detector):
    calls = [images(30 + seed, seed) for seed in range(9)]
    thresholds = [calibration.conformal(detector.score(x), 0.9) for x in calls]
    for x, threshold in zip(calls[-4:], thresholds[-4:], strict=True):
        assert detector.memory.of_threshold(threshold).num_images == len(x)
        assert detector.memory.of_threshold(threshold).pixel_range[1] == x.max()


@pytest.mark.parametrize("num_images", [1, 50])
def test_what_waits_to_be_looked_at_is_a_copy(detector, num_images):
    x = images(num_images)
    before = x.copy()
    scores = detector.score(x)
    right = scores.copy()
    x[:], scores[:] = 7, 7
    kept = detector.memory.of_all()
    assert kept.pixel_range == (before.min(), before.max())
    order = [
        int(np.flatnonzero((before == image).all((1, 2, 3)))[0])
        for image in kept.images
    ]
    np.testing.assert_array_equal(kept.image_scores, right[order])


def test_a_buffer_that_its_owner_fills_again_is_copied(detector):
    x = images(12)
    buffer = np.empty((3, 8, 8, 1), np.float32)

    def batches():
        for start in range(0, 12, 3):
            buffer[:] = x[start : start + 3]
            yield buffer

    detector.score(batches())
    kept = detector.memory.of_all().images
    np.testing.assert_array_equal(np.sort(kept, axis=0), np.sort(x, axis=0))


def split(names, role="validation"):
    from ood_keras import pipelines

    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
    return pipelines.Split("mine", role, pixels, np.arange(60) % len(names), names)


@pytest.mark.tensorflow
def test_datasets_bring_the_names_of_their_classes(trained):
    from ood_keras import pipelines

    names = ("cat", "dog", "bird")
    assert split(names).dataset().class_names == list(names)
    mixed = pipelines.interleave(split(names, "train"), None, num_classes=3)
    assert mixed.class_names == list(names)
    assert not hasattr(split(names).as_unknown().dataset(), "class_names")
    detector = detectors.get("knn", k=2).fit(trained[3], split(names).dataset())
    assert detector.class_names == names
    scores = detector.score(split(names).dataset())
    found = detector.memory.of_threshold(calibration.quantile(scores, 0.9))
    assert found.class_names == names
    assert detector.fit(trained[3], (images(9), np.arange(9) % 3)).class_names is None


@pytest.mark.parametrize("names", [None, [], "abc", [1, 2], {"a": 1}, 3])
def test_other_things_are_no_names(names):
    assert memory.class_names_of(types.SimpleNamespace(class_names=names)) is None


@pytest.mark.tensorflow
def test_a_dataset_of_tensorflow_has_no_names():
    import tensorflow as tf

    assert memory.class_names_of(tf.data.Dataset.range(3)) is None
