"""Detectors that are fitted together, and what the first layers of a network tell."""

import contextlib
import functools
import threading

import keras
import numpy as np
import pytest
from keras import layers

from ood_keras import detectors
from ood_keras.detectors import Network, first_layers
from ood_keras.detectors import network as network_room
from ood_keras.detectors.compiled import compile_function
from ood_keras.layers import PixelScaling

# What walks twice or reads inner layers, if it is fitted by itself.
INSIDE = [
    "ensemble",
    "gram",
    "probability_and_distances",
    "probability_and_log_distances",
]
NAMES = ["energy", "knn", "vim", "react", "she", "mahalanobis", "gram", "openmax"]


class Counted:
    """Batches that know how often they were walked over."""

    def __init__(self, batches):
        self.batches, self.walks = batches, 0

    def __iter__(self):
        self.walks += 1
        return iter(self.batches)


@pytest.fixture(scope="module")
def batches(data):
    images, labels = data.train
    return [
        (images[start : start + 60], labels[start : start + 60])
        for start in range(0, len(images), 60)
    ]


def test_each_is_as_if_it_had_been_fitted_by_itself(trained, data, batches):
    model = trained[3]
    fitted, refused = detectors.fit_together(
        [*NAMES, "unknown_probability"], model, batches, num_classes=3
    )
    assert list(fitted) == NAMES
    assert list(refused) == ["unknown_probability"]
    assert "unknown class" in refused["unknown_probability"]
    for name, detector in fitted.items():
        alone = detectors.get(name, num_classes=3).fit(model, batches)
        assert detector.get_config() == alone.get_config()
        arrays = alone.get_arrays()
        assert arrays.keys() == detector.get_arrays().keys()
        for key, array in detector.get_arrays().items():
            np.testing.assert_allclose(array, arrays[key], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            detector.score(data.known), alone.score(data.known), rtol=1e-4, atol=1e-4
        )


def test_readers_of_the_outputs_share_one_pass(trained, batches):
    counted = Counted(batches)
    reading = ["energy", "knn", "vim", "react", "she", "openmax", "kl_matching"]
    fitted, _ = detectors.fit_together(reading, trained[3], counted, num_classes=3)
    assert list(fitted) == reading
    assert counted.walks == 1
    # Nor do those that look inside ask for another.
    detectors.fit_together([*reading, "gram"], trained[3], counted, num_classes=3)
    assert counted.walks == 2


@pytest.fixture(scope="module")
def with_relu():
    """A network whose inner layers "probability_and_distances" reads."""
    keras.utils.set_random_seed(0)
    network = [keras.Input((8, 8, 1))]
    for filters in (4, 6):
        network += [layers.Conv2D(filters, 3), layers.ReLU()]
    return keras.Sequential(
        [*network, layers.GlobalAveragePooling2D(), layers.Dense(3)]
    )


def names_alone():
    """The detectors that need no arguments."""
    for name in detectors.names():
        with contextlib.suppress(TypeError):
            detectors.get(name)
            yield name


def test_all_detectors_share_one_pass(with_relu, batches):
    counted = Counted(batches)
    fitted, refused = detectors.fit_together(
        names_alone(), with_relu, counted, num_classes=3
    )
    assert counted.walks == 1
    assert {*INSIDE, "knn", "odin", "weiper"} <= set(fitted)
    assert list(refused) == ["unknown_probability"]
    assert len(fitted["gram"].layers) == len(fitted[INSIDE[-1]].layers) == 2


@pytest.mark.parametrize("most_layer_bytes", [2**31, 1000])
def test_those_that_read_inner_layers_are_as_if_by_themselves(
    with_relu, data, batches, most_layer_bytes, monkeypatch
):
    recording = functools.partial(
        network_room.Recording, most_layer_bytes=most_layer_bytes
    )
    monkeypatch.setattr(network_room, "Recording", recording)
    counted = Counted(batches)
    fitted, _ = detectors.fit_together(INSIDE, with_relu, counted, num_classes=3)
    # Means that are too many to be kept are made again, by each that needs them.
    assert counted.walks == (1 if most_layer_bytes > 1000 else 5)
    for name in INSIDE:
        alone = detectors.get(name, num_classes=3).fit(with_relu, batches)
        arrays = alone.get_arrays()
        assert arrays.keys() == fitted[name].get_arrays().keys()
        for key, array in fitted[name].get_arrays().items():
            np.testing.assert_allclose(array, arrays[key], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            fitted[name].score(data.known),
            alone.score(data.known),
            rtol=1e-4,
            atol=1e-4,
        )


class ReadsMaps(detectors.Detector):
    """One's own, which reads a whole map and stops when it has seen enough."""

    name = "reads_maps"
    learns = True

    def __init__(self, *, most=10**6, mistake=False, **kwargs):
        super().__init__(**kwargs)
        self.most, self.mistake = most, mistake

    def get_config(self):
        return {**super().get_config(), "most": self.most, "mistake": self.mistake}

    def choose_layers(self, network):
        return tuple(network.inner_layers[:1])

    def fit_arrays(self, network, data, validation):
        maps = []
        for outputs, _ in self.known_batches(network, data):
            assert set(outputs["layers"]) == set(self.layers)
            maps.extend(outputs["layers"][self.layers[0]])
            if self.mistake:
                raise ValueError("my mistake")
            if len(maps) >= self.most:
                break
        self.arrays = {"mean": np.mean(maps, axis=0), "count": np.array(len(maps))}


def test_own_detectors_that_read_maps_take_part(with_relu, batches):
    counted = Counted(batches)
    own = [ReadsMaps(), "gram"]
    fitted, refused = detectors.fit_together(own, with_relu, counted, num_classes=3)
    assert counted.walks == 1 and not refused
    found = fitted["reads_maps"].get_arrays()
    expected = ReadsMaps(num_classes=3).fit(with_relu, batches).get_arrays()
    assert found["mean"].shape == (6, 6, 4)
    np.testing.assert_allclose(found["mean"], expected["mean"], rtol=1e-5, atol=1e-6)
    # One that has seen enough leaves, and the others read on.
    fitted, _ = detectors.fit_together(
        [ReadsMaps(most=60), "gram"], with_relu, counted, num_classes=3
    )
    assert fitted["reads_maps"].arrays["count"] == 60
    assert counted.walks == 2 and "gram" in fitted
    # So do they where one fails.
    fitted, refused = detectors.fit_together(
        [ReadsMaps(mistake=True), "gram", "knn"], with_relu, counted, num_classes=3
    )
    assert refused == {"reads_maps": "my mistake"}
    assert list(fitted) == ["gram", "knn"]


class Unreadable(ReadsMaps):
    """One whose formula fails on this network."""

    name = "unreadable"

    def fit_arrays(self, network, data, validation):
        list(self.known_batches(network, data, self._fail))

    def _fail(self, outputs):
        raise ValueError("no such formula")


class Misled(ReadsMaps):
    """One that names a layer which does not run."""

    name = "misled"

    def choose_layers(self, network):
        return ("spare",)


def test_one_that_does_not_fit_leaves_the_others_alone(with_relu, batches):
    class WithSpare(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.spare = with_relu, layers.Dense(2, name="spare")

        def call(self, images):
            return self.inner(images)

    network = WithSpare()
    network(np.zeros((1, 8, 8, 1), np.float32))
    counted = Counted(batches)
    fitted, refused = detectors.fit_together(
        [Unreadable(), Misled(), "gram", "knn"], network, counted, num_classes=3
    )
    assert list(fitted) == ["gram", "knn"]
    assert refused["unreadable"] == "no such formula"
    assert "'spare' does not run" in refused["misled"]
    assert counted.walks == 1


def test_an_error_in_the_pass_leaves_no_thread_behind(with_relu, batches):
    def broken():
        yield batches[0]
        raise OSError("the disk is gone")

    class Data:
        def __iter__(self):
            return broken()

    before = threading.active_count()
    with pytest.raises(OSError, match="the disk is gone"):
        detectors.fit_together(["gram", "knn"], with_relu, Data(), num_classes=3)
    assert threading.active_count() == before


def test_large_images_run_in_smaller_batches(with_relu, data, batches, monkeypatch):
    sizes = []

    def note_sizes(function):
        run = compile_function(function)

        def run_and_note(images):
            sizes.append(len(images))
            return run(images)

        return run_and_note

    whole, _ = detectors.fit_together(INSIDE, with_relu, batches, num_classes=3)
    monkeypatch.setattr(network_room, "compile_function", note_sizes)
    monkeypatch.setattr("ood_keras.detectors.compiled.files_at_once", lambda shape: 25)
    fitted, _ = detectors.fit_together(INSIDE, with_relu, batches, num_classes=3)
    assert sizes == [25, 25, 10] * len(batches)
    for name in INSIDE:
        np.testing.assert_allclose(
            fitted[name].score(data.known),
            whole[name].score(data.known),
            rtol=1e-4,
            atol=1e-4,
        )


def test_a_recording_is_of_its_own_data_only(trained, data, batches):
    network = Network(trained[3])
    other = [batches[0]]
    with network.record(batches):
        replayed = [outputs for outputs, _ in network.batches(batches)]
        (of_other,) = [outputs for outputs, _ in network.batches(other)]
        # Two that read at the same time each get all.
        both = zip(network.batches(batches), network.batches(batches), strict=True)
        for (one, labels), (other_one, other_labels) in both:
            np.testing.assert_array_equal(one["logits"], other_one["logits"])
            np.testing.assert_array_equal(labels, other_labels)
    afterwards = [outputs for outputs, _ in network.batches(batches)]
    assert len(replayed) == len(batches)
    for outputs, expected in zip(replayed, afterwards, strict=True):
        for name in ("logits", "features"):
            np.testing.assert_array_equal(outputs[name], expected[name])
    np.testing.assert_array_equal(of_other["logits"], afterwards[0]["logits"])


FIRST = {
    "nothing": ([], None),
    "255": ([layers.Rescaling(1 / 255)], "0,255"),
    "127.5": ([layers.Rescaling(1 / 127.5, offset=-1)], "0,255"),
    "unit": ([layers.Rescaling(2.0, offset=-1)], "0,1"),
    "after a flip": ([layers.RandomFlip(), layers.Rescaling(1 / 255)], "0,255"),
    "ImageNet": (
        [layers.Normalization(mean=[123.7, 116.3, 103.5], variance=[3409.0] * 3)],
        "0,255",
    ),
    "ImageNet in [0, 1]": (
        [layers.Normalization(mean=[0.48, 0.46, 0.41], variance=[0.05] * 3)],
        "0,1",
    ),
    "wrapped": ([PixelScaling(255.0), layers.Rescaling(1 / 255)], "0,1"),
    "too late": ([layers.Conv2D(3, 1), layers.Rescaling(1 / 255)], None),
}


@pytest.mark.parametrize("first", FIRST)
def test_first_layers_tell_the_pixels(first):
    added, expected = FIRST[first]
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), *added, layers.Flatten(), layers.Dense(2)]
    )
    images = np.random.default_rng(0).uniform(size=(2, 8, 8, 3)).astype(np.float32)
    told = first_layers.tell_pixels(model, images)
    assert (None if told is None else told[0]) == expected
    detector = detectors.get("energy", num_classes=2).fit(model)
    picture = (images * 255).astype(np.uint8)
    if expected == "0,255":
        with pytest.raises(TypeError, match=r"begins with the layer .* .Pixels in"):
            detector.score(picture)
    else:
        np.testing.assert_array_equal(
            detector.score(picture), detector.score(picture / np.float32(255))
        )


class Watched(layers.Layer):
    """Passes images on and knows how many came at once."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def call(self, images):
        self.largest = max(self.largest, images.shape[0] or 0)
        return images


def test_gaps_are_those_of_all_images_and_few_run_at_once():
    watched, normalized = Watched(), layers.BatchNormalization()
    model = keras.Sequential(
        [
            keras.Input((512, 512, 3)),
            watched,
            layers.Conv2D(2, 3, strides=64),
            normalized,
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    normalized.moving_mean.assign([0.1, -0.2])
    normalized.moving_variance.assign([0.5, 2.0])
    random = np.random.default_rng(0)
    images = random.uniform(size=(7, 512, 512, 3)).astype(np.float32)
    given = keras.ops.convert_to_numpy(model.layers[1](images)).reshape(-1, 2)
    variance = np.array([0.5, 2.0]) + normalized.epsilon
    expected = np.abs(given.mean(axis=0) - [0.1, -0.2]) / np.sqrt(variance) + np.abs(
        np.log((given.var(axis=0) + normalized.epsilon) / variance)
    )
    watched.largest = 0
    gaps = first_layers.measure_gaps(model, {"0,1": images, "black": 0 * images})
    assert gaps["0,1"] == pytest.approx(expected.mean(), rel=1e-5)
    assert gaps["black"] > gaps["0,1"]
    assert 1 <= watched.largest < 3


def test_one_detector_is_fitted_twice_by_names_of_ones_own(with_relu, batches):
    both = {"near": {"name": "knn", "k": 1}, "far": {"name": "knn", "k": 9}}
    seen = []
    fitted, _ = detectors.fit_together(
        both, with_relu, batches, num_classes=3, progress=seen.append
    )
    assert list(fitted) == seen == ["near", "far"]
    assert [fitted[name].k for name in both] == [1, 9]
    with pytest.raises(ValueError, match=r"two detectors are called 'knn'"):
        detectors.fit_together(["knn", both["far"]], with_relu, batches, num_classes=3)
