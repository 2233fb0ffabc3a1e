"""Gram matrices of inner layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from ood_keras.conventions import check_count, check_number
from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector, check_layers
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import ROUNDING, Sample
from ood_keras.types import Images, Json, Outputs, Tensor

_MOST_POWERS = 100


@register
class Gram(Detector):
    """Scores by how far products of channels leave the range seen for the class.

    Sastry and Oore, "Detecting Out-of-Distribution Examples with Gram Matrices", ICML
    2020, with the row sums of the Gram matrices as in the authors' code. For each layer
    with maps F `(channels, positions)` and each power p, the statistic of channel i is
    the p-th root of `sum_j sum_s F_is^p F_js^p`. Its usual range for each class is
    kept, from the `quantile` to `1 - quantile`, over the known training images that are
    correctly classified as it: labelled so and predicted so. Without labels, or for a
    class of which none is, it is over all that are predicted so; for a class that is
    never predicted, over all classes. A new image is held against the range of its
    predicted class. The score adds up by how much an image's statistics leave that
    range, relative to it and to a hundredth of what is usual in the layer, so that
    channels which known images leave silent do not outweigh all others; each layer's
    sum is divided by its mean over known images that the range was not taken from:
    `validation` where `fit` is given some, else every tenth image of `data`. Higher is
    more unknown.

    The authors take the smallest and the largest value (`quantile=0`) and powers up to
    10. With many training images nearly all known ones then score exactly 0.

    The range is that of a random sample of the images, as many as fit in 256 MiB; the
    mean, of as many as fit in 64 MiB.

    Args:
        layers: Names of the layers to read; `None` reads all convolutions and Dense
            layers before the classifying one.
        num_powers: The powers are 1 to `num_powers`.
        quantile: In [0, 0.5).
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: an argument is out of range, or there are too few images.

    Example:

    >>> detector = Gram().fit(model, (images, labels), validation)
    >>> ood_score = detector.score(images)
    """

    name = "gram"
    learns = True

    def __init__(
        self,
        *,
        layers: Sequence[str] | None = None,
        num_powers: int = 5,
        quantile: float = 0.05,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._layers = check_layers(layers)
        self.num_powers = check_count("num_powers", num_powers)
        # Higher ones are 0 for maps up to 1; and no file may ask for endless work.
        if self.num_powers > _MOST_POWERS:
            raise ValueError(
                f"`num_powers` must be at most {_MOST_POWERS}. Received: num_powers="
                f"{num_powers!r}"
            )
        self.quantile = check_number("quantile", quantile, "[0, 0.5)")

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "layers": self._layers,
            "num_powers": self.num_powers,
            "quantile": self.quantile,
        }

    def score_outputs(self, outputs: Outputs) -> Tensor:
        read = self._read(outputs)
        deviations = self._deviations(read["statistics"], read["predicted"])
        return ops.sum(deviations / self.get_tensor("scale"), axis=-1)

    def choose_layers(self, network: Network) -> tuple[str, ...]:
        names = self._layers or network.inner_layers
        if not names:
            raise ValueError(
                "the model has no convolution or Dense layer before the classifying "
                "one; name the layers to read with layers=[...]"
            )
        return tuple(names)

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        # Made with the first batch, of which there is one or an error.
        sample: Any = None
        held_out: Any = None
        num_images = 0
        for outputs, labels in self.known_batches(network, data, self._read):
            rows = _rows(outputs)
            predicted = rows["predicted"].argmax(axis=1)
            rows["correct"] = predicted == (predicted if labels is None else labels)
            if sample is None:
                row_bytes = sum(values[0].nbytes for values in rows.values())
                capacity = max(_SAMPLE_BYTES // row_bytes, 1)
                sample = Sample(capacity, shard=shard)
                held_out = Sample(min(capacity // 4 + 1, _NUM_HELD_OUT), shard=shard)
            count = len(rows["predicted"])
            position = np.arange(num_images, num_images + count)
            num_images += count
            aside = (position % 10 == 9) & (validation is None)
            sample.add(**{name: values[~aside] for name, values in rows.items()})
            held_out.add(**{name: values[aside] for name, values in rows.items()})
        if validation is not None:
            held_out = Sample(capacity // 4 + 1, shard=shard)
            for outputs, _ in self.known_batches(
                network, validation, self._read, "validation"
            ):
                held_out.add(**_rows(outputs))
        return {"sample": sample, "held_out": held_out}

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        rows = statistics["sample"].rows()
        classes, correct = rows["predicted"].argmax(axis=1), rows["correct"]
        has_correct = np.bincount(classes[correct], minlength=self.num_classes) > 0
        used = correct | ~has_correct[classes]
        for index in range(len(self.layers)):
            limits = _limits(
                rows[str(index)][used], classes[used], self.num_classes, self.quantile
            )
            self.arrays[f"low_{index}"], self.arrays[f"high_{index}"] = limits
            self.arrays[f"smallest_{index}"] = self._smallest_ranges(limits[1])
        self.arrays["scale"] = self._usual_deviations(statistics["held_out"].rows())

    def _usual_deviations(self, rows):
        """The mean of each layer's deviation over images set aside, float32."""
        if not rows:
            raise ValueError(
                "`gram` sets every tenth image of `data` aside. Expected at least 10 "
                "images, or known images as `validation`"
            )
        layers = range(len(self.layers))
        num_statistics = [self.arrays[f"low_{index}"].shape[1] for index in layers]
        rounding = ROUNDING * np.array(num_statistics)
        sums, count = 0.0, len(rows["predicted"])
        for start in range(0, count, _NUM_AT_ONCE):
            place = slice(start, start + _NUM_AT_ONCE)
            deviations = ops.convert_to_numpy(
                self._deviations(
                    [rows[str(index)][place] for index in layers],
                    rows["predicted"][place],
                )
            )
            # The images that the range was taken from leave it by rounding.
            deviations = np.where(deviations > rounding, deviations, 0.0)
            sums = sums + deviations.sum(axis=0, dtype=np.float64)
        return np.where(sums > 0, sums / count, 1.0).astype(np.float32)

    def _smallest_ranges(self, high):
        """What is added to the ranges that deviations are divided by, `(size,)`.

        What a nearly silent channel says is what rounding left of larger numbers. By
        its own range alone, it would decide the score.
        """
        of_powers = np.abs(high).reshape(len(high), self.num_powers, -1)
        usual = of_powers.mean(axis=(0, 2), dtype=np.float64)
        smallest = _SMALLEST_RANGE + _SMALLEST_SHARE * usual
        return np.repeat(smallest, of_powers.shape[2]).astype(np.float32)

    def _read(self, outputs):
        """Each layer's statistics `(batch, num_powers * channels)`; the prediction."""
        return {
            "statistics": [self._statistics(outputs["layers"][n]) for n in self.layers],
            "predicted": output_scores.predict(outputs["logits"], self.num_classes),
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
            over_channels = ops.sum(powered, axis=2)[:, None, :]
            sums = ops.matmul(over_channels, powered)[:, 0]
            # At 0 the root has no gradient, which a perturbation of images asks for.
            magnitude = ops.where(sums == 0, 1.0, ops.abs(sums))
            root = ops.sign(sums) * ops.power(magnitude, 1.0 / power)
            statistics.append(root * ops.square(size[:, 0]))
        return ops.concatenate(statistics, axis=-1)

    def _deviations(self, statistics, predicted):
        """By how much each layer leaves its range, `(batch, layers)`."""
        deviations = []
        for index, values in enumerate(map(ops.convert_to_tensor, statistics)):
            low = ops.matmul(predicted, self.get_tensor(f"low_{index}"))
            high = ops.matmul(predicted, self.get_tensor(f"high_{index}"))
            # Detectors that were saved before have the authors' number.
            smallest = (
                self.get_tensor(f"smallest_{index}")
                if f"smallest_{index}" in self.arrays
                else _SMALLEST_RANGE
            )
            below = ops.relu(low - values) / (ops.abs(low) + smallest)
            above = ops.relu(values - high) / (ops.abs(high) + smallest)
            deviations.append(ops.sum(below + above, axis=-1))
        return ops.stack(deviations, axis=-1)


_NUM_HELD_OUT = 1000
_NUM_AT_ONCE = 256
_SAMPLE_BYTES = 2**28
# The authors' number, and a share of what is usual in the layer.
_SMALLEST_RANGE = 1e-6
_SMALLEST_SHARE = 1e-2


def _rows(outputs):
    """What is kept of the images of a batch, by name."""
    layers = {str(i): layer for i, layer in enumerate(outputs["statistics"])}
    return {**layers, "predicted": outputs["predicted"]}


def _limits(values, classes, num_classes, quantile):
    """Quantiles of the rows of each class, two float32 arrays `(num_classes, size)`.

    Those of all rows stand for a class that is never predicted.
    """
    ends = [quantile, 1.0 - quantile]
    low_and_high = np.empty((2, num_classes, values.shape[1]), np.float32)
    low_and_high[:] = np.quantile(values, ends, axis=0)[:, None]
    # One sort of all classes together takes three times as long, even for a thousand.
    for number in np.unique(classes):
        low_and_high[:, number] = np.quantile(values[classes == number], ends, axis=0)
    return low_and_high
