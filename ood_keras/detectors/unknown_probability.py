"""The probability of the extra unknown class."""

from ood_keras.conventions import check_num_classes
from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.registry import register
from ood_keras.types import Outputs, Tensor


@register
class UnknownProbability(Detector):
    """Scores by the softmax probability of the model's extra class, as log-odds.

    The detector of choice for a model trained with unknowns. The score is
    `z_N - log(sum_k exp(z_k))` over the known logits: it rises with the probability of
    class N and, unlike the probability, never saturates. Higher is more unknown.

    Needs N + 1 logits; without `num_classes` or data, N is their number less one.

    Example:

    >>> detector = UnknownProbability().fit(model)
    >>> ood_score = detector.score(images)
    """

    name = "unknown_probability"

    def score_outputs(self, outputs: Outputs) -> Tensor:
        return output_scores.unknown_probability(outputs["logits"], self.num_classes)

    def _infer_num_classes(self, network, data):
        if self.num_classes is None and data is None:
            return check_num_classes(network.num_logits - 1, least=1)
        return super()._infer_num_classes(network, data)

    def _check_num_classes(self, network, num_classes):
        if network.num_logits != num_classes + 1:
            raise ValueError(
                "`unknown_probability` needs one logit per known class and one for the "
                f"unknown class: {num_classes + 1} for {num_classes} known classes. "
                f"Received: a model with {network.num_logits} logits. Use another "
                "detector, or train with an unknown class"
            )
        return num_classes
