"""Entropy of the softmax."""

from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.registry import register
from ood_keras.types import Outputs, Tensor


@register
class Entropy(Detector):
    """Scores by the entropy of the softmax over the known logits, as its logarithm.

    The logarithm gives the same ranking and does not round to 0 for confident
    predictions. Higher is more unknown. The logit of an unknown class, where there is
    one, is left out. Used for open-set recognition by Chan et al., "Entropy
    Maximization and Meta Classification for Out-of-Distribution Detection", ICCV 2021.

    Example:

    >>> ood_score = Entropy(num_classes=10).fit(model).score(images)
    """

    name = "entropy"
    least_classes = 2

    def score_outputs(self, outputs: Outputs) -> Tensor:
        return output_scores.entropy(outputs["logits"], self.num_classes)
