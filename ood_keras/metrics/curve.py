"""Every ranking metric as a function of counts along one curve, in NumPy and Keras.

The curve walks up the scores. Scores that tie form one group, since no threshold can
part them: group i holds `known[i]` known and `unknown[i]` unknown images, and accepting
every `ood_score <= ` its score accepts `known_accepted[i]` and `unknown_accepted[i]` of
them. Groups without images (padding, empty bins) change no metric.

Each function takes `xp`, either `numpy` (counts as int64, exact, or as float64 where
int64 would overflow) or `keras.ops` (counts as int32, exact up to 65,535 images, or as
float32), so that the exact functions, the Keras metrics and the sketch share one
formula. There is at least one known and one unknown image.
"""

from fractions import Fraction
from types import ModuleType
from typing import Any, NamedTuple, Self

import numpy as np

from ood_keras.types import Tensor


class Curve(NamedTuple):
    """Counts per group of tied scores, in ascending order of the score.

    Args:
        known: Integers `(groups,)`, known images in each group.
        unknown: Integers `(groups,)`, unknown images in each group.
        known_accepted: Running sum of `known`, that group included.
        unknown_accepted: Running sum of `unknown`, that group included.
        num_known: The total of `known`.
        num_unknown: The total of `unknown`.
    """

    known: Any
    unknown: Any
    known_accepted: Any
    unknown_accepted: Any
    num_known: Any
    num_unknown: Any

    @classmethod
    def of(cls, xp: ModuleType, known: Tensor, unknown: Tensor) -> Self:
        """The curve of counts per group."""
        accepted = xp.cumsum(known), xp.cumsum(unknown)
        return cls(known, unknown, *accepted, xp.sum(known), xp.sum(unknown))

    def without_overflow(self) -> "Curve":
        """The curve of int64 counts, as float64 if twice the pairs exceed int64."""
        if 2 * int(self.num_known) * int(self.num_unknown) < 2**63:
            return self
        return Curve(*(np.asarray(count, np.float64) for count in self))

    def mirror(self) -> "Curve":
        """The curve walked down from the top, with unknown images as the positives."""
        return Curve(
            known=self.unknown,
            unknown=self.known,
            known_accepted=self.num_unknown - self.unknown_accepted + self.unknown,
            unknown_accepted=self.num_known - self.known_accepted + self.known,
            num_known=self.num_unknown,
            num_unknown=self.num_known,
        )


def auroc(xp: ModuleType, curve: Curve) -> Tensor:
    """P(an unknown image scores higher than a known one) + P(they tie) / 2."""
    twice_below = xp.sum(curve.unknown * (2 * curve.known_accepted - curve.known))
    return xp.divide(twice_below, 2 * curve.num_known * curve.num_unknown)


def aupr_in(xp: ModuleType, curve: Curve) -> Tensor:
    """Average precision, known positive: sum of precision times gain in recall."""
    accepted = xp.maximum(curve.known_accepted + curve.unknown_accepted, 1)
    precision = xp.divide(curve.known_accepted, accepted)
    return xp.divide(xp.sum(xp.multiply(curve.known, precision)), curve.num_known)


def aupr_out(xp: ModuleType, curve: Curve) -> Tensor:
    """Average precision, unknown positive."""
    return aupr_in(xp, curve.mirror())


def detection_error(xp: ModuleType, curve: Curve) -> Tensor:
    """Smallest `(known rejected + unknown accepted) / 2` in fractions, over thresholds.

    Accepting nothing counts as a threshold too, so that the error is at most 1/2.
    """
    pairs = curve.num_known * curve.num_unknown
    lead = xp.max(
        curve.known_accepted * curve.num_unknown
        - curve.unknown_accepted * curve.num_known
    )
    return xp.divide(pairs - xp.maximum(lead, 0), 2 * pairs)


def fpr_known_positive(xp: ModuleType, curve: Curve, tpr: float) -> Tensor:
    """Fraction of unknown accepted at the first point that accepts `tpr` of known."""
    enough = curve.known_accepted >= smallest_count(curve.num_known, tpr)
    accepted = xp.where(enough, curve.unknown_accepted, curve.num_unknown)
    return xp.divide(xp.min(accepted), curve.num_unknown)


def fpr_unknown_positive(xp: ModuleType, curve: Curve, tpr: float) -> Tensor:
    """Fraction of known rejected at the first point that rejects `tpr` of unknown."""
    return fpr_known_positive(xp, curve.mirror(), tpr)


def smallest_count(total: int, fraction: float) -> int:
    """The smallest integer `count` with `count >= fraction * total`, exactly.

    `fraction` is read as the decimal number that it prints as: 0.95 means 19/20, not
    the nearest binary number, which would make 19 of 20 too few or too many.
    """
    rest = 1 - Fraction(str(fraction))
    return total - total * rest.numerator // rest.denominator
