"""What the quantile and the conformal threshold share: the k-th smallest score."""

import numpy as np

from ood_keras.conventions import REJECTED_SCORE
from ood_keras.metrics.ranked_scores import check_scores
from ood_keras.metrics.score_sketch import ScoreSketch
from ood_keras.types import Scores


def check_known(scores: Scores | ScoreSketch) -> tuple[np.ndarray | ScoreSketch, int]:
    """Checked known scores, or the sketch of them, and how many there are.

    Raises:
        ValueError: there is none, or one is NaN.
    """
    if not isinstance(scores, ScoreSketch):
        scores = check_scores(scores, "known_scores")
        return scores, len(scores)
    if not scores.num_known:
        raise ValueError(
            "the sketch has seen no known score, and a threshold is chosen on them; "
            "call `update(known_scores=...)` or `merge` first"
        )
    return scores, scores.num_known


def check_both(sketch: ScoreSketch, unknown_scores: Scores | None) -> ScoreSketch:
    """A sketch that was given in place of known and unknown scores.

    Raises:
        TypeError: unknown scores were given beside it.
        ValueError: it has seen no known or no unknown score.
    """
    if unknown_scores is not None:
        raise TypeError(
            "a sketch holds the unknown scores too: add them with "
            "`update(unknown_scores=...)` or `merge`, and give None for "
            f"`unknown_scores`. Received: {type(unknown_scores).__name__}"
        )
    if not (sketch.num_known and sketch.num_unknown):
        raise ValueError(
            "expected a sketch of known and of unknown scores. Received: one of "
            f"{sketch.num_known} known and {sketch.num_unknown} unknown ones"
        )
    return sketch


def above_kth_smallest(scores: np.ndarray | ScoreSketch, k: int) -> float:
    """A threshold that accepts the k-th smallest (from 1) of checked scores, float.

    See `just_above` for where it stands, and `ScoreSketch.known_at_most` for that of a
    sketch, which is never below it.

    Raises:
        ValueError: the score is infinite, so that the threshold would accept everything
            or nothing, or beyond float32, or the score that exported models give
            invalid input.
    """
    if isinstance(scores, ScoreSketch):
        return scores.known_at_most(k)
    scores = np.partition(scores, k - 1)
    value = scores[k - 1]
    if np.isinf(value):
        raise ValueError(
            f"{np.sum(scores == value)} of {len(scores)} known scores are {value}, so "
            "the threshold would be infinite and reject nothing or nearly everything. "
            "Choose another detector, or find out why known images score infinite"
        )
    scores = as_float32(scores)
    # Rounding keeps the order, so this is the k-th too.
    narrow = float(as_float32(value))
    if np.isinf(narrow):
        raise ValueError(
            f"the threshold would be {value}, beyond what float32 holds, and scores "
            "are float32 in every format. Divide the scores by a constant"
        )
    if narrow == REJECTED_SCORE:
        raise ValueError(
            f"{np.sum(scores == narrow)} of {len(scores)} known scores are {narrow}, "
            "which exported models give invalid input, so that the "
            "threshold would reject nothing. Look at `valid` of their answers: images "
            "are floats in [0, 1], so divide bytes by 255"
        )
    # Scores before the k-th are none above it.
    return _just_above(scores[k - 1 :], narrow, usual_size(scores, narrow))


def as_float32(scores: Scores) -> np.ndarray:
    """Checked scores in the precision in which every format decides."""
    # What lies beyond float32 becomes infinite, as in a graph.
    with np.errstate(over="ignore"):
        return np.asarray(scores).astype(np.float32, copy=False)


def just_above(scores: np.ndarray, score: float) -> float:
    """The threshold that accepts `score` with room for rounding, where no score stands.

    A network gives an image another score in another batch or runtime, by rounding. A
    threshold at the score of an image would decide it by chance, so it stands half the
    way to the next larger score, or at most `ROOM` above `score`: the share of new
    images that it accepts is that of `score` itself. Scores within `ROUNDING` are as
    good as equal: all of them are accepted, up to a gap between two that is wider. (Of
    very many scores there may be no such gap within 16 times `ROUNDING`; then the
    widest one there is taken.)

    Args:
        scores: Float32 `(num_images,)`, not NaN.
        score: A finite one of them, or any other number that float32 holds.

    Returns:
        A float that float32 holds, at least `score`, finite and below the score of
        invalid input.
    """
    return _just_above(scores, score, usual_size(scores, score))


def _just_above(scores, score, size):
    low, rounding = float(score), ROUNDING * size
    # NumPy compares in float32, so the limit must not be rounded up.
    limit = np.float32(min(low + 16 * rounding, _LARGEST))
    if limit > low + 16 * rounding:
        limit = np.nextafter(limit, np.float32(-np.inf))
    near = scores[(scores >= low) & (scores <= limit)].astype(np.float64)
    near = np.unique(np.append(near, low))
    following = float(scores.min(initial=np.inf, where=scores > limit))
    ends = np.append(near, following if following < REJECTED_SCORE else np.inf)
    gaps = np.diff(ends)
    wide = gaps > rounding
    place = int(np.argmax(wide) if wide.any() else np.argmax(gaps))
    low, high = ends[place], ends[place + 1]
    threshold = np.float32(min(low + min((high - low) / 2, room(size)), _LARGEST))
    # Neighbours in float32 have nothing between them.
    return float(threshold) if threshold < high else low


def usual_size(scores: np.ndarray, score: float) -> float:
    """What rounding is relative to: the size of `score`, or the usual one if larger.

    A score near 0 is a difference of larger numbers. Scores of exactly 0 do not tell
    the size.
    """
    size = abs(float(score))
    num_zero = num_smaller = 0
    for start in range(0, len(scores), _BLOCK):
        block = scores[start : start + _BLOCK]
        # Counting what is true is several times as fast as counting floats.
        zeros = int(np.count_nonzero(block == 0))
        num_zero += zeros
        within = (block >= -size) & (block <= size)
        num_smaller += int(np.count_nonzero(within)) - zeros
        if num_smaller > len(scores) // 2:
            return size
    if num_smaller > (len(scores) - num_zero) // 2:
        return size  # The median is at most that.
    sizes = np.abs(scores)
    num_usable = np.count_nonzero(sizes < REJECTED_SCORE) - num_zero
    if num_smaller > num_usable // 2 or num_usable == 0:
        return size
    # Zeros come first, and what is no size last.
    low, high = num_zero + (num_usable - 1) // 2, num_zero + num_usable // 2
    sizes = np.partition(sizes, low)
    middle = float(sizes[low])
    if high > low:
        middle = (middle + float(sizes[high:].min())) / 2
    return max(size, middle)


def room(size: float) -> float:
    """How far from a score a threshold stands, if no other score is near."""
    return max(ROOM * size, float(np.finfo(np.float32).tiny))


# What the size of the batch moves a score by, relative to `usual_size`: 8 units in the
# last place of float32.
ROUNDING = 2.0**-20
# More than what another runtime may move it by, 1e-4.
ROOM = 2.0**-13
# Scores that are looked at together, so that what is made of them stays in the cache.
_BLOCK = 2**16
_LARGEST = float(np.nextafter(np.float32(REJECTED_SCORE), np.float32(0)))


def acceptance_interval(
    num_scores: int, k: int, probability: float = 0.9
) -> tuple[float, float]:
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
