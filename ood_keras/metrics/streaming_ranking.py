"""All ranking metrics of billions of images, in bounded memory."""

from collections.abc import Iterable

import keras
from keras import ops

from ood_keras.metrics import curve as formulas
from ood_keras.metrics import measures
from ood_keras.metrics.base import ScoreMetric
from ood_keras.metrics.score_sketch import NUM_BINS, ScoreSketch, bin_index
from ood_keras.types import DType, Json, Scores, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class StreamingRanking(ScoreMetric):
    """The metrics of `ood_keras.metrics.evaluate_scores` from a mergeable sketch.

    It counts all images since the last reset in the bins of a `ScoreSketch`: 0.5 MB for
    up to two billion images. Its state is counts, which add up over the replicas of a
    `tf.distribute` strategy, and over workers with `merge_state`. Use `Ranking` where
    the images fit its capacity: that one is exact.

    The result is a dict of the metrics with scores in one bin (0.2 % wide) taken for
    ties; `sketch().intervals()` says between which bounds each exact metric lies. In
    float32 the result itself is rounded by up to 1e-5. While no known or no unknown
    image has been seen, it is that of a useless detector, and NaN scores make it NaN,
    as in `RankingMetric`; so do more than two billion known or unknown images. A
    callback that monitors one of the metrics needs `mode="max"` or `mode="min"`, as
    with `Ranking`.

    Args:
        num_classes: As in `RankingMetric`.
        score: As in `RankingMetric`.
        prefix: Text put before each name, to tell two scores apart in the logs.
        name: Name of the metric.
        dtype: As in `keras.metrics.Metric`.

    Raises:
        ValueError: as `RankingMetric`.

    Example:

    >>> metric = StreamingRanking(num_classes=2, score="max_logit")
    >>> metric.update_state([0, -1], [[9., 0.], [0., 0.]])
    >>> float(metric.result()["auroc"])
    1.0
    """

    def __init__(
        self,
        num_classes: int,
        score: str = "unknown_probability",
        prefix: str = "",
        name: str | None = None,
        dtype: DType = None,
    ) -> None:
        super().__init__(num_classes, score, name, dtype)
        self.prefix = prefix
        self._counts = self.add_variable(
            (2, NUM_BINS), "zeros", dtype="int32", name="counts"
        )
        self._num_nan = self.add_variable((), "zeros", dtype="int32", name="num_nan")

    def store(self, scores: Scores, known: Tensor) -> None:
        broken = ops.isnan(scores)
        # `view` wants a static last axis, and the batch is not static.
        bits = ops.view((scores + 0.0)[:, None], "int32")[:, 0]
        bins = bin_index(ops, bits)
        slots = ops.where(known, bins, bins + NUM_BINS)
        counted = ops.cast(ops.logical_not(broken), "int32")
        counts = ops.segment_sum(counted, slots, 2 * NUM_BINS)
        self._counts.assign(self._counts + ops.reshape(counts, (2, NUM_BINS)))
        self._num_nan.assign(self._num_nan + ops.sum(ops.cast(broken, "int32")))

    def curve(self) -> tuple[formulas.Curve, Tensor]:
        # Twice the number of pairs is beyond int32, so the sums go on in float32.
        exact = formulas.Curve.of(ops, self._counts[0], self._counts[1])
        rounded = (ops.cast(counts, "float32") for counts in exact)
        broken = self._num_nan > 0
        for counts in (self._counts, exact.known_accepted, exact.unknown_accepted):
            # Beyond int32 they go on below 0.
            broken = ops.logical_or(broken, ops.any(counts < 0))
        return formulas.Curve(*rounded), broken

    def result(self) -> dict[str, Tensor]:
        results = self.measure(measures.BUILT_IN)
        return {self.prefix + name: value for name, value in results.items()}

    def sketch(self) -> ScoreSketch:
        """What has been counted as a NumPy `ScoreSketch`: bounds, storing, merging."""
        return ScoreSketch(ops.convert_to_numpy(self._counts))

    def merge_state(self, metrics: Iterable["StreamingRanking"]) -> None:
        """Adds what other `StreamingRanking` metrics have seen."""
        for metric in metrics:
            self._counts.assign(self._counts + metric._counts)
            self._num_nan.assign(self._num_nan + metric._num_nan)

    def get_config(self) -> Json:
        return {**super().get_config(), "prefix": self.prefix}
