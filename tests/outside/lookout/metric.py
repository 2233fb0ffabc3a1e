"""FPR80."""

from ood_keras import metrics
from ood_keras.metrics.curve import fpr_known_positive


@metrics.register(
    title="FPR80",
    description="unknown images accepted where 80 % of the known ones are",
    higher_is_better=False,
    useless=1.0,
)
def fpr80(xp, curve):
    return fpr_known_positive(xp, curve, tpr=0.8)
