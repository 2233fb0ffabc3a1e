"""The exact ranking metrics as Keras metrics, for `model.compile(metrics=[...])`."""

from typing import Any, ClassVar

import keras
from keras import ops

from ood_keras.conventions import is_integer
from ood_keras.metrics import curve as formulas
from ood_keras.metrics import measures
from ood_keras.metrics.base import ScoreMetric
from ood_keras.replicas import count_replicas
from ood_keras.types import DType, Json, Scores, Tensor

# Counts are int32, and AUROC needs twice the number of known-unknown pairs.
_MAX_CAPACITY = 65535
_KNOWN, _UNKNOWN = 1, 2


class RankingMetric(ScoreMetric):
    """Base of the metrics that rank known against unknown images, exactly.

    The metric keeps the scores of the most recent `capacity` images and is exact on
    them, ties grouped: as long as no more images have been seen since the last reset
    (an epoch, an evaluation), it equals the function of the same name in
    `ood_keras.metrics` on all of them; after that, on the newest. Each metric sorts its
    own scores at each step, 3 ms at 32,768 on one core; `Ranking` gives all metrics for
    one sort. `StreamingRanking` has bounded memory over any number of images, and
    merges over workers, which this metric does not: it must not be summed over the
    replicas of a `tf.distribute` strategy.

    While no known or no unknown image has been seen, the result is that of a useless
    detector (AUROC 0.5, FPR 1, detection error 0.5, AUPR 0), so that it never looks
    like a success. If a score is NaN, the result is NaN. Subnormal scores (smaller
    than 1.2e-38) tie with 0 where the backend takes them for 0.

    Args:
        num_classes: Integer N >= 1, the number of known classes. `y_true` holds
            integers `(batch,)` or `(batch, 1)`, -1 for unknown images; `y_pred` holds
            logits `(batch, N)`, or `(batch, N + 1)` with the unknown class last.
        score: Name of the `ood_score` that is read from the logits, as in
            `ood_keras.detectors`: "unknown_probability" (needs N + 1 logits), "msp",
            "max_logit", "energy", "entropy", "gen", "objectosphere".
        capacity: Integer, how many of the newest images count, at most 65,535.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`; scores are kept in float32 anyhow.

    Raises:
        ValueError: an argument is out of range; or in `update_state`, the logits do not
            fit, or there are sample weights, which an exact ranking has no use for; or
            the `tf.distribute` strategy in scope has more than one replica.
    """

    _measure: ClassVar[Any] = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls._measure is not None:
            better = measures.get(cls._measure).higher_is_better
            # Callbacks that monitor a metric look at this in their `mode="auto"`.
            cls._direction = "up" if better else "down"

    def __init__(
        self,
        num_classes: int,
        score: str = "unknown_probability",
        capacity: int = 32768,
        name: str | None = None,
        dtype: DType = None,
    ) -> None:
        super().__init__(num_classes, score, name or self._measure, dtype)
        self._check_replicas()
        if not is_integer(capacity) or not 2 <= capacity <= _MAX_CAPACITY:
            raise ValueError(
                "`capacity` counts the newest images that the metric keeps, an integer "
                f"from 2 to {_MAX_CAPACITY}; for more images use `StreamingRanking`. "
                f"Received: capacity={capacity!r}"
            )
        self.capacity = int(capacity)
        self._scores = self.add_variable(
            (self.capacity,), "zeros", dtype="float32", name="scores"
        )
        # 0 marks an empty place, so that Keras's own reset to zeros is the right one.
        self._kinds = self.add_variable(
            (self.capacity,), "zeros", dtype="int32", name="kinds"
        )

    def store(self, scores: Scores, known: Tensor) -> None:
        self._check_replicas()
        self._push(self._scores, scores)
        self._push(self._kinds, ops.where(known, _KNOWN, _UNKNOWN))

    def curve(self) -> tuple[formulas.Curve, Tensor]:
        order = ops.argsort(self._scores)
        scores = ops.take(self._scores, order)
        kinds = ops.take(self._kinds, order)
        new_group = ops.cast(scores[1:] != scores[:-1], "int32")
        group = ops.concatenate([ops.zeros(1, "int32"), ops.cumsum(new_group)])
        known, unknown = (
            ops.segment_sum(ops.cast(kinds == kind, "int32"), group, self.capacity)
            for kind in (_KNOWN, _UNKNOWN)
        )
        return formulas.Curve.of(ops, known, unknown), ops.any(ops.isnan(scores))

    def result(self) -> Any:
        return self.measure([self._measure])[self._measure]

    def get_config(self) -> Json:
        return {**super().get_config(), "capacity": self.capacity}

    def _check_replicas(self):
        # Each replica would keep the scores of its own images, and lose the others'.
        number = count_replicas()
        if number > 1:
            raise ValueError(
                f"{type(self).__name__} ranks the images of one replica, and the "
                f"tf.distribute strategy in scope has {number}. Use "
                "ood_keras.metrics.StreamingRanking, whose counts add up over replicas"
            )

    def _push(self, variable, values):
        values = ops.cast(values, variable.dtype)
        newest = ops.concatenate([variable, values])[-self.capacity :]
        variable.assign(ops.reshape(newest, (self.capacity,)))


_CLASSES: dict[str, tuple[measures.Measure, Any]] = {}


def keras_metric(name: str) -> type[RankingMetric]:
    """Returns the Keras metric of a measure, a class, by the measure's name.

    Args:
        name: Such as "auroc", or the name of one that was registered with a `formula`.

    Returns:
        A subclass of `RankingMetric` that Keras finds when it loads a model.

    Raises:
        ValueError: no such measure, or it has no `formula`.

    Example:

    >>> metric = keras_metric("auroc")(num_classes=10, score="energy", name="energy")
    >>> metric.name
    'energy'
    """
    measure = measures.get(name)
    if measure.formula is None:
        raise ValueError(
            f"the metric {name!r} has no formula over a curve, so that no Keras metric "
            "can be made of it. Give its `Measure` a `formula`"
        )
    made_of, made = _CLASSES.get(name, (None, None))
    if made_of is not measure:
        attributes = {
            "__doc__": _DOCUMENTATION.format(
                measure=measure,
                better="Higher" if measure.higher_is_better else "Lower",
            ),
            "__module__": __name__,
            "_measure": name,
        }
        made = type(measure.keras_name, (RankingMetric,), attributes)
        keras.saving.register_keras_serializable(package=measure.package)(made)
        _CLASSES[name] = measure, made
    return made  # type: ignore[return-value]


_DOCUMENTATION = """{measure.title}: {measure.description}.

    The exact metric `{measure.name}` of `ood_keras.metrics.evaluate_scores`; see
    `RankingMetric`.
    {better} is better; {measure.useless:g} while a side is empty.

    Args:
        num_classes, score, capacity, name, dtype: As in `RankingMetric`.

    Raises:
        ValueError: as `RankingMetric`.

    Example:

    >>> metric = {measure.keras_name}(num_classes=2)
    >>> metric.update_state([0, 1, -1], [[9., 0., 0.], [0., 9., 0.], [0., 0., 9.]])
    >>> float(metric.result())
    {measure.best}
    """

AUROC = keras_metric("auroc")
AUPRIn = keras_metric("aupr_in")
AUPROut = keras_metric("aupr_out")
DetectionError = keras_metric("detection_error")
FPR95KnownPositive = keras_metric("fpr95_known_positive")
FPR95UnknownPositive = keras_metric("fpr95_unknown_positive")
# All of them, also those that have a record and no line above.
CLASSES = {cls.__name__: cls for cls in map(keras_metric, measures.BUILT_IN)}
globals().update(CLASSES)


@keras.saving.register_keras_serializable(package="ood_keras")
class Ranking(RankingMetric):
    """All the metrics of `ood_keras.metrics.evaluate_scores` for one sort.

    The result is a dict of them; `model.fit` and `model.evaluate` log each by its name,
    as in `"auroc"` and `"val_auroc"`. See `RankingMetric`.

    A callback that monitors one of them needs `mode="max"` or `mode="min"`: Keras looks
    a direction up by the name of a metric, and this one has several directions under
    one name. List `AUROC` and so on by themselves where `mode="auto"` is to work.

    Args:
        num_classes: As in `RankingMetric`.
        score: As in `RankingMetric`.
        capacity: As in `RankingMetric`.
        prefix: Text put before each name, to tell two scores apart in the logs.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: as `RankingMetric`.

    Example:

    >>> metric = Ranking(num_classes=2, score="energy", prefix="energy_")
    >>> metric.update_state([0, -1], [[9., 0.], [0., 0.]])
    >>> float(metric.result()["energy_auroc"])
    1.0
    """

    def __init__(
        self,
        num_classes: int,
        score: str = "unknown_probability",
        capacity: int = 32768,
        prefix: str = "",
        name: str | None = None,
        dtype: DType = None,
    ) -> None:
        super().__init__(num_classes, score, capacity, name, dtype)
        self.prefix = prefix

    def result(self) -> dict[str, Tensor]:
        results = self.measure(measures.BUILT_IN)
        return {self.prefix + name: value for name, value in results.items()}

    def get_config(self) -> Json:
        return {**super().get_config(), "prefix": self.prefix}
