"""Gram matrices of inner layers."""

import numpy as np
from keras import ops

from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector, check_count, check_layers
from ood_keras.detectors.statistics import Sample


class Gram(Detector):
    """Scores by how far products of channels leave the range seen for the class.

    Sastry and Oore, "Detecting Out-of-Distribution Examples with Gram Matrices", ICML
    2020, with the row sums of the Gram matrices as in the authors' code. For each layer
    with maps F `(channels, positions)` and each power p, the statistic of channel i is
    the p-th root of `sum_j sum_s F_is^p F_js^p`. Its smallest and largest value over
    the known training images of each predicted class are kept. The score adds up by how
    much an image's statistics leave that range, relative to it; each layer's sum is
    divided by its mean over known images that the range was not taken from. Higher is
    more unknown.

    Those are `validation` where `fit` is given some, else every tenth image of `data`.

    Args:
        layers: Names of the layers to read; `None` reads all convolutions and Dense
            layers before the classifying one.
        num_powers: The powers are 1 to `num_powers`.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `num_powers` is not positive, or there are too few images.

    Example:

    >>> detector = Gram().fit(model, (images, labels), validation)
    >>> ood_score = detector.score(images)
    """

    name = "gram"
    learns = True

    def __init__(self, *, layers=None, num_powers=10, **kwargs):
        super().__init__(**kwargs)
        self._layers = check_layers(layers)
        self.num_powers = check_count("num_powers", num_powers)

    def get_config(self):
        return {
            **super().get_config(),
            "layers": self._layers,
            "num_powers": self.num_powers,
        }

    def score_outputs(self, outputs):
        read = self._read(outputs)
        deviations = self._deviations(read["statistics"], read["predicted"])
        return ops.sum(deviations / self._tensor("scale"), axis=-1)

    def _choose_layers(self, network):
        names = self._layers or network.inner_layers
        if not names:
            raise ValueError(
                "the model has no convolution or Dense layer before the classifying "
                "one; name the layers to read with layers=[...]"
            )
        return tuple(names)

    def _fit(self, network, data, validation):
        ranges, held_out, num_images = None, Sample(_NUM_HELD_OUT), 0
        for outputs, _ in self._known_batches(network, data, self._read):
            statistics, predicted = outputs["statistics"], outputs["predicted"]
            if ranges is None:
                ranges = [
                    _Ranges(self.num_classes, layer.shape[1]) for layer in statistics
                ]
            position = np.arange(num_images, num_images + len(predicted))
            num_images += len(predicted)
            aside = (position % 10 == 9) & (validation is None)
            for layer_ranges, layer in zip(ranges, statistics, strict=True):
                layer_ranges.add(layer[~aside], predicted[~aside].argmax(axis=1))
            if aside.any():
                layers = {str(i): layer[aside] for i, layer in enumerate(statistics)}
                held_out.add(predicted=predicted[aside], **layers)
        for index, layer_ranges in enumerate(ranges):
            self.arrays[f"smallest_{index}"] = layer_ranges.smallest()
            self.arrays[f"largest_{index}"] = layer_ranges.largest()
        self.arrays["scale"] = self._usual_deviations(network, held_out, validation)

    def _usual_deviations(self, network, held_out, validation):
        """The mean of each layer's deviation over images set aside, float32."""
        if validation is None:
            rows = held_out.rows()
            if not rows:
                raise ValueError(
                    "`gram` sets every tenth image of `data` aside. Expected at least "
                    "10 images, or known images as `validation`"
                )
            predicted = rows.pop("predicted")
            batches = [self._deviations(list(rows.values()), predicted)]
        else:
            batches = (
                self._deviations(outputs["statistics"], outputs["predicted"])
                for outputs, _ in self._known_batches(network, validation, self._read)
            )
        sums, count = 0.0, 0
        for deviations in batches:
            deviations = ops.convert_to_numpy(deviations)
            sums = sums + deviations.sum(axis=0, dtype=np.float64)
            count += len(deviations)
        return np.where(sums > 0, sums / count, 1.0).astype(np.float32)

    def _read(self, outputs):
        """Each layer's statistics `(batch, num_powers * channels)`; the prediction."""
        return {
            "statistics": [self._statistics(outputs["layers"][n]) for n in self.layers],
            "predicted": output_scores.predicted(outputs["logits"], self.num_classes),
        }

    def _statistics(self, maps):
        channels = maps.shape[-1]
        maps = ops.reshape(maps, (-1, int(np.prod(maps.shape[1:-1])), channels))
        # Statistics grow with the square of the maps; powers of maps up to 1 are safe.
        size = ops.maximum(ops.max(ops.abs(maps), axis=(1, 2), keepdims=True), 1e-30)
        maps = powered = maps / size
        statistics = []
        for power in range(1, self.num_powers + 1):
            if power > 1:
                powered = powered * maps
            # The sum over j first: no matrix of channels by channels is made.
            over_channels = ops.sum(powered, axis=2, keepdims=True)
            sums = ops.sum(powered * over_channels, axis=1)
            root = ops.sign(sums) * ops.power(ops.abs(sums), 1.0 / power)
            statistics.append(root * ops.square(size[:, 0]))
        return ops.concatenate(statistics, axis=-1)

    def _deviations(self, statistics, predicted):
        """By how much each layer leaves its range, `(batch, layers)`."""
        deviations = []
        for index, values in enumerate(statistics):
            low = ops.matmul(predicted, self._tensor(f"smallest_{index}"))
            high = ops.matmul(predicted, self._tensor(f"largest_{index}"))
            below = ops.relu(low - values) / (ops.abs(low) + _SMALLEST_RANGE)
            above = ops.relu(values - high) / (ops.abs(high) + _SMALLEST_RANGE)
            deviations.append(ops.sum(below + above, axis=-1))
        return ops.stack(deviations, axis=-1)


_NUM_HELD_OUT = 1000
_SMALLEST_RANGE = 1e-6


class _Ranges:
    """The smallest and largest row of each class."""

    def __init__(self, num_classes, size):
        self._smallest = np.full((num_classes, size), np.inf, np.float32)
        self._largest = np.full((num_classes, size), -np.inf, np.float32)

    def add(self, rows, classes):
        order = np.argsort(classes, kind="stable")
        seen, starts = np.unique(classes[order], return_index=True)
        if len(seen):
            smallest = np.minimum.reduceat(rows[order], starts, axis=0)
            largest = np.maximum.reduceat(rows[order], starts, axis=0)
            self._smallest[seen] = np.minimum(self._smallest[seen], smallest)
            self._largest[seen] = np.maximum(self._largest[seen], largest)

    def smallest(self):
        """`(num_classes, size)`; that over all classes where a class was never seen."""
        overall = self._smallest.min(axis=0)
        return np.where(np.isfinite(self._smallest), self._smallest, overall)

    def largest(self):
        """As `smallest`."""
        overall = self._largest.max(axis=0)
        return np.where(np.isfinite(self._largest), self._largest, overall)
