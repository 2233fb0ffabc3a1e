"""A one-class support vector machine on features."""

from typing import Any

import numpy as np
from keras import ops

from ood_keras.conventions import check_count, check_number, check_seed
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.feature_space import FeatureDetector, without_none
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import Sample, spread_or_one
from ood_keras.types import Images, Json, Outputs, Tensor


@register
class OneClassSVM(FeatureDetector):
    """Scores by a border around the features of known training images.

    Schoelkopf et al., "Estimating the Support of a High-Dimensional Distribution",
    Neural Computation 2001, as scikit-learn's `OneClassSVM`: with features x of mean 0
    and variance 1, support vectors s_i of weight a_i and the kernel
    exp(-gamma ||x - s_i||^2), the score is

        log(rho) - log(sum_i a_i exp(-gamma ||x - s_i||^2))

    Higher is more unknown; the border is at 0. scikit-learn's decision function is rho
    minus that sum, up to sign, which ranks images alike, but rounds to rho for all that
    are far from the known ones. The logarithms tell those apart, too.

    Args:
        nu: Fraction in (0, 1]: at most so many training images end outside of the
            border, and at least so many are support vectors, which are kept: in files
            and exported models `4 * D` bytes each.
        gamma: Float > 0. `None` takes 1 over the median squared distance of a training
            image to its nearest neighbour, so that the kernel sees the gaps between
            classes and no unknown image is needed. (`study` chooses among seven by
            AUROC on unknown validation images instead.)
        max_images: Images to learn from at most, drawn at random: fitting takes a time
            that grows with their square.
        seed: Of the random sample.
        **kwargs: `normalize`, `projection`, see `FeatureDetector`; `num_classes`,
            `logits`, `features`, see `Detector`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> detector = OneClassSVM().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "one_class_svm"
    learns = True

    def __init__(
        self,
        *,
        nu: float = 0.1,
        gamma: float | None = None,
        max_images: int = 10_000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.nu = check_number("nu", nu, "(0, 1]", "a fraction")
        if gamma is not None:
            gamma = check_number("gamma", gamma, "(0, inf)", "the kernel's sharpness")
        self.gamma = gamma
        self.max_images = check_count("max_images", max_images)
        self.seed = check_seed(seed)

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "nu": self.nu,
            "gamma": self.gamma,
            "max_images": self.max_images,
            "seed": self.seed,
        }

    def score_outputs(self, outputs: Outputs) -> Tensor:
        (features,) = self._features(outputs)
        features = (features - self.get_tensor("mean")) / self.get_tensor("scale")
        support = self.get_tensor("support")
        squares = (
            ops.sum(ops.square(features), axis=-1, keepdims=True)
            - 2.0 * ops.matmul(features, self.get_tensor("support", transposed=True))
            + ops.sum(ops.square(support), axis=-1)
        )
        logs = self.get_tensor("log_weights") - self.get_tensor("gamma") * ops.relu(
            squares
        )
        return self.get_tensor("log_rho") - ops.logsumexp(logs, axis=-1)

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        sample = Sample(self.max_images, self.seed, shard)
        moment = self._new_moment(network.feature_size)
        for (features,), _ in self.known_batches(network, data, self._normalized):
            sample.add(features=features)
            if moment is not None:
                moment.add(features)
        return without_none(sample=sample, moment=moment)

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        from sklearn.svm import OneClassSVM as Machine

        self._learn_projection(statistics.get("moment"))
        sample = statistics["sample"]
        features = self._project(sample.rows()["features"].astype(np.float64))
        mean = features.mean(axis=0)
        size = np.sqrt(np.square(features).mean(axis=0))
        scale = spread_or_one(features.std(axis=0), size)
        features = (features - mean) / scale
        gamma = _choose_gamma(features) if self.gamma is None else self.gamma
        machine = Machine(nu=self.nu, gamma=gamma).fit(features)
        self.arrays |= {
            name: np.asarray(values, np.float32)
            for name, values in {
                "mean": mean,
                "scale": scale,
                "gamma": gamma,
                "support": machine.support_vectors_,
                "log_weights": np.log(machine.dual_coef_[0]),
                "log_rho": np.log(machine.offset_[0]),
            }.items()
        }


def _choose_gamma(features: np.ndarray) -> float:
    """1 over the median squared distance to the nearest row that is another one."""
    from sklearn.neighbors import NearestNeighbors

    rows = np.unique(features, axis=0)
    if len(rows) == 1:
        return 1.0
    distances, _ = NearestNeighbors(n_neighbors=2).fit(rows).kneighbors(rows)
    return 1 / float(np.median(np.square(distances[:, 1])))
