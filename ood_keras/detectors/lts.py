"""Logit scaling."""

from typing import Any

from keras import ops

from ood_keras.conventions import check_fraction
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import Description, register
from ood_keras.detectors.scale import largest_share
from ood_keras.detectors.wrapper import ActivationWrapper
from ood_keras.types import Json, Outputs, Tensor


@register
class LTS(ActivationWrapper):
    """Stretches each image's logits by how many of its features matter.

    Djurisic, Liu and Nikolic, "Logit Scaling for Out-of-Distribution Detection", 2024
    (arXiv:2409.01175). With z the features of an image, negative ones set to 0, all
    logits are multiplied by `S^2`, S the sum of z over the sum of its largest
    `1 - percentile`, before another detector, the energy, scores them. Nothing is
    learnt, and the model may end in any layer. Higher is more unknown.

    Args:
        percentile: Share of the features left out of the second sum, in [0, 1); the
            authors sum the largest 5 %.
        detector: The detector of logits to wrap; see `Wrapper`.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `percentile` is out of range, or `detector` cannot be wrapped.

    Example:

    >>> ood_score = LTS(num_classes=10).fit(model).score(images)
    """

    name = "lts"

    def __init__(
        self,
        *,
        percentile: float = 0.95,
        detector: Description = "energy",
        **kwargs: Any,
    ) -> None:
        super().__init__(detector=detector, **kwargs)
        self.percentile = check_fraction("percentile", percentile, zero=True)

    def get_config(self) -> Json:
        return {**super().get_config(), "percentile": self.percentile}

    def score_outputs(self, outputs: Outputs) -> Tensor:
        positive = ops.relu(outputs["features"])
        largest = largest_share(positive, self.percentile) * positive
        total = ops.sum(positive, axis=-1, keepdims=True)
        ratio = total / ops.maximum(ops.sum(largest, axis=-1, keepdims=True), 1e-30)
        logits = outputs["logits"] * ops.square(ratio)
        return self.detector.score_outputs({**outputs, "logits": logits})

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        """Nothing: it needs no head."""
