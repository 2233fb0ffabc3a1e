"""Simplified Hopfield energy."""

import numpy as np
from keras import ops

from ood_keras.detectors import output_scores
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.feature_space import FeatureDetector, without_none
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import CorrectMeans
from ood_keras.types import Images, Outputs, Tensor


@register
class SHE(FeatureDetector):
    """Scores by the inner product of features with the pattern of the predicted class.

    Zhang et al., "Out-of-Distribution Detection based on In-Distribution Data Patterns
    Memorization with Modern Hopfield Energy", ICLR 2023. The pattern of a class is the
    mean feature of its correctly classified training images, or of all its images if
    none is classified correctly. The score is the negative inner product. Higher is
    more unknown.

    Args:
        **kwargs: `normalize`, `projection`, see `FeatureDetector`; `num_classes`,
            `logits`, `features`, see `Detector`.

    Example:

    >>> detector = SHE().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "she"
    learns = True
    needs_labels = True

    def score_outputs(self, outputs: Outputs) -> Tensor:
        (features,) = self._features(outputs)
        products = ops.matmul(features, self.get_tensor("patterns", transposed=True))
        predicted = output_scores.predict(outputs["logits"], self.num_classes)
        return -ops.sum(predicted * products, axis=-1)

    def _read(self, outputs: Outputs) -> tuple[Tensor, Tensor]:
        return self._normalized(outputs)[0], outputs["logits"][:, : self.num_classes]

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        means = CorrectMeans(self.num_classes, network.feature_size)
        moment = self._new_moment(network.feature_size)
        for (features, logits), labels in self.known_batches(network, data, self._read):
            means.add(features, labels, logits.argmax(axis=1))
            if moment is not None:
                moment.add(features)
        return without_none(means=means, moment=moment)

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        self._learn_projection(statistics.get("moment"))
        patterns = self._project(statistics["means"].means())
        self.arrays["patterns"] = patterns.astype(np.float32)
