"""Mahalanobis distance to the nearest class, relative to that to all known images."""

import numpy as np
from keras import ops

from ood_keras.detectors import gaussian
from ood_keras.detectors.base import Detector, check_fraction
from ood_keras.detectors.statistics import ClassSums, whitening


class RelativeMahalanobis(Detector):
    """Scores by the nearest class distance less the distance to all known images.

    Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection",
    2021: `min_c (z - m_c)' S^-1 (z - m_c) - (z - m)' S_0^-1 (z - m)`, with one
    covariance S about the class means m_c and one, S_0, about the common mean m. What
    is strange in directions that tell no class from another cancels. Higher is more
    unknown.

    Args:
        shrinkage: s in [0, 1), for both covariances; see `Mahalanobis`.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `shrinkage` is out of range.

    Example:

    >>> detector = RelativeMahalanobis().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "relative_mahalanobis"
    learns = True
    needs_labels = True

    def __init__(self, *, shrinkage=0.0, **kwargs):
        super().__init__(**kwargs)
        self.shrinkage = check_fraction("shrinkage", shrinkage)

    def get_config(self):
        return {**super().get_config(), "shrinkage": self.shrinkage}

    def score_outputs(self, outputs):
        distances = gaussian.squared_distances(
            outputs["features"],
            self._tensor("mean"),
            self._tensor("whitening"),
            self._tensor("class_means"),
        )
        centred = outputs["features"] - self._tensor("mean")
        background = ops.matmul(centred, self._tensor("background_whitening"))
        return ops.min(distances, axis=-1) - ops.sum(ops.square(background), axis=-1)

    def _fit(self, network, data, validation):
        sums = ClassSums(self.num_classes, network.feature_size)
        for outputs, labels in self._known_batches(network, data):
            sums.add(outputs["features"], labels)
        background = whitening(sums.covariance(), self.shrinkage)
        self.arrays = {
            **gaussian.fit(sums, self.num_classes, self.shrinkage),
            "background_whitening": background.astype(np.float32),
        }
