"""What the detectors that keep training features share."""

import numpy as np
from keras import ops

from ood_keras.detectors.base import Detector, check_count
from ood_keras.detectors.statistics import Sample


class BankDetector(Detector):
    """A detector that keeps a bank: features of a random sample of training images.

    A subclass implements `_entries`, what is kept of the outputs of a batch.

    Args:
        k: How many neighbours in the bank count; at most as many as it holds.
        bank_size: Cap of the bank: `4 * bank_size * feature_size` bytes, in files and
            exported models too.
        seed: Of the random sample.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `k` or `bank_size` is not positive, or, on `fit`, there are fewer
            images than k.
    """

    learns = True

    def __init__(self, *, k, bank_size, seed=0, **kwargs):
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

    def _entries(self, outputs):
        """What the bank keeps of each image, `(batch, D)`."""
        raise NotImplementedError

    def _fit(self, network, data, validation):
        sample = Sample(self.bank_size, self.seed)
        for entries, _ in self._known_batches(network, data, self._entries):
            sample.add(entries=entries)
        bank = sample.rows()["entries"]
        if len(bank) < self.k:
            raise ValueError(
                f"k={self.k} neighbours need as many known images. Received: "
                f"{len(bank)}. Give a smaller k, or more images"
            )
        self.arrays = {"bank": bank.astype(np.float32)}


def unit_length(features):
    """Features `(batch, D)` scaled to length 1; a zero vector stays zero."""
    length = ops.norm(features, axis=-1, keepdims=True)
    return features / ops.maximum(length, 1e-30)
