"""A one-class support vector machine on a classifier's features."""

import numpy as np
import sklearn.svm
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ood_keras.conventions import check_count
from ood_keras.detectors.compiled import compiled
from ood_keras.training.baselines.base import Baseline, read_classifier


class OneClassSVM(Baseline):
    """Draws one border around the features of all known training images.

    The domain-based family: Schoelkopf et al., "Estimating the Support of a
    High-Dimensional Distribution" (Neural Computation 2001), as scikit-learn's
    `OneClassSVM` with a Gaussian kernel, on features scaled to mean 0 and variance 1.
    Scored by the distance beyond the border: above 0 is outside.

    Args:
        nu: Fraction in (0, 1], at most so many training images end outside. Defaults
            to `0.1`, of the two values, 0.01 and 0.1, that Ruff et al., "Deep One-Class
            Classification" (ICML 2018), run it with.
        gamma: Width of the kernel, as in scikit-learn. Defaults to `"scale"`, 1 / D for
            scaled features.
        max_images: Images to learn from, at most, drawn at random: training takes a
            time that grows with their square. Defaults to `10_000`.
        seed: Decides which.

    Attributes:
        machine: The fitted scikit-learn pipeline, known after `fit`.

    Example:

    >>> baseline = OneClassSVM().fit(classifier, (images, labels))
    >>> ood_score = baseline.score(test_images)
    """

    machine = None

    def __init__(self, nu=0.1, gamma="scale", max_images=10_000, seed=0):
        if not 0 < nu <= 1:
            raise ValueError(f"`nu` must be a fraction in (0, 1]. Received: nu={nu!r}")
        self.nu = nu
        self.gamma = gamma
        self.max_images = check_count("max_images", max_images)
        self.seed = seed

    def fit(self, model, data):
        """Learns the border.

        Args:
            model: A trained classifier; it is only read.
            data: Its known training images with labels.

        Returns:
            The object itself.

        Raises:
            ValueError: there are no labels, no known images, or a label is too large.
        """
        network, features, _, _ = read_classifier(model, data)
        random = np.random.default_rng(self.seed)
        features = random.permutation(features)[: self.max_images]
        self.machine = make_pipeline(
            StandardScaler(), sklearn.svm.OneClassSVM(nu=self.nu, gamma=self.gamma)
        ).fit(features)
        read = compiled(lambda images: network(images)["features"])
        self._scorer = lambda images: -self.machine.decision_function(read(images))
        return self
