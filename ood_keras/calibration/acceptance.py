"""Whether known images are accepted as a threshold promises."""

import numpy as np

from ood_keras.calibration.any_threshold import AnyThreshold
from ood_keras.calibration.conformal_per_class import ClassThresholds

# That a share is lower than promised by chance is ruled out at this probability.
_CHANCE = 1e-3


def least_acceptance(threshold: AnyThreshold) -> float | None:
    """The least acceptance of known images that a threshold stands for."""
    if isinstance(threshold, ClassThresholds):
        return min(low for low, _ in threshold.acceptance_intervals)
    interval = threshold.acceptance_interval
    return threshold.target_acceptance if interval is None else interval[0]


def is_too_low(accepted: np.ndarray, least: float, limit: float) -> bool:
    """Whether a share below `limit` was accepted, and not by chance.

    Args:
        accepted: Bool `(num_images,)`.
        least: The share that was promised.
        limit: A share that is too low.
    """
    from scipy import special

    chance = special.bdtr(accepted.sum(), len(accepted), least)
    return bool(accepted.mean() < limit and chance < _CHANCE)
