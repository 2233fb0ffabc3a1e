"""What the detectors with a softmax temperature share."""

from typing import Any

from ood_keras.conventions import check_number
from ood_keras.detectors.base import Detector
from ood_keras.types import Json


class TemperatureDetector(Detector):
    """A detector that divides the logits by `temperature`.

    Args:
        temperature: T > 0. With T = 1 the logits are used as they are.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `temperature` is not a positive number.
    """

    def __init__(self, *, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = check_number("temperature", temperature, "(0, inf)")

    def get_config(self) -> Json:
        return {**super().get_config(), "temperature": self.temperature}
