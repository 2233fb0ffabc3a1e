"""Distance to the k-th nearest known image."""

import numpy as np
from keras import ops

from ood_keras.detectors.base import Detector, check_count
from ood_keras.detectors.statistics import Sample


class KNN(Detector):
    """Scores by the distance of the features to the k-th nearest known training image.

    Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022.
    Features are scaled to length 1. The bank holds a random sample of at most
    `bank_size` training images; k counts neighbours in the bank, so that k = 5 of
    10,000 is what k = 25 is of 50,000. Higher is more unknown.

    Args:
        k: Which neighbour; at most as many as the bank holds.
        bank_size: Cap of the bank: `4 * bank_size * feature_size` bytes, in files and
            exported models too.
        seed: Of the random sample.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `k` or `bank_size` is out of range, or there are fewer images than
            k.

    Example:

    >>> detector = KNN(k=5).fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "knn"
    learns = True

    def __init__(self, *, k=5, bank_size=10_000, seed=0, **kwargs):
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
        features = unit_length(outputs["features"])
        bank = self._tensor("bank")
        similarities = ops.matmul(features, ops.transpose(bank))
        index = ops.top_k(similarities, self.k)[1][:, -1]
        # The similarity itself has no digits left near 1, where known images lie.
        return ops.norm(features - ops.take(bank, index, axis=0), axis=-1)

    def _fit(self, network, data, validation):
        sample = Sample(self.bank_size, self.seed)
        for features, _ in self._known_batches(network, data, _unit_features):
            sample.add(features=features)
        bank = sample.rows()["features"]
        check_enough(self.k, bank)
        self.arrays = {"bank": bank.astype(np.float32)}


def unit_length(features):
    """Features `(batch, D)` scaled to length 1; a zero vector stays zero."""
    length = ops.norm(features, axis=-1, keepdims=True)
    return features / ops.maximum(length, 1e-30)


def check_enough(k, bank):
    """Raises a ValueError if the bank holds fewer than k images."""
    if len(bank) < k:
        raise ValueError(
            f"k={k} neighbours need as many known images. Received: {len(bank)}. Give "
            "a smaller k, or more images"
        )


def _unit_features(outputs):
    return unit_length(outputs["features"])
