"""What the detectors that keep training features share."""

import math
from typing import Any

import numpy as np
from keras import ops

from ood_keras.conventions import check_count, check_seed
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.feature_space import FeatureDetector, without_none
from ood_keras.detectors.network import Network
from ood_keras.detectors.statistics import Sample
from ood_keras.types import Images, Json, Outputs, Tensor

# Below this, finding the groups costs what they save.
_SMALLEST_GROUP = 8


class BankDetector(FeatureDetector):
    """A detector that keeps a bank: features of a random sample of training images.

    A subclass implements `_entries`, what is kept of the outputs of a batch, linear in
    the normalised features.

    Args:
        k: How many neighbours in the bank count; at most as many as it holds.
        bank_size: Cap of the bank: `4 * bank_size * feature_size` bytes, in files and
            exported models too.
        seed: Of the random sample.
        normalize: As for `FeatureDetector`, but the default is to scale.
        **kwargs: `projection`, see `FeatureDetector`; `num_classes`, `logits`,
            `features`, see `Detector`.

    Raises:
        ValueError: `k` or `bank_size` is not positive, `seed` is no whole number, or,
            on `fit`, there are fewer images than k.
    """

    learns = True

    def __init__(
        self,
        *,
        k: int,
        bank_size: int,
        seed: int = 0,
        normalize: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(normalize=normalize, **kwargs)
        self.k = check_count("k", k)
        self.bank_size = check_count("bank_size", bank_size)
        self.seed = check_seed(seed)

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "k": self.k,
            "bank_size": self.bank_size,
            "seed": self.seed,
        }

    def _entries(self, outputs: Outputs) -> Tensor:
        """What the bank keeps of each image, `(batch, D)`, before it is projected."""
        raise NotImplementedError

    def _distance(self, features: Tensor) -> Tensor:
        """Of features in the space that is scored, to the k-th nearest in the bank.

        Args:
            features: `(batch, d)`.

        Returns:
            `(batch,)`.
        """
        bank = self.get_tensor("bank")
        nearness = ops.matmul(features, self.get_tensor("bank", transposed=True))
        # Of equal lengths, the largest product is the smallest distance.
        if not self.normalize or self.projection is not None:
            squares = np.square(self.arrays["bank"], dtype=np.float64).sum(axis=1)
            nearness = nearness - ops.convert_to_tensor(squares / 2, "float32")
        index = largest(nearness, self.k)[1][:, -1]
        # The product itself has no digits left where known images lie.
        return ops.norm(features - ops.take(bank, index, axis=0), axis=-1)

    def _read(self, outputs: Outputs) -> tuple[Tensor, Tensor]:
        return self._entries(outputs), self._normalized(outputs)[0]

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        sample = Sample(self.bank_size, self.seed, shard)
        moment = self._new_moment(network.feature_size)
        for (entries, features), _ in self.known_batches(network, data, self._read):
            sample.add(entries=entries)
            if moment is not None:
                moment.add(features)
        return without_none(sample=sample, moment=moment)

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        bank = statistics["sample"].rows()["entries"]
        if len(bank) < self.k:
            raise ValueError(
                f"k={self.k} neighbours need as many known images. Received: "
                f"{len(bank)}. Give a smaller k, or more images"
            )
        self._learn_projection(statistics.get("moment"))
        self.arrays["bank"] = self._project(bank).astype(np.float32)


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, as `ops.top_k`, several times as fast in long rows.

    The k largest lie in the k groups whose largest values are largest, so only those
    groups are searched one by one.

    Args:
        values: A tensor `(batch, n)`, n known.
        k: At most n.

    Returns:
        `(values, indices)`, both `(batch, k)`, the largest first.
    """
    num_values = values.shape[1]
    group_size = math.isqrt(num_values // k)
    if group_size < _SMALLEST_GROUP:
        return ops.top_k(values, k)
    num_groups, num_left = divmod(num_values, group_size)
    # Column j is in group j % num_groups: maxima over the first axis are the fast ones.
    grouped = values[:, : num_values - num_left] if num_left else values
    grouped = ops.reshape(grouped, (-1, group_size, num_groups))
    groups = ops.top_k(ops.max(grouped, axis=1), k)[1]
    firsts = ops.arange(group_size, dtype=groups.dtype) * num_groups
    indices = ops.reshape(firsts[:, None] + groups[:, None, :], (-1, group_size * k))
    if num_left:
        left = ops.arange(num_values - num_left, num_values, dtype=groups.dtype)
        left = ops.zeros_like(groups[:, :1]) + left
        indices = ops.concatenate([indices, left], axis=1)
    found, places = ops.top_k(ops.take_along_axis(values, indices, axis=1), k)
    return found, ops.take_along_axis(indices, places, axis=1)
