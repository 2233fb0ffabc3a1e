"""Confidence and the part of the features that the head does not read."""

from typing import Any, Literal

import numpy as np
from keras import ops

from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import (
    ROUNDING,
    CorrectMeans,
    Sample,
    Sums,
    spread_or_one,
)
from ood_keras.types import Images, Json, Outputs, Tensor


@register
class CORE(Detector):
    """Scores by the energy, and by the direction of what is orthogonal to the weights.

    After Yang, Kim and Bahk, "CORE: Robust Out-of-Distribution Detection via Confidence
    and Orthogonal Residual Scoring" (arXiv:2603.18290, 2026), as its abstract and
    summaries describe it; its formulas could not be read, and no code was found. They
    say: features split into a part along the weights of the head and the rest, the
    residual. The confidence is scored by the energy; residuals of known images have a
    direction of their class, and are scored by the cosine with it. Both scores are
    standardised and added.

    With z the features, E the energy, c the predicted class, w its weights scaled to
    length 1 and u the direction of its residuals, the score is

        r = z - w w' z
        (E - mean(E)) / deviation(E) - (cos(r, u) - mean(cos)) / deviation(cos)

    Our choices, with reasons in `docs/decisions/detectors.md`: w of the predicted class
    alone; residuals about the origin; u, the mean residual of the correctly classified
    training images of the class (of all its images if none is); the predicted class,
    not the most similar one; means and deviations over the known training images, or a
    sample of 10,000 of them. An image without a residual has a cosine of 0. Higher is
    more unknown.

    Args:
        orthogonal_to: What residuals are orthogonal to: "predicted", the weights of the
            predicted class, or "all", those of all known classes, `r = z - B B' z` with
            an orthonormal basis B of what they span. With as many classes as features,
            "all" leaves no residual.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `orthogonal_to` is something else; or, on `fit`, a class has no
            images, the model does not end in a Dense layer, or the weights leave no
            direction orthogonal to them.

    Example:

    >>> detector = CORE().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "core"
    learns = True
    needs_labels = True

    def __init__(
        self,
        *,
        orthogonal_to: Literal["predicted", "all"] = "predicted",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if orthogonal_to not in ("predicted", "all"):
            raise ValueError(
                "`orthogonal_to` must be 'predicted' or 'all'. Received: "
                f"orthogonal_to={orthogonal_to!r}"
            )
        self.orthogonal_to = orthogonal_to

    def get_config(self) -> Json:
        return {**super().get_config(), "orthogonal_to": self.orthogonal_to}

    def score_outputs(self, outputs: Outputs) -> Tensor:
        energy = output_scores.energy(outputs["logits"], self.num_classes)
        cosine, _ = _compare(
            ops,
            outputs["features"],
            output_scores.predict(outputs["logits"], self.num_classes),
            {name: self.get_tensor(name) for name in self.arrays},
        )
        mean, deviation = (
            self.get_tensor(f"score_{name}") for name in ("means", "deviations")
        )
        return (energy - mean[0]) / deviation[0] - (cosine - mean[1]) / deviation[1]

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        self._weights(network)  # Raises before any image is looked at.
        lengths, sample = Sums(), Sample(_SAMPLE_SIZE, shard=shard)
        means = CorrectMeans(self.num_classes, network.feature_size)
        for outputs, labels in self.known_batches(network, data):
            features = outputs["features"]
            logits = outputs["logits"][:, : self.num_classes]
            means.add(features, labels, logits.argmax(axis=1))
            lengths.add(squares=np.square(features, dtype=np.float64).sum(axis=1))
            sample.add(features=features, logits=logits)
        return {"means": means, "lengths": lengths, "sample": sample}

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        arrays, classes = self._weights(network), np.eye(self.num_classes)
        # That of the mean is the mean of the residuals, which are linear.
        means = statistics["means"].means()
        residuals = means - _along(np, means, classes, arrays)
        lengths = np.linalg.norm(residuals, axis=1, keepdims=True)
        # What is no longer than rounding has no direction.
        noise = ROUNDING * np.sqrt(statistics["lengths"].mean("squares"))
        arrays["directions"] = np.where(
            lengths > noise, residuals / np.maximum(lengths, 1e-300), 0.0
        )
        rows = statistics["sample"].rows()
        logits = rows["logits"].astype(np.float64)
        energy = -np.logaddexp.reduce(logits, axis=1)
        predicted = classes[logits.argmax(axis=1)]
        cosine, inexactness = np.concatenate(
            [
                _compare(
                    np,
                    rows["features"][part].astype(np.float64),
                    predicted[part],
                    arrays,
                )
                for part in np.array_split(
                    np.arange(len(logits)), len(logits) // 1000 + 1
                )
            ],
            axis=1,
        )
        scores = np.stack([energy, cosine])
        # What the rounding of each is relative to.
        sizes = np.stack([np.abs(logits).max(axis=1), inexactness])
        arrays["score_means"] = scores.mean(axis=1)
        arrays["score_deviations"] = spread_or_one(
            scores.std(axis=1), np.sqrt(np.square(sizes).mean(axis=1))
        )
        self.arrays = {name: each.astype(np.float32) for name, each in arrays.items()}

    def _weights(self, network: Network) -> dict[str, np.ndarray]:
        """What the residual is orthogonal to: `axes` `(N, D)` or `basis` `(D, rank)`.

        Raises:
            ValueError: nothing is orthogonal to it.
        """
        weights = self.known_head(network)[0].T.astype(np.float64)
        if network.num_units == 1:
            # One vector tells the two classes apart, and is that of both.
            weights = np.stack([weights[1], weights[1]])
        size, ways_out = weights.shape[1], "Take another detector, 'nci' or 'knn', say"
        if self.orthogonal_to == "all":
            _, values, vectors = np.linalg.svd(weights, full_matrices=False)
            # Singular values that only the rounding of float32 weights makes are none.
            cutoff = max(weights.shape) * np.finfo(np.float32).eps
            spanned = values > cutoff * values.max()
            is_left, found = spanned.sum() < size, {"basis": vectors.T * spanned}
            if size > 1:
                ways_out = f"Give orthogonal_to='predicted'. {ways_out}"
        else:
            lengths = np.linalg.norm(weights, axis=1, keepdims=True)
            is_left, found = size > 1, {"axes": weights / np.maximum(lengths, 1e-30)}
        if not is_left:
            raise ValueError(
                f"the weights of the {self.num_classes} classes leave no direction of "
                f"the {size} features orthogonal to them, which {self.name!r} needs. "
                f"{ways_out}"
            )
        return found


# Enough images for two standard deviations: their error is below 1 %.
_SAMPLE_SIZE = 10_000


def _compare(xp, features, predicted, arrays):
    """The cosine of each residual with the direction of its class, and its rounding.

    Args:
        xp: `numpy` or `keras.ops`.
        features: `(batch, D)`.
        predicted: One-hot classes `(batch, N)`.
        arrays: By name, as `learn_arrays` makes them.

    Returns:
        `(cosine, inexactness)`, each `(batch,)`: the latter times `ROUNDING` is the
        error of a cosine that float32 features may make.
    """
    residual = features - _along(xp, features, predicted, arrays)
    size = _length(xp, features)
    # No residual is known better than this; one of 0 has no direction: a cosine of 0.
    length = xp.maximum(_length(xp, residual), ROUNDING * size)
    direction = xp.matmul(predicted, arrays["directions"])
    return xp.sum(residual * direction, axis=-1) / length, size / length


def _along(xp, features, predicted, arrays):
    """The part of features `(batch, D)` that lies along the weights."""
    if "basis" in arrays:
        basis = arrays["basis"]
        return xp.matmul(xp.matmul(features, basis), xp.transpose(basis))
    axis = xp.matmul(predicted, arrays["axes"])
    return xp.sum(features * axis, axis=-1, keepdims=True) * axis


def _length(xp, rows):
    # Above 0, so that it divides and has a gradient.
    return xp.sqrt(xp.maximum(xp.sum(xp.square(rows), axis=-1), 1e-30))
