"""Generalized entropy."""

from typing import Any

from ood_keras.conventions import check_count, check_number
from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.registry import register
from ood_keras.types import Json, Outputs, Tensor


@register
class GEN(Detector):
    """Scores by the generalized entropy `sum_j (p_j (1 - p_j))^gamma`, a logarithm.

    Liu, Lochman and Zach, "GEN: Pushing the Limits of Softmax-Based Out-of-Distribution
    Detection", CVPR 2023. With a small gamma it listens to the small probabilities,
    which a plain entropy drowns. p is the softmax over the known logits; j runs over
    its largest entries. Higher is more unknown.

    Args:
        gamma: Exponent in (0, 1).
        num_top: M, how many of the largest probabilities are looked at; all of them if
            there are fewer classes.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `gamma` or `num_top` is out of range.

    Example:

    >>> ood_score = GEN(num_classes=10).fit(model).score(images)
    """

    name = "gen"
    least_classes = 2

    def __init__(
        self, *, gamma: float = 0.1, num_top: int = 100, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.gamma = check_number("gamma", gamma, "(0, 1)")
        self.num_top = check_count("num_top", num_top)

    def get_config(self) -> Json:
        return {**super().get_config(), "gamma": self.gamma, "num_top": self.num_top}

    def score_outputs(self, outputs: Outputs) -> Tensor:
        return output_scores.gen(
            outputs["logits"], self.num_classes, self.gamma, self.num_top
        )
