"""Activation scaling."""

from typing import Any

from keras import ops

from ood_keras.conventions import check_fraction
from ood_keras.detectors.registry import Description, register
from ood_keras.detectors.wrapper import ActivationWrapper
from ood_keras.types import Json, Tensor


@register
class Scale(ActivationWrapper):
    """Stretches each image's features by how many of them matter, before scoring.

    Xu et al., "Scaling for Training Time and Post-hoc Out-of-distribution Detection
    Enhancement", ICLR 2024: all features are multiplied by exp(sum of all / sum of the
    largest `1 - percentile`), and none is set to 0. Meant for features that are not
    negative. Higher is more unknown.

    Args:
        percentile: Share of the features left out of the second sum, in [0, 1).
        detector: The detector to wrap; see `Wrapper`.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `percentile` is out of range, or `detector` cannot be wrapped.

    Example:

    >>> ood_score = Scale(num_classes=10).fit(model).score(images)
    """

    name = "scale"

    def __init__(
        self,
        *,
        percentile: float = 0.85,
        detector: Description = "energy",
        **kwargs: Any,
    ) -> None:
        super().__init__(detector=detector, **kwargs)
        self.percentile = check_fraction("percentile", percentile, zero=True)

    def get_config(self) -> Json:
        return {**super().get_config(), "percentile": self.percentile}

    def _change(self, features: Tensor) -> Tensor:
        left = largest_share(features, self.percentile) * features
        return features * stretch(features, left)


def largest_share(features: Tensor, percentile: float) -> Tensor:
    """1 at the largest `1 - percentile` of an image's features `(batch, D)`, else 0."""
    size = features.shape[-1]
    num_kept = max(size - round(percentile * size), 1)
    smallest = ops.top_k(features, num_kept)[0][:, -1:]
    return ops.cast(features >= smallest, "float32")


def stretch(features: Tensor, left: Tensor) -> Tensor:
    """exp(sum of `features` / sum of `left`), `(batch, 1)`; the ratio is at most 20."""
    before = ops.sum(features, axis=-1, keepdims=True)
    after = ops.sum(left, axis=-1, keepdims=True)
    return ops.exp(ops.clip(before / ops.maximum(after, 1e-30), -20.0, 20.0))
