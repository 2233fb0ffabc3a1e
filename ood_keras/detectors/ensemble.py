"""Several detectors as one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from ood_keras.conventions import UNKNOWN
from ood_keras.detectors import output_scores
from ood_keras.detectors.base import (
    Detector,
    check_finite,
    known_images,
    no_known_image,
)
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.compiled import compile_function
from ood_keras.detectors.network import Network, pool
from ood_keras.detectors.registry import Description, build, register
from ood_keras.detectors.statistics import Sample, spread_or_one
from ood_keras.types import Arrays, Images, Json, Outputs, Tensor


@register
class Ensemble(Detector):
    """Scores by the mean of several detectors' scores, each on a common scale.

    Each score is standardised: less its mean and divided by its standard deviation over
    known images, `validation` where `fit` is given some, else `data`. The network runs
    once for all members that do not change their input, even where they read features
    of different layers. Higher is more unknown.

    Args:
        detectors: The members: names, `Detector`s (only their arguments are taken) or
            dicts `{"name": ..., argument: value}`. A member may have `features` of its
            own, the name of a layer.
        light_tails: Whether the mean is over arcsinh(s) of the standard scores s, these
            less their median and divided by half the range of the middle 68 %: s near
            known images, and its logarithm far from them. Distances of different layers
            or kinds then count alike: none hides the others because a few known images
            stretch its deviation, or because it grows without bounds.
        **kwargs: `num_classes` and `logits`, for all members, and `features`, for those
            that have none of their own; see `Detector`.

    Raises:
        ValueError: there is no member, or one has `num_classes` or `logits` of its own.

    Example:

    >>> detector = Ensemble(detectors=["energy", "mahalanobis"])
    >>> detector.fit(model, (images, labels), validation)
    >>> ood_score = detector.score(images)

    Neighbours in two layers:

    >>> detector = Ensemble(detectors=["knn", {"name": "knn", "features": "conv_2"}])

    Distances in two layers, on a scale of light tails:

    >>> distance = {"name": "mahalanobis", "normalize": True}
    >>> members = [{**distance, "features": name} for name in ("conv_1", "conv_2")]
    >>> detector = Ensemble(detectors=members, light_tails=True)
    """

    name = "ensemble"
    learns = True

    def __init__(
        self,
        *,
        detectors: Sequence[Description] = ("energy", "mahalanobis"),
        light_tails: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.light_tails = bool(light_tails)
        if isinstance(detectors, str) or not detectors:
            raise ValueError(
                "`detectors` must be a list of at least one detector. Received: "
                f"detectors={detectors!r}"
            )
        common = super().get_config()
        features = common.pop("features")
        self.detectors = []
        for member in map(build, detectors):
            config = member.get_config()
            if any(config[key] not in (None, common[key]) for key in common):
                raise ValueError(
                    "give num_classes and logits to the ensemble, for all its members. "
                    f"Received: detectors={detectors!r}"
                )
            config["features"] = config["features"] or features
            self.detectors.append(type(member).from_config({**config, **common}))

    @property
    def needs_labels(self) -> bool:  # type: ignore[override]
        return any(member.needs_labels for member in self.detectors)

    @property
    def pools_layers(self) -> bool:  # type: ignore[override]
        return all(
            member.pools_layers or not member.layers
            for member in self.detectors
            if not member.changes_input
        )

    @property
    def changes_input(self) -> bool:  # type: ignore[override]
        return any(member.changes_input for member in self.detectors)

    @property
    def exports(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(
            name
            for name in super().exports
            if all(name in member.exports for member in self.detectors)
        )

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "detectors": [
                {"name": member.name, **member.get_config()}
                for member in self.detectors
            ],
            "light_tails": self.light_tails,
        }

    def get_arrays(self) -> Arrays:
        return {
            **super().get_arrays(),
            **{
                f"{index}/{name}": array
                for index, member in enumerate(self.detectors)
                for name, array in member.get_arrays().items()
            },
        }

    def call(self, images: Tensor) -> Outputs:
        self._check_fitted()
        outputs = self.network(images, self.layers)
        return {
            "ood_score": self._mean(self._scores(outputs, images)),
            "logits": outputs["logits"],
            "features": outputs["features"],
        }

    def score_outputs(self, outputs: Outputs) -> Tensor:
        return self._mean(self._scores(outputs))

    def _scores(self, outputs, images=None):
        return [
            member.call(images)["ood_score"]
            if member.changes_input
            else member.score_outputs(self._outputs_of(member, outputs))
            for member in self.detectors
        ]

    def _outputs_of(self, member, outputs):
        """`outputs` with the features that a member reads."""
        if not self._has_own_features(member):
            return outputs
        return {**outputs, "features": pool(outputs["layers"][member._features_name])}

    def _has_own_features(self, member):
        return member._features_name != self._features_name

    def _network_of(self, member, network):
        if not self._has_own_features(member):
            return network
        return network.with_features(member._features_name)

    def _mean(self, scores):
        scores = ops.stack(scores, axis=-1)
        standard = (scores - self.get_tensor("mean")) / self.get_tensor("deviation")
        if self.light_tails:
            standard = output_scores.arcsinh(standard)
        return ops.mean(standard, axis=-1)

    def choose_layers(self, network: Network) -> tuple[str, ...]:
        shared = [member for member in self.detectors if not member.changes_input]
        names: set[Any] = {name for member in shared for name in member.layers}
        for member in filter(self._has_own_features, shared):
            names.add(member._features_name)
        return tuple(sorted(names))

    def _choose_members(self, network: Network, num_classes: int) -> None:
        """For an ensemble whose members depend on the network."""

    def _prepare_inner(self, network, num_classes):
        self._choose_members(network, num_classes)
        for member in self.detectors:
            own_network = self._network_of(member, network)
            member._forget()
            member._prepare_inner(own_network, num_classes)
            member._prepare(own_network, num_classes)

    def _check_collects(self):
        for member in self.detectors:
            member._check_collects()

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        statistics: Statistics = {}
        for index, member in enumerate(self.detectors):
            if not member.learns:
                continue
            own_network = self._network_of(member, network)
            found = member.collect_statistics(own_network, data, validation, shard)
            statistics |= {f"{index}/{name}": each for name, each in found.items()}
        return statistics

    def _learn_all(self, network, statistics, validation):
        if validation is None:
            raise ValueError(
                f"{self.name!r} sets the scale of its members on known images, once "
                "they are fitted. Give some: learn(model, collected, validation)"
            )
        for index, member in enumerate(self.detectors):
            prefix = f"{index}/"
            own = {
                name.removeprefix(prefix): each
                for name, each in statistics.items()
                if name.startswith(prefix)
            }
            own_network = self._network_of(member, network)
            member._learn_all(own_network, own, validation)
            member._begin(own_network)
        self.fit_arrays(network, None, validation)

    def _fit_network(self, network, data, validation, num_classes=None):
        if num_classes is None:
            num_classes = self._infer_num_classes(network, data)
        self._choose_members(network, num_classes)
        for member in self.detectors:
            own_network = self._network_of(member, network)
            member._fit_network(own_network, data, validation, num_classes)
        return super()._fit_network(network, data, validation, num_classes)

    def fit_arrays(
        self, network: Network, data: Images, validation: Images | None
    ) -> None:
        count = 0
        # Arrays `(members,)` from the first batch on.
        sums: Any = 0.0
        squares: Any = 0.0
        origin: Any = None
        sample = Sample(_SAMPLE_SIZE)
        name, known = (
            ("data", data) if validation is None else ("validation", validation)
        )
        for scores in self._walk(network, known):
            check_finite(scores, name)
            if origin is None:
                origin = scores.mean(axis=0)
            if self.light_tails:
                sample.add(scores=scores)
            count += len(scores)
            sums += (scores - origin).sum(axis=0)
            squares += np.square(scores - origin).sum(axis=0)
        if not count:
            raise no_known_image(name)
        mean = sums / count
        variance = np.maximum(squares / count - np.square(mean), 0.0)
        mean = origin + mean
        # A score that is the same for all but for rounding must not be blown up.
        size = np.sqrt(variance + np.square(mean))
        deviation = np.sqrt(variance)
        if self.light_tails:
            low, mean, high = np.quantile(
                sample.rows()["scores"], [0.16, 0.5, 0.84], axis=0
            )
            deviation = (high - low) / 2
        self.arrays = {
            "mean": mean.astype(np.float32),
            "deviation": spread_or_one(deviation, size).astype(np.float32),
        }

    def _walk(self, network, known):
        """Yields the members' scores of known images, float64 `(batch, members)`."""
        recording = None
        if not self.changes_input:
            recording = network.recorded(known, self.layers, self.pools_layers)
        if recording is not None:
            replay = recording.replay(
                lambda outputs: ops.stack(self._scores(outputs), axis=-1), self.layers
            )
            for scores, labels in replay:
                scores = scores if labels is None else scores[labels != UNKNOWN]
                if len(scores):
                    yield scores.astype(np.float64)
            return
        run = compile_function(
            lambda images: ops.stack(
                self._scores(network(images, self.layers), images), axis=-1
            )
        )
        for images in known_images(known):
            if len(images):
                yield run(images).astype(np.float64)

    def _restore(self, network, arrays, num_classes):
        for index, member in enumerate(self.detectors):
            prefix = f"{index}/"
            inner = {
                name.removeprefix(prefix): array
                for name, array in arrays.items()
                if name.startswith(prefix)
            }
            member._restore(self._network_of(member, network), inner, num_classes)
        own = {name: array for name, array in arrays.items() if "/" not in name}
        return super()._restore(network, own, num_classes)


# Of the scores that quantiles are taken of, 8 bytes a member each.
_SAMPLE_SIZE = 100_000
