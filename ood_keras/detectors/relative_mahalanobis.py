"""Mahalanobis distance to the nearest class, relative to that to all known images."""

from typing import Any

import numpy as np
from keras import ops

from ood_keras.conventions import check_fraction
from ood_keras.detectors import gaussian
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.feature_space import FeatureDetector
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import ClassSums
from ood_keras.types import Images, Json, Outputs, Tensor


@register
class RelativeMahalanobis(FeatureDetector):
    """Scores by the nearest class distance less the distance to all known images.

    Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection",
    2021: `min_c (z - m_c)' S^-1 (z - m_c) - (z - m)' S_0^-1 (z - m)`, with one
    covariance S about the class means m_c and one, S_0, about the common mean m.
    Deviations along directions that do not separate the classes cancel. Higher is more
    unknown.

    S_0 is S plus the covariance of the class means, so the two distances differ only
    within the space that the whitened class means span, of at most N - 1 directions.
    Just that space is kept, and the rest cancels exactly, not up to rounding.

    Args:
        shrinkage: s in [0, 1), of S; see `Mahalanobis`.
        cutoff: In [0, 1), of S; see `Mahalanobis`. Directions that it leaves out are
            left out of both distances.
        **kwargs: `normalize` (RMDS++), `projection`, see `FeatureDetector`;
            `num_classes`, `logits`, `features`, see `Detector`.

    Raises:
        ValueError: an argument is out of range; or, on `fit`, the classes have the same
            mean, or none has two images that differ.

    Example:

    >>> detector = RelativeMahalanobis().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "relative_mahalanobis"
    least_classes = 2
    learns = True
    needs_labels = True

    def __init__(
        self, *, shrinkage: float = 0.0, cutoff: float = 1e-4, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.shrinkage = check_fraction("shrinkage", shrinkage, zero=True)
        self.cutoff = check_fraction("cutoff", cutoff, zero=True)

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "shrinkage": self.shrinkage,
            "cutoff": self.cutoff,
        }

    def score_outputs(self, outputs: Outputs) -> Tensor:
        class_means = self.get_tensor("class_means")
        centred = self._features(outputs)[0] - self.get_tensor("mean")
        place = ops.matmul(centred, self.get_tensor("projection"))
        # The squares of `place` in both distances, and their difference.
        common = ops.sum(ops.square(place) * self.get_tensor("difference"), axis=-1)
        products = ops.matmul(place, self.get_tensor("class_means", transposed=True))
        offsets = ops.sum(ops.square(class_means), axis=-1)
        return common + ops.min(offsets - 2.0 * products, axis=-1)

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        sums = ClassSums(self.num_classes, network.feature_size)
        for (features,), labels in self.known_batches(network, data, self._normalized):
            sums.add(features, labels)
        return {"sums": sums}

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        sums = self._project_sums(statistics["sums"])
        fitted = gaussian.fit(sums, self.num_classes, self.shrinkage, self.cutoff)
        class_means = fitted["class_means"].astype(np.float64)
        share = sums.counts / sums.counts.sum()
        # Whitened, S is the identity and S_0 the identity plus the square of this.
        spread = np.sqrt(share)[:, None] * class_means
        _, lengths, directions = np.linalg.svd(spread, full_matrices=False)
        # In units of the spread within classes, so 1 is a usual length.
        kept = lengths > _NO_LENGTH * max(lengths.max(initial=0.0), 1.0)
        if not kept.any():
            raise ValueError(
                "the features of all classes have the same mean, so that no class is "
                "nearer than all known images are. Check the labels, read another "
                "layer, or choose another detector, such as 'mahalanobis'"
            )
        lengths, directions = lengths[kept], directions[kept].T
        self.arrays |= {
            "mean": fitted["mean"],
            "projection": (fitted["whitening"] @ directions).astype(np.float32),
            "class_means": (class_means @ directions).astype(np.float32),
            "difference": (1.0 - 1.0 / (1.0 + lengths**2)).astype(np.float32),
        }


# The common mean lies among the class means, so one direction fewer than there are
# classes is left, up to float32 rounding of the means.
_NO_LENGTH = 1e-5
