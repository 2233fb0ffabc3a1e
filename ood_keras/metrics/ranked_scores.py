"""The one sort behind every exact metric."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from ood_keras.conventions import check_number
from ood_keras.metrics import curve as formulas
from ood_keras.metrics import measures
from ood_keras.types import Names, Scores

_BLOCK = 1 << 16


class ROCCurve(NamedTuple):
    """Corners of the exact curve, from accepting nothing to accepting everything.

    Args:
        known_accepted: Fraction of known images accepted (true positive rate with known
            as the positive class), float64 `(points,)`, from 0 to 1.
        unknown_accepted: Fraction of unknown images accepted (false positive rate).
        thresholds: Each point accepts `ood_score <= thresholds`. The first point
            accepts nothing; its threshold is -inf.
    """

    known_accepted: np.ndarray
    unknown_accepted: np.ndarray
    thresholds: np.ndarray


class RankedScores:
    """Known and unknown scores, sorted together once, from which metrics are read.

    Use it to read FPRs at several TPRs, or a curve and metrics, from large sets: each
    of `auroc`, `fpr_at_tpr` and so on sorts anew, while here one sort serves all. The
    metrics are exact, with ties grouped.

    Attributes: `thresholds` `(groups,)`, the distinct scores in ascending order;
    `known_accepted` and `unknown_accepted` `(groups,)`, how many images score at or
    below each; `num_known` and `num_unknown`.

    Args:
        known_scores: `ood_score`s of known images `(num_known,)`, higher means more
            likely unknown. Any real numbers; infinities are legal.
        unknown_scores: `ood_score`s of unknown images `(num_unknown,)`.

    Raises:
        ValueError: a set is empty, has more than one axis, or holds NaN.
        TypeError: scores are not real numbers.

    Example:

    >>> ranked = RankedScores([0.0, 1.0, 2.0], [2.0, 3.0])
    >>> ranked.fpr_at_tpr(0.95), ranked.fpr_at_tpr(0.5)
    (0.5, 0.0)
    """

    def __init__(self, known_scores: Scores, unknown_scores: Scores) -> None:
        known = check_scores(known_scores, "known_scores")
        unknown = check_scores(unknown_scores, "unknown_scores")
        self.num_known = len(known)
        self.num_unknown = len(unknown)
        thresholds, known_accepted, unknown_accepted = _group(known, unknown)
        self.thresholds = thresholds
        self.known_accepted = known_accepted
        self.unknown_accepted = unknown_accepted

    def curve(self, start: int = 0, stop: int | None = None) -> formulas.Curve:
        """The counts of the groups from `start` to `stop`, int64, for the formulas."""
        before = slice(start - 1, stop) if start else slice(stop)
        edge = {} if start else {"prepend": 0}
        known = self.known_accepted[before].astype(np.int64)
        unknown = self.unknown_accepted[before].astype(np.int64)
        return formulas.Curve(
            np.diff(known, **edge),
            np.diff(unknown, **edge),
            known[bool(start) :],
            unknown[bool(start) :],
            self.num_known,
            self.num_unknown,
        ).without_overflow()

    def evaluate(self, further: Names = ()) -> dict[str, float]:
        """All metrics, see `ood_keras.metrics.evaluate_scores`."""
        return self._measure(measures.choose(further))

    def measure(self, name: str) -> float:
        """One metric by its name; an unknown name lists the known."""
        return self._measure({name: measures.get(name)})[name]

    def groups_of(self, scores: np.ndarray) -> np.ndarray:
        """Index `(n,)` of the group of tied scores that each of some scores is in."""
        return np.searchsorted(self.thresholds, scores)

    def fpr_at_tpr(
        self, tpr: float = 0.95, positive: Literal["known", "unknown"] = "known"
    ) -> float:
        """See `ood_keras.metrics.fpr_at_tpr`."""
        meaning = "the fraction of the positives to find; write 95 % as 0.95"
        check_number("tpr", tpr, "(0, 1]", meaning)
        if positive not in _FPR:
            raise ValueError(
                '`positive` must be "known" (the fraction of unknown accepted when '
                '`tpr` of known are) or "unknown" (the fraction of known rejected when '
                f"`tpr` of unknown are). Received: positive={positive!r}"
            )
        return float(_FPR[positive](np, self.curve(), tpr))

    def roc_curve(self) -> ROCCurve:
        """See `ood_keras.metrics.roc_curve`."""
        known = np.concatenate([[0], self.known_accepted])
        unknown = np.concatenate([[0], self.unknown_accepted])
        right, up = np.diff(unknown), np.diff(known)
        turns = right[1:] * up[:-1] != right[:-1] * up[1:]
        corners = np.concatenate([[True], turns, [True]])
        return ROCCurve(
            known[corners] / self.num_known,
            unknown[corners] / self.num_unknown,
            np.concatenate([[-np.inf], self.thresholds])[corners],
        )

    def _measure(self, chosen):
        # Block by block, what is computed on the way stays in the processor's cache.
        parts = {name: [] for name, measure in chosen.items() if measure.combine}
        for start, stop in _blocks(len(self.thresholds)):
            curve = self.curve(start, stop) if parts else None
            for name, values in parts.items():
                values.append(chosen[name].formula(np, curve))
        return {
            name: float(
                measure.combine(parts[name])
                if measure.combine
                else self._measure_whole(measure)
            )
            for name, measure in chosen.items()
        }

    def _measure_whole(self, measure):
        if measure.formula:
            return measure.formula(np, self.curve())
        accepted = self.known_accepted, self.unknown_accepted
        return measure.of_scores(
            *(np.repeat(self.thresholds, np.diff(each, prepend=0)) for each in accepted)
        )


def check_scores(scores: Scores, name: str) -> np.ndarray:
    """Returns `scores` as a float32 or float64 array `(n,)`, or says what is wrong.

    Float64 scores that float32 holds exactly come back as float32.
    """
    scores = np.asarray(scores)
    if scores.ndim != 1 or not scores.size:
        raise ValueError(
            f"`{name}` must hold one number per image, shape (num_images,), and at "
            f"least one image. Received: shape {scores.shape}"
        )
    if scores.dtype.kind in "cOSUM":
        raise TypeError(f"`{name}` must be real numbers. Received: {scores.dtype}")
    if scores.dtype != np.float32:
        # Also turns bfloat16 and float16, which float32 holds, and integers.
        scores = scores.astype(np.float64)
        with np.errstate(over="ignore"):
            narrow = scores.astype(np.float32)
        scores = narrow if np.array_equal(narrow, scores, equal_nan=True) else scores
    if np.isnan(scores.min()):
        num_nan = int(np.isnan(scores).sum())
        raise ValueError(
            f"`{name}` holds NaN, which has no rank: {num_nan} of {scores.size} "
            "scores. Infinite scores are legal; find out which images or weights give "
            "NaN rather than dropping them"
        )
    return scores


def _group(known, unknown):
    """Distinct scores, ascending, with the known and unknown images at or below each.

    All goes block by block, since at ten million scores a new array costs more than the
    sort.
    """
    size = len(known) + len(unknown)
    count_type = np.int32 if size < 2**31 else np.int64
    block_of = _sort(known, unknown)
    thresholds, known_accepted, unknown_accepted = [], [], []
    num_unknown = 0
    for start, stop in _blocks(size):
        # One more than the block, to see whether its last group goes on.
        scores, is_unknown = block_of(start, stop + 1)
        is_last = np.ones(stop - start, bool)
        is_last[: len(scores) - 1] = scores[1:] != scores[:-1]
        last = np.flatnonzero(is_last)
        num_unknown_at = num_unknown + np.cumsum(is_unknown[: stop - start])
        num_unknown = num_unknown_at[-1]
        num_unknown_at = num_unknown_at[last]
        thresholds.append(scores[last])
        unknown_accepted.append(num_unknown_at.astype(count_type))
        known_accepted.append((start + 1 + last - num_unknown_at).astype(count_type))
    return tuple(map(np.concatenate, (thresholds, known_accepted, unknown_accepted)))


def _sort(known, unknown):
    """A function of `(start, stop)`: these of all scores in order, and which unknown.

    Float32 scores are sorted as one array of integers: the bits of the score in an
    order-preserving form, then one bit that says whether the image is unknown. That is
    several times faster than an argsort, which float64 scores need.
    """
    if not known.dtype == unknown.dtype == np.float32:
        scores = np.concatenate([known, unknown])
        order = np.argsort(scores)
        return lambda start, stop: (
            scores[order[start:stop]],
            order[start:stop] >= len(known),
        )
    packed = np.empty(len(known) + len(unknown), np.int64)
    for scores, offset, bit in ((known, 0, 0), (unknown, len(known), 1)):
        for start, stop in _blocks(len(scores)):
            # Adding 0 makes -0.0 equal to 0.0.
            bits = (scores[start:stop] + np.float32(0)).view(np.int32)
            packed[offset + start : offset + stop] = (
                _swap_order(bits).astype(np.int64) << 1 | bit
            )
    packed.sort()

    def block_of(start, stop):
        bits = _swap_order((packed[start:stop] >> 1).astype(np.int32))
        return bits.view(np.float32), packed[start:stop] & 1

    return block_of


def _blocks(size: int) -> Iterator[tuple[int, int]]:
    """`(start, stop)` of blocks that fit in the second-level cache."""
    for start in range(0, size, _BLOCK):
        yield start, min(start + _BLOCK, size)


def _swap_order(bits: np.ndarray) -> np.ndarray:
    """Float32 bits as int32 that sort like the floats, and back: it undoes itself."""
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))


_FPR = {
    "known": formulas.fpr_known_positive,
    "unknown": formulas.fpr_unknown_positive,
}
