"""Whether one detector is better than another, on the same images."""

import math
import statistics
from typing import NamedTuple

import numpy as np

from ood_keras.conventions import check_count, check_fraction
from ood_keras.metrics import measures
from ood_keras.metrics.intervals import (
    agreement_interval,
    check_at_least_two,
    placements,
    resample_curves,
)
from ood_keras.metrics.ranked_scores import RankedScores, check_scores
from ood_keras.types import Scores


class Comparison(NamedTuple):
    """Two detectors on the same images.

    Args:
        first: The metric of the first detector.
        second: The metric of the second.
        difference: `first - second`.
        low: Lower end of the confidence interval of the difference.
        high: Upper end.
        p_value: Probability of a difference at least this large, in either direction,
            between detectors that are equally good.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float


def compare_auroc(
    first: tuple[Scores, Scores],
    second: tuple[Scores, Scores],
    confidence: float = 0.95,
) -> Comparison:
    """Compares two AUROCs by DeLong's test for correlated curves (1988).

    Both detectors see the same images, so what is hard for both cancels: the test finds
    differences that two separate intervals would hide.

    Args:
        first: `(known_scores, unknown_scores)` of one detector, at least two each;
            higher means more likely unknown.
        second: The same of another detector, on the same images in the same order.
        confidence: Probability that the interval holds the true difference, in (0, 1).

    Returns:
        A `Comparison`. If both detectors rank the images alike, the interval of their
        difference is one point. Where the difference is the same for every image in
        another way, as between two that separate perfectly, DeLong's variance is 0;
        interval and `p_value` are then bounds, as in `auroc_interval`.

    Raises:
        ValueError: as `evaluate_scores`; the detectors have not scored equally many
            images, or fewer than two; `confidence` is not a fraction.

    Example:

    >>> first = [0.0, 1.0, 2.0, 3.0], [2.5, 3.5, 4.0]
    >>> second = [0.0, 3.0, 2.0, 1.0], [1.5, 0.5, 4.0]
    >>> round(compare_auroc(first, second).p_value, 3)
    0.255
    """
    tail = (1 - check_fraction("confidence", confidence)) / 2
    first, second = _check_pairs(first, second, "DeLong's test")
    values, places, ranks = [], [], []
    for known, unknown in (first, second):
        ranked = RankedScores(known, unknown)
        groups = ranked.groups_of(known), ranked.groups_of(unknown)
        above, below = placements(ranked.curve())
        values.append(ranked.measure("auroc"))
        places.append((above[groups[0]], below[groups[1]]))
        ranks.append(np.concatenate(groups))
    if np.array_equal(*ranks):  # type: ignore[arg-type]
        return Comparison(*values, 0.0, 0.0, 0.0, 1.0)  # type: ignore[call-arg]
    difference = values[0] - values[1]
    gaps = [a - b for a, b in zip(*places, strict=True)]
    if max(map(np.ptp, gaps)) < _ROUNDING:
        num_pairs = min(map(len, gaps))
        low, high = agreement_interval(difference, -1, num_pairs, tail)
        # If the true difference is 0, a pair has this one with a probability of at
        # most 1 / (1 + |difference|), since no other can be below -1 or above 1.
        p_value = min(1.0, 2 * (1 + abs(difference)) ** -num_pairs)
        return Comparison(*values, difference, low, high, p_value)  # type: ignore[call-arg]
    error = math.sqrt(sum(np.var(gap, ddof=1) / len(gap) for gap in gaps))
    reach = statistics.NormalDist().inv_cdf(1 - tail) * error
    p_value = math.erfc(abs(difference) / error / math.sqrt(2))
    low, high = difference - reach, difference + reach
    return Comparison(*values, difference, low, high, p_value)  # type: ignore[call-arg]


def compare_scores(
    first: tuple[Scores, Scores],
    second: tuple[Scores, Scores],
    metric: str = "auroc",
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compares any metric of two detectors by a paired bootstrap.

    Images are drawn with replacement, the same for both detectors.

    Args:
        first: As in `compare_auroc`.
        second: As in `compare_auroc`.
        metric: Name of a metric, for example "fpr95_known_positive".
        confidence: Probability that the interval holds the true difference, in (0, 1).
        num_resamples: How often to draw. No `p_value` is below 2 / (that + 1).
        seed: Integer; the same seed gives the same result.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: as `evaluate_scores`; unknown `metric`; the detectors have not
            scored equally many images, or fewer than two; `confidence` is not a
            fraction, or `num_resamples` not a whole number above 0.
    """
    tail = (1 - check_fraction("confidence", confidence)) / 2
    num_resamples = check_count("num_resamples", num_resamples)
    formula = measures.get(metric).formula
    if formula is None:
        raise ValueError(
            f"the metric {metric!r} depends on more than the order of the scores, "
            "which is all that the bootstrap draws anew. Choose one with a `formula`"
        )
    pairs = _check_pairs(first, second, "the bootstrap")
    draws = [
        float(formula(np, curves[0]) - formula(np, curves[1]))
        for curves in resample_curves(pairs, num_resamples, seed)
    ]
    values = [RankedScores(*pair).measure(metric) for pair in pairs]
    low, high = np.quantile(draws, [tail, 1 - tail])
    rarer = min(np.sum(np.less_equal(draws, 0)), np.sum(np.greater_equal(draws, 0)))
    p_value = min(1.0, 2 * (int(rarer) + 1) / (num_resamples + 1))
    return Comparison(*values, values[0] - values[1], float(low), float(high), p_value)  # type: ignore[call-arg]


# Of differences of placements, which are fractions of a number of images.
_ROUNDING = 1e-12


def _check_pairs(
    first: tuple[Scores, Scores], second: tuple[Scores, Scores], method: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = [
        (check_scores(known, "known_scores"), check_scores(unknown, "unknown_scores"))
        for known, unknown in (first, second)
    ]
    sizes = [(len(known), len(unknown)) for known, unknown in pairs]
    if sizes[0] != sizes[1]:
        raise ValueError(
            "a paired comparison needs the scores of both detectors on the same images "
            "in the same order. Received (known, unknown): "
            f"{sizes[0]} and {sizes[1]} scores"
        )
    check_at_least_two(*sizes[0], method)
    return pairs
