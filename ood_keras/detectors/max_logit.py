"""The largest known logit."""

from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.registry import register
from ood_keras.types import Outputs, Tensor


@register
class MaxLogit(Detector):
    """Scores by the negative of the largest known logit. Higher is more unknown.

    Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings",
    ICML 2022. Keeps the magnitude that a softmax divides away.

    Example:

    >>> ood_score = MaxLogit(num_classes=10).fit(model).score(images)
    """

    name = "max_logit"

    def score_outputs(self, outputs: Outputs) -> Tensor:
        return output_scores.max_logit(outputs["logits"], self.num_classes)
