"""Mahalanobis distance to the nearest class."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from keras import ops

from ood_keras import batches
from ood_keras.conventions import check_fraction, check_number
from ood_keras.detectors import gaussian, perturbation
from ood_keras.detectors.base import check_finite, check_layers, known_images
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.compiled import compile_function
from ood_keras.detectors.feature_space import FeatureDetector
from ood_keras.detectors.network import Network, pool
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import ClassSums, spread_or_one
from ood_keras.types import Images, Json, Outputs, Tensor


@register
class Mahalanobis(FeatureDetector):
    """Scores by the squared Mahalanobis distance of features to the nearest class mean.

    Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples
    and Adversarial Attacks", NeurIPS 2018: Gaussians around the class means with one
    covariance for all classes. Higher is more unknown.

    With several layers, each has Gaussians of its own, and the score is the sum of the
    distances, each divided by its expected value, the rank of its covariance; or,
    after `weigh_layers`, a logistic regression over them. With a perturbation, the
    image is first moved by that much along the sign of the gradient that lowers the
    distance, for each layer on its own, which lowers that of known images more.

    Args:
        layers: Names of the layers to read; `None` reads the features. Outputs with
            spatial axes are averaged over them.
        perturbation: Length of the step, in the units of the images; 0 leaves it out.
        shrinkage: s in [0, 1): the covariance is `(1 - s) C + s v I`, v its mean
            variance, which gives directions of little variance a weight with bounds.
        cutoff: In [0, 1): directions whose variance, after shrinkage, is at most this
            fraction of the largest are left out: their inverse would weigh noise more
            than all else. The default is a standard deviation of 1 % of the largest; 0
            leaves out only what has none.
        logarithm: Whether the score is log(1 + distance). By itself that ranks alike;
            beside other scores, in an `Ensemble`, a few known images that are far from
            all others then no longer decide the scale.
        **kwargs: `normalize` (MDS++), `projection`, see `FeatureDetector`, of each
            layer; `num_classes`, `logits`, `features`, see `Detector`.

    Raises:
        ValueError: an argument is out of range.

    Example:

    >>> detector = Mahalanobis(perturbation=0.001).fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "mahalanobis"
    learns = True
    needs_labels = True
    pools_layers = True

    def __init__(
        self,
        *,
        layers: Sequence[str] | None = None,
        perturbation: float = 0.0,
        shrinkage: float = 0.0,
        cutoff: float = 1e-4,
        logarithm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.logarithm = bool(logarithm)
        self._layers = check_layers(layers)
        self.perturbation = check_number("perturbation", perturbation, "[0, inf)")
        self.shrinkage = check_fraction("shrinkage", shrinkage, zero=True)
        self.cutoff = check_fraction("cutoff", cutoff, zero=True)

    @property
    def changes_input(self) -> bool:  # type: ignore[override]
        return self.perturbation > 0

    @property
    def exports(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("saved_model",) if self.changes_input else super().exports

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "layers": self._layers,
            "perturbation": self.perturbation,
            "shrinkage": self.shrinkage,
            "cutoff": self.cutoff,
            "logarithm": self.logarithm,
        }

    def call(self, images: Tensor) -> Outputs:
        self._check_fitted()
        outputs, distances = self._run(images)
        return {
            "ood_score": self.combine(distances),
            "logits": outputs["logits"],
            "features": outputs["features"],
        }

    def score_outputs(self, outputs: Outputs) -> Tensor:
        return self.combine(self._distances(outputs))

    def weigh_layers(
        self, known: Images, unknown: Images, batch_size: int = 256
    ) -> Self:
        """Weighs the layers by a logistic regression of unknown against known images.

        Args:
            known: Known validation images, or a dataset of them; images labelled -1
                are left out.
            unknown: Unknown validation images, never of a source that is tested on;
                labels are not looked at.
            batch_size: Images per run of the network, for arrays.

        Returns:
            The detector itself.

        Raises:
            RuntimeError: `fit` has not been called.
            ValueError: there are no known or no unknown images, or the score is a
                logarithm.
        """
        self._check_fitted()
        run = compile_function(lambda images: ops.stack(self._run(images)[1], axis=-1))
        groups = []
        for name, walk in (
            ("known", known_images(known, batch_size)),
            ("unknown", batches.iterate_images(unknown, batch_size)),
        ):
            distances: Any = [run(images) for images in walk if len(images)]
            if not distances:
                raise ValueError(f"`{name}` holds no {name} image to learn from")
            check_finite(distances, name)
            groups.append(np.concatenate(distances))
        return self.weigh_by(*groups)

    def weigh_by(self, known: np.ndarray, unknown: np.ndarray) -> Self:
        """As `weigh_layers`, by distances that were measured before.

        Args:
            known: Those of known validation images, float `(images, layers)`.
            unknown: Those of unknown ones.

        Returns:
            The detector itself.

        Raises:
            ValueError: a distance is NaN or infinite, or the score is a logarithm.
        """
        from sklearn.linear_model import LogisticRegression

        if self.logarithm:
            raise ValueError(
                "a regression over the layers may be negative and has no logarithm; "
                "leave out logarithm=True to weigh the layers"
            )
        check_finite(known, "known")
        check_finite(unknown, "unknown")
        distances = np.concatenate([known, unknown]).astype(np.float64)
        size = np.sqrt(np.square(distances).mean(axis=0))
        scale = spread_or_one(distances.std(axis=0), size)
        is_unknown = np.repeat([0, 1], [len(known), len(unknown)])
        regression = LogisticRegression(class_weight="balanced", max_iter=1000)
        regression.fit((distances - distances.mean(axis=0)) / scale, is_unknown)
        self.arrays["weights"] = (regression.coef_[0] / scale).astype(np.float32)
        self._scorer = None
        # What it remembers has the scores of before.
        self._begin(self.network)
        return self

    def measure_steps(self, images: Images, steps: Sequence[float]) -> np.ndarray:
        """Distances with each of several lengths in place of `perturbation`.

        Args:
            images: As anything that `ood_keras.batches.iterate` takes.
            steps: Lengths of the step, in the units of the images.

        Returns:
            float32 `(images, steps, layers)`.
        """
        self._check_fitted()
        return perturbation.score_steps(images, self._measure, steps)

    def combine(self, distances: Sequence[Any]) -> Any:
        """The score, of the distances of each layer, tensors or arrays `(batch,)`."""
        distance = sum(
            float(weight) * distance
            for weight, distance in zip(self.arrays["weights"], distances, strict=True)
        )
        return ops.log1p(distance) if self.logarithm else distance

    def choose_layers(self, network: Network) -> tuple[str, ...]:
        return tuple(self._layers or ())

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        sums: list[ClassSums] = []
        for features, labels in self.known_batches(network, data, self._normalized):
            if not sums:
                sums = [
                    ClassSums(self.num_classes, layer.shape[1]) for layer in features
                ]
            for layer_sums, layer in zip(sums, features, strict=True):
                layer_sums.add(layer, labels)
        return {f"sums_{index}": layer_sums for index, layer_sums in enumerate(sums)}

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        ranks = []
        for index in range(len(statistics)):
            layer_sums = statistics[f"sums_{index}"]
            fitted = gaussian.fit(
                self._project_sums(layer_sums, index),
                self.num_classes,
                self.shrinkage,
                self.cutoff,
            )
            ranks.append(fitted["whitening"].shape[1])
            self.arrays |= {f"{name}_{index}": array for name, array in fitted.items()}
        weights = 1.0 / np.maximum(ranks, 1) if len(ranks) > 1 else np.ones(1)
        self.arrays["weights"] = weights.astype(np.float32)

    def _raw_features(self, outputs):
        """The features of each layer, `(batch, channels)`."""
        if self._layers is None:
            return [outputs["features"]]
        return [pool(outputs["layers"][name]) for name in self._layers]

    def _distances(self, outputs):
        """The squared distance to the nearest class, `(batch,)`, for each layer."""
        return [
            ops.min(
                gaussian.squared_distances(
                    features,
                    *(
                        self.get_tensor(f"{name}_{index}")
                        for name in ("mean", "whitening", "class_means")
                    ),
                ),
                axis=-1,
            )
            for index, features in enumerate(self._features(outputs))
        ]

    def _measure(self, images):
        outputs = self.network(images, self.layers)
        return outputs, self._distances(outputs)

    def _run(self, images):
        """Outputs for the images as they are, distances for them as they are moved."""
        if not self.changes_input:
            return self._measure(images)
        outputs, moved = perturbation.lower_scores(
            images, self._measure, self.perturbation
        )
        return outputs, [
            self._measure(image)[1][index] for index, image in enumerate(moved)
        ]
