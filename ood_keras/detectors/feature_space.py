"""The space that detectors of features measure in: scaled to length 1, projected."""

from typing import Any

import numpy as np
from keras import ops

from ood_keras.conventions import check_count
from ood_keras.detectors.base import Detector
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.statistics import ClassSums, SecondMoment
from ood_keras.types import Json, Outputs, Tensor

_NAME = "principal_{}"


class FeatureDetector(Detector):
    """A detector that measures how far features are from known ones, in some way.

    Before that, features z may be scaled to length 1, z / ||z||, and projected on their
    principal subspace, z P. The length of features differs between classes and says
    little of an image; scaled, they are nearer to the Gaussians that a Mahalanobis
    distance takes them for: Mueller and Hein, "Mahalanobis++", ICML 2025, whose MDS++
    and RMDS++ are `Mahalanobis(normalize=True)` and
    `RelativeMahalanobis(normalize=True)`. P `(D, d)` holds the d directions, about the
    origin, from which the known features (as they are scaled) can be rebuilt with the
    least squared error. Lengths, distances and products in it are those of the
    features but for that error; a bank is smaller by d / D, in files and at work.

    A subclass collects what is `_normalized`, learns the projection with
    `_learn_projection`, applies it to what it has learnt with `_project`, and scores
    `_features`.

    Args:
        normalize: Whether features are scaled to length 1 first; those that are all 0
            stay so.
        projection: d, of the principal subspace, at most D; `None` projects nothing.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `projection` is not positive, or, on `fit`, above D.
    """

    def __init__(
        self,
        *,
        normalize: bool = False,
        projection: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.normalize = bool(normalize)
        self.projection = (
            None if projection is None else check_count("projection", projection)
        )

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "normalize": self.normalize,
            "projection": self.projection,
        }

    def _raw_features(self, outputs: Outputs) -> list[Tensor]:
        """What is measured, each `(batch, D)`: the features, unless it is layers."""
        return [outputs["features"]]

    def _normalized(self, outputs: Outputs) -> list[Tensor]:
        """`_raw_features`, scaled to length 1 where that is asked for."""
        features = self._raw_features(outputs)
        return [unit_length(each) for each in features] if self.normalize else features

    def _features(self, outputs: Outputs) -> list[Tensor]:
        """What is scored, each `(batch, d)`, after `fit`."""
        features = self._normalized(outputs)
        if self.projection is None:
            return features
        return [
            ops.matmul(each, self.get_tensor(_NAME.format(index)))
            for index, each in enumerate(features)
        ]

    def _new_moment(self, size: int) -> SecondMoment | None:
        """What `_learn_projection` learns from, if there is anything to learn."""
        return None if self.projection is None else SecondMoment(size)

    def _learn_projection(self, moment: Any, index: int = 0) -> None:
        """Puts P into `self.arrays`.

        Args:
            moment: Has `second_moment()` of the normalised features; not looked at
                where nothing is projected.
            index: Of the features, where there are several.
        """
        if self.projection is None:
            return
        vectors = np.linalg.eigh(moment.second_moment())[1]
        size = len(vectors)
        if self.projection > size:
            raise ValueError(
                f"`projection` must be at most the number of features, {size}. "
                f"Received: projection={self.projection}"
            )
        principal = vectors[:, size - self.projection :]
        self.arrays[_NAME.format(index)] = principal.astype(np.float32)

    def _project(self, rows: np.ndarray, index: int = 0) -> np.ndarray:
        """Rows `(n, D)` of what was learnt, in the space that is scored, `(n, d)`."""
        matrix = self._projection_matrix(index)
        return rows if matrix is None else rows @ matrix

    def _project_sums(self, sums: ClassSums, index: int = 0) -> ClassSums:
        """Learns the projection from sums, and gives the sums of projected features."""
        self._learn_projection(sums, index)
        matrix = self._projection_matrix(index)
        return sums if matrix is None else sums.project(matrix)

    def _projection_matrix(self, index: int) -> np.ndarray | None:
        """P as it is scored with, float64, or `None`."""
        if self.projection is None:
            return None
        return self.arrays[_NAME.format(index)].astype(np.float64)


def without_none(**statistics: Any) -> Statistics:
    """Statistics by name, those left out that are `None`."""
    return {name: each for name, each in statistics.items() if each is not None}


def unit_length(features: Tensor) -> Tensor:
    """Features `(batch, D)` scaled to length 1; a zero vector stays zero."""
    length = ops.norm(features, axis=-1, keepdims=True)
    return features / ops.maximum(length, 1e-30)
