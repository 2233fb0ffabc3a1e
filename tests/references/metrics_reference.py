"""The metrics, one threshold and one pair of images at a time, in exact fractions.

Written from the definitions: quadratic, without sorting, without running sums.
"""

import itertools
from fractions import Fraction


def auroc(known, unknown):
    wins = sum(
        Fraction(1) if u > k else Fraction(1, 2) if u == k else Fraction(0)
        for k in known
        for u in unknown
    )
    return float(wins / (len(known) * len(unknown)))


def points(known, unknown):
    """`(known accepted, unknown accepted)` counts; the first point accepts nothing."""
    thresholds = sorted({float(score) for score in [*known, *unknown]})
    return [(0, 0)] + [
        (sum(k <= t for k in known), sum(u <= t for u in unknown)) for t in thresholds
    ]


def detection_error(known, unknown):
    return float(
        min(
            (1 - Fraction(tp, len(known)) + Fraction(fp, len(unknown))) / 2
            for tp, fp in points(known, unknown)
        )
    )


def fpr_known_positive(known, unknown, tpr=Fraction(95, 100)):
    for tp, fp in points(known, unknown):
        if Fraction(tp, len(known)) >= tpr:
            return fp / len(unknown)


def fpr_unknown_positive(known, unknown, tpr=Fraction(95, 100)):
    """Turned round: the roles are swapped and high scores are accepted first."""
    return fpr_known_positive([-u for u in unknown], [-k for k in known], tpr)


def aupr_in(known, unknown):
    curve = points(known, unknown)
    area = Fraction(0)
    for (before, _), (tp, fp) in itertools.pairwise(curve):
        area += Fraction(tp - before, len(known)) * Fraction(tp, tp + fp)
    return float(area)


def aupr_out(known, unknown):
    return aupr_in([-u for u in unknown], [-k for k in known])


def evaluate_scores(known, unknown):
    return {
        "auroc": auroc(known, unknown),
        "aupr_in": aupr_in(known, unknown),
        "aupr_out": aupr_out(known, unknown),
        "detection_error": detection_error(known, unknown),
        "fpr95_known_positive": fpr_known_positive(known, unknown),
        "fpr95_unknown_positive": fpr_unknown_positive(known, unknown),
    }


def oscr(known, correct, unknown):
    """Trapezoids between the points of the curve of accepted and right images."""
    thresholds = sorted({*known, *unknown})
    curve = [(Fraction(0), Fraction(0))]
    for t in thresholds:
        right = sum(k <= t and bool(c) for k, c in zip(known, correct, strict=True))
        accepted = sum(u <= t for u in unknown)
        curve.append((Fraction(accepted, len(unknown)), Fraction(right, len(known))))
    area = Fraction(0)
    for (x1, y1), (x2, y2) in itertools.pairwise(curve):
        area += (x2 - x1) * (y1 + y2) / 2
    return float(area)


def aurc(scores, errors):
    """Mean over images of the error rate among all that score no higher."""
    risks = []
    for score in scores:
        accepted = [e for s, e in zip(scores, errors, strict=True) if s <= score]
        risks.append(Fraction(sum(map(bool, accepted)), len(accepted)))
    return float(sum(risks) / len(risks))


def calibration_error(confidence, correct, num_bins):
    total = 0.0
    for b in range(num_bins):
        low, high = b / num_bins, (b + 1) / num_bins
        inside = [
            (c, r)
            for c, r in zip(confidence, correct, strict=True)
            if low < c <= high or (b == 0 and c == 0)
        ]
        if inside:
            accuracy = sum(bool(r) for _, r in inside) / len(inside)
            mean = sum(c for c, _ in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


def delong_covariance(detectors):
    """Covariance of AUROCs (DeLong et al. 1988, eq. 6), detectors of (known, unknown).

    The kernel matrix of each detector is written out pair by pair.
    """
    import numpy as np

    known_means, unknown_means = [], []
    for known, unknown in detectors:
        kernel = np.array(
            [[1.0 if u > k else 0.5 if u == k else 0.0 for u in unknown] for k in known]
        )
        known_means.append(kernel.mean(axis=1))
        unknown_means.append(kernel.mean(axis=0))
    return np.atleast_2d(np.cov(known_means)) / len(known_means[0]) + np.atleast_2d(
        np.cov(unknown_means)
    ) / len(unknown_means[0])


def score_cases():
    """Pairs `(known, unknown)` of awkward scores, by name; float32 unless said so."""
    import numpy as np

    rng = np.random.default_rng(7)
    normal = rng.normal(size=60), rng.normal(1.0, 2.0, size=45)
    inf = np.inf
    tiny = np.float32(1e-45)
    one = np.float32(1)
    cases = {
        "overlapping": normal,
        "many_ties": [np.round(scores) for scores in normal],
        "saturated": (
            np.where(rng.random(50) < 0.7, 1.0, rng.random(50)),
            np.where(rng.random(40) < 0.3, 1.0, rng.random(40) + 0.5),
        ),
        "constant": ([3.0] * 5, [3.0] * 4),
        "separable": ([-2.0, -1.0, 0.0], [1.0, 2.0]),
        "wrong_way": ([1.0, 2.0], [-2.0, -1.0, 0.0]),
        "one_each": ([0.0], [1.0]),
        "one_each_tied": ([0.0], [-0.0]),
        "one_known": ([0.5], rng.normal(size=30)),
        "one_unknown": (rng.normal(size=30), [0.5]),
        "infinities": ([-inf, -inf, 0.0, 1.0, inf], [-inf, 0.0, inf, inf]),
        "only_infinities": ([-inf, inf], [inf, -inf]),
        "float32_neighbours": (
            [one, np.nextafter(one, 0 * one), one],
            [np.nextafter(one, 2 * one), one],
        ),
        "subnormals": ([0.0, tiny, -tiny], [tiny, 2 * tiny, 0.0]),
        "extremes": ([-3.4e38, 1e-37, 3.4e38], [3.4e38, -1e-37, 1e30]),
        "exactly_95_percent": (np.arange(20.0), np.arange(20.0) + 0.5),
    }
    cases = {
        name: tuple(np.array(scores, np.float32) for scores in pair)
        for name, pair in cases.items()
    }
    cases["float64"] = normal
    cases["float64_finer_than_float32"] = (
        1 + np.arange(20) * 1e-12,
        1 + np.arange(10, 25) * 1e-12,
    )
    cases["float64_beyond_float32"] = (np.array([1e300, -1e300]), np.array([1e301]))
    cases["mixed_precision"] = normal[0].astype(np.float32), normal[1]
    cases["integers"] = np.array([0, 1, 2]), np.array([2, 3])
    cases["float16"] = tuple(np.array(scores, np.float16) for scores in normal)
    return cases
