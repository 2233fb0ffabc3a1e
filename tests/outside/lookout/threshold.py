"""Half as many rejections as the target allows."""

import dataclasses

from ood_keras import calibration


@calibration.register
def halfway(known_scores, target_acceptance=0.95):
    """Rejects half as many known images as the target allows."""
    threshold = calibration.quantile(known_scores, (1 + target_acceptance) / 2)
    return dataclasses.replace(
        threshold, method="halfway", target_acceptance=target_acceptance
    )
