"""The threshold at which mistakes cost least."""

import functools

import numpy as np

from ood_keras.calibration.order_statistic import (
    as_float32,
    check_both,
    just_above,
)
from ood_keras.calibration.registry import register
from ood_keras.calibration.threshold import Threshold
from ood_keras.conventions import REJECTED_SCORE, check_fraction, check_number, percent
from ood_keras.metrics.ranked_scores import RankedScores, check_scores
from ood_keras.metrics.score_sketch import ScoreSketch
from ood_keras.types import Scores


@register
def lowest_cost(
    known_scores: Scores | ScoreSketch,
    unknown_scores: Scores | None,
    prior_unknown: float,
    cost_false_accept: float = 1.0,
    cost_false_reject: float = 1.0,
) -> Threshold:
    """The threshold with the lowest expected cost per image, on the given images.

    The cost at a threshold is `(1 - prior) cost_false_reject P(reject | known) + prior
    cost_false_accept P(accept | unknown)`; with a prior of 0.5 and equal costs this is
    the threshold of the detection error. The prior is the share of unknown images to
    come, not their share in the given sets. The threshold lies halfway between two
    neighbouring scores (just above all of them to accept everything, just below to
    accept nothing), and is the strictest of those with the lowest cost. Scores are
    rounded to float32, in which every format decides.

    Args:
        known_scores: `ood_score`s of known validation images `(num_known,)`, higher
            means more likely unknown; or a `metrics.ScoreSketch` of known and unknown
            ones, with `None` for `unknown_scores`: then the thresholds between its bins
            are compared, 0.2 % of the score apart.
        unknown_scores: `ood_score`s of unknown validation images `(num_unknown,)`, from
            sources used in training, never from a test set. The result is only as
            good as these resemble the unknown images to come.
        prior_unknown: Fraction of images to come that are unknown, in (0, 1).
        cost_false_accept: Cost of accepting an unknown image, above 0, in any unit.
        cost_false_reject: Cost of rejecting a known image, above 0, in the same unit.

    Returns:
        A `Threshold`; its `target_acceptance` is `None`.

    Raises:
        ValueError: no scores or NaN scores, a prior outside (0, 1), a cost that is not
            above 0, or a threshold that would be infinite.

    Example:

    >>> lowest_cost([0.0, 1.0, 2.0], [3.0, 4.0], prior_unknown=0.1).value
    2.5
    """
    prior = check_fraction("prior_unknown", prior_unknown)
    cost_false_accept = check_number("cost_false_accept", cost_false_accept, "(0, inf)")
    cost_false_reject = check_number("cost_false_reject", cost_false_reject, "(0, inf)")
    known_accepted, unknown_accepted, between = _rank(known_scores, unknown_scores)
    num_known, num_unknown = known_accepted[-1], unknown_accepted[-1]
    # Point 0 accepts nothing, point i every score of the first i groups.
    num_accepted = np.append(0, known_accepted)
    known = num_accepted / num_known
    unknown = np.append(0, unknown_accepted) / num_unknown
    rejected = (num_known - num_accepted) / num_known
    costs = (1 - prior) * cost_false_reject * rejected
    costs += prior * cost_false_accept * unknown
    # Rounding must not part equal costs.
    point = int(np.argmax(costs <= costs.min() * (1 + 1e-12)))
    is_sketch = isinstance(known_scores, ScoreSketch)
    kind = "threshold between the bins of the sketch" if is_sketch else "threshold"
    return Threshold(
        value=between(point),
        method="lowest_cost",
        guarantee=(
            f"With {percent(prior)} unknown images, a cost of {cost_false_accept:g} "
            f"for each one accepted and of {cost_false_reject:g} for each known image "
            f"rejected, no {kind} costs less than its {costs[point]:.4g} per image "
            f"on the {num_known:,} known and {num_unknown:,} unknown "
            f"images it was chosen on, of which it accepts {percent(known[point])} and "
            f"{percent(unknown[point])}."
        ),
        num_calibration=int(num_known),
        target_acceptance=None,
    )


def _rank(known_scores, unknown_scores):
    """`(known accepted, unknown accepted, between)`, by groups of ascending scores.

    The first two count what is at or below each group; `between(point)` is a float32
    number that accepts exactly the first `point` groups.
    """
    if not isinstance(known_scores, ScoreSketch):
        ranked = RankedScores(
            _as_float32(known_scores, "known_scores"),
            _as_float32(unknown_scores, "unknown_scores"),
        )
        between = functools.partial(_between, ranked.thresholds)
        return ranked.known_accepted, ranked.unknown_accepted, between
    sketch = check_both(known_scores, unknown_scores)
    (places,) = np.nonzero(sketch.counts.any(axis=0))
    # The number below the first group parts the bin before it.
    places = np.append(max(places[0] - 1, 0), places)
    known, unknown = np.cumsum(sketch.counts[:, places[1:]], axis=1)
    return known, unknown, lambda point: float(sketch.ends(places[[point]])[0])


def _as_float32(scores: Scores, name: str) -> np.ndarray:
    """Float32 scores; the score of invalid input counts as infinite."""
    scores = as_float32(check_scores(scores, name))
    return np.where(scores == REJECTED_SCORE, np.float32(np.inf), scores)


def _between(scores: np.ndarray, point: int) -> float:
    """A float32 number that accepts exactly the first `point` of ascending scores.

    Where float32 has no number between two scores, it is the lower of them.
    """
    low = float(scores[point - 1]) if point else -np.inf
    high = float(scores[point]) if point < len(scores) else np.inf
    if low == high:
        raise ValueError(
            f"the lowest cost is that of a threshold {'at' if point else 'below'} "
            f"{low}, which is no use: it {'accepts' if point else 'rejects'} every "
            "image. Choose another detector, or other costs"
        )
    finite = [end for end in (low, high) if np.isfinite(end)]
    if len(finite) == 2:
        middle = float(np.float32(low / 2 + high / 2))
        return middle if low <= middle < high else low
    if not finite:
        return 0.0
    if finite == [low]:
        return just_above(scores, low)
    # Mirrored, it rejects what it stands just below.
    return -just_above(-scores, -high)
