"""Trains a network and fits a detector on the backend that KERAS_BACKEND names.

    python trained_elsewhere.py FOLDER

FOLDER receives `model.keras`, the detector, and the images with their scores.
"""

import pathlib
import sys

import keras
import numpy as np

import ood_keras
from ood_keras import detectors


def main(folder):
    folder = pathlib.Path(folder)
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    images = random.random((60, 28, 28, 1), np.float32)
    labels = np.arange(60) % 4 - 1  # -1 is unknown
    images += 0.3 * labels[:, None, None, None]
    images = np.clip(images, 0, 1).astype(np.float32)
    model = ood_keras.models.se_alexnet(
        num_classes=3, filters=(4, 6), hidden_size=12, feature_size=8
    )
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9), ood_keras.losses.OpenSetLoss(3)
    )
    model.fit(images, labels, batch_size=20, epochs=2, verbose=0)
    detector = detectors.get("mahalanobis", num_classes=3, shrinkage=0.1)
    detector.fit(model, (images, labels))
    model.save(folder / "model.keras")
    detectors.save(detector, folder)
    np.savez(folder / "scored.npz", images=images, scores=detector.score(images))
    assert "tensorflow" not in sys.modules


if __name__ == "__main__":
    import no_tensorflow  # noqa: F401 - from here on, it is not there

    main(sys.argv[1])
