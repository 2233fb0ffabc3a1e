"""The threshold that every command and report takes of known scores."""

from ood_keras.calibration import registry
from ood_keras.calibration.conformal import smallest_num_images
from ood_keras.calibration.order_statistic import check_known
from ood_keras.calibration.threshold import Threshold
from ood_keras.metrics.score_sketch import ScoreSketch
from ood_keras.types import Scores

#: The share of known images to accept, where nothing else is asked for.
TARGET_ACCEPTANCE = 0.95


def choose(
    known_scores: Scores | ScoreSketch,
    target_acceptance: float = TARGET_ACCEPTANCE,
    method: str | None = None,
) -> Threshold:
    """The threshold that the commands choose, so that one run has one threshold.

    `evaluation.evaluate`, the command `ood-export` and conversions that calibrate anew
    call it on the scores of the known validation images.

    Args:
        known_scores: `ood_score`s of known validation images `(num_images,)`, higher
            means more likely unknown; or a `metrics.ScoreSketch` of them.
        target_acceptance: Fraction of known images to accept, in (0, 1).
        method: Name of a method that needs known scores alone, see `names`; `None`
            takes "conformal", or "quantile" where there are too few images for that.

    Returns:
        A `Threshold`; its `method` says which was taken.

    Raises:
        ValueError: as that method, or there is no such method, or its threshold does
            not keep what it promises on these scores.

    Example:

    >>> choose(range(100)).method, choose(range(10)).method
    ('conformal', 'quantile')
    """
    if method is None:
        _, number = check_known(known_scores)
        enough = number >= smallest_num_images(target_acceptance)
        method = "conformal" if enough else "quantile"
    chosen = registry.get(method, of_known_scores=True)(known_scores, target_acceptance)
    return chosen.check_promise(known_scores)
