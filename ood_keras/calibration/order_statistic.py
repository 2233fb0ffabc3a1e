"""What the quantile and the conformal threshold share: the k-th smallest score."""

import numpy as np

from ood_keras.conventions import REJECTED_SCORE


def kth_smallest(scores, k):
    """The k-th smallest (from 1) of checked scores, as a number that float32 holds.

    Raises:
        ValueError: it is infinite, and would accept everything or nothing, it is the
            score that exported models give what is no image, or beyond float32.
    """
    value = np.partition(scores, k - 1)[k - 1]
    if np.isinf(value):
        raise ValueError(
            f"{np.sum(scores == value)} of {len(scores)} known scores are {value}, so "
            "the threshold would be infinite and reject nothing or nearly everything. "
            "Choose another detector, or find out why known images score infinite"
        )
    if value == REJECTED_SCORE:
        raise ValueError(
            f"{np.sum(scores == value)} of {len(scores)} known scores are {value}, "
            "which exported models give what they take for no image, so that the "
            "threshold would reject nothing. Look at `valid` of their answers: images "
            "are floats in [0, 1], so divide bytes by 255"
        )
    threshold = round_up(value)
    if np.isinf(threshold):
        raise ValueError(
            f"the threshold would be {value}, beyond what float32 holds, and scores "
            "are float32 in every format. Divide the scores by a constant"
        )
    return threshold


def round_up(value):
    """The smallest number >= `value` that float32 holds, as a Python float.

    A float64 score keeps its place below the threshold that was set at it.
    """
    with np.errstate(over="ignore"):
        rounded = np.float32(value)
    if rounded < value:
        rounded = np.nextafter(rounded, np.float32(np.inf))
    return float(rounded)


def acceptance_interval(num_scores, k, probability=0.9):
    """Where the acceptance rate of new images lies if the k-th of n scores is chosen.

    For scores drawn alike and without ties, the rate at which new ones stay at or below
    the k-th smallest is distributed as Beta(k, n + 1 - k), whatever the scores are
    (Vovk 2012); ties only raise it.

    Returns:
        `(low, high)`: the central interval that holds `probability` of it.
    """
    from scipy import special

    tail = (1 - probability) / 2
    low, high = special.betaincinv(k, num_scores + 1 - k, [tail, 1 - tail])
    return float(low), float(high)
