"""One conformal threshold for each predicted class."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from ood_keras.calibration.conformal import conformal, smallest_num_images
from ood_keras.calibration.registry import register
from ood_keras.calibration.threshold import check_said
from ood_keras.conventions import accepts, check_num_classes, percent
from ood_keras.metrics.ranked_scores import check_scores
from ood_keras.metrics.score_sketch import ScoreSketch
from ood_keras.types import Json, Labels, Scores


@dataclasses.dataclass(frozen=True)
class ClassThresholds:
    """A threshold per predicted class; `str()` is what they promise.

    Args:
        values: The threshold of each known class; an image is accepted when its
            `ood_score` is at most the value of the class that is predicted for it.
            Float32 holds every one.
        method: Name of the function of `ood_keras.calibration` that chose them.
        guarantee: One sentence: what acceptance of which images to expect.
        num_calibration: How many known images chose each value.
        target_acceptance: The fraction of known images of each class to accept.
        acceptance_intervals: `(low, high)` for each class, see `Threshold`.

    Raises:
        ValueError: a value is NaN or infinite, or not one that float32 holds; there are
            not as many of everything as there are classes; or `guarantee` says
            something else than the other fields.
    """

    values: tuple[float, ...]
    method: str
    guarantee: str
    num_calibration: tuple[int, ...]
    target_acceptance: float
    acceptance_intervals: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float64)
        with np.errstate(over="ignore"):
            held = values.astype(np.float32).astype(np.float64) == values
        if not (np.isfinite(values) & held).all():
            raise ValueError(
                "`values` must be finite numbers that float32 holds, so that every "
                "format decides alike; use `float(np.float32(value))`. Received: "
                f"values={self.values!r}"
            )
        counts = {
            name: len(getattr(self, name))
            for name in ("values", "num_calibration", "acceptance_intervals")
        }
        if len(set(counts.values())) > 1:
            raise ValueError(
                "there must be one value, one number of images and one interval for "
                f"each class. Received numbers of them: {counts}"
            )
        if self.method == "conformal_per_class":
            said = {
                percent(self.target_acceptance): "target_acceptance",
                f"{sum(self.num_calibration):,}": "num_calibration",
            }
            check_said(self.guarantee, said)

    def accepts(self, scores: Scores, predicted_classes: Labels) -> np.ndarray:
        """Bool array: which `ood_score`s of which predicted classes are accepted.

        Raises:
            ValueError: there is not one class in `0..N-1` per score.
        """
        scores = np.asarray(scores)
        classes = _check_classes(predicted_classes, len(self.values), scores)
        return accepts(scores, np.array(self.values, np.float32)[classes])

    def to_dict(self) -> Json:
        """The fields as plain JSON values, for a manifest."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Json) -> Self:
        """The thresholds that `to_dict` wrote, also after a trip through JSON."""
        intervals = tuple(tuple(each) for each in fields["acceptance_intervals"])
        return cls(
            **{
                **fields,
                "values": tuple(fields["values"]),
                "num_calibration": tuple(fields["num_calibration"]),
                "acceptance_intervals": intervals,
            }
        )

    def __str__(self) -> str:
        return self.guarantee


@register
def conformal_per_class(
    known_scores: Scores | Sequence[ScoreSketch],
    predicted_classes: Labels | None,
    num_classes: int,
    target_acceptance: float = 0.95,
) -> ClassThresholds:
    """A conformal threshold for each predicted class (Mondrian; Vovk et al. 2005).

    One threshold for all classes accepts the easy classes more often and the hard ones
    less. Here every class that the model predicts keeps the target by itself. Classes
    are the predicted ones, since that is what is known of a new image.

    Args:
        known_scores: `ood_score`s of known validation images `(num_images,)`, higher
            means more likely unknown. Or N `metrics.ScoreSketch`, each of the scores
            of the images that are predicted as one class, in order: the thresholds are
            then never below those of the scores, see `conformal`.
        predicted_classes: Integers `(num_images,)` in `0..N-1`, the known class that
            the model predicts for each, right or wrong. `None` with sketches.
        num_classes: Integer N >= 2, the number of known classes.
        target_acceptance: Probability of accepting a known image, in (0, 1).

    Returns:
        `ClassThresholds`.

    Raises:
        TypeError: `predicted_classes` are given beside sketches, or not beside scores.
        ValueError: as `conformal`, a class has too few images, or there is not one
            sketch for each class.

    Example:

    >>> thresholds = conformal_per_class(
    ...     [0.0, 1.0, 5.0, 6.0], [0, 0, 1, 1], num_classes=2, target_acceptance=0.5)
    >>> thresholds.accepts([3.0, 3.0], [0, 1])
    array([False,  True])
    """
    num_classes = check_num_classes(num_classes)
    of_class = _split(known_scores, predicted_classes, num_classes)
    counts = np.array(
        [
            each.num_known if isinstance(each, ScoreSketch) else len(each)
            for each in of_class
        ]
    )
    smallest = smallest_num_images(target_acceptance)
    if counts.min() < smallest:
        few = {int(c): int(counts[c]) for c in np.flatnonzero(counts < smallest)}
        raise ValueError(
            f"conformal thresholds per class at target_acceptance={target_acceptance} "
            f"need at least {smallest} known images predicted as each class. Received "
            f"fewer for (class: images): {few}. Add images, lower the target, or use "
            "`conformal`, one threshold for all"
        )
    thresholds = [conformal(each, target_acceptance) for each in of_class]
    return ClassThresholds(
        values=tuple(threshold.value for threshold in thresholds),
        method="conformal_per_class",
        guarantee=(
            f"Of the new known images that are predicted as any one of {num_classes} "
            "classes, accepts each with probability at least "
            f"{percent(target_acceptance)} if it is drawn like the {counts.sum():,} "
            f"known images calibrated on ({counts.min():,} to {counts.max():,} per "
            "predicted class)."
        ),
        num_calibration=tuple(threshold.num_calibration for threshold in thresholds),
        target_acceptance=float(target_acceptance),
        acceptance_intervals=tuple(
            threshold.acceptance_interval  # type: ignore[misc]
            for threshold in thresholds
        ),
    )


def _split(
    scores: Any, classes: Labels | None, num_classes: int
) -> Sequence[np.ndarray | ScoreSketch]:
    """The scores of each class, or the sketches of these that were given."""
    is_sketch = isinstance(scores, ScoreSketch)
    sketches = [scores] if is_sketch else scores
    if not isinstance(sketches, np.ndarray) and any(
        isinstance(each, ScoreSketch) for each in sketches
    ):
        if is_sketch or len(sketches) != num_classes:
            raise ValueError(
                f"expected a list of {num_classes} sketches, one of the scores of each "
                f"predicted class. Received: {len(sketches)}"
            )
        if classes is not None:
            raise TypeError(
                "sketches are already of one predicted class each: give None for "
                f"`predicted_classes`. Received: {type(classes).__name__}"
            )
        return sketches
    scores = check_scores(scores, "known_scores")
    if classes is None:
        raise TypeError(
            "`predicted_classes` are needed beside scores: one integer for each"
        )
    classes = _check_classes(classes, num_classes, scores)
    return [scores[classes == number] for number in range(num_classes)]


def _check_classes(classes: Labels, num_classes: int, scores: np.ndarray) -> np.ndarray:
    classes = np.asarray(classes)
    if (
        classes.shape != scores.shape
        or classes.dtype.kind not in "iu"
        or (classes.size and not 0 <= classes.min() <= classes.max() < num_classes)
    ):
        raise ValueError(
            "`predicted_classes` must hold one integer in "
            f"0..{num_classes - 1} per score, shape {scores.shape}: the largest known "
            f"logit, never -1. Received: shape {classes.shape}, {classes.dtype}"
            + (f", {classes.min()}..{classes.max()}" if classes.size else "")
        )
    return classes
