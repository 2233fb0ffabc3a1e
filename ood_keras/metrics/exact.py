"""Exact ranking metrics of two sets of scores, as plain functions."""

from typing import Literal

from ood_keras.metrics.ranked_scores import RankedScores, ROCCurve
from ood_keras.types import Names, Scores


def evaluate_scores(
    known_scores: Scores, unknown_scores: Scores, further: Names = ()
) -> dict[str, float]:
    """All ranking metrics of a detector on one pair of data sets, from one sort.

    Args:
        known_scores: `ood_score`s of known images `(num_known,)`, higher means more
            likely unknown. Infinities are legal.
        unknown_scores: `ood_score`s of unknown images `(num_unknown,)`.
        further: Names of registered metrics to compute beside the built-in ones; see
            `ood_keras.metrics.register`.

    Returns:
        Dict of fractions: `auroc`, `aupr_in`, `aupr_out`, `detection_error`,
        `fpr95_known_positive`, `fpr95_unknown_positive`; each is the function of that
        name, the last two `fpr_at_tpr` at 0.95. Then those of `further`.

    Raises:
        ValueError: a set is empty, has more than one axis, or holds NaN; or there is no
            metric of a name in `further`.
        TypeError: scores are not real numbers.

    Example:

    >>> result = evaluate_scores([0.0, 1.0, 2.0], [2.0, 3.0])
    >>> result["auroc"], result["fpr95_known_positive"]
    (0.9166666666666666, 0.5)
    """
    return RankedScores(known_scores, unknown_scores).evaluate(further)


def auroc(known_scores: Scores, unknown_scores: Scores) -> float:
    """Area under the ROC curve: P(unknown scores higher) + P(tie) / 2.

    1 is perfect, 0.5 is chance, and below 0.5 the score points the wrong way. It is
    the same whichever class is called positive. Arguments and errors are those of
    `evaluate_scores`.
    """
    return RankedScores(known_scores, unknown_scores).measure("auroc")


def aupr_in(known_scores: Scores, unknown_scores: Scores) -> float:
    """Average precision with known as the positive class, found by low scores.

    The sum over the tie-grouped curve of precision times the gain in recall, as in
    scikit-learn, not the trapezoid, which reads too high under ties. It depends on the
    ratio of known to unknown images. Arguments and errors are those of
    `evaluate_scores`.
    """
    return RankedScores(known_scores, unknown_scores).measure("aupr_in")


def aupr_out(known_scores: Scores, unknown_scores: Scores) -> float:
    """Average precision with unknown as the positive class, found by high scores.

    See `aupr_in`. Arguments and errors are those of `evaluate_scores`.
    """
    return RankedScores(known_scores, unknown_scores).measure("aupr_out")


def detection_error(known_scores: Scores, unknown_scores: Scores) -> float:
    """Smallest error over all thresholds, known and unknown weighed equally.

    `min (1 - TPR) / 2 + FPR / 2` over the exact curve, end points included (Liang et
    al. 2018); 0 is perfect, 0.5 is chance. Arguments and errors are those of
    `evaluate_scores`.
    """
    return RankedScores(known_scores, unknown_scores).measure("detection_error")


def fpr_at_tpr(
    known_scores: Scores,
    unknown_scores: Scores,
    tpr: float = 0.95,
    positive: Literal["known", "unknown"] = "known",
) -> float:
    """False positive rate at the first point of the exact curve with TPR >= `tpr`.

    Args:
        known_scores: See `evaluate_scores`.
        unknown_scores: See `evaluate_scores`.
        tpr: The true positive rate to reach, in (0, 1].
        positive: `"known"`: the fraction of unknown images accepted at the strictest
            threshold that accepts `tpr` of the known ones (ODIN, the paper's Table 1).
            `"unknown"`: the fraction of known images rejected at the most lenient one
            that rejects `tpr` of the unknown ones (Outlier Exposure, OpenOOD).

    Returns:
        A fraction; 0 is perfect. 1 for constant scores.

    Raises:
        ValueError: as `evaluate_scores`, or `tpr` or `positive` is none of these.
    """
    return RankedScores(known_scores, unknown_scores).fpr_at_tpr(tpr, positive)


def roc_curve(known_scores: Scores, unknown_scores: Scores) -> ROCCurve:
    """The exact ROC curve, tie-grouped, for plots.

    Points on the straight line between their neighbours are left out; the curve is the
    same without them. Arguments and errors are those of `evaluate_scores`.

    Returns:
        `ROCCurve(known_accepted, unknown_accepted, thresholds)`: with known as the
        positive class, plot `known_accepted` (true positive rate) over
        `unknown_accepted` (false positive rate).

    Example:

    >>> curve = roc_curve([0.0, 1.0, 2.0], [2.0, 3.0])
    >>> curve.unknown_accepted
    array([0. , 0. , 0.5, 1. ])
    """
    return RankedScores(known_scores, unknown_scores).roc_curve()
