"""A threshold on the `ood_score` that knows what it promises."""

import dataclasses
import re
from typing import Self

import numpy as np

from ood_keras import conventions
from ood_keras.calibration import order_statistic
from ood_keras.conventions import percent
from ood_keras.metrics.curve import smallest_count
from ood_keras.metrics.ranked_scores import check_scores
from ood_keras.metrics.score_sketch import ScoreSketch
from ood_keras.types import Json, Scores

# Their interval follows from the number of images and the target, by the rank.
_RANKS = {
    "quantile": smallest_count,
    "conformal": lambda count, target: smallest_count(count + 1, target),
}


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A threshold, how it was chosen, and what it promises; `str()` is the promise.

    An image is accepted when `ood_score <= value`, both in float32, so that NumPy, a
    graph, an exported model and a score that went through a text file decide alike.

    Args:
        value: The threshold on `ood_score`, where higher means more likely unknown.
        method: Name of the function of `ood_keras.calibration` that chose it.
        guarantee: One sentence: what acceptance of which images to expect. It names the
            ends of `acceptance_interval`, in percent.
        num_calibration: How many known images chose it.
        target_acceptance: The fraction of known images that it should accept; `None`
            where the method aims at something else.
        acceptance_interval: `(low, high)`: the fraction of new known images that it
            will accept lies between these with 90 % probability, or above where
            scores tie. `None` where the method promises none.

    Raises:
        ValueError: `value` is NaN or infinite, or not one that float32 holds; or
            `guarantee` says something else than the other fields.

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
        self._check_guarantee()

    def accepts(self, scores: Scores) -> np.ndarray:
        """Bool array: which `ood_score`s are accepted; NaN never is.

        Scores are rounded to float32 first; texts of numbers are scores too. See
        `conventions.accepts`.
        """
        return conventions.accepts(scores, self.value)

    def check_promise(self, known_scores: Scores | ScoreSketch) -> Self:
        """Checks `value` on the scores that chose it; returns this threshold.

        The share of them that it accepts must lie in `acceptance_interval`, ties and
        what rounding may move apart. What chooses thresholds for the commands calls it,
        so that a method of one's own cannot promise what its value does not keep.

        Args:
            known_scores: `ood_score`s `(num_images,)`, or a `metrics.ScoreSketch`.

        Raises:
            ValueError: it accepts fewer or more of them than it promises of new images.
        """
        if self.acceptance_interval is None:
            return self
        low, high = self.acceptance_interval
        if isinstance(known_scores, ScoreSketch):
            accepted = (
                known_scores.count_accepted(self.value)[0] / known_scores.num_known
            )
            surely_below = 0.0
        else:
            scores = order_statistic.as_float32(
                check_scores(known_scores, "known_scores")
            )
            accepted, surely_below = float(self.accepts(scores).mean()), 0.0
            if accepted > high:  # What lies below the value is accepted.
                size = order_statistic.usual_size(scores, self.value)
                margin = 2 * order_statistic.room(size)
                surely_below = float(np.mean(scores < self.value - margin))
        if accepted < low or surely_below > high:
            raise ValueError(
                f"the threshold method {self.method!r} chose {self.value:.6g}, which "
                f"accepts {percent(accepted)} of the known images that it was chosen "
                f"on, and promises between {percent(low)} and {percent(high)} of new "
                "ones. Write a `guarantee` and an `acceptance_interval` that are true "
                "of `value`; an interval that is not known is None"
            )
        return self

    def _check_guarantee(self) -> None:
        """Raises a ValueError if the sentence does not say what the fields say."""
        if self.acceptance_interval is None:
            return
        low, high = self.acceptance_interval
        if not 0 <= low <= high <= 1:
            raise ValueError(
                "`acceptance_interval` must be two fractions (low, high). Received: "
                f"acceptance_interval={self.acceptance_interval!r}"
            )
        count, target = self.num_calibration, self.target_acceptance
        said = dict.fromkeys(map(percent, (low, high)), "acceptance_interval")
        if self.method in _RANKS and target is not None:
            said |= {percent(target): "target_acceptance"}
            said |= {f"{count:,}": "num_calibration"}
            rank = _RANKS[self.method](count, target)
            ends = order_statistic.acceptance_interval(count, rank)
            if not np.allclose((low, high), ends, rtol=0, atol=1e-6):
                raise ValueError(
                    f"{self.method!r} with target_acceptance={target} on {count:,} "
                    f"images has acceptance_interval={ends}. Received: {(low, high)}. "
                    f"Choose the threshold by calibration.{self.method}, or give a "
                    "method of your own another name"
                )
        check_said(self.guarantee, said)

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


def check_said(guarantee: str, numbers: dict[str, str]) -> None:
    """Raises a ValueError if a sentence lacks a number that its threshold has.

    Args:
        guarantee: The sentence.
        numbers: `{number: field}`, the numbers as a sentence has them.
    """
    for number, field in numbers.items():
        if not re.search(rf"(?<![\d.,]){re.escape(number)}(?!\d)", guarantee):
            raise ValueError(
                f"`guarantee` must say what the other fields say: {number}, by "
                f"`{field}`. Received: guarantee={guarantee!r}. Change both, as in "
                f"dataclasses.replace(threshold, {field}=..., guarantee=...)"
            )
