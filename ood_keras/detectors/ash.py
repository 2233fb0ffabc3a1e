"""Activation shaping."""

from typing import Any, Literal

from keras import ops

from ood_keras.conventions import check_fraction
from ood_keras.detectors.registry import Description, register
from ood_keras.detectors.scale import largest_share, stretch
from ood_keras.detectors.wrapper import ActivationWrapper
from ood_keras.types import Json, Tensor

_TREATMENTS = ("scale", "prune", "binarize")


@register
class ASH(ActivationWrapper):
    """Keeps each image's largest features only, before another detector scores them.

    Djurisic et al., "Extremely Simple Activation Shaping for Out-of-Distribution
    Detection", ICLR 2023. All but the largest `1 - percentile` of an image's features
    are set to 0. What is left is multiplied by exp(sum before / sum after)
    (`"scale"`, ASH-S), kept as it is (`"prune"`, ASH-P), or, where positive, set to one
    value with the sum before (`"binarize"`, ASH-B). Meant for features that are not
    negative. Higher is more unknown.

    Args:
        percentile: Share of the features that is set to 0, in [0, 1).
        treatment: `"scale"`, `"prune"` or `"binarize"`.
        detector: The detector to wrap; see `Wrapper`.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: an argument is out of range, or `detector` cannot be wrapped.

    Example:

    >>> ood_score = ASH(num_classes=10).fit(model).score(images)
    """

    name = "ash"

    def __init__(
        self,
        *,
        percentile: float = 0.65,
        treatment: Literal["scale", "prune", "binarize"] = "scale",
        detector: Description = "energy",
        **kwargs: Any,
    ) -> None:
        super().__init__(detector=detector, **kwargs)
        self.percentile = check_fraction("percentile", percentile, zero=True)
        if treatment not in _TREATMENTS:
            raise ValueError(
                f"`treatment` must be one of {', '.join(_TREATMENTS)}. Received: "
                f"{treatment!r}"
            )
        self.treatment = treatment

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "percentile": self.percentile,
            "treatment": self.treatment,
        }

    def _change(self, features: Tensor) -> Tensor:
        kept = largest_share(features, self.percentile)
        if self.treatment == "binarize":
            # Where fewer are positive, no zero is to be raised among the largest.
            kept = kept * ops.cast(features > 0, "float32")
        left = kept * features
        if self.treatment == "prune":
            return left
        if self.treatment == "scale":
            return left * stretch(features, left)
        total = ops.sum(features, axis=-1, keepdims=True)
        return kept * total / ops.maximum(ops.sum(kept, axis=-1, keepdims=True), 1.0)
