"""OpenMax."""

from typing import Any

import numpy as np
from keras import ops

from ood_keras.conventions import check_count, check_number
from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import (
    ROUNDING,
    CorrectMeans,
    Sample,
    check_no_empty_class,
)
from ood_keras.types import Images, Json, Outputs, Tensor


@register
class OpenMax(Detector):
    """Scores by the probability of an unknown class after the OpenMax correction.

    Bendale and Boult, "Towards Open Set Deep Networks", CVPR 2016. For each class, a
    Weibull distribution is fitted to the `tail_size` largest distances of the logits of
    its correctly classified training images to their mean (of all its images, if none
    is classified correctly). For a new image, the i-th largest logit z, i up to
    `num_top`, keeps the share `1 - (num_top - i + 1) / num_top * F(distance)` and gives
    the rest to an unknown class; the score is the log-odds of that class in the softmax
    of the corrected logits. Distances are Euclidean, over the known logits. Higher is
    more unknown.

    The tail is shifted before the fit, so that its smallest distance becomes `shift`.
    The Weibull law depends on it. With a large shift it becomes a Gumbel law, which has
    no lower end and does not change with the unit of the logits; with a small one, all
    distances below the tail less the shift have `F = 0`.

    Args:
        tail_size: Images in the tail of each class.
        num_top: How many of the largest logits are corrected; all if there are fewer.
        shift: Positive. 10,000 is the default of the authors' library, libMR; their
            later code, VAST, takes 1.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: an argument is not positive, or, on `fit`, a class has no images.

    Example:

    >>> detector = OpenMax().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "openmax"
    learns = True
    needs_labels = True

    def __init__(
        self,
        *,
        tail_size: int = 20,
        num_top: int = 10,
        shift: float = 10_000.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tail_size = check_count("tail_size", tail_size)
        self.num_top = check_count("num_top", num_top)
        self.shift = check_number(
            "shift", shift, "(0, inf)", "in the units of the logits"
        )

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "tail_size": self.tail_size,
            "num_top": self.num_top,
            "shift": self.shift,
        }

    def score_outputs(self, outputs: Outputs) -> Tensor:
        known, _ = output_scores.split(outputs["logits"], self.num_classes)
        num_top = min(self.num_top, self.num_classes)
        values, classes = ops.top_k(known, self.num_classes)
        beyond = self._tail_probability(known, classes[:, :num_top])
        rank_weight = (num_top - np.arange(num_top)) / num_top
        given = values[:, :num_top] * beyond
        given = given * ops.convert_to_tensor(rank_weight, "float32")
        left = ops.concatenate(
            [values[:, :num_top] - given, values[:, num_top:]], axis=-1
        )
        return ops.sum(given, axis=-1) - ops.logsumexp(left, axis=-1)

    def _tail_probability(self, known: Tensor, classes: Tensor) -> Tensor:
        """F of the distance to some classes, of `classes` `(batch, T)`, that shape."""
        # Not by way of products: an image at the mean of its class is at a distance of
        # 0, and the square root of what rounding leaves would be large.
        gaps = known[:, None, :] - ops.take(self.get_tensor("means"), classes, axis=0)
        distances = ops.norm(gaps, axis=-1)
        start, shape, log_scale = (
            ops.take(self.get_tensor(name), classes, axis=0)
            for name in ("start", "shape", "log_scale")
        )
        # In units of the shift and around 1, so that a large shift costs no digits.
        beyond = (distances - start) / self.shift
        exponent = shape * (
            output_scores.log1p(ops.maximum(beyond, _LOWER_END)) - log_scale
        )
        return -output_scores.expm1(-ops.exp(exponent))

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        sums = CorrectMeans(self.num_classes, self.num_classes)
        sample = Sample(_SAMPLE_SIZE, shard=shard)
        for outputs, labels in self.known_batches(network, data):
            logits = outputs["logits"][:, : self.num_classes]
            predicted = logits.argmax(axis=1)
            sums.add(logits, labels, predicted)
            sample.add(logits=logits, labels=labels, correct=predicted == labels)
        return {"sums": sums, "sample": sample}

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        sums = statistics["sums"]
        means, rows = sums.means(), statistics["sample"].rows()
        used = rows["correct"] | ~sums.has_correct()[rows["labels"]]
        labels = rows["labels"][used]
        check_no_empty_class(np.bincount(labels, minlength=self.num_classes))
        distances = np.linalg.norm(rows["logits"][used] - means[labels], axis=1)
        tails = _largest_of_class(distances, labels, self.num_classes, self.tail_size)
        start = np.nanmin(tails, axis=1)
        # A tail of equal distances must not make a law that is narrower than rounding.
        size = np.linalg.norm(means, axis=1) + np.nanmax(tails, axis=1)
        rounding = np.maximum(ROUNDING * size, np.finfo(np.float32).tiny)
        shape, log_scale = _weibull(
            np.log1p((tails - start[:, None]) / self.shift), self.shift / rounding
        )
        self.arrays = {
            "means": means.astype(np.float32),
            "start": start.astype(np.float32),
            "shape": shape.astype(np.float32),
            "log_scale": log_scale.astype(np.float32),
        }


# Just above -1, where the law ends and its logarithm is -inf.
_LOWER_END = -1.0 + 1e-7
# The logits of so many training images are kept during `fit`, a random sample.
_SAMPLE_SIZE = 100_000


def _largest_of_class(values, classes, num_classes, size):
    """The largest values of each class, `(num_classes, size)`, filled up with NaN."""
    order = np.lexsort((-values, classes))
    values, classes = values[order], classes[order]
    first = np.searchsorted(classes, np.arange(num_classes))
    rank = np.arange(len(values)) - first[classes]
    largest = np.full((num_classes, size), np.nan)
    kept = rank < size
    largest[classes[kept], rank[kept]] = values[kept]
    return largest


def _weibull(logs, largest_shape):
    """Maximum-likelihood shape and log scale of each row, by bisection; skips NaN.

    Args:
        logs: Logarithms of what the law is fitted to, `(rows, tail)`.
        largest_shape: Where the bisection begins, `(rows,)`; 1e9 if that is less.
    """
    low = np.full(len(logs), 1e-3)
    high = np.clip(largest_shape, low, 1e9)
    for _ in range(100):
        shape = np.sqrt(low * high)
        weights = np.exp(shape[:, None] * (logs - np.nanmax(logs, axis=1)[:, None]))
        mean = np.nansum(weights * logs, axis=1) / np.nansum(weights, axis=1)
        too_large = mean - 1.0 / shape - np.nanmean(logs, axis=1) > 0
        high, low = np.where(too_large, shape, high), np.where(too_large, low, shape)
    largest = np.nanmax(logs, axis=1)
    powers = np.exp(shape[:, None] * (logs - largest[:, None]))
    return shape, largest + np.log(np.nanmean(powers, axis=1)) / shape
