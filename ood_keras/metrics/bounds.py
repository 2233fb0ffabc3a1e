"""Between which values a metric lies when the order within each group is not known.

Where a curve has been made of bins, the scores in a bin are in some order that nobody
recorded. Each function takes a `Curve` of NumPy counts per bin and returns `(low,
high)`: whatever the order within the bins is, the exact metric lies between them.
"""

import numpy as np

from ood_keras.metrics import curve as formulas


def auroc(curve: formulas.Curve) -> tuple[float, float]:
    """Half the known-unknown pairs that share a bin, on either side."""
    value = formulas.auroc(np, curve)
    pairs = curve.num_known * curve.num_unknown
    tied = np.sum(curve.known * curve.unknown) / (2 * pairs)
    return value - tied, value + tied


def aupr_in(curve: formulas.Curve) -> tuple[float, float]:
    """Every positive of a bin gets the worst, and the best, precision possible in it.

    Worst: all negatives of the bin come first, then one positive. Best: all positives
    of the bin come first, and the last of them has the highest precision.
    """
    positives_before = curve.known_accepted - curve.known
    negatives_before = curve.unknown_accepted - curve.unknown
    first = positives_before + 1
    lowest = first / (first + curve.unknown_accepted)
    highest = curve.known_accepted / (
        np.maximum(curve.known_accepted + negatives_before, 1)
    )
    return (
        np.sum(curve.known * lowest) / curve.num_known,
        np.sum(curve.known * highest) / curve.num_known,
    )


def aupr_out(curve: formulas.Curve) -> tuple[float, float]:
    """As `aupr_in`, from the other end."""
    return aupr_in(curve.mirror())


def detection_error(curve: formulas.Curve) -> tuple[float, float]:
    """Low: all known images of each bin come before its unknown ones."""
    pairs = curve.num_known * curve.num_unknown
    # Accepted before the first unknown of the bin: a corner above the true curve.
    lead = np.max(
        curve.known_accepted * curve.num_unknown
        - (curve.unknown_accepted - curve.unknown) * curve.num_known
    )
    return (pairs - lead) / (2 * pairs), formulas.detection_error(np, curve)


def fpr_known_positive(curve: formulas.Curve, tpr: float) -> tuple[float, float]:
    """The true threshold lies within one bin: before or after all its negatives."""
    before = curve._replace(unknown_accepted=curve.unknown_accepted - curve.unknown)
    return (
        formulas.fpr_known_positive(np, before, tpr),
        formulas.fpr_known_positive(np, curve, tpr),
    )


def fpr_unknown_positive(curve: formulas.Curve, tpr: float) -> tuple[float, float]:
    """As `fpr_known_positive`, from the other end."""
    return fpr_known_positive(curve.mirror(), tpr)
