"""Free energy."""

from ood_keras.detectors import output_scores
from ood_keras.detectors.registry import register
from ood_keras.detectors.temperature import TemperatureDetector
from ood_keras.types import Outputs, Tensor


@register
class Energy(TemperatureDetector):
    """Scores by the free energy of the known logits: `-T log(sum_k exp(z_k / T))`.

    Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020. Higher is
    more unknown. The logit of an unknown class, where there is one, is left out.

    Args:
        temperature: T > 0.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Example:

    >>> ood_score = Energy(num_classes=10).fit(model).score(images)
    """

    name = "energy"

    def score_outputs(self, outputs: Outputs) -> Tensor:
        return output_scores.energy(
            outputs["logits"], self.num_classes, self.temperature
        )
