"""What rejecting buys: the error rate among the images that are accepted."""

import numpy as np

from ood_keras.metrics.oscr import check_flags
from ood_keras.metrics.ranked_scores import RankedScores, check_scores
from ood_keras.types import Flags, Scores


def aurc(scores: Scores, errors: Flags) -> float:
    """Area under the risk-coverage curve (Geifman et al. 2019).

    Images are accepted in ascending order of their score. The coverage is the fraction
    accepted, the risk the fraction of errors among them; the area is the mean risk over
    all coverages. Images that tie are accepted together, so that each of them counts
    with the risk after all of them: constant scores give the error rate.

    Args:
        scores: `ood_score`s `(num_images,)`, higher means rejected earlier.
        errors: Bool `(num_images,)`, which images it is wrong to accept: known images
            given a wrong class and, if there are any, unknown images.

    Returns:
        A fraction; lower is better. It depends on the error rate, which is its value
        for scores that say nothing.

    Raises:
        ValueError: there are no scores, NaN scores, or not one bool per score.

    Example:

    >>> aurc([0.0, 1.0, 2.0, 3.0], [False, False, False, True])
    0.0625
    """
    scores = check_scores(scores, "scores")
    errors = check_flags(errors, "errors", scores)
    if errors.all() or not errors.any():
        return float(errors[0])
    curve = RankedScores(scores[~errors], scores[errors]).curve()
    accepted = curve.known_accepted + curve.unknown_accepted
    risk = curve.unknown_accepted / accepted
    return float(np.sum((curve.known + curve.unknown) * risk) / len(scores))
