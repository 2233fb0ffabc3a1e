"""Distance to the nearest mean."""

import numpy as np
from keras import ops

from ood_keras import detectors


@detectors.register
class NearestMean(detectors.Detector):
    """Scores by the distance of the features to the nearest class mean."""

    name = "nearest_mean"
    learns = True
    needs_labels = True

    def fit_arrays(self, network, data, validation):
        sums, counts = 0.0, np.zeros(self.num_classes)
        for outputs, labels in self.known_batches(network, data):
            classes = np.eye(self.num_classes)[labels]
            sums = sums + classes.T @ outputs["features"]
            counts += classes.sum(axis=0)
        self.arrays = {"means": (sums / counts[:, None]).astype(np.float32)}

    def score_outputs(self, outputs):
        gaps = outputs["features"][:, None] - self.get_tensor("means")
        return ops.min(ops.sqrt(ops.sum(gaps**2, axis=-1)), axis=-1)
