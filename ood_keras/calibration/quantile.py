"""The threshold of the empirical quantile."""

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
def quantile(
    known_scores: Scores | ScoreSketch, target_acceptance: float = 0.95
) -> Threshold:
    """The lowest threshold that accepts the target fraction of the given known images.

    It stands just above the highest score that it has to accept, with room for the
    rounding of that score and below the next larger one.

    It works for any number of images, and promises nothing about new ones; where that
    matters, use `conformal`. Calibrate on validation images, which the model has not
    been fitted on.

    Args:
        known_scores: `ood_score`s of known images `(num_images,)`, higher means more
            likely unknown. They are rounded to float32, in which every format decides.
            Or a `metrics.ScoreSketch` of them, of any number in 1 MB: the threshold is
            then never below that of the scores, so it promises as much, and at most
            0.4 % of the score above it.
        target_acceptance: Fraction of them to accept, in (0, 1).

    Returns:
        A `Threshold`.

    Raises:
        ValueError: no scores, NaN scores, an infinite threshold or one at the score
            of invalid input, or a target outside (0, 1).

    Example:

    >>> quantile([0.0, 1.0, 2.0, 3.0], target_acceptance=0.75).value
    2.000244140625
    """
    scores, num_scores = check_known(known_scores)
    target = check_fraction("target_acceptance", target_acceptance)
    k = smallest_count(num_scores, target)
    low, high = acceptance_interval(num_scores, k)
    return Threshold(
        value=above_kth_smallest(scores, k),
        method="quantile",
        guarantee=(
            f"Accepts at least {percent(target)} of the {num_scores:,} known images it "
            "was chosen on; of new ones drawn alike it accepts between "
            f"{percent(low)} and {percent(high)} (with 90 % probability), or above, "
            f"and at least {percent(k / (num_scores + 1))} on average."
        ),
        num_calibration=num_scores,
        target_acceptance=target,
        acceptance_interval=(low, high),
    )
