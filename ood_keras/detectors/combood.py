"""A nearest-neighbour and a Gaussian likelihood together."""

from typing import Any

import numpy as np
from keras import ops

from ood_keras.conventions import check_number
from ood_keras.detectors import output_scores
from ood_keras.detectors.bank import BankDetector
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import ROUNDING, spread_or_one
from ood_keras.types import Json, Outputs, Tensor


@register
class CombOOD(BankDetector):
    """Scores by a nearest-neighbour and a Gaussian likelihood of the features together.

    Rajasekaran, Sajol, Berglind, Mukhopadhyay and Das, "COMBOOD: A Semiparametric
    Approach for Detecting Out-of-distribution Data for Image Classification", SDM 2024
    (arXiv:2602.07042). With D features of length 1, r the distance to the k-th nearest
    known training image, whose density there is estimated as proportional to r^-D, and
    M the Mahalanobis distance of the features, after Yeo and Johnson's power transform
    of each, to the mean of all known images, the score is

        D log(r^2) + M^2

    which is `log_probability` of the code that the authors published, negative. The
    covariance has `regularization` added to its diagonal; transformed features have a
    variance of 1. Both are learnt from the images of the bank. The authors also try the
    extremes of inner layers in place of the features; those are not read here. Higher
    is more unknown.

    Args:
        k: Which neighbour; the authors' is the 50th in a bank of 50,000.
        bank_size: Cap of the bank; see `BankDetector`, also for `seed`, `normalize`,
            `projection` and `**kwargs`.
        regularization: Positive.

    Raises:
        ValueError: an argument is out of range; or, on `fit`, no feature differs
            between known images.

    Example:

    >>> detector = CombOOD().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "combood"

    def __init__(
        self,
        *,
        k: int = 10,
        bank_size: int = 10_000,
        regularization: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(k=k, bank_size=bank_size, **kwargs)
        self.regularization = check_number("regularization", regularization, "(0, inf)")

    def get_config(self) -> Json:
        return {**super().get_config(), "regularization": self.regularization}

    def score_outputs(self, outputs: Outputs) -> Tensor:
        (features,) = self._features(outputs)
        # In a bank of float32 numbers, no distance is known better than this.
        smallest = ROUNDING * np.linalg.norm(self.arrays["bank"], axis=1).max()
        radius = ops.maximum(self._distance(features), max(float(smallest), 1e-30))
        size = self.arrays["bank"].shape[1]
        whitened = ops.matmul(self._transform(features), self.get_tensor("whitening"))
        squares = ops.sum(ops.square(whitened - self.get_tensor("middle")), axis=-1)
        return 2.0 * size * ops.log(radius) + squares

    def _entries(self, outputs: Outputs) -> Tensor:
        return self._normalized(outputs)[0]

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        from sklearn.preprocessing import PowerTransformer

        super().learn_arrays(network, statistics)
        bank = self.arrays["bank"].astype(np.float64)
        mean = bank.mean(axis=0)
        size = np.sqrt(np.square(bank).mean(axis=0))
        scale = spread_or_one(bank.std(axis=0), size)
        varies = np.flatnonzero(bank.std(axis=0) > ROUNDING * size)
        if not len(varies):
            raise ValueError(
                "all known images have the same features, so that no distance can be "
                "measured. Give more images, or read another layer"
            )
        standard = (bank[:, varies] - mean[varies]) / scale[varies]
        power = np.ones_like(mean)
        power[varies] = PowerTransformer(standardize=False).fit(standard).lambdas_
        # Where it is 0 or 2, the transform is a logarithm, its limit.
        for end in (0.0, 2.0):
            near = np.abs(power - end) < _LEAST_POWER
            power[near] = end + _LEAST_POWER
        self.arrays |= {
            name: values.astype(np.float32)
            for name, values in {"mean": mean, "scale": scale, "power": power}.items()
        }
        transformed = np.concatenate(
            [
                ops.convert_to_numpy(self._transform(ops.convert_to_tensor(rows)))
                for rows in np.array_split(self.arrays["bank"], -(-len(bank) // 1000))
            ]
        ).astype(np.float64)
        deviation = transformed[:, varies].std(axis=0)
        usual = np.sqrt(np.square(transformed[:, varies]).mean(axis=0))
        unit = np.zeros((len(mean), len(varies)))
        unit[varies, np.arange(len(varies))] = 1 / spread_or_one(deviation, usual)
        covariance = np.cov((transformed @ unit).T, bias=True).reshape(
            2 * [len(varies)]
        )
        values, vectors = np.linalg.eigh(covariance)
        whitening = unit @ (vectors / np.sqrt(values.clip(0) + self.regularization))
        self.arrays |= {
            "whitening": whitening.astype(np.float32),
            "middle": (transformed.mean(axis=0) @ whitening).astype(np.float32),
        }

    def _transform(self, features: Tensor) -> Tensor:
        """Yeo and Johnson's transform of the features, in units of their deviation."""
        standard = (features - self.get_tensor("mean")) / self.get_tensor("scale")
        power = self.get_tensor("power")
        power = ops.where(standard >= 0, power, 2.0 - power)
        # Far features with a large power must stay finite, and so must their squares.
        exponent = ops.clip(
            power * output_scores.log1p(ops.abs(standard)), -_MOST, _MOST
        )
        return ops.sign(standard) * output_scores.expm1(exponent) / power


_LEAST_POWER = 1e-3
_MOST = 30.0
