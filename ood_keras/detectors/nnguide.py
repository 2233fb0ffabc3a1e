"""Nearest-neighbour guidance."""

from typing import Any

from keras import ops

from ood_keras.detectors import output_scores
from ood_keras.detectors.bank import BankDetector, largest
from ood_keras.detectors.registry import register
from ood_keras.types import Outputs, Tensor


@register
class NNGuide(BankDetector):
    """Scores by the energy, weighed by the similarity to confident known images.

    Park, Jung and Teoh, "Nearest Neighbor Guidance for Out-of-Distribution Detection",
    ICCV 2023: features are scaled to length 1, those of the bank also multiplied by
    their `log(sum_k exp(z_k))`; the guidance is the mean of the k largest products with
    the bank; the score is the negative product of guidance and `log(sum_k exp(z_k))`.
    Higher is more unknown.

    Args:
        k: How many products are averaged.
        bank_size: Cap of the bank; see `BankDetector`, also for `seed`, `normalize`,
            `projection` and `**kwargs`.

    Example:

    >>> detector = NNGuide().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "nnguide"

    def __init__(self, *, k: int = 10, bank_size: int = 10_000, **kwargs: Any) -> None:
        super().__init__(k=k, bank_size=bank_size, **kwargs)

    def score_outputs(self, outputs: Outputs) -> Tensor:
        (features,) = self._features(outputs)
        products = ops.matmul(features, self.get_tensor("bank", transposed=True))
        guidance = ops.mean(largest(products, self.k)[0], axis=-1)
        return -self._confidence(outputs) * guidance

    def _entries(self, outputs: Outputs) -> Tensor:
        return self._normalized(outputs)[0] * self._confidence(outputs)[:, None]

    def _confidence(self, outputs: Outputs) -> Tensor:
        return -output_scores.energy(outputs["logits"], self.num_classes)
