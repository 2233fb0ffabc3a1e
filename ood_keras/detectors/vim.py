"""Virtual-logit matching."""

from typing import Any, Literal

import numpy as np
from keras import ops

from ood_keras.conventions import check_count
from ood_keras.detectors import output_scores
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.feature_space import FeatureDetector
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import ROUNDING, Sample, Sums
from ood_keras.types import Images, Json, Outputs, Tensor


@register
class ViM(FeatureDetector):
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
        **kwargs: `normalize`, see `FeatureDetector`, only with `origin="mean"`: the
            head does not take features of length 1; `num_classes`, `logits`,
            `features`, see `Detector`.

    Raises:
        ValueError: `dimension` is not below D, `origin` is something else, the model
            does not end in a Dense layer, or `projection` is given: `dimension` is it.

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
        if self.normalize and origin == "head":
            raise ValueError(
                "the head's origin is none of features scaled to length 1; give "
                "origin='mean' with normalize=True. Received: origin='head'"
            )
        if self.projection is not None:
            raise ValueError(
                "`vim` scores what lies outside of the principal subspace; give its "
                f"`dimension`. Received: projection={self.projection}"
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
        (features,) = self._features(outputs)
        left = ops.matmul(
            features - self.get_tensor("origin"), self.get_tensor("residual")
        )
        return ops.norm(left, axis=-1) + energy

    def _read(self, outputs: Outputs) -> tuple[Tensor, Tensor]:
        return self._normalized(outputs)[0], outputs["logits"][:, : self.num_classes]

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        origin = self._origin(network)
        sums, sample = Sums(), Sample(_SAMPLE_SIZE, shard=shard)
        for (features, logits), _ in self.known_batches(network, data, self._read):
            centred = features - origin
            sums.add_sums(
                len(centred),
                squares=centred.T @ centred,
                centred=centred.sum(axis=0),
                squared_lengths=np.square(features, dtype=np.float64).sum(),
                largest=logits.max(axis=1).sum(dtype=np.float64),
            )
            sample.add(features=centred)
        return {"sums": sums, "sample": sample}

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        origin, sums = self._origin(network), statistics["sums"]
        size, squares = len(origin), sums.sum("squares")
        features = statistics["sample"].rows()["features"]
        if self.origin == "mean":
            mean = sums.mean("centred")
            squares = squares - sums.count * np.outer(mean, mean)
            origin, features = origin + mean, features - mean
        vectors = np.linalg.eigh(squares)[1]
        residual = vectors[:, : size - self._dimension(size)]
        norms = np.linalg.norm(features @ residual, axis=1)
        # A residual that is nothing but rounding must not get a scale beyond bounds.
        spread = np.sqrt(max(np.trace(squares), 0.0) / sums.count)
        length = np.sqrt(sums.mean("squared_lengths") + np.square(origin).sum())
        usual = max(norms.mean(), 1e-5 * spread, ROUNDING * length)
        alpha = sums.mean("largest") / usual if usual > 0 else 1.0
        self.arrays = {
            "origin": origin.astype(np.float32),
            "residual": (alpha * residual).astype(np.float32),
        }

    def _origin(self, network: Network) -> np.ndarray:
        """What features are taken about while they are collected, float64 `(D,)`."""
        kernel, bias = self.known_head(network)
        if self.normalize:
            return np.zeros(len(kernel))
        # Singular values that only the rounding of float32 weights makes count as none.
        cutoff = max(kernel.shape) * np.finfo(np.float32).eps
        return -np.linalg.pinv(kernel.T.astype(np.float64), rcond=cutoff) @ bias

    def _dimension(self, size: int) -> int:
        dimension = self.dimension or _usual_dimension(size)
        if dimension >= size:
            raise ValueError(
                f"`dimension` must be below the number of features, {size}. Received: "
                f"dimension={dimension}"
            )
        return dimension

    def choose_layers(self, network: Network) -> tuple[str, ...]:
        # Before any image is looked at.
        self._dimension(network.feature_size)
        return ()


# Enough images for the mean length of a residual: its error is far below 1 %.
_SAMPLE_SIZE = 10_000


def _usual_dimension(size: int) -> int:
    if size >= 2048:
        return 1000
    return 512 if size >= 768 else size // 2
