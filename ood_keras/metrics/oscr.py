"""Open-set classification: right class and accepted, against unknown accepted."""

import numpy as np

from ood_keras.metrics import curve as formulas
from ood_keras.metrics.ranked_scores import RankedScores, check_scores
from ood_keras.types import Flags, Scores


def oscr(known_scores: Scores, correct: Flags, unknown_scores: Scores) -> float:
    """Area under the open-set classification rate curve (Dhamija et al. 2018).

    The curve runs over thresholds: the fraction of known images that are accepted and
    rightly classified, over the fraction of unknown images that are accepted. Its area
    is the accuracy times the AUROC of the rightly classified images, and never above
    either of accuracy and AUROC. Exact, ties grouped.

    Args:
        known_scores: `ood_score`s of known images `(num_known,)`, higher means more
            likely unknown.
        correct: Bool `(num_known,)`, which of them are given their class.
        unknown_scores: `ood_score`s of unknown images `(num_unknown,)`.

    Returns:
        A fraction; 1 is perfect.

    Raises:
        ValueError: a set is empty, holds NaN, or there is not one `correct` per known
            image.

    Example:

    >>> oscr([0.0, 1.0, 2.0], [True, False, True], [1.5, 3.0])
    0.5
    """
    known_scores = check_scores(known_scores, "known_scores")
    unknown_scores = check_scores(unknown_scores, "unknown_scores")
    correct = check_flags(correct, "correct", known_scores)
    if not correct.any():
        return 0.0
    curve = RankedScores(known_scores[correct], unknown_scores).curve()
    return float(formulas.auroc(np, curve._replace(num_known=len(known_scores))))


def check_flags(flags: Flags, name: str, scores: np.ndarray) -> np.ndarray:
    """Returns `flags` as a bool array, if there is one for each score."""
    flags = np.asarray(flags)
    if flags.shape != scores.shape or flags.dtype != bool:
        raise ValueError(
            f"`{name}` must hold one bool per image, shape {scores.shape}. Received: "
            f"shape {flags.shape}, {flags.dtype}"
        )
    return flags
