"""Distance to the decision boundaries."""

import numpy as np
from keras import ops

from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import ROUNDING, Sums
from ood_keras.types import Images, Outputs, Tensor


@register
class FDBD(Detector):
    """Scores by how near the features are to the boundaries with the other classes.

    Liu and Qin, "Fast Decision Boundary based Out-of-Distribution Detector", ICML 2024.
    The distance of features to the boundary between the predicted class f and class c
    is `(z_f - z_c) / ||w_f - w_c||`, with z the logits and w the columns of the head.
    The score is the negative mean over c, divided by the distance of the features from
    their mean over the known training images. Higher is more unknown.

    Raises:
        ValueError: on `fit`, if the model does not end in a Dense layer.

    Example:

    >>> detector = FDBD().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "fdbd"
    least_classes = 2
    learns = True

    def score_outputs(self, outputs: Outputs) -> Tensor:
        known, _ = output_scores.split(outputs["logits"], self.num_classes)
        gaps = ops.max(known, axis=-1, keepdims=True) - known
        predicted = output_scores.predict(outputs["logits"], self.num_classes)
        distances = gaps * ops.matmul(predicted, self.get_tensor("inverse_lengths"))
        mean = ops.sum(distances, axis=-1) / (self.num_classes - 1)
        spread = ops.norm(outputs["features"] - self.get_tensor("mean"), axis=-1)
        # Nearer than rounding to the mean, the distance would be any small number.
        rounding = ROUNDING * np.linalg.norm(self.arrays["mean"])
        return -mean / ops.maximum(spread, max(float(rounding), 1e-30))

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        sums = Sums()
        for outputs, _ in self.known_batches(network, data):
            sums.add(features=outputs["features"])
        return {"sums": sums}

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        weights = self.known_head(network)[0].T.astype(np.float64)
        # Not by way of products: of equal columns nothing must be left, not rounding.
        lengths = np.stack([np.linalg.norm(weights - row, axis=1) for row in weights])
        sizes = np.linalg.norm(weights, axis=1)
        apart = lengths > ROUNDING * np.maximum(sizes[:, None], sizes)
        inverse = np.where(apart, 1.0 / np.where(apart, lengths, 1.0), 0.0)
        self.arrays = {
            "inverse_lengths": inverse.astype(np.float32),
            "mean": statistics["sums"].mean("features").astype(np.float32),
        }
