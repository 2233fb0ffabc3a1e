"""How unusual each image of a batch is, with control over false discoveries."""

import math
from typing import Any, Self

import numpy as np

from ood_keras.calibration.order_statistic import as_float32, check_known
from ood_keras.conventions import check_fraction, percent
from ood_keras.metrics.ranked_scores import check_scores
from ood_keras.metrics.score_sketch import ScoreSketch
from ood_keras.types import Json, Scores


class ConformalPValues:
    """P-values of images against known ones, and which of a batch to call unknown.

    The p-value of an image is `(1 + #{known scores >= its score}) / (n + 1)`. For a
    known image that is exchangeable with the n calibration images it is at most p with
    probability at most p, for any detector. Over a batch, the Benjamini-Hochberg
    procedure on these p-values controls the false-discovery rate (Bates et al. 2023).
    Use it to screen a batch for unknowns; to decide image by image, use `conformal`.

    Args:
        known_scores: `ood_score`s of known validation images `(num_images,)`, higher
            means more likely unknown. All scores are compared in float32. Or a
            `metrics.ScoreSketch` of them, of any number in 1 MB: known scores in the
            bin of a score count as at least as high, so a p-value is never below that
            of the scores themselves, and what is promised holds.

    Attributes: `known_scores`, ascending, float32, or the sketch; `num_known`, how many
        there are.

    Raises:
        ValueError: no scores, or NaN scores.

    Example:

    >>> p_values = ConformalPValues([0.0, 1.0, 2.0, 3.0])
    >>> p_values([-1.0, 2.0, 9.0])
    array([1. , 0.6, 0.2])
    >>> p_values.unknown([-1.0, 2.0, 9.0], false_discovery_rate=0.6)
    array([False, False,  True])
    """

    def __init__(self, known_scores: Scores | ScoreSketch) -> None:
        checked, self.num_known = check_known(known_scores)
        self.known_scores: np.ndarray | ScoreSketch = (
            ScoreSketch(checked.counts)
            if isinstance(checked, ScoreSketch)
            else np.sort(as_float32(checked))
        )

    def __call__(self, scores: Scores) -> np.ndarray:
        """P-values `(batch,)`, float64, of `ood_score`s `(batch,)`."""
        scores = as_float32(check_scores(scores, "scores"))
        if isinstance(self.known_scores, ScoreSketch):
            at_least: Any = self.known_scores.count_known_at_least(scores)
        else:
            at_least = self.num_known - np.searchsorted(
                self.known_scores, scores, side="left"
            )
        return (1 + at_least) / (self.num_known + 1)

    def unknown(self, scores: Scores, false_discovery_rate: float = 0.1) -> np.ndarray:
        """Which images of a batch to call unknown.

        Args:
            scores: `ood_score`s of the whole batch `(batch,)`.
            false_discovery_rate: How large a part of the images that are called unknown
                may be known, on average, in (0, 1).

        Returns:
            Bool `(batch,)`.
        """
        return benjamini_hochberg(self(scores), false_discovery_rate)

    def guarantee(self, false_discovery_rate: float = 0.1) -> str:
        """What `unknown` promises, in one sentence."""
        rate = check_fraction("false_discovery_rate", false_discovery_rate)
        return (
            "Of the images that it calls unknown in a batch, on average at most "
            f"{percent(rate)} are known images drawn like the "
            f"{self.num_known:,} it was calibrated on."
        )

    def to_dict(self) -> Json:
        """The calibration as plain JSON values; JSON has infinite scores as text."""
        if isinstance(self.known_scores, ScoreSketch):
            counts = self.known_scores.counts[0]
            (bins,) = np.nonzero(counts)
            return {
                "method": "conformal_p_values",
                "bins": bins.tolist(),
                "counts": counts[bins].tolist(),
            }
        scores = self.known_scores.tolist()
        return {
            "method": "conformal_p_values",
            "known_scores": [s if math.isfinite(s) else str(s) for s in scores],
        }

    @classmethod
    def from_dict(cls, fields: Json) -> Self:
        """The object that `to_dict` wrote, also after a trip through JSON."""
        if "bins" in fields:
            sketch = ScoreSketch()
            sketch.counts[0, fields["bins"]] = fields["counts"]
            return cls(sketch)
        return cls(list(map(float, fields["known_scores"])))

    def __str__(self) -> str:
        return self.guarantee()


def benjamini_hochberg(
    p_values: Scores, false_discovery_rate: float = 0.1
) -> np.ndarray:
    """Which of many hypotheses to reject (Benjamini and Hochberg 1995).

    Of m p-values in ascending order, all up to the last one with
    `p_(i) <= i / m * false_discovery_rate` are rejected.

    Args:
        p_values: Fractions `(m,)`.
        false_discovery_rate: In (0, 1).

    Returns:
        Bool `(m,)`, in the order of `p_values`.

    Raises:
        ValueError: p-values outside [0, 1], NaN, or none; or a rate outside (0, 1).

    Example:

    >>> benjamini_hochberg([0.01, 0.04, 0.9], false_discovery_rate=0.1)
    array([ True,  True, False])
    """
    rate = check_fraction("false_discovery_rate", false_discovery_rate)
    given = np.asarray(p_values)
    p_values = check_scores(p_values, "p_values")
    if p_values.min() < 0 or p_values.max() > 1:
        raise ValueError(
            "`p_values` must lie in [0, 1]; turn scores into p-values with "
            f"`ConformalPValues`. Received: {p_values.min():.4g} to "
            f"{p_values.max():.4g}"
        )
    ordered = np.sort(p_values)
    limits = np.arange(1, len(ordered) + 1) / len(ordered) * rate
    # Conformal p-values often meet a limit exactly; rounding must not part them.
    rounding = np.finfo(given.dtype).eps if given.dtype.kind == "f" else 0
    below = ordered <= limits * (1 + max(rounding, 1e-12))
    if not below.any():
        return np.zeros(len(p_values), bool)
    return p_values <= ordered[below][-1]
