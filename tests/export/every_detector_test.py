"""Every detector of the library, inside the served graph."""

import keras
import numpy as np
import pytest
from small_export import IMAGE_SHAPE, NUM_CLASSES, Session, classifier

from ood_keras import detectors
from ood_keras.export import parity, serving

ARGUMENTS = {"ensemble": {"detectors": ["energy", "mahalanobis"]}}


@pytest.fixture(scope="module")
def model():
    return classifier()


@pytest.mark.parametrize("name", detectors.names())
def test_it_scores_in_the_graph_as_it_does_outside(exported, model, name, tmp_path):
    labels = np.arange(len(exported.images)) % NUM_CLASSES
    detector = detectors.get(name, **ARGUMENTS.get(name, {}))
    detector.fit(model, (exported.images, labels))
    images = parity.probes(IMAGE_SHAPE, 50)
    scores = detector.score(images)
    assert "saved_model" in detector.exports
    # Between two scores, where rounding decides nothing.
    ordered = np.unique(scores)
    middle = np.argmax(np.diff(ordered[10:-10])) + 10
    threshold = np.float32((ordered[middle] + ordered[middle + 1]) / 2)
    serving.save(tmp_path, detector, threshold, list("abc"), IMAGE_SHAPE)
    run = Session(tmp_path)
    answers = [
        run("serving_default", image=images[row : row + 7])
        for row in range(0, len(scores), 7)
    ]
    answer = {
        key: np.concatenate([part[key] for part in answers]) for key in answers[0]
    }
    # Standardised scores are differences of larger numbers.
    scale = 3 * max(1, np.abs(scores).max())
    np.testing.assert_allclose(
        answer["ood_score"], scores, rtol=1e-4, atol=1e-5 * scale
    )
    np.testing.assert_array_equal(answer["accepted"], scores <= threshold)
    bad = images[:7].copy()
    bad[2, 0, 0], bad[5] = np.nan, 255
    mixed = run("serving_default", image=bad)
    np.testing.assert_array_equal(mixed["valid"], [1, 1, 0, 1, 1, 0, 1])
    good = [0, 1, 3, 4, 6]
    np.testing.assert_array_equal(
        mixed["ood_score"][good], answers[0]["ood_score"][good]
    )
    assert len(run("serving_default", image=images[:0])["class_id"]) == 0
    # As a layer of a Keras model.
    served = keras.layers.TFSMLayer(str(tmp_path), call_endpoint="serving_default")
    pixels = keras.Input(IMAGE_SHAPE)
    within = keras.Model(pixels, served(pixels)).predict(images, verbose=0)
    for key in ("accepted", "class_id", "label"):
        np.testing.assert_array_equal(within[key], answer[key])
    np.testing.assert_allclose(
        within["ood_score"], answer["ood_score"], rtol=1e-4, atol=1e-5 * scale
    )
