"""Neural-collapse-inspired detector."""

from typing import Any

import numpy as np
from keras import ops

from ood_keras.conventions import check_number
from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import ROUNDING, Sample, Sums
from ood_keras.types import Images, Json, Outputs, Tensor


@register
class NCI(Detector):
    """Scores by how far features are from the weights of their class, and how short.

    Liu and Qin, "Detecting Out-of-Distribution Through the Lens of Neural Collapse",
    CVPR 2025 (arXiv:2311.01479). Features of trained networks lie near the weights of
    their class, once their mean over all known images, m, is taken off, and known ones
    are longer than others. With w the weights of the predicted class, the score is

        -(w' (z - m) / ||z - m|| + alpha ||z||_1)

    Higher is more unknown.

    Args:
        alpha: At least 0, the weight of the length. The authors choose it for each
            network by validation images; `None` makes both terms vary alike over the
            known training images, the ratio of their standard deviations, so that no
            unknown image is needed.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `alpha` is negative, or, on `fit`, the model does not end in a Dense
            layer.

    Example:

    >>> detector = NCI().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "nci"
    learns = True

    def __init__(self, *, alpha: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = None if alpha is None else check_number("alpha", alpha, "[0, inf)")

    def get_config(self) -> Json:
        return {**super().get_config(), "alpha": self.alpha}

    def score_outputs(self, outputs: Outputs) -> Tensor:
        features = outputs["features"]
        centred = features - self.get_tensor("mean")
        predicted = output_scores.predict(outputs["logits"], self.num_classes)
        weights = ops.matmul(predicted, self.get_tensor("weights"))
        # Nearer than rounding to the mean, the direction would be any.
        rounding = ROUNDING * np.linalg.norm(self.arrays["mean"])
        length = ops.maximum(ops.norm(centred, axis=-1), max(float(rounding), 1e-30))
        proximity = ops.sum(weights * centred, axis=-1) / length
        size = ops.sum(ops.abs(features), axis=-1)
        return -(proximity + self.get_tensor("alpha") * size)

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        sums, sample = Sums(), Sample(_SAMPLE_SIZE, shard=shard)
        for outputs, _ in self.known_batches(network, data):
            features = outputs["features"]
            sums.add(features=features)
            predicted = outputs["logits"][:, : self.num_classes].argmax(axis=1)
            sample.add(features=features, predicted=predicted)
        return {"sums": sums, "sample": sample}

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        weights = self.known_head(network)[0].T
        if network.num_units == 1:
            # The logits [0, z] are, to a softmax, [-z / 2, z / 2].
            weights = weights - weights.mean(axis=0)
        mean = statistics["sums"].mean("features")
        alpha = self.alpha
        if alpha is None:
            alpha = _equal_weight(
                statistics["sample"].rows(), mean, weights.astype(np.float64)
            )
        self.arrays = {
            "weights": weights,
            "mean": mean.astype(np.float32),
            "alpha": np.asarray(alpha, np.float32),
        }


# Enough images for two standard deviations: their error is below 1 %.
_SAMPLE_SIZE = 10_000


def _equal_weight(rows, mean, weights):
    """The alpha by which both terms have the same standard deviation."""
    centred = rows["features"] - mean
    length = np.linalg.norm(centred, axis=1)
    apart = length > ROUNDING * np.linalg.norm(mean)
    products = (weights[rows["predicted"]] * centred).sum(axis=1)
    proximity = np.divide(products, length, out=np.zeros_like(length), where=apart)
    sizes = np.abs(rows["features"]).sum(axis=1, dtype=np.float64)
    # Lengths that only rounding tells apart say nothing.
    is_spread = sizes.std() > ROUNDING * np.sqrt(np.square(sizes).mean())
    return proximity.std() / sizes.std() if is_spread else 0.0
