"""Distance to the k-th nearest known image."""

from typing import Any

from ood_keras.detectors.bank import BankDetector
from ood_keras.detectors.registry import register
from ood_keras.types import Outputs, Tensor


@register
class KNN(BankDetector):
    """Scores by the distance of the features to the k-th nearest known training image.

    Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022.
    Features are scaled to length 1. The bank holds a random sample of at most
    `bank_size` training images; k counts neighbours in the bank, so that k = 5 of
    10,000 is what k = 25 is of 50,000. Higher is more unknown.

    Args:
        k: Which neighbour.
        bank_size: Cap of the bank; see `BankDetector`, also for `seed`, `normalize`,
            `projection` and `**kwargs`.

    Example:

    >>> detector = KNN(k=5).fit(model, (images, labels))
    >>> ood_score = detector.score(images)

    A bank of a quarter of the size and work, of a network with 512 features:

    >>> detector = KNN(projection=128).fit(model, (images, labels))
    """

    name = "knn"

    def __init__(self, *, k: int = 5, bank_size: int = 10_000, **kwargs: Any) -> None:
        super().__init__(k=k, bank_size=bank_size, **kwargs)

    def score_outputs(self, outputs: Outputs) -> Tensor:
        return self._distance(self._features(outputs)[0])

    def _entries(self, outputs: Outputs) -> Tensor:
        return self._normalized(outputs)[0]
