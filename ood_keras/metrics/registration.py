"""Metrics of one's own, known by name like the library's."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ood_keras.metrics import measures
from ood_keras.metrics.base import ScoreMetric
from ood_keras.metrics.measures import Measure
from ood_keras.metrics.ranking_metrics import keras_metric


def register(metric: Any = None, /, **fields: Any) -> Any:
    """Makes a metric known by its name, so that `evaluation.evaluate` can report it.

    Put it into a module of your own and import that module (commands do so with
    `ood_keras.plugins.load`); the library's metrics are registered in the same way.
    What is registered is computed where it is named, beside the built-in metrics:
    `evaluation.evaluate(..., further_metrics=["fpr99"])`.

    It takes one of three things:

    * A `Measure`: all that is to be said of a metric.
    * As a decorator with a `Measure`'s fields, a formula: a function `(xp, curve)`, see
      `ood_keras.metrics.measures.Measure`. `name` is that of the function unless it is
      given. `keras_metric(name)` is then a Keras metric for `model.compile`, which
      saved models find again once the module is imported.
    * As a decorator, a `keras.metrics.Metric` that can be made without arguments. It is
      fed `y_true`, 1 for unknown images and 0 for known ones, and `y_pred`, their
      `ood_score`s of any size, both float32 `(num_images,)`, all at once. Those of
      Keras that count at many thresholds from 0 to 1, such as `keras.metrics.AUC`, mean
      nothing for scores outside of [0, 1], which are an error in the evaluation: bring
      them to [0, 1] in its `update_state`. Its direction
      is that of the class (`_direction`, "up" or "down", as in Keras' own) unless
      `higher_is_better` is given. It can be listed in `model.compile` too, but is fed
      there what Keras feeds it: labels and logits.

    Args:
        metric: A `Measure`, a Keras metric class, or nothing with `fields`.
        **fields: Fields of `Measure`, for a function or a class.

    Returns:
        What was given, or for a function its `Measure`.

    Raises:
        ValueError: the name is taken by another metric, or a direction is missing.
        TypeError: something else was given; a Keras metric needs arguments; a field is
            missing.

    Example:

    >>> @register(
    ...     title="Accepted unknown",
    ...     description="unknown images accepted at the lowest score of a known one",
    ...     higher_is_better=False,
    ...     useless=1.0,
    ... )
    ... def accepted_at_first(xp, curve):
    ...     first = curve.known_accepted > 0
    ...     accepted = xp.where(first, curve.unknown_accepted, curve.num_unknown)
    ...     return xp.divide(xp.min(accepted), curve.num_unknown)
    >>> evaluate_scores([1.0, 2.0], [1.0, 3.0], further=["accepted_at_first"])[
    ...     "accepted_at_first"
    ... ]
    0.5
    """
    if metric is None:
        return lambda given: register(given, **fields)
    if isinstance(metric, Measure):
        _refuse(fields, "a Measure")
        _add(metric)
        return metric
    if inspect.isclass(metric) and issubclass(metric, keras.metrics.Metric):
        _add(_measure_of_class(metric, fields))
        return metric
    if inspect.isfunction(metric):
        measure = _measure_of_function(metric, fields)
        _add(measure)
        return measure
    raise TypeError(
        "`register` takes a Measure, a subclass of keras.metrics.Metric, or a function "
        f"(xp, curve). Received: {metric!r}"
    )


def _add(measure: Measure) -> None:
    measures.add(measure)
    if measure.formula is not None:
        # A model that was compiled with it can be loaded from now on.
        keras_metric(measure.name)


def _measure_of_function(function: Callable, fields: dict) -> Measure:
    fields = {"name": function.__name__, "formula": function, **fields}
    try:
        return Measure(**fields)
    except TypeError as error:
        raise TypeError(
            f"`register` needs fields of a Measure to describe {function.__name__}: "
            "title, description, higher_is_better and useless at least. Received: "
            f"{sorted(fields)} ({error})"
        ) from None


def _measure_of_class(cls: type, fields: dict) -> Measure:
    if issubclass(cls, ScoreMetric):
        raise TypeError(
            f"{cls.__name__} reads labels and logits, and an evaluation has scores. "
            "Register a `Measure` with its formula, whose Keras metric is "
            "`keras_metric(name)`"
        )
    try:
        metric = cls()
    except TypeError as error:
        raise TypeError(
            "a registered Keras metric is made without arguments; give those of "
            f"{cls.__name__} defaults, or register a subclass that sets them. "
            f"Received: {error}"
        ) from None
    direction = getattr(metric, "_direction", None)
    if direction in ("up", "down"):
        fields = {"higher_is_better": direction == "up", **fields}
    if "higher_is_better" not in fields:
        raise ValueError(
            f"whether more is better is not known of {cls.__name__}: use "
            "`@register(higher_is_better=True)`, or False"
        )
    if cls not in keras.saving.get_custom_objects().values():
        keras.saving.register_keras_serializable()(cls)
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
    text = (inspect.getdoc(cls) or cls.__name__).strip().splitlines()[0].rstrip(".")
    return Measure(
        **{
            "name": name,
            "title": name.replace("_", " "),
            "description": text,
            "useless": float("nan"),
            "limits": (-float("inf"), float("inf")),
            "of_scores": _OfScores(cls),
            **fields,
        }
    )


class _OfScores:
    """Feeds a Keras metric the scores of known and unknown images."""

    def __init__(self, cls):
        self._cls = cls
        self.__module__, self.__qualname__ = cls.__module__, cls.__qualname__

    def __call__(self, known_scores, unknown_scores):
        metric = self._cls()
        is_unknown = np.repeat(
            np.float32([0, 1]), [len(known_scores), len(unknown_scores)]
        )
        scores = np.concatenate([known_scores, unknown_scores])
        _check_scale(metric, scores)
        metric.update_state(is_unknown, scores.astype(np.float32))
        result = metric.result()
        if isinstance(result, dict):
            raise TypeError(
                f"{self._cls.__name__} has several results, {sorted(result)}; register "
                "one metric for each"
            )
        return float(result)


# They count at thresholds spread over [0, 1]; what is below or above is all alike.
_OF_PROBABILITIES = (
    keras.metrics.AUC,
    keras.metrics.PrecisionAtRecall,
    keras.metrics.RecallAtPrecision,
    keras.metrics.SensitivityAtSpecificity,
    keras.metrics.SpecificityAtSensitivity,
)
_ROUNDING = 1e-6


def _check_scale(metric: keras.metrics.Metric, scores: np.ndarray) -> None:
    """Raises a `ValueError` where a metric of probabilities is given other scores."""
    if not isinstance(metric, _OF_PROBABILITIES) or not len(scores):
        return
    own = type(metric).update_state
    if all(own is not base.update_state for base in _OF_PROBABILITIES):
        return  # It may bring the scores to [0, 1].
    if getattr(metric, "_from_logits", False):  # A sigmoid brings them to [0, 1].
        return
    low, high = np.min(scores), np.max(scores)
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        return
    # Keras adds two thresholds that lie just outside.
    if min(metric.thresholds) < -0.5 or max(metric.thresholds) > 1.5:
        return
    raise ValueError(
        f"{type(metric).__name__} counts at thresholds from 0 to 1, so expected scores "
        f"in [0, 1]. Received: scores from {low:.6g} to {high:.6g}. Take a built-in "
        "metric, such as 'auroc', whose scores are of any size; register a formula "
        "(xp, curve); or bring the scores to [0, 1] in `update_state` of the class"
    )


def _refuse(fields: dict, kind: str) -> None:
    if fields:
        raise TypeError(
            f"{kind} has its fields already; use dataclasses.replace to change them. "
            f"Received: {sorted(fields)}"
        )
