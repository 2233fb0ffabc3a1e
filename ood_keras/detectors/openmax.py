"""OpenMax."""

import numpy as np
from keras import ops

from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector, check_count
from ood_keras.detectors.statistics import (
    CorrectMeans,
    Sample,
    check_no_empty_class,
)


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

    Args:
        tail_size: Images in the tail of each class.
        num_top: How many of the largest logits are corrected; all if there are fewer.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: an argument is not positive.

    Example:

    >>> detector = OpenMax().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "openmax"
    learns = True
    needs_labels = True

    def __init__(self, *, tail_size=20, num_top=10, **kwargs):
        super().__init__(**kwargs)
        self.tail_size = check_count("tail_size", tail_size)
        self.num_top = check_count("num_top", num_top)

    def get_config(self):
        return {
            **super().get_config(),
            "tail_size": self.tail_size,
            "num_top": self.num_top,
        }

    def score_outputs(self, outputs):
        known, _ = output_scores.split(outputs["logits"], self.num_classes)
        num_top = min(self.num_top, self.num_classes)
        values, classes = ops.top_k(known, self.num_classes)
        beyond = ops.take_along_axis(self._tail_probability(known), classes, axis=1)
        rank_weight = np.maximum(num_top - np.arange(self.num_classes), 0) / num_top
        given = values * beyond * rank_weight.astype(np.float32)
        return ops.sum(given, axis=-1) - ops.logsumexp(values - given, axis=-1)

    def _tail_probability(self, known):
        """F of the distance to each class, `(batch, N)`."""
        means = self._tensor("means")
        squares = ops.sum(ops.square(known), axis=-1, keepdims=True)
        products = ops.matmul(known, ops.transpose(means))
        squares = squares + (ops.sum(ops.square(means), axis=-1) - 2.0 * products)
        distances = ops.sqrt(ops.maximum(squares, 0.0))
        shifted = ops.maximum(distances - self._tensor("shift"), 1e-30)
        exponent = self._tensor("shape") * (
            ops.log(shifted) - self._tensor("log_scale")
        )
        return -ops.expm1(-ops.exp(exponent))

    def _fit(self, network, data, validation):
        sums = CorrectMeans(self.num_classes, self.num_classes)
        sample = Sample(_SAMPLE_SIZE)
        for outputs, labels in self._known_batches(network, data):
            logits = outputs["logits"][:, : self.num_classes]
            predicted = logits.argmax(axis=1)
            sums.add(logits, labels, predicted)
            sample.add(logits=logits, labels=labels, correct=predicted == labels)
        means, rows = sums.means(), sample.rows()
        used = rows["correct"] | ~sums.has_correct()[rows["labels"]]
        labels = rows["labels"][used]
        check_no_empty_class(np.bincount(labels, minlength=self.num_classes))
        distances = np.linalg.norm(rows["logits"][used] - means[labels], axis=1)
        tails = _largest_of_class(distances, labels, self.num_classes, self.tail_size)
        # As the authors' library does: the smallest of a tail is moved to 1.
        shift = np.nanmin(tails, axis=1) - 1.0
        shape, log_scale = _weibull(tails - shift[:, None])
        self.arrays = {
            "means": means.astype(np.float32),
            "shift": shift.astype(np.float32),
            "shape": shape.astype(np.float32),
            "log_scale": log_scale.astype(np.float32),
        }


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


def _weibull(rows):
    """Maximum-likelihood shape and log scale of each row, by bisection; skips NaN."""
    logs = np.log(rows)
    low, high = np.full(len(rows), 1e-3), np.full(len(rows), 1e6)
    for _ in range(100):
        shape = np.sqrt(low * high)
        weights = np.exp(shape[:, None] * (logs - np.nanmax(logs, axis=1)[:, None]))
        mean = np.nansum(weights * logs, axis=1) / np.nansum(weights, axis=1)
        too_large = mean - 1.0 / shape - np.nanmean(logs, axis=1) > 0
        high, low = np.where(too_large, shape, high), np.where(too_large, low, shape)
    largest = np.nanmax(logs, axis=1)
    powers = np.exp(shape[:, None] * (logs - largest[:, None]))
    return shape, largest + np.log(np.nanmean(powers, axis=1)) / shape
