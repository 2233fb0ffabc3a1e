"""What the outputs say, and what all layers say."""

from collections.abc import Sequence
from typing import Any

import keras

from ood_keras.detectors.ensemble import Ensemble
from ood_keras.detectors.registry import Description, register
from ood_keras.types import Json


@register
class ProbabilityAndDistances(Ensemble):
    """Scores by the mean of what the outputs say and of Mahalanobis distances.

    The outputs' member is "unknown_probability" where the network has an unknown class,
    and otherwise "energy"; the other is "mahalanobis" over every `ReLU` layer and
    the layer called `features`, as far as the network has them. Both are standardised
    on known images, as in `Ensemble`. The distances notice images that training was
    never shown anything like. Higher is more unknown.

    Args:
        detectors: The two members, as `Ensemble` takes them; `None` chooses them when
            the network is known, in `fit`.
        **kwargs: `num_classes`, `logits` and `features`; see `Detector`.

    Example:

    >>> detector = ProbabilityAndDistances(num_classes=10).fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "probability_and_distances"
    # Whether the distances come as their logarithms.
    logarithm = False

    def __init__(
        self, *, detectors: Sequence[Description] | None = None, **kwargs: Any
    ) -> None:
        self._chooses = detectors is None
        super().__init__(detectors=detectors or ("energy", "mahalanobis"), **kwargs)

    def get_config(self) -> Json:
        config = super().get_config()
        # Members that were chosen travel with what they learnt.
        return config | {"detectors": None} if self._is_undecided() else config

    def _is_undecided(self) -> bool:
        return self._chooses and self.network is None

    def _config_to_learn(self):
        # Which members are chosen does not depend on the data.
        config = self.get_config()
        return config | {"detectors": None} if self._chooses else config

    def _choose_members(self, network, num_classes):
        if not self._chooses:
            return
        has_unknown_class = network.num_logits > num_classes
        config = {**super().get_config(), "detectors": None}
        members = (
            "unknown_probability" if has_unknown_class else "energy",
            {
                "name": "mahalanobis",
                "layers": list_layers(network.model),
                "logarithm": self.logarithm,
            },
        )
        self.detectors = type(self)(**config | {"detectors": members}).detectors


@register
class ProbabilityAndLogDistances(ProbabilityAndDistances):
    """`ProbabilityAndDistances` with the logarithm of the distances.

    A distance is a sum of squares: the few known images that are far from all others
    stretch its scale, and beside it the outputs then hardly count. Its logarithm has a
    light tail. Higher is more unknown.

    Args:
        detectors: As for `ProbabilityAndDistances`.
        **kwargs: `num_classes`, `logits` and `features`; see `Detector`.

    Example:

    >>> detector = ProbabilityAndLogDistances(num_classes=10)
    >>> ood_score = detector.fit(model, (images, labels)).score(images)
    """

    name = "probability_and_log_distances"
    logarithm = True


def list_layers(model: keras.Model) -> list[str] | None:
    """The `ReLU` layers of a model, then the one called `features`; or `None`.

    Args:
        model: A Keras model; layers inside of other layers are not looked at.
    """
    layers = [
        layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.ReLU) and layer.name != "features"
    ]
    if any(layer.name == "features" for layer in model.layers):
        layers.append("features")
    return layers or None
