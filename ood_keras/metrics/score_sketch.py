"""A mergeable sketch of scores, in bounded memory, that knows its own error."""

import threading
from types import ModuleType
from typing import Self

import numpy as np

from ood_keras.metrics import curve as formulas
from ood_keras.metrics import measures
from ood_keras.metrics.ranked_scores import check_scores
from ood_keras.types import Scores, Tensor

# A bin holds the float32 scores that agree in sign, exponent and the first 9 bits of
# the mantissa: two scores in one bin differ by less than 0.2 %. Magnitudes below 2^-24
# share the bin of 0 on their side, those from 2^40 on the last one; infinities too.
_MANTISSA_BITS = 9
_SHIFT = 23 - _MANTISSA_BITS
_LOWEST_EXPONENT, _HIGHEST_EXPONENT = -24, 40
_BINS_PER_SIGN = (_HIGHEST_EXPONENT - _LOWEST_EXPONENT) << _MANTISSA_BITS
_FIRST_STEP = (_LOWEST_EXPONENT + 127) << _MANTISSA_BITS
NUM_BINS = 2 * _BINS_PER_SIGN

# One for all sketches, which can then be copied and pickled; it is held for an instant.
_adding = threading.Lock()


class ScoreSketch:
    """Counts of known and unknown scores in 65,536 fixed bins, 1 MB for any number.

    Use it where the scores do not fit into memory, or are spread over workers: sketches
    merge by adding, in any order, without loss. The bins cover all float32 numbers, so
    no range has to be known: magnitudes from 6e-8 to 1e12 are told apart to 0.2 %. Any
    number of threads may add to one sketch at the same time; ask it for metrics or a
    threshold once they are done.

    Error bound: the sketch takes the scores in one bin for ties. `evaluate` is exact
    for the scores rounded in this way, and whatever the true order within the bins is,
    the exact metric lies inside `intervals`: for AUROC, within half the fraction of
    known-unknown pairs that share a bin; for the others, between the values with all
    known before all unknown images in each bin and the reverse. Where the bins are too
    coarse, as for scores that all lie within 0.2 %, the intervals are wide and say so.

    Args:
        counts: Integers `(2, NUM_BINS)`, the counts of known and of unknown scores, to
            go on from a stored sketch. `None` starts empty.

    Attributes: `counts`, int64.

    Raises:
        ValueError: `counts` has another shape.

    Example:

    >>> first = ScoreSketch().update(known_scores=[0.0, 1.0, 2.0])
    >>> second = ScoreSketch().update(unknown_scores=[2.0, 3.0])
    >>> sketch = first.merge(second)
    >>> sketch.evaluate()["auroc"]
    0.9166666666666666
    >>> sketch.intervals()["auroc"]
    (0.8333333333333333, 1.0)
    """

    def __init__(self, counts: np.ndarray | None = None) -> None:
        if counts is None:
            counts = np.zeros((2, NUM_BINS), np.int64)
        self.counts = np.array(counts, np.int64)
        if self.counts.shape != (2, NUM_BINS):
            raise ValueError(
                f"`counts` must be those of another sketch, shape {(2, NUM_BINS)}. "
                f"Received: shape {self.counts.shape}"
            )

    def update(self, known_scores: Scores = (), unknown_scores: Scores = ()) -> Self:
        """Adds `ood_score`s, rounded to float32; returns the sketch.

        Raises:
            ValueError: scores are NaN or have more than one axis.
        """
        counts = np.stack(
            [
                _counts(known_scores, "known_scores"),
                _counts(unknown_scores, "unknown_scores"),
            ]
        )
        # NumPy lets other threads run while it adds, and a sum would be lost.
        with _adding:
            self.counts += counts
        return self

    def merge(self, other: "ScoreSketch") -> Self:
        """Adds all that another sketch has seen; returns this one."""
        with _adding:
            self.counts += other.counts
        return self

    @property
    def num_known(self) -> int:
        """How many known scores have been added."""
        return int(self.counts[0].sum())

    @property
    def num_unknown(self) -> int:
        """How many unknown scores have been added."""
        return int(self.counts[1].sum())

    def known_at_most(self, k: int) -> float:
        """A float32 number that is no smaller than the k-th smallest known score.

        It is the lowest that the counts can vouch for: all scores in the bin of the
        k-th are at most that, and it is less than 0.4 % above the lowest of them. Where
        the next bin is empty it lies within that, so that no score is near.

        Args:
            k: From 1 to `num_known`.

        Raises:
            ValueError: `k` is out of range, or the score is infinite or beyond 2^40,
                where no bin has an upper end.
        """
        if not 1 <= k <= self.num_known:
            raise ValueError(
                f"k must be from 1 to the number of known scores, {self.num_known}. "
                f"Received: {k}"
            )
        place = int(np.searchsorted(np.cumsum(self.counts[0]), k))
        return float(self.ends(np.array([place]))[0])

    def count_accepted(self, threshold: float) -> tuple[int, int]:
        """How many known and unknown scores are at most `threshold`, rounded up.

        All scores of the bin that it lies in are counted.
        """
        bits = np.array([threshold + 0.0], np.float32).view(np.int32)
        place = int(bin_index(np, bits)[0])
        known, unknown = self.counts[:, : place + 1].sum(axis=1)
        return int(known), int(unknown)

    def count_known_at_least(self, scores: np.ndarray) -> np.ndarray:
        """How many known scores are at least as high as each of `scores`, rounded up.

        All scores of the bin that it lies in are counted.

        Args:
            scores: Float32 `(n,)`, none of them NaN.

        Returns:
            int64 `(n,)`.
        """
        bins = bin_index(np, (scores + np.float32(0)).view(np.int32))
        return np.cumsum(self.counts[0, ::-1])[::-1][bins]

    def ends(self, places: np.ndarray) -> np.ndarray:
        """Float32 numbers that part bins from the next ones: all below is at most that.

        Args:
            places: int `(n,)`, which bins, from 0 to `NUM_BINS - 1`.

        Raises:
            ValueError: the last bin is among them, which has no upper end.
        """
        if np.any(places == NUM_BINS - 1):
            raise ValueError(
                "a score lies beyond 2^40, where the sketch does not tell sizes apart, "
                "or is infinite, so no threshold can stand above it. Divide the scores "
                "by a constant, or find out why images score infinite"
            )
        empty = ~np.any(self.counts[:, places + 1], axis=0)
        return np.where(empty, _middle(places + 1), _upper_end(places))

    def evaluate(self) -> dict[str, float]:
        """The metrics of `evaluate_scores`, with the scores in one bin taken for ties.

        Raises:
            ValueError: no known or no unknown score has been added.
        """
        curve = self._curve()
        return {
            name: float(measure.formula(np, curve))  # type: ignore[misc]
            for name, measure in measures.BUILT_IN.items()
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Dict of `(low, high)`, between which each exact metric lies for certain.

        Raises:
            ValueError: no known or no unknown score has been added.
        """
        curve = self._curve()
        found = {
            name: measure.bounds(curve) if measure.bounds else measure.limits
            for name, measure in measures.BUILT_IN.items()
        }
        return {name: (float(low), float(high)) for name, (low, high) in found.items()}

    def _curve(self) -> formulas.Curve:
        for row, name in enumerate(("known", "unknown")):
            if not self.counts[row].any():
                raise ValueError(
                    f"the sketch has seen no {name} score, and metrics compare known "
                    "with unknown ones; call `update` or `merge` first"
                )
        used = self.counts.any(axis=0)
        return formulas.Curve.of(np, *self.counts[:, used]).without_overflow()


def _counts(scores: Scores, name: str) -> np.ndarray:
    """How many scores fall into each bin, int64 `(NUM_BINS,)`."""
    if np.shape(scores) == (0,):
        return np.zeros(NUM_BINS, np.int64)
    with np.errstate(over="ignore"):
        scores = check_scores(scores, name).astype(np.float32)
    bins = bin_index(np, (scores + np.float32(0)).view(np.int32))
    return np.bincount(bins, minlength=NUM_BINS)


def _upper_end(places: np.ndarray) -> np.ndarray:
    """The largest float32 number of each bin but the last."""
    positive = places >= _BINS_PER_SIGN
    step = np.where(positive, places - _BINS_PER_SIGN, _BINS_PER_SIGN - 1 - places)
    # Of a negative bin, the number with the smallest magnitude.
    bits = np.where(
        positive,
        ((step + 1 + _FIRST_STEP) << _SHIFT) - 1,
        (step + _FIRST_STEP) << _SHIFT,
    )
    size = bits.astype(np.int32).view(np.float32)
    # The bin below 0 ends where float32 has no normal number: go beyond 0.
    ends = np.where(positive, size, -size)
    return np.where(places == _BINS_PER_SIGN - 1, np.finfo(np.float32).tiny, ends)


def _middle(places: np.ndarray) -> np.ndarray:
    """A float32 number in the midst of each bin."""
    positive = places >= _BINS_PER_SIGN
    step = np.where(positive, places - _BINS_PER_SIGN, _BINS_PER_SIGN - 1 - places)
    bits = ((step + _FIRST_STEP) << _SHIFT) + (1 << (_SHIFT - 1))
    size = bits.astype(np.int32).view(np.float32)
    return np.where(positive, size, -size)


def bin_index(xp: ModuleType, bits: Tensor) -> Tensor:
    """Bin of each score, ascending with it, from its int32 bits (of 0.0, not -0.0)."""
    magnitude = xp.right_shift(xp.bitwise_and(bits, 0x7FFFFFFF), _SHIFT)
    step = xp.clip(magnitude - _FIRST_STEP, 0, _BINS_PER_SIGN - 1)
    return xp.where(bits < 0, _BINS_PER_SIGN - 1 - step, _BINS_PER_SIGN + step)
