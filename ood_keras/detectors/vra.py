"""Variational rectified activations."""

from typing import Any

import numpy as np
from keras import ops

from ood_keras.conventions import check_fraction, check_number
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import Description, register
from ood_keras.detectors.wrapper import SamplingWrapper
from ood_keras.types import Json, Tensor


@register
class VRA(SamplingWrapper):
    """Drops small features, raises usual ones and clips large ones, then scores.

    Xu, Lian, Liu and Tao, "VRA: Variational Rectified Activation for
    Out-of-distribution Detection", NeurIPS 2023. Feature z becomes 0 below a, b above
    b, and z + amplification in between (VRA; VRA+ where there is an amplification). a
    and b are, for each feature, the quantiles `low` and `high` over the known training
    images (over a random sample of 10,000 of them). Higher is more unknown.

    Args:
        low: In [0, 1); 0 drops nothing.
        high: In (low, 1), as the paper's 0.8 to 0.99.
        amplification: At least 0, in the unit of the features. The authors choose all
            three for each network by images of Gaussian noise; these defaults are
            theirs for VRA on CIFAR-100.
        detector: The detector to wrap; see `Wrapper`.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: an argument is out of range, or `detector` cannot be wrapped.

    Example:

    >>> detector = VRA().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "vra"

    def __init__(
        self,
        *,
        low: float = 0.6,
        high: float = 0.95,
        amplification: float = 0.0,
        detector: Description = "energy",
        **kwargs: Any,
    ) -> None:
        super().__init__(detector=detector, **kwargs)
        self.low = check_fraction("low", low, zero=True)
        self.high = check_fraction("high", high)
        if self.high <= self.low:
            raise ValueError(
                f"`high` must be above `low`. Received: low={low!r}, high={high!r}"
            )
        self.amplification = check_number("amplification", amplification, "[0, inf)")

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "low": self.low,
            "high": self.high,
            "amplification": self.amplification,
        }

    def _change(self, features: Tensor) -> Tensor:
        low, high = self.get_tensor("low"), self.get_tensor("high")
        raised = ops.where(features > high, high, features + self.amplification)
        return ops.where(features < low, 0.0, raised)

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        super().learn_arrays(network, statistics)
        features = statistics["sample"].rows()["features"]
        low, high = np.quantile(features, [self.low, self.high], axis=0)
        if self.low == 0:
            low = np.full_like(low, np.finfo(np.float32).min)
        self.arrays = {
            "low": low.astype(np.float32),
            "high": high.astype(np.float32),
        }
