"""What the Keras metrics over known and unknown scores share."""

import keras
from keras import ops

from ood_keras.conventions import check_num_classes
from ood_keras.metrics import measures
from ood_keras.metrics.curve import Curve
from ood_keras.metrics.labels import split_labels
from ood_keras.types import DType, Json, Names, Scores, Tensor


class ScoreMetric(keras.metrics.Metric):
    """Base of metrics that read `ood_score`s from logits and rank known and unknown.

    A subclass stores the scores (`store`), gives them back as counts (`curve`) and says
    which metrics it is about (`result`).

    Arguments and errors are those of `RankingMetric`, which explains them.
    """

    def __init__(
        self, num_classes: int, score: str, name: str | None, dtype: DType
    ) -> None:
        # Here and not above: rooms load with Keras, and this one need not wait.
        from ood_keras.detectors import output_scores

        super().__init__(name=name, dtype=dtype)
        self.num_classes = check_num_classes(num_classes, least=1)
        self.score = score
        self._score_of_logits = output_scores.get(score)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        if sample_weight is not None:
            raise ValueError(
                f"{type(self).__name__} ranks images and takes no sample weights. List "
                "it under `metrics`, not `weighted_metrics`, in `model.compile`"
            )
        scores = self._score_of_logits(ops.convert_to_tensor(y_pred), self.num_classes)
        known, _ = split_labels(y_true, self.num_classes, scores)
        self.store(ops.cast(scores, "float32"), known)

    def store(self, scores: Scores, known: Tensor) -> None:
        """Adds float32 scores `(batch,)` of images that are known or not, bool."""
        raise NotImplementedError

    def curve(self) -> tuple[Curve, Tensor]:
        """The stored counts, and whether NaN was among the scores."""
        raise NotImplementedError

    def measure(self, names: Names) -> dict[str, Tensor]:
        """Dict of the metrics of these names, as scalars of the metric's dtype."""
        curve, broken = self.curve()
        both = ops.logical_and(curve.num_known > 0, curve.num_unknown > 0)
        results = {}
        for name in names:
            measure = measures.get(name)
            # A Keras metric is made of a measure with a formula only.
            value = ops.cast(measure.formula(ops, curve), "float32")  # type: ignore[misc]
            value = ops.where(both, value, measure.useless)
            value = ops.where(broken, float("nan"), value)
            results[name] = ops.cast(value, self.dtype)
        return results

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "score": self.score,
        }
