"""The exact ranking metrics as Keras metrics, for `model.compile(metrics=[...])`."""

import keras
from keras import ops

from ood_keras.conventions import is_integer
from ood_keras.metrics import curve as formulas
from ood_keras.metrics.base import ScoreMetric

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
        num_classes: Integer N >= 2, the number of known classes. `y_true` holds
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
            fit, or there are sample weights, which an exact ranking has no use for.
    """

    _measure = None

    def __init__(
        self,
        num_classes,
        score="unknown_probability",
        capacity=32768,
        name=None,
        dtype=None,
    ):
        super().__init__(num_classes, score, name or self._measure, dtype)
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

    def store(self, scores, known):
        self._push(self._scores, scores)
        self._push(self._kinds, ops.where(known, _KNOWN, _UNKNOWN))

    def curve(self):
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

    def result(self):
        return self.measure([self._measure])[self._measure]

    def get_config(self):
        return {**super().get_config(), "capacity": self.capacity}

    def _push(self, variable, values):
        values = ops.cast(values, variable.dtype)
        newest = ops.concatenate([variable, values])[-self.capacity :]
        variable.assign(ops.reshape(newest, (self.capacity,)))


@keras.saving.register_keras_serializable(package="ood_keras")
class AUROC(RankingMetric):
    """Area under the ROC curve.

    The exact `ood_keras.metrics.auroc`; see `RankingMetric`.
    Higher is better; 0.5 while a side is empty.

    Args:
        num_classes, score, capacity, name, dtype: As in `RankingMetric`.

    Raises:
        ValueError: as `RankingMetric`.

    Example:

    >>> metric = AUROC(num_classes=2)
    >>> metric.update_state([0, 1, -1], [[9., 0., 0.], [0., 9., 0.], [0., 0., 9.]])
    >>> float(metric.result())
    1.0
    """

    _measure = "auroc"


@keras.saving.register_keras_serializable(package="ood_keras")
class AUPRIn(RankingMetric):
    """Average precision with known images as the positive class.

    The exact `ood_keras.metrics.aupr_in`; see `RankingMetric`.
    Higher is better; 0 while a side is empty.

    Args:
        num_classes, score, capacity, name, dtype: As in `RankingMetric`.

    Raises:
        ValueError: as `RankingMetric`.

    Example:

    >>> metric = AUPRIn(num_classes=2)
    >>> metric.update_state([0, 1, -1], [[9., 0., 0.], [0., 9., 0.], [0., 0., 9.]])
    >>> float(metric.result())
    1.0
    """

    _measure = "aupr_in"


@keras.saving.register_keras_serializable(package="ood_keras")
class AUPROut(RankingMetric):
    """Average precision with unknown images as the positive class.

    The exact `ood_keras.metrics.aupr_out`; see `RankingMetric`.
    Higher is better; 0 while a side is empty.

    Args:
        num_classes, score, capacity, name, dtype: As in `RankingMetric`.

    Raises:
        ValueError: as `RankingMetric`.

    Example:

    >>> metric = AUPROut(num_classes=2)
    >>> metric.update_state([0, 1, -1], [[9., 0., 0.], [0., 9., 0.], [0., 0., 9.]])
    >>> float(metric.result())
    1.0
    """

    _measure = "aupr_out"


@keras.saving.register_keras_serializable(package="ood_keras")
class DetectionError(RankingMetric):
    """Smallest error over all thresholds, known and unknown weighed equally.

    The exact `ood_keras.metrics.detection_error`; see `RankingMetric`.
    Lower is better; 0.5 while a side is empty.

    Args:
        num_classes, score, capacity, name, dtype: As in `RankingMetric`.

    Raises:
        ValueError: as `RankingMetric`.

    Example:

    >>> metric = DetectionError(num_classes=2)
    >>> metric.update_state([0, 1, -1], [[9., 0., 0.], [0., 9., 0.], [0., 0., 9.]])
    >>> float(metric.result())
    0.0
    """

    _measure = "detection_error"


@keras.saving.register_keras_serializable(package="ood_keras")
class FPR95KnownPositive(RankingMetric):
    """Fraction of unknown images accepted where 95 % of the known are.

    The exact `ood_keras.metrics.fpr_at_tpr`; see `RankingMetric`.
    Lower is better; 1 while a side is empty.

    Args:
        num_classes, score, capacity, name, dtype: As in `RankingMetric`.

    Raises:
        ValueError: as `RankingMetric`.

    Example:

    >>> metric = FPR95KnownPositive(num_classes=2)
    >>> metric.update_state([0, 1, -1], [[9., 0., 0.], [0., 9., 0.], [0., 0., 9.]])
    >>> float(metric.result())
    0.0
    """

    _measure = "fpr95_known_positive"


@keras.saving.register_keras_serializable(package="ood_keras")
class FPR95UnknownPositive(RankingMetric):
    """Fraction of known images rejected where 95 % of the unknown are.

    The exact `ood_keras.metrics.fpr_at_tpr`; see `RankingMetric`.
    Lower is better; 1 while a side is empty.

    Args:
        num_classes, score, capacity, name, dtype: As in `RankingMetric`.

    Raises:
        ValueError: as `RankingMetric`.

    Example:

    >>> metric = FPR95UnknownPositive(num_classes=2)
    >>> metric.update_state([0, 1, -1], [[9., 0., 0.], [0., 9., 0.], [0., 0., 9.]])
    >>> float(metric.result())
    0.0
    """

    _measure = "fpr95_unknown_positive"


@keras.saving.register_keras_serializable(package="ood_keras")
class Ranking(RankingMetric):
    """All the metrics of `ood_keras.metrics.evaluate_scores` for one sort.

    The result is a dict of them; `model.fit` and `model.evaluate` log each by its name,
    as in `"auroc"` and `"val_auroc"`. See `RankingMetric`.

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
        num_classes,
        score="unknown_probability",
        capacity=32768,
        prefix="",
        name=None,
        dtype=None,
    ):
        super().__init__(num_classes, score, capacity, name, dtype)
        self.prefix = prefix

    def result(self):
        results = self.measure(formulas.MEASURES)
        return {self.prefix + name: value for name, value in results.items()}

    def get_config(self):
        return {**super().get_config(), "prefix": self.prefix}
