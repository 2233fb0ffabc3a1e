"""Several thresholds at once, to choose between."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from ood_keras.calibration.clopper_pearson import clopper_pearson
from ood_keras.calibration.conformal import conformal
from ood_keras.calibration.order_statistic import check_both
from ood_keras.calibration.registry import get
from ood_keras.calibration.threshold import Threshold
from ood_keras.conventions import percent
from ood_keras.metrics.ranked_scores import check_scores
from ood_keras.metrics.score_sketch import ScoreSketch
from ood_keras.types import Json, Scores


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A threshold and the unknown images that it accepts; `str()` says both.

    Args:
        threshold: The `Threshold`.
        unknown_accepted: Fraction of the given unknown images that it accepts.
        unknown_interval: `(low, high)`, the 95 % Clopper-Pearson interval of that rate
            for unknown images drawn alike.
        num_unknown: How many unknown images were given.
    """

    threshold: Threshold
    unknown_accepted: float
    unknown_interval: tuple[float, float]
    num_unknown: int

    def to_dict(self) -> Json:
        """The fields as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Json) -> Self:
        """The point that `to_dict` wrote, also after a trip through JSON."""
        return cls(
            **{
                **fields,
                "threshold": Threshold.from_dict(fields["threshold"]),
                "unknown_interval": tuple(fields["unknown_interval"]),
            }
        )

    def __str__(self) -> str:
        low, high = self.unknown_interval
        return (
            f"{self.threshold} Of {self.num_unknown:,} unknown images it accepts "
            f"{percent(self.unknown_accepted)} (between {percent(low)} and "
            f"{percent(high)} of others drawn alike, with 95 % confidence)."
        )


def operating_points(
    known_scores: Scores | ScoreSketch,
    unknown_scores: Scores | None,
    targets: Sequence[float] = (0.9, 0.95, 0.99),
    method: Callable[[Scores, float], Threshold] | str = conformal,
) -> list[OperatingPoint]:
    """Thresholds at several target acceptances, with the unknown images each accepts.

    Args:
        known_scores: `ood_score`s of known validation images `(num_known,)`, higher
            means more likely unknown.
        unknown_scores: `ood_score`s of unknown validation images `(num_unknown,)`,
            never from a test set: the thresholds do not depend on them, but your
            choice among these will. `None` where `known_scores` is a
            `metrics.ScoreSketch` of both; then a bin that a threshold parts counts as
            accepted.
        targets: Fractions of known images to accept.
        method: `conformal`, `quantile`, another function like them, or a name.

    Returns:
        A list of `OperatingPoint`, one per target.

    Raises:
        TypeError: `targets` is no sequence, or `method` no function.
        ValueError: as `method`, or there is none of that name.

    Example:

    >>> points = operating_points(range(20), range(15, 25), targets=(0.5, 0.9))
    >>> [(point.threshold.value, point.unknown_accepted) for point in points]
    [(10.001220703125, 0.0), (18.002197265625, 0.4)]
    """
    count = _count_unknown(known_scores, unknown_scores)
    if isinstance(method, str):
        method = get(method, of_known_scores=True)
    if not (callable(method) and np.ndim(targets) == 1):
        raise TypeError(
            "expected `targets` such as (0.9, 0.95) and `method` such as "
            f"calibration.conformal. Received: targets={targets!r}, method={method!r}"
        )
    points = []
    for target in targets:
        threshold = method(known_scores, target)
        num_accepted, num_unknown = count(threshold)
        points.append(
            OperatingPoint(
                threshold=threshold,
                unknown_accepted=num_accepted / num_unknown,
                unknown_interval=clopper_pearson(num_accepted, num_unknown),
                num_unknown=num_unknown,
            )
        )
    return points


def _count_unknown(known_scores, unknown_scores):
    """A function from a threshold to `(unknown images accepted, all of them)`."""
    if isinstance(known_scores, ScoreSketch):
        sketch = check_both(known_scores, unknown_scores)
        return lambda threshold: (
            sketch.count_accepted(threshold.value)[1],
            sketch.num_unknown,
        )
    unknown = check_scores(unknown_scores, "unknown_scores")
    return lambda threshold: (int(threshold.accepts(unknown).sum()), len(unknown))
