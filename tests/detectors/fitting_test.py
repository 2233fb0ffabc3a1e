"""Detectors that are fitted together, and what the first layers of a network tell."""

import keras
import numpy as np
import pytest
from keras import layers

from ood_keras import detectors
from ood_keras.detectors import Network, first_layers
from ood_keras.layers import PixelScaling

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
    # And one more for those that look inside.
    detectors.fit_together([*reading, "gram"], trained[3], counted, num_classes=3)
    assert counted.walks == 3


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
        with pytest.raises(TypeError, match="divide bytes by 255"):
            detector.score(picture)
    else:
        np.testing.assert_array_equal(
            detector.score(picture), detector.score(picture / np.float32(255))
        )
