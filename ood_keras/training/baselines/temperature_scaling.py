"""Temperature scaling: the softmax threshold, calibrated."""

from typing import TYPE_CHECKING, Self

import numpy as np
import scipy.optimize
import scipy.special

from ood_keras import detectors
from ood_keras.training.baselines.base import Baseline, read_classifier
from ood_keras.types import Images

if TYPE_CHECKING:
    import keras

# Without a mistake among the images the best temperature is 0, and beyond both ends the
# probabilities no longer change in float32.
_RANGE = (0.01, 100.0)


class TemperatureScaling(Baseline):
    """Divides the logits by the temperature that makes probabilities most likely.

    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (ICML
    2017), section 4.2: one T > 0 minimises the mean of -log softmax(z / T)_y over held
    out known images. Scored by the largest probability, as the detector "msp".

    Attributes:
        temperature: T, known after `fit`.

    Example:

    >>> baseline = TemperatureScaling().fit(classifier, (images, labels))
    >>> ood_score = baseline.score(test_images)
    """

    temperature: float | None = None

    def fit(self, model: "keras.Model", validation: Images) -> Self:
        """Finds T.

        Args:
            model: A trained classifier with N logits; it is only read.
            validation: Known images with labels that it was not trained on.

        Returns:
            The object itself.

        Raises:
            ValueError: there are no labels, no known images, or a label is too large.
        """
        network, _, logits, labels = read_classifier(model, validation)
        self.temperature = fit_temperature(logits, labels)
        detector = detectors.get(
            "msp", num_classes=network.num_logits, temperature=self.temperature
        ).fit(model)
        self._scorer = detector.score
        return self


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T of lowest negative log-likelihood, from 0.01 to 100.

    Args:
        logits: `(n, N)`.
        labels: Integers `(n,)`, 0 to N - 1.
    """
    # Convex in 1 / T, so with one valley in log T.
    result = scipy.optimize.minimize_scalar(
        lambda log_t: negative_log_likelihood(logits, labels, np.exp(log_t)),
        bounds=np.log(_RANGE),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(result.x))


def negative_log_likelihood(
    logits: np.ndarray, labels: np.ndarray, temperature: float
) -> float:
    """The mean of -log softmax(z / T)_y."""
    scaled = np.asarray(logits, np.float64) / temperature
    true = scaled[np.arange(len(labels)), labels]
    return float(np.mean(scipy.special.logsumexp(scaled, axis=1) - true))
