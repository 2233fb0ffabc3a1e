"""One record per metric of known and unknown scores; whatever reports it reads that.

To add a metric to every report, add a `Measure` to `_BUILT_IN`, here and nowhere else:
`evaluate_scores`, the Keras metrics, the sketch, tables, pages and the checks of
results follow. `ood_keras.metrics.register` adds one from outside.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ood_keras import plugins
from ood_keras.metrics import bounds
from ood_keras.metrics import curve as formulas

# What stands beside metrics in the rows of `metrics.json` and in logs.
_RESERVED = (
    "seen",
    "accuracy",
    "auroc_interval",
    "known_accuracy",
    "loss",
    "oscr",
)


@dataclasses.dataclass(frozen=True)
class Measure:
    """A metric of how well scores tell unknown from known images, and all about it.

    Args:
        name: What it is called in `metrics.json`, in logs and on the command line; a
            Python identifier, such as "fpr99".
        title: What it is called in reports and tables, such as "FPR99".
        description: What it says, as half a sentence.
        higher_is_better: Its direction.
        useless: Its value for a detector that knows nothing. A Keras metric returns it
            while there is no known or no unknown image.
        formula: Function `(xp, curve)` of a `curve.Curve` that returns a scalar. `xp`
            is `numpy` or `keras.ops`, so that one formula serves evaluation and
            training. `None` where `of_scores` is given.
        of_scores: Function `(known_scores, unknown_scores)` of two float arrays,
            ascending, in place of `formula`: for a metric that depends on more than
            the order of the scores. It is reported, but has no Keras metric.
        limits: The lowest and the highest value that is possible.
        combine: Function of a list of values: a long curve may be given in parts, each
            with the totals of the whole, and this makes the metric of the whole out of
            theirs, such as `math.fsum` or `min`. `None` computes the curve as a whole.
        bounds: Function of a NumPy curve, `(low, high)` between which the metric lies
            whatever the order within the groups is; see `ScoreSketch.intervals`.
            `None` knows no more than `limits`.
        column: The heading in the narrow table of a terminal. `None` takes `title`.
        class_name: Name of its Keras metric. `None` makes one from `name`:
            "my_measure" gives "MyMeasure".
        package: Where Keras registers that class: `PACKAGE>CLASS_NAME` is how a saved
            model finds it again.

    Raises:
        ValueError: `name` is no identifier or taken by something else, or not exactly
            one of `formula` and `of_scores` is given.

    Example:

    >>> import functools
    >>> from ood_keras.metrics.curve import fpr_known_positive
    >>> fpr99 = Measure(
    ...     name="fpr99",
    ...     title="FPR99",
    ...     description="unknown images accepted where 99 % of the known ones are",
    ...     higher_is_better=False,
    ...     useless=1.0,
    ...     formula=functools.partial(fpr_known_positive, tpr=0.99),
    ... )
    >>> fpr99.best, fpr99.keras_name
    (0.0, 'Fpr99')
    """

    name: str
    title: str
    description: str
    higher_is_better: bool
    useless: float
    formula: Callable[[Any, formulas.Curve], Any] | None = None
    of_scores: Callable[[np.ndarray, np.ndarray], float] | None = None
    limits: tuple[float, float] = (0.0, 1.0)
    combine: Callable[[list], float] | None = None
    bounds: Callable[[formulas.Curve], tuple[float, float]] | None = None
    column: str | None = None
    class_name: str | None = None
    package: str = "Custom"

    def __post_init__(self) -> None:
        if not str(self.name).isidentifier() or self.name in _RESERVED:
            raise ValueError(
                "the `name` of a metric is an identifier such as 'fpr99', and none of "
                f"{', '.join(_RESERVED)}. Received: name={self.name!r}"
            )
        if (self.formula is None) == (self.of_scores is None):
            raise ValueError(
                f"the metric {self.name!r} needs either `formula`, a function (xp, "
                "curve), or `of_scores`, a function (known_scores, unknown_scores). "
                f"Received: formula={self.formula!r}, of_scores={self.of_scores!r}"
            )

    @property
    def best(self) -> float:
        """The value of a perfect detector."""
        return self.limits[bool(self.higher_is_better)]

    @property
    def heading(self) -> str:
        """What a narrow column is called."""
        return self.column or self.title

    @property
    def keras_name(self) -> str:
        """Name of its Keras class."""
        return self.class_name or "".join(
            part[:1].upper() + part[1:] for part in self.name.split("_")
        )

    @property
    def arrow(self) -> str:
        """Its direction, for a column's title."""
        return "↑" if self.higher_is_better else "↓"


_BUILT_IN = (
    Measure(
        name="auroc",
        title="AUROC",
        description="chance that an unknown image scores above a known one; ties half",
        higher_is_better=True,
        useless=0.5,
        formula=formulas.auroc,
        combine=math.fsum,
        bounds=bounds.auroc,
        class_name="AUROC",
        package="ood_keras",
    ),
    Measure(
        name="aupr_in",
        title="AUPR in",
        description="average precision with known images as the positives",
        higher_is_better=True,
        # A useless detector has the share of the positives, which needs images.
        useless=0.0,
        formula=formulas.aupr_in,
        combine=math.fsum,
        bounds=bounds.aupr_in,
        class_name="AUPRIn",
        package="ood_keras",
    ),
    Measure(
        name="aupr_out",
        title="AUPR out",
        description="average precision with unknown images as the positives",
        higher_is_better=True,
        useless=0.0,
        formula=formulas.aupr_out,
        combine=math.fsum,
        bounds=bounds.aupr_out,
        class_name="AUPROut",
        package="ood_keras",
    ),
    Measure(
        name="detection_error",
        title="Detection error",
        description=(
            "smallest mean of known rejected and unknown accepted, over all thresholds"
        ),
        higher_is_better=False,
        useless=0.5,
        formula=formulas.detection_error,
        limits=(0.0, 0.5),
        combine=min,
        bounds=bounds.detection_error,
        column="det. error",
        class_name="DetectionError",
        package="ood_keras",
    ),
    Measure(
        name="fpr95_known_positive",
        title="FPR95 known+",
        description=(
            "unknown images accepted at the threshold that accepts 95 % of the known "
            "ones"
        ),
        higher_is_better=False,
        useless=1.0,
        formula=functools.partial(formulas.fpr_known_positive, tpr=0.95),
        combine=min,
        bounds=functools.partial(bounds.fpr_known_positive, tpr=0.95),
        class_name="FPR95KnownPositive",
        package="ood_keras",
    ),
    Measure(
        name="fpr95_unknown_positive",
        title="FPR95 unknown+",
        description=(
            "known images rejected at the threshold that rejects 95 % of the unknown "
            "ones"
        ),
        higher_is_better=False,
        useless=1.0,
        formula=functools.partial(formulas.fpr_unknown_positive, tpr=0.95),
        combine=min,
        bounds=functools.partial(bounds.fpr_unknown_positive, tpr=0.95),
        class_name="FPR95UnknownPositive",
        package="ood_keras",
    ),
)
# What a report always holds: every result of this room that has several metrics has
# these.
BUILT_IN = {measure.name: measure for measure in _BUILT_IN}
_ALL = dict(BUILT_IN)


def get(name: str) -> Measure:
    """Returns the metric of this name; an unknown name lists the known ones."""
    if name not in _ALL:
        raise plugins.UnknownNameError(
            f"unknown metric {name!r}; expected one of: {', '.join(_ALL)}"
        )
    return _ALL[name]


def names() -> list[str]:
    """Returns the names of all metrics: the built-in ones, then the registered ones."""
    return list(_ALL)


def choose(further: Iterable[str] = ()) -> dict[str, Measure]:
    """Returns the built-in metrics and those named, by name."""
    if isinstance(further, str):
        raise ValueError(f"expected a list of names of metrics. Received: {further!r}")
    return BUILT_IN | {name: get(name) for name in further}


def in_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, Measure]:
    """Returns the metrics that every row of results holds, by name.

    Results that were written by another version, or where another module was loaded,
    may hold fewer metrics, or more.
    """
    rows = list(rows)
    return {
        name: measure
        for name, measure in _ALL.items()
        if all(name in row for row in rows) and (rows or name in BUILT_IN)
    }


def add(measure: Measure) -> None:
    """Makes a metric known by its name; see `ood_keras.metrics.register`.

    Raises:
        ValueError: another metric has this name.
    """
    taken = _ALL.get(measure.name)
    plugins.check_free(
        "metric",
        measure.name,
        taken and (taken.formula or taken.of_scores),
        measure.formula or measure.of_scores,
        replaceable=measure.name not in BUILT_IN,
    )
    _ALL[measure.name] = measure
