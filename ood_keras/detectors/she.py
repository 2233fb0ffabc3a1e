"""Simplified Hopfield energy."""

import numpy as np
from keras import ops

from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import CorrectMeans
from ood_keras.types import Outputs, Tensor


@register
class SHE(Detector):
    """Scores by the inner product of features with the pattern of the predicted class.

    Zhang et al., "Out-of-Distribution Detection based on In-Distribution Data Patterns
    Memorization with Modern Hopfield Energy", ICLR 2023. The pattern of a class is the
    mean feature of its correctly classified training images, or of all its images if
    none is classified correctly. The score is the negative inner product. Higher is
    more unknown.

    Example:

    >>> detector = SHE().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "she"
    learns = True
    needs_labels = True

    def score_outputs(self, outputs: Outputs) -> Tensor:
        products = ops.matmul(
            outputs["features"], ops.transpose(self._tensor("patterns"))
        )
        predicted = output_scores.predict(outputs["logits"], self.num_classes)
        return -ops.sum(predicted * products, axis=-1)

    def _fit(self, network, data, validation):
        means = CorrectMeans(self.num_classes, network.feature_size)
        for outputs, labels in self._known_batches(network, data):
            predicted = outputs["logits"][:, : self.num_classes].argmax(axis=1)
            means.add(outputs["features"], labels, predicted)
        self.arrays = {"patterns": means.means().astype(np.float32)}
