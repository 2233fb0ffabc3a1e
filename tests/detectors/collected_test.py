"""What is collected of parts of the data, and what does not belong together."""

import numpy as np
import pytest
from keras import ops

from ood_keras import detectors


def collect(model, data, shard=0, **arguments):
    detector = detectors.get("knn", num_classes=3, **arguments)
    return detector.collect(model, data, shard=shard)


def test_what_does_not_belong_together_is_refused(trained, data):
    model = trained[3]
    part = collect(model, data.train)
    with pytest.raises(ValueError, match="received shard 0 twice"):
        detectors.merge([part, part])
    with pytest.raises(ValueError, match="same detector with the same arguments"):
        detectors.merge([part, collect(model, data.train, 1, k=3)])
    with pytest.raises(ValueError, match="at least one part"):
        detectors.merge([])
    with pytest.raises(ValueError, match="expected what 'nnguide'"):
        detectors.get("nnguide", num_classes=3).learn(model, part)
    with pytest.raises(ValueError, match="`shard` must be an integer"):
        collect(model, data.train, shard=-1)
    with pytest.raises(ValueError, match="need not hold images of all classes"):
        detectors.get("knn").collect(model, data.train)
    with pytest.raises(ValueError, match="learns from known"):
        detectors.get("knn", num_classes=3).collect(model, None)


def test_an_ensemble_needs_images_for_its_scale(trained, data):
    ensemble = detectors.get("ensemble", num_classes=3)
    part = ensemble.collect(trained[3], data.train)
    with pytest.raises(ValueError, match="sets the scale of its members"):
        ensemble.learn(trained[3], part)


def test_a_bank_of_parts_has_its_cap(trained, data):
    detector = detectors.get("knn", num_classes=3, bank_size=50)
    images, labels = data.train
    parts = [
        detector.collect(trained[3], (images[rows], labels[rows]), shard=number)
        for number, rows in enumerate((slice(0, 200), slice(200, 300)))
    ]
    banks = [
        detector.learn(trained[3], detectors.merge(order)).get_arrays()["bank"]
        for order in (parts, parts[::-1])
    ]
    assert banks[0].shape == (50, 12)
    np.testing.assert_array_equal(banks[0], banks[1])


def test_a_class_without_images_is_found_when_all_parts_are_there(trained, data):
    images, labels = data.train
    detector = detectors.get("mahalanobis", num_classes=3)
    parts = [
        detector.collect(
            trained[3], (images[labels == n], labels[labels == n]), shard=n
        )
        for n in range(3)
    ]
    with pytest.raises(ValueError, match="class 1"):
        detector.learn(trained[3], detectors.merge([parts[0], parts[2]]))
    scores = detector.learn(trained[3], detectors.merge(parts)).score(data.known)
    expected = detectors.get("mahalanobis").fit(trained[3], data.train)
    np.testing.assert_allclose(scores, expected.score(data.known), rtol=1e-3, atol=1e-3)


def test_a_detector_of_its_own_way_of_fitting_says_how_to_merge(trained, data):
    class OwnFit(detectors.Detector):
        name = "own_fit"
        learns = True

        def fit_arrays(self, network, data, validation):
            for outputs, _ in self.known_batches(network, data):
                self.arrays = {"first": outputs["features"][0]}

        def score_outputs(self, outputs):
            return ops.sum(outputs["features"] * self.get_tensor("first"), axis=-1)

    detector = OwnFit(num_classes=3)
    assert detector.fit(trained[3], data.train).score(data.known).shape == (60,)
    with pytest.raises(TypeError, match="Define collect_statistics and learn_arrays"):
        detector.collect(trained[3], data.train)
