"""Virtual-logit matching."""

from typing import Any, Literal

import numpy as np
from keras import ops

from ood_keras.conventions import check_count
from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import ROUNDING, Sample
from ood_keras.types import Json, Outputs, Tensor


@register
class ViM(Detector):
    """Scores by what of the features the principal space misses, against the logits.

    Wang et al., "ViM: Out-Of-Distribution with Virtual-logit Matching", CVPR 2022. The
    origin `o` is where the head gives no class an advantage, `-pinv(W)' b`. `R` spans
    what is left of feature space beyond the `dimension` directions in which known
    images spread most about `o`. The score is `alpha ||R'(z - o)|| - log(sum_k
    exp(z_k))`, alpha scaling the first term to the size of the largest logits. Higher
    is more unknown.

    Args:
        dimension: Of the principal space, below the number of features D; `None` takes
            1000 for D >= 2048, 512 for D >= 768, else D / 2, as the authors do.
        origin: "head", the authors' `o`, or "mean", the mean of the known features,
            about which they spread less.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `dimension` is not below D, `origin` is something else, or the model
            does not end in a Dense layer.

    Example:

    >>> detector = ViM().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "vim"
    learns = True

    def __init__(
        self,
        *,
        dimension: int | None = None,
        origin: Literal["head", "mean"] = "head",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if origin not in ("head", "mean"):
            raise ValueError(
                f"`origin` must be 'head' or 'mean'. Received: origin={origin!r}"
            )
        self.origin = origin
        self.dimension = (
            None if dimension is None else check_count("dimension", dimension)
        )

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "dimension": self.dimension,
            "origin": self.origin,
        }

    def score_outputs(self, outputs: Outputs) -> Tensor:
        energy = output_scores.energy(outputs["logits"], self.num_classes)
        # `residual` holds R times alpha.
        left = ops.matmul(
            outputs["features"] - self._tensor("origin"), self._tensor("residual")
        )
        return ops.norm(left, axis=-1) + energy

    def _fit(self, network, data, validation):
        kernel, bias = self._known_head(network)
        # Singular values that only the rounding of float32 weights makes count as none.
        cutoff = max(kernel.shape) * np.finfo(np.float32).eps
        origin = -np.linalg.pinv(kernel.T.astype(np.float64), rcond=cutoff) @ bias
        size = len(origin)
        dimension = self.dimension or _usual_dimension(size)
        if dimension >= size:
            raise ValueError(
                f"`dimension` must be below the number of features, {size}. Received: "
                f"dimension={dimension}"
            )
        squares, sums = np.zeros((size, size)), np.zeros(size)
        squared_lengths, largest, count = 0.0, 0.0, 0
        sample = Sample(_SAMPLE_SIZE)
        for outputs, _ in self._known_batches(network, data):
            centred = outputs["features"] - origin
            squares += centred.T @ centred
            sums += centred.sum(axis=0)
            squared_lengths += np.square(outputs["features"], dtype=np.float64).sum()
            largest += (
                outputs["logits"][:, : self.num_classes]
                .max(axis=1)
                .sum(dtype=np.float64)
            )
            count += len(centred)
            sample.add(features=centred)
        features = sample.rows()["features"]
        if self.origin == "mean":
            mean = sums / count
            squares -= count * np.outer(mean, mean)
            origin, features = origin + mean, features - mean
        vectors = np.linalg.eigh(squares)[1]
        residual = vectors[:, : size - dimension]
        norms = np.linalg.norm(features @ residual, axis=1)
        # A residual that is nothing but rounding must not get a scale beyond bounds.
        spread = np.sqrt(max(np.trace(squares), 0.0) / count)
        length = np.sqrt(squared_lengths / count + np.square(origin).sum())
        usual = max(norms.mean(), 1e-5 * spread, ROUNDING * length)
        alpha = largest / count / usual if usual > 0 else 1.0
        self.arrays = {
            "origin": origin.astype(np.float32),
            "residual": (alpha * residual).astype(np.float32),
        }


# Enough images for the mean length of a residual: its error is far below 1 %.
_SAMPLE_SIZE = 10_000


def _usual_dimension(size: int) -> int:
    if size >= 2048:
        return 1000
    return 512 if size >= 768 else size // 2
