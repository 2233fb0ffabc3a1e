"""Rectified activations."""

from typing import Any

import numpy as np
from keras import ops

from ood_keras.conventions import check_fraction
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import Description, register
from ood_keras.detectors.wrapper import SamplingWrapper
from ood_keras.types import Json, Tensor


@register
class ReAct(SamplingWrapper):
    """Clips the features from above before another detector scores the logits.

    Sun, Guo and Li, "ReAct: Out-of-distribution Detection With Rectified Activations",
    NeurIPS 2021. The limit is a quantile of all features of the known training images
    (of a random sample of 10,000 of them). Higher is more unknown.

    Args:
        quantile: Of the features, in [0, 1).
        detector: The detector to wrap; see `Wrapper`.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `quantile` is out of range, or `detector` cannot be wrapped.

    Example:

    >>> detector = ReAct(quantile=0.9, detector="energy").fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "react"

    def __init__(
        self, *, quantile: float = 0.9, detector: Description = "energy", **kwargs: Any
    ) -> None:
        super().__init__(detector=detector, **kwargs)
        self.quantile = check_fraction("quantile", quantile, zero=True)

    def get_config(self) -> Json:
        return {**super().get_config(), "quantile": self.quantile}

    def _change(self, features: Tensor) -> Tensor:
        return ops.minimum(features, self.get_tensor("limit"))

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        super().learn_arrays(network, statistics)
        limit = np.quantile(statistics["sample"].rows()["features"], self.quantile)
        self.arrays = {"limit": np.asarray(limit, np.float32)}
