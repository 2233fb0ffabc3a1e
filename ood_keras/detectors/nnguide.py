"""Nearest-neighbour guidance."""

import numpy as np
from keras import ops

from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector, check_count
from ood_keras.detectors.knn import check_enough, unit_length
from ood_keras.detectors.statistics import Sample


class NNGuide(Detector):
    """Scores by the energy, weighed by the similarity to confident known images.

    Park, Jung and Teoh, "Nearest Neighbor Guidance for Out-of-Distribution Detection",
    ICCV 2023: features are scaled to length 1, those of the bank also multiplied by
    their `log(sum_k exp(z_k))`; the guidance is the mean of the k largest products with
    the bank; the score is the negative product of guidance and `log(sum_k exp(z_k))`.
    Higher is more unknown.

    Args:
        k: How many products are averaged; at most as many as the bank holds.
        bank_size: Cap of the bank, a random sample of the training images.
        seed: Of the random sample.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `k` or `bank_size` is out of range, or there are fewer images than
            k.

    Example:

    >>> detector = NNGuide().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "nnguide"
    learns = True

    def __init__(self, *, k=10, bank_size=10_000, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.k = check_count("k", k)
        self.bank_size = check_count("bank_size", bank_size)
        self.seed = int(seed)

    def get_config(self):
        return {
            **super().get_config(),
            "k": self.k,
            "bank_size": self.bank_size,
            "seed": self.seed,
        }

    def score_outputs(self, outputs):
        features, confidence = self._read(outputs)
        products = ops.matmul(features, ops.transpose(self._tensor("bank")))
        guidance = ops.mean(ops.top_k(products, self.k)[0], axis=-1)
        return -confidence * guidance

    def _fit(self, network, data, validation):
        sample = Sample(self.bank_size, self.seed)
        for (features, confidence), _ in self._known_batches(network, data, self._read):
            sample.add(features=features * confidence[:, None])
        bank = sample.rows()["features"]
        check_enough(self.k, bank)
        self.arrays = {"bank": bank.astype(np.float32)}

    def _read(self, outputs):
        energy = output_scores.energy(outputs["logits"], self.num_classes)
        return unit_length(outputs["features"]), -energy
