"""The split-conformal threshold."""

import math
from fractions import Fraction

from ood_keras.calibration.order_statistic import (
    above_kth_smallest,
    acceptance_interval,
    check_known,
)
from ood_keras.calibration.registry import register
from ood_keras.calibration.threshold import Threshold
from ood_keras.conventions import check_fraction, percent
from ood_keras.metrics.curve import smallest_count
from ood_keras.metrics.score_sketch import ScoreSketch
from ood_keras.types import Scores


@register
def conformal(
    known_scores: Scores | ScoreSketch, target_acceptance: float = 0.95
) -> Threshold:
    """The split-conformal threshold: a guarantee for the next known image.

    The k-th smallest of n scores with `k = ceil((n + 1) target)` accepts a new known
    image with probability at least the target, for any detector and any distribution,
    as long as it is exchangeable with the calibration images (Vovk et al. 2005; Lei et
    al. 2018). That needs images that neither the model nor the detector was fitted on:
    calibrate on validation images. Ties only raise the acceptance. The threshold stands
    just above that score, with room for its rounding and below the next larger one.

    Args:
        known_scores: `ood_score`s of known images `(num_images,)`, higher means more
            likely unknown. They are rounded to float32, in which every format decides.
            Or a `metrics.ScoreSketch` of them, of any number in 1 MB: the threshold is
            then never below that of the scores, so it promises as much, and at most
            0.4 % of the score above it.
        target_acceptance: Probability of accepting a known image, in (0, 1).

    Returns:
        A `Threshold`.

    Raises:
        ValueError: fewer than `smallest_num_images(target_acceptance)` scores, NaN
            scores, an infinite threshold or one at the score of invalid input, or a
            target outside (0, 1).

    Example:

    >>> conformal([0.0, 1.0, 2.0, 3.0], target_acceptance=0.75).value
    3.0003662109375
    """
    scores, num_scores = check_known(known_scores)
    target = check_fraction("target_acceptance", target_acceptance)
    k = smallest_count(num_scores + 1, target)
    if k > num_scores:
        raise ValueError(
            f"a conformal threshold at target_acceptance={target} needs at least "
            f"{smallest_num_images(target)} known images. Received: {num_scores}. Add "
            "images, lower the target, or use `quantile`, which promises less"
        )
    low, high = acceptance_interval(num_scores, k)
    return Threshold(
        value=above_kth_smallest(scores, k),
        method="conformal",
        guarantee=(
            "Accepts a new known image with probability at least "
            f"{percent(target)} if it is drawn like the {num_scores:,} known images "
            "it was calibrated on; the rate over many new ones then lies between "
            f"{percent(low)} and {percent(high)} (with 90 % probability), or above."
        ),
        num_calibration=num_scores,
        target_acceptance=target,
        acceptance_interval=(low, high),
    )


def smallest_num_images(target_acceptance: float) -> int:
    """The fewest known images with which `conformal` can promise the target.

    Example:

    >>> smallest_num_images(0.95)
    19
    """
    target = Fraction(str(check_fraction("target_acceptance", target_acceptance)))
    # k = ceil((n + 1) t) <= n if and only if (n + 1) t <= n.
    return math.ceil(target / (1 - target))
