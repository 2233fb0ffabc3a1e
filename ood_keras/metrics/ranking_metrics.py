"""The exact ranking metrics as Keras metrics, for `model.compile(metrics=[...])`."""

import keras
from keras import ops

from ood_keras.conventions import check_num_classes
from ood_keras.metrics import curve as formulas
from ood_keras.metrics.labels import split_labels

# Counts are int32, and AUROC needs twice the number of known-unknown pairs.
_MAX_CAPACITY = 65535
_KNOWN, _UNKNOWN = 1, 2


class RankingMetric(keras.metrics.Metric):
    """Base of the metrics that rank known against unknown images, exactly.

    The metric keeps the scores of the most recent `capacity` images and is exact on
    them, ties grouped: as long as no more images have been seen since the last reset
    (an epoch, an evaluation), it equals the function of the same name in
    `ood_keras.metrics` on all of them; after that, on the newest. For bounded memory
    over any number of images, or several workers, use `StreamingRanking`; this metric
    must not be summed over the replicas of a `tf.distribute` strategy.

    While no known or no unknown image has been seen, the result is that of a useless
    detector (AUROC 0.5, FPR 1, detection error 0.5, AUPR 0), so that it never looks
    like a success. If a score is NaN, the result is NaN.

    Args:
        num_classes: Integer N >= 2, the number of known classes. `y_true` holds
            integers `(batch,)` or `(batch, 1)`, -1 for unknown images; `y_pred` holds
            logits `(batch, N)`, or `(batch, N + 1)` with the unknown class last.
        score: Name of the `ood_score` that is read from the logits, as in
            `ood_keras.detectors`: "unknown_probability" (needs N + 1 logits), "msp",
            "max_logit", "energy", "objectosphere".
        capacity: Integer, how many of the newest images count, at most 65,535. Each
            result sorts that many scores: 3 ms at 32,768 on one core.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`; scores are kept in float32 anyhow.

    Raises:
        ValueError: an argument is out of range; or in `update_state`, the logits do not
            fit, or there are sample weights, which an exact ranking has no use for.
    """

    _default_name = None
    _value_without_both = None

    def __init__(
        self,
        num_classes,
        score="unknown_probability",
        capacity=32768,
        name=None,
        dtype=None,
    ):
        # Here and not above: rooms load with Keras, and this one need not wait.
        from ood_keras.detectors import output_scores

        super().__init__(name=name or self._default_name, dtype=dtype)
        if int(capacity) != capacity or not 2 <= capacity <= _MAX_CAPACITY:
            raise ValueError(
                "`capacity` counts the newest images that the metric keeps, an integer "
                f"from 2 to {_MAX_CAPACITY}; for more images use `StreamingRanking`. "
                f"Received: capacity={capacity}"
            )
        self.num_classes = check_num_classes(num_classes)
        self.score = score
        self.capacity = int(capacity)
        self._score_of_logits = output_scores.get(score)
        self._scores = self.add_variable(
            (self.capacity,), "zeros", dtype="float32", name="scores"
        )
        # 0 marks an empty place, so that Keras's own reset to zeros is the right one.
        self._kinds = self.add_variable(
            (self.capacity,), "zeros", dtype="int32", name="kinds"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError(
                f"{type(self).__name__} ranks images and takes no sample weights. List "
                "it under `metrics`, not `weighted_metrics`, in `model.compile`"
            )
        known, _ = split_labels(y_true, self.num_classes)
        scores = self._score_of_logits(ops.convert_to_tensor(y_pred), self.num_classes)
        kinds = ops.where(known, _KNOWN, _UNKNOWN)
        self._push(self._scores, scores)
        self._push(self._kinds, kinds)

    def result(self):
        order = ops.argsort(self._scores)
        scores = ops.take(self._scores, order)
        kinds = ops.take(self._kinds, order)
        new_group = ops.cast(scores[1:] != scores[:-1], "int32")
        group = ops.concatenate([ops.zeros(1, "int32"), ops.cumsum(new_group)])
        curve = formulas.Curve.of(
            ops,
            *(
                ops.segment_sum(ops.cast(kinds == kind, "int32"), group, self.capacity)
                for kind in (_KNOWN, _UNKNOWN)
            ),
        )
        both = ops.logical_and(curve.num_known > 0, curve.num_unknown > 0)
        value = ops.cast(self.read(curve), "float32")
        value = ops.where(both, value, self._value_without_both)
        broken = ops.any(ops.isnan(scores))
        return ops.cast(ops.where(broken, float("nan"), value), self.dtype)

    def read(self, curve):
        """The metric of a `Curve` of tensors; what a subclass is about."""
        raise NotImplementedError

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "score": self.score,
            "capacity": self.capacity,
        }

    def _push(self, variable, values):
        values = ops.cast(values, variable.dtype)
        newest = ops.concatenate([variable, values])[-self.capacity :]
        variable.assign(ops.reshape(newest, (self.capacity,)))


@keras.saving.register_keras_serializable(package="ood_keras")
class AUROC(RankingMetric):
    """Area under the ROC curve.

    The exact `ood_keras.metrics.auroc`; see `RankingMetric`.
    Higher is better; 0.5 while a side is empty.

    Example:

    >>> metric = AUROC(num_classes=2)
    >>> metric.update_state([0, 1, -1], [[9., 0., 0.], [0., 9., 0.], [0., 0., 9.]])
    >>> float(metric.result())
    1.0
    """

    _default_name = "auroc"
    _value_without_both = 0.5

    def read(self, curve):
        return formulas.auroc(ops, curve)


@keras.saving.register_keras_serializable(package="ood_keras")
class AUPRIn(RankingMetric):
    """Average precision with known images as the positive class.

    The exact `ood_keras.metrics.aupr_in`; see `RankingMetric`.
    Higher is better; 0 while a side is empty.
    """

    _default_name = "aupr_in"
    _value_without_both = 0.0

    def read(self, curve):
        return formulas.aupr_in(ops, curve)


@keras.saving.register_keras_serializable(package="ood_keras")
class AUPROut(RankingMetric):
    """Average precision with unknown images as the positive class.

    The exact `ood_keras.metrics.aupr_out`; see `RankingMetric`.
    Higher is better; 0 while a side is empty.
    """

    _default_name = "aupr_out"
    _value_without_both = 0.0

    def read(self, curve):
        return formulas.aupr_out(ops, curve)


@keras.saving.register_keras_serializable(package="ood_keras")
class DetectionError(RankingMetric):
    """Smallest error over all thresholds, known and unknown weighed equally.

    The exact `ood_keras.metrics.detection_error`; see `RankingMetric`.
    Lower is better; 0.5 while a side is empty.
    """

    _default_name = "detection_error"
    _value_without_both = 0.5

    def read(self, curve):
        return formulas.detection_error(ops, curve)


@keras.saving.register_keras_serializable(package="ood_keras")
class FPR95KnownPositive(RankingMetric):
    """Fraction of unknown images accepted where 95 % of the known are.

    The exact `ood_keras.metrics.fpr_at_tpr`; see `RankingMetric`.
    Lower is better; 1 while a side is empty.
    """

    _default_name = "fpr95_known_positive"
    _value_without_both = 1.0

    def read(self, curve):
        return formulas.fpr_known_positive(ops, curve, 0.95)


@keras.saving.register_keras_serializable(package="ood_keras")
class FPR95UnknownPositive(RankingMetric):
    """Fraction of known images rejected where 95 % of the unknown are.

    The exact `ood_keras.metrics.fpr_at_tpr`; see `RankingMetric`.
    Lower is better; 1 while a side is empty.
    """

    _default_name = "fpr95_unknown_positive"
    _value_without_both = 1.0

    def read(self, curve):
        return formulas.fpr_unknown_positive(ops, curve, 0.95)
