"""What the detectors that wrap another one share."""

from typing import Any

from ood_keras.detectors.base import Detector
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import Description, build
from ood_keras.detectors.statistics import Sample
from ood_keras.types import Arrays, Images, Json, Outputs, Tensor

_PREFIX = "detector/"


class Wrapper(Detector):
    """A detector that changes what another one sees.

    Args:
        detector: The detector to wrap: a name, a `Detector` (only its arguments are
            taken), or a dict `{"name": ..., argument: value}`.
        **kwargs: `num_classes`, `logits`, `features`; `None` takes those of `detector`.
    """

    def __init__(self, *, detector: Description, **kwargs: Any) -> None:
        wrapped = build(detector)
        config = wrapped.get_config()
        own = {key: config[key] for key in ("num_classes", "logits", "features")}
        own |= {key: value for key, value in kwargs.items() if value is not None}
        self.detector = type(wrapped).from_config({**config, **own})
        super().__init__(**own)

    @property
    def learns(self) -> bool:  # type: ignore[override]
        return self.detector.learns

    @property
    def pools_layers(self) -> bool:  # type: ignore[override]
        return self.detector.pools_layers

    @property
    def exports(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.detector.exports

    def get_config(self) -> Json:
        description = {"name": self.detector.name, **self.detector.get_config()}
        return {**super().get_config(), "detector": description}

    def get_arrays(self) -> Arrays:
        inner = self.detector.get_arrays()
        prefixed = {_PREFIX + name: array for name, array in inner.items()}
        return {**super().get_arrays(), **prefixed}

    def choose_layers(self, network: Network) -> tuple[str, ...]:
        return self.detector.layers

    def _fit_network(self, network, data, validation, num_classes=None):
        self._forget()
        if num_classes is None:
            num_classes = self.detector._infer_num_classes(network, data)
        self.detector._fit_network(network, data, validation, num_classes)
        return super()._fit_network(network, data, validation, num_classes)

    def _prepare_inner(self, network, num_classes):
        self.detector._forget()
        self.detector._prepare_inner(network, num_classes)
        self.detector._prepare(network, num_classes)

    def _check_collects(self):
        super()._check_collects()
        self.detector._check_collects()

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        if not self.detector.learns:
            return {}
        inner = self.detector.collect_statistics(network, data, validation, shard)
        return {_PREFIX + name: statistic for name, statistic in inner.items()}

    def _learn_all(self, network, statistics, validation):
        inner = {
            name.removeprefix(_PREFIX): statistic
            for name, statistic in statistics.items()
            if name.startswith(_PREFIX)
        }
        self.detector._learn_all(network, inner, validation)
        self.detector._begin(network)
        self.learn_arrays(network, statistics)

    def fit_arrays(
        self, network: Network, data: Images, validation: Images | None
    ) -> None:
        # The wrapped detector has learnt already.
        self.learn_arrays(network, {})

    def _restore(self, network, arrays, num_classes):
        inner = {
            name.removeprefix(_PREFIX): array
            for name, array in arrays.items()
            if name.startswith(_PREFIX)
        }
        self.detector._restore(network, inner, num_classes)
        own = {name: arrays[name] for name in arrays if not name.startswith(_PREFIX)}
        return super()._restore(network, own, num_classes)


class ActivationWrapper(Wrapper):
    """A wrapper that changes the features and so the logits that are scored.

    The model must end in a `Dense` layer, whose input the features are. What `call`
    returns as features and logits stays as the model made it.

    Args:
        detector: A detector that reads logits or features and learns nothing.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `detector` learns from data, or changes the input.
    """

    learns = False

    def __init__(self, *, detector: Description = "energy", **kwargs: Any) -> None:
        super().__init__(detector=detector, **kwargs)
        if self.detector.learns or self.detector.changes_input:
            raise ValueError(
                f"{self.name!r} changes the logits, so it wraps detectors that only "
                'read them: "energy", "msp", "max_logit", "entropy", "gen". Received: '
                f"{self.detector.name!r}"
            )

    def score_outputs(self, outputs: Outputs) -> Tensor:
        features = self._change(outputs["features"])
        logits = self._classify(features)
        return self.detector.score_outputs({"features": features, "logits": logits})

    def _change(self, features: Tensor) -> Tensor:
        """The features `(batch, D)` to score instead."""
        return features

    def _classify(self, features: Tensor) -> Tensor:
        """The logits `(batch, K)` to score instead."""
        return self.network.classify(features)

    def fit_arrays(
        self, network: Network, data: Images, validation: Images | None
    ) -> None:
        self.learn_arrays(
            network, self.collect_statistics(network, data, validation, 0)
        )

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        # Raises if there is no such head.
        _ = network.head


class SamplingWrapper(ActivationWrapper):
    """An activation wrapper that learns from a sample of the known images' features."""

    learns = True

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        sample = Sample(_SAMPLE_SIZE, shard=shard)
        for outputs, _ in self.known_batches(network, data):
            sample.add(features=outputs["features"])
        return {"sample": sample}


_SAMPLE_SIZE = 10_000
