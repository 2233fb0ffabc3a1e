"""The norm that the objectosphere loss pushes up for known images."""

from keras import ops

from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector


class Objectosphere(Detector):
    """Scores by the norm of the known probabilities, or of the deep features.

    For models trained with the objectosphere loss, which makes that norm large for
    known images and small for unknown ones. Higher scores are more unknown.

    * `on="softmax"`: with p the N known entries of the softmax over all logits, the
      score is `log((1 - n) / n)`, n = ||p||^2, which falls with the norm and does not
      saturate where the norm rounds to 1 or 0.
    * `on="features"`: the score is `-||F||` (Dhamija et al., "Reducing Network
      Agnostophobia", NeurIPS 2018).

    Args:
        on: `"softmax"` or `"features"`.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `on` is something else.

    Example:

    >>> ood_score = Objectosphere(num_classes=10).fit(model).score(images)
    """

    name = "objectosphere"

    def __init__(self, *, on="softmax", **kwargs):
        super().__init__(**kwargs)
        if on not in ("softmax", "features"):
            raise ValueError(
                f'`on` must be "softmax" or "features". Received: on={on!r}'
            )
        self.on = on

    def get_config(self):
        return {**super().get_config(), "on": self.on}

    def score_outputs(self, outputs):
        if self.on == "features":
            return -ops.norm(outputs["features"], axis=-1)
        return output_scores.objectosphere(outputs["logits"], self.num_classes)
