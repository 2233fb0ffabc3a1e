"""Directed sparsification of the head."""

from typing import Any

import numpy as np
from keras import ops

from ood_keras.conventions import check_fraction
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import Description, register
from ood_keras.detectors.statistics import Sums
from ood_keras.detectors.wrapper import ActivationWrapper
from ood_keras.types import Images, Json, Tensor


@register
class DICE(ActivationWrapper):
    """Scores logits made by the weights that matter most for known images.

    Sun and Li, "DICE: Leveraging Sparsification for Out-of-Distribution Detection",
    ECCV 2022. The contribution of a weight is its product with the mean of its feature
    over the known training images; weights below the quantile `sparsity` of all
    contributions are set to 0. Higher is more unknown.

    Args:
        sparsity: Share of the weights that is set to 0, in [0, 1).
        detector: The detector to wrap; see `Wrapper`.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `sparsity` is out of range, or `detector` cannot be wrapped.

    Example:

    >>> detector = DICE(sparsity=0.9).fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "dice"
    learns = True

    def __init__(
        self, *, sparsity: float = 0.9, detector: Description = "energy", **kwargs: Any
    ) -> None:
        super().__init__(detector=detector, **kwargs)
        self.sparsity = check_fraction("sparsity", sparsity, zero=True)

    def get_config(self) -> Json:
        return {**super().get_config(), "sparsity": self.sparsity}

    def _classify(self, features: Tensor) -> Tensor:
        return ops.matmul(features, self.get_tensor("kernel")) + self.get_tensor("bias")

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        sums = Sums()
        for outputs, _ in self.known_batches(network, data):
            sums.add(features=outputs["features"])
        return {"sums": sums}

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        kernel, bias = network.head
        contribution = statistics["sums"].mean("features")[:, None] * kernel
        kept = contribution >= np.quantile(contribution, self.sparsity)
        self.arrays = {"kernel": kernel * kept, "bias": bias}
