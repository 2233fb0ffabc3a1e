"""Differential entropy of a prior network."""

from typing import Any

from ood_keras.conventions import check_float64
from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.registry import register
from ood_keras.types import Outputs, Tensor


@register
class DifferentialEntropy(Detector):
    """Scores by how flat the Dirichlet distribution is that the logits stand for.

    Malinin and Gales, "Predictive Uncertainty Estimation via Prior Networks", NeurIPS
    2018: the differential entropy of Dir(exp(z)) over the N known logits. Higher is
    more unknown; -log (N - 1)! is the highest, where all class probabilities are
    equally likely. Use it for a network that was trained with `losses.PriorNetwork`;
    the logits of another stand for no such distribution. It is computed in float64, as
    terms of 1e3 and more cancel, so it is exported as a SavedModel only. The detector
    "energy", -log of the precision of the same distribution, is exported to all
    formats.

    Args:
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: on JAX, `jax_enable_x64` is not set.

    Example:

    >>> ood_score = DifferentialEntropy(num_classes=10).fit(model).score(images)
    """

    name = "differential_entropy"
    least_classes = 2
    exports = ("saved_model",)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_float64(f"the detector {self.name!r}")

    def score_outputs(self, outputs: Outputs) -> Tensor:
        return output_scores.differential_entropy(outputs["logits"], self.num_classes)
