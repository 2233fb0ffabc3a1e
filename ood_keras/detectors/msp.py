"""Maximum softmax probability."""

from ood_keras.detectors import output_scores
from ood_keras.detectors.registry import register
from ood_keras.detectors.temperature import TemperatureDetector
from ood_keras.types import Outputs, Tensor


@register
class MSP(TemperatureDetector):
    """Scores by the largest known probability p: `log((1 - p) / (p (K - 1)))`.

    Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and
    Out-of-Distribution Examples", ICLR 2017. The log-odds give the same ranking as
    `1 - p` and never saturate. Higher is more unknown. The softmax runs over an
    unknown class too, where there is one.

    Args:
        temperature: T > 0; the softmax is taken of the logits divided by T.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Example:

    >>> ood_score = MSP(num_classes=10, temperature=2.0).fit(model).score(images)
    """

    name = "msp"

    def score_outputs(self, outputs: Outputs) -> Tensor:
        return output_scores.msp(outputs["logits"], self.num_classes, self.temperature)
