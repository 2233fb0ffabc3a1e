"""The threshold that every command and report takes of known scores."""

from ood_keras.calibration.conformal import conformal, smallest_num_images
from ood_keras.calibration.quantile import quantile

METHODS = {"conformal": conformal, "quantile": quantile}
TARGET_ACCEPTANCE = 0.95


def choose(known_scores, target_acceptance=TARGET_ACCEPTANCE, method=None):
    """The threshold that the commands choose, so that one run has one threshold.

    `evaluation.evaluate`, the command `ood-export` and conversions that calibrate anew
    call it on the scores of the known validation images.

    Args:
        known_scores: `ood_score`s of known validation images `(num_images,)`, higher
            means more likely unknown.
        target_acceptance: Fraction of known images to accept, in (0, 1).
        method: "conformal" or "quantile"; `None` takes "conformal", or "quantile" where
            there are too few images for that.

    Returns:
        A `Threshold`; its `method` says which was taken.

    Raises:
        ValueError: as that method, or there is no such method.

    Example:

    >>> choose(range(100)).method, choose(range(10)).method
    ('conformal', 'quantile')
    """
    if method is None:
        enough = len(known_scores) >= smallest_num_images(target_acceptance)
        method = "conformal" if enough else "quantile"
    if method not in METHODS:
        raise ValueError(
            f"unknown method {method!r}; expected one of: {', '.join(METHODS)}"
        )
    return METHODS[method](known_scores, target_acceptance)
