"""A threshold on the `ood_score` that knows what it promises."""

import dataclasses
from typing import Self

import numpy as np

from ood_keras import conventions
from ood_keras.types import Json, Scores


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A threshold, how it was chosen, and what it promises; `str()` is the promise.

    An image is accepted when `ood_score <= value`, both in float32, so that NumPy, a
    graph, an exported model and a score that went through a text file decide alike.

    Args:
        value: The threshold on `ood_score`, where higher means more likely unknown.
        method: Name of the function of `ood_keras.calibration` that chose it.
        guarantee: One sentence: what acceptance of which images to expect.
        num_calibration: How many known images chose it.
        target_acceptance: The fraction of known images that it should accept; `None`
            where the method aims at something else.
        acceptance_interval: `(low, high)`: the fraction of new known images that it
            will accept lies between these with 90 % probability, or above where
            scores tie. `None` where the method promises none.

    Raises:
        ValueError: `value` is NaN or infinite, or not one that float32 holds.

    Example:

    >>> threshold = quantile([0.0, 1.0, 2.0, 3.0], target_acceptance=0.75)
    >>> threshold.accepts([1.5, 2.0, "2.5"])
    array([ True,  True, False])
    >>> Threshold.from_dict(threshold.to_dict()) == threshold
    True
    """

    value: float
    method: str
    guarantee: str
    num_calibration: int
    target_acceptance: float | None
    acceptance_interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.value) or float(np.float32(self.value)) != self.value:
            raise ValueError(
                "`value` must be finite and a number that float32 holds, so that every "
                "format decides alike; use `float(np.float32(value))`. Received: "
                f"value={self.value!r}"
            )
        # NumPy's numbers are not plain JSON values.
        for name, kind in (
            ("value", float),
            ("num_calibration", int),
            ("target_acceptance", float),
            ("acceptance_interval", lambda ends: tuple(map(float, ends))),
        ):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, kind(given))

    def accepts(self, scores: Scores) -> np.ndarray:
        """Bool array: which `ood_score`s are accepted; NaN never is.

        Scores are rounded to float32 first; texts of numbers are scores too. See
        `conventions.accepts`.
        """
        return conventions.accepts(scores, self.value)

    def to_dict(self) -> Json:
        """The fields as plain JSON values, for a manifest."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Json) -> Self:
        """The threshold that `to_dict` wrote, also after a trip through JSON."""
        interval = fields.get("acceptance_interval")
        return cls(**{**fields, "acceptance_interval": interval and tuple(interval)})

    def __str__(self) -> str:
        return self.guarantee
