"""The norm that the objectosphere loss pushes up for known images."""

from typing import Any, Literal

from keras import ops

from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.registry import register
from ood_keras.types import Json, Outputs, Tensor

_SMALLEST_NORM = 1e-30


@register
class Objectosphere(Detector):
    """Scores by the norm of the known probabilities, or of the deep features.

    For models trained with the objectosphere loss, which makes that norm large for
    known images and small for unknown ones. Higher scores are more unknown.

    * `on="softmax"`: with p the N known entries of the softmax over all logits, the
      score is `log((1 - n) / n)`, n = ||p||^2, which falls with the norm and does not
      saturate where the norm rounds to 1 or 0.
    * `on="features"`: the score is `-||F||` (Dhamija et al., "Reducing Network
      Agnostophobia", NeurIPS 2018).
    * `on="product"`: the score is `-log(p_max ||F||)`, where p_max is the largest known
      probability; their score of a class, scaled by the norm of the features.

    Args:
        on: `"softmax"`, `"features"` or `"product"`.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `on` is something else.

    Example:

    >>> ood_score = Objectosphere(num_classes=10).fit(model).score(images)
    """

    name = "objectosphere"

    def __init__(
        self,
        *,
        on: Literal["softmax", "features", "product"] = "softmax",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on not in ("softmax", "features", "product"):
            raise ValueError(
                f'`on` must be "softmax", "features" or "product". Received: on={on!r}'
            )
        self.on = on

    def get_config(self) -> Json:
        return {**super().get_config(), "on": self.on}

    def score_outputs(self, outputs: Outputs) -> Tensor:
        if self.on == "softmax":
            return output_scores.objectosphere(outputs["logits"], self.num_classes)
        norm = ops.norm(outputs["features"], axis=-1)
        if self.on == "features":
            return -norm
        # Features that passed a ReLU may all be 0.
        log_norm = ops.log(ops.maximum(norm, _SMALLEST_NORM))
        largest = output_scores.minus_log_largest(outputs["logits"], self.num_classes)
        return largest - log_norm
