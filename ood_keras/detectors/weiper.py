"""WeiPer: densities under perturbed class weights."""

from typing import Any

import numpy as np
from keras import ops

from ood_keras.conventions import check_count, check_number, check_seed
from ood_keras.detectors.base import Detector
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import Sample
from ood_keras.types import Images, Json, Outputs, Tensor


@register
class WeiPer(Detector):
    """Scores by the divergence of an image's activations from those of known images.

    Granz, Heurich and Landgraf, "WeiPer: OOD Detection using Weight Perturbations of
    Class Projections", NeurIPS 2024, WeiPer+KLD. The weights w of each class are
    repeated `num_repeats` times, each time with noise of length `distance` ||w|| in a
    random direction added; the image's logits under all of them are l. Of the D
    features z of an image, a histogram of `num_bins` bins is made, between the smallest
    and the largest feature of known images, and averaged over a window of `smoothing`
    bins: q(z). p(z) is the mean histogram of known images. In the same way q(l) and
    p(l). With KL the symmetric divergence and MSP the mean over the repeats of the
    largest softmax probability, the score is

        KL(p(z), q(z)) + lambda_1 KL(p(l), q(l)) - lambda_2 MSP(l)

    Higher is more unknown. The authors choose distance, windows and weights for each
    network by validation images; the defaults are those that they chose for a ResNet-18
    on CIFAR-10. For a ResNet-50 on ImageNet they took 2.4, windows of 40 and 15, and
    weights of 2.5 and 0.25. Wide windows suit networks with many features: the
    histogram of a few is lost in them.

    Unlike theirs, a value is shared between the two bins that it lies nearest to, so
    that rounding, in another runtime or in a batch of another size, cannot move a score
    by a step.

    Args:
        distance: Positive, of the perturbation, relative to the length of the weights.
        num_repeats: How often weights are perturbed. The weights take `4 * D *
            num_classes * num_repeats` bytes, in files and exported models too.
        num_bins: Of each histogram, at least 2.
        smoothing: Bins in a window, for z; 1 leaves it out.
        smoothing_perturbed: The same for l.
        lambda_1: At least 0.
        lambda_2: At least 0.
        seed: Of the perturbations and the sample.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: an argument is out of range, or, on `fit`, the model does not end in
            a Dense layer.

    Example:

    >>> detector = WeiPer().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "weiper"
    least_classes = 2
    learns = True

    def __init__(
        self,
        *,
        distance: float = 1.8,
        num_repeats: int = 100,
        num_bins: int = 100,
        smoothing: int = 4,
        smoothing_perturbed: int = 15,
        lambda_1: float = 2.5,
        lambda_2: float = 0.1,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.distance = check_number("distance", distance, "(0, inf)")
        self.num_repeats = check_count("num_repeats", num_repeats)
        self.num_bins = check_count("num_bins", num_bins)
        # No file may ask for endless work.
        if not 2 <= self.num_bins <= _MOST_BINS:
            raise ValueError(
                f"`num_bins` must be from 2 to {_MOST_BINS}. Received: {num_bins!r}"
            )
        self.smoothing = check_count("smoothing", smoothing)
        self.smoothing_perturbed = check_count(
            "smoothing_perturbed", smoothing_perturbed
        )
        self.lambda_1 = check_number("lambda_1", lambda_1, "[0, inf)")
        self.lambda_2 = check_number("lambda_2", lambda_2, "[0, inf)")
        self.seed = check_seed(seed)

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "distance": self.distance,
            "num_repeats": self.num_repeats,
            "num_bins": self.num_bins,
            "smoothing": self.smoothing,
            "smoothing_perturbed": self.smoothing_perturbed,
            "lambda_1": self.lambda_1,
            "lambda_2": self.lambda_2,
            "seed": self.seed,
        }

    def score_outputs(self, outputs: Outputs) -> Tensor:
        features = outputs["features"]
        logits = self._perturbed_logits(features)
        each = ops.reshape(logits, (-1, self.num_repeats, self.num_classes))
        confidence = ops.mean(ops.max(ops.softmax(each, axis=-1), axis=-1), axis=-1)
        return (
            self._divergence("features", features, self.smoothing, _FLOOR)
            + self.lambda_1
            * self._divergence(
                "logits", logits, self.smoothing_perturbed, _FLOOR_PERTURBED
            )
            - self.lambda_2 * confidence
        )

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        sample = Sample(_SAMPLE_SIZE, self.seed, shard)
        for outputs, _ in self.known_batches(network, data):
            sample.add(features=outputs["features"])
        return {"sample": sample}

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        kernel, bias = self.known_head(network)
        self.arrays = {
            "kernel": _perturb(kernel, self.distance, self.num_repeats, self.seed),
            "bias": np.tile(bias, self.num_repeats),
        }
        features = statistics["sample"].rows()["features"]
        logits = ops.convert_to_numpy(self._perturbed_logits(features))
        for name, values in (("features", features), ("logits", logits)):
            ends = np.float32(values.min()), np.float32(values.max())
            self.arrays[f"{name}_range"] = np.array(ends)
            parts = [
                ops.convert_to_numpy(self._histogram(name, values[start : start + 100]))
                for start in range(0, len(values), 100)
            ]
            density = np.concatenate(parts).mean(axis=0, dtype=np.float64)
            self.arrays[f"{name}_density"] = density.astype(np.float32)

    def _perturbed_logits(self, features: Tensor) -> Tensor:
        return ops.matmul(features, self.get_tensor("kernel")) + self.get_tensor("bias")

    def _histogram(self, name: str, values: Tensor) -> Tensor:
        """The share of the values of each image in each bin, `(batch, num_bins)`."""
        lowest, highest = self.arrays[f"{name}_range"].astype(np.float64)
        centres = np.linspace(lowest, highest, self.num_bins)
        # Equal values have no range; all are then in the middle of the first bin.
        width = max((highest - lowest) / (self.num_bins - 1), 1e-30)
        places = (values - float(lowest)) / float(width)
        numbers = np.arange(len(centres), dtype=np.float32)
        group = max(1, _MOST_AT_ONCE // int(values.shape[-1]))
        shares = [
            ops.mean(
                ops.relu(
                    1.0
                    - ops.abs(
                        ops.subtract(
                            places[:, None, :], numbers[first : first + group, None]
                        )
                    )
                ),
                axis=-1,
            )
            for first in range(0, len(numbers), group)
        ]
        return ops.concatenate(shares, axis=-1) if len(shares) > 1 else shares[0]

    def _divergence(self, name, values, window, floor):
        """The symmetric divergence of each image's values, `(batch,)`."""
        smooth = ops.matmul(
            self._histogram(name, values),
            ops.convert_to_tensor(_window(self.num_bins, window), "float32"),
        )
        density = self.arrays[f"{name}_density"].astype(np.float64) + floor
        density = ops.convert_to_tensor(density / density.sum(), "float32")
        own = smooth + floor
        own = own / ops.sum(own, axis=-1, keepdims=True)
        # KL(p, q) + KL(q, p) is the sum of (p - q) (log p - log q), none negative.
        return ops.sum((density - own) * (ops.log(density) - ops.log(own)), axis=-1)


# Added to all bins, so that no logarithm is of 0: the authors' values.
_FLOOR, _FLOOR_PERTURBED = 0.01, 0.025
# The authors learn mean histograms from as many images.
_SAMPLE_SIZE = 1000
_MOST_BINS = 1000
# Values times bins of an image that are compared at once: a quarter of a MiB.
_MOST_AT_ONCE = 2**16


def _perturb(
    kernel: np.ndarray, distance: float, num_repeats: int, seed: int
) -> np.ndarray:
    """Kernel `(D, N)` with noise, `(D, num_repeats * N)`, repeat by repeat."""
    generator = np.random.default_rng(seed)
    perturbed = np.empty((len(kernel), num_repeats, kernel.shape[1]), np.float32)
    # One by one, for all in float64 would be several times what is kept.
    for repeat in range(num_repeats):
        noise = generator.normal(size=kernel.shape)
        noise /= np.linalg.norm(noise, axis=0, keepdims=True)
        noise *= distance * np.linalg.norm(kernel, axis=0)
        perturbed[:, repeat] = kernel + noise
    return perturbed.reshape(len(kernel), -1)


def _window(num_bins: int, size: int) -> np.ndarray:
    """The matrix that averages over windows; the first and last bins are repeated."""
    matrix = np.zeros((num_bins, num_bins))
    bins = np.arange(num_bins)
    for shift in range(size):
        read = np.clip(bins + shift - (size - 1) // 2, 0, num_bins - 1)
        matrix[read, bins] += 1 / size
    return matrix
