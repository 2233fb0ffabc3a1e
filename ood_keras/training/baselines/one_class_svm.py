"""A one-class support vector machine on a classifier's features."""

from typing import TYPE_CHECKING, Self

import numpy as np
import sklearn.svm
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ood_keras import batches, metrics
from ood_keras.conventions import check_count, check_number
from ood_keras.detectors.compiled import compile_function
from ood_keras.training.baselines.base import Baseline, read_classifier
from ood_keras.types import Images

if TYPE_CHECKING:
    import keras

_GAMMAS = tuple(2.0**power for power in range(-9, 4, 2))


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
        gamma: Float > 0: the kernel is exp(-gamma ||a - b||^2). `None` chooses, of
            seven from 2^-9 to 2^3, each four times the one before, that of the highest
            AUROC on validation images; Ruff et al. search 2^-10 to 2^-1. scikit-learn's
            default, 1 / D, is far too wide to see the gaps between classes. Defaults to
            `None`.
        max_images: Images to learn from, at most, drawn at random: training takes a
            time that grows with their square. Defaults to `10_000`.
        seed: Decides which.

    Attributes:
        gamma: The one chosen, where `None` was given, after `fit`.
        machine: The fitted scikit-learn pipeline, known after `fit`.

    Example:

    >>> baseline = OneClassSVM().fit(
    ...     classifier, (images, labels), validation=(known_images, unknown_images)
    ... )
    >>> ood_score = baseline.score(test_images)
    """

    machine: Pipeline | None = None

    def __init__(
        self,
        nu: float = 0.1,
        gamma: float | None = None,
        max_images: int = 10_000,
        seed: int = 0,
    ) -> None:
        self.nu = check_number("nu", nu, "(0, 1]", "a fraction")
        self._given_gamma = self.gamma = gamma
        self.max_images = check_count("max_images", max_images)
        self.seed = seed

    def fit(
        self,
        model: "keras.Model",
        data: Images,
        validation: tuple[Images, Images] | None = None,
    ) -> Self:
        """Learns the border.

        Args:
            model: A trained classifier; it is only read.
            data: Its known training images with labels.
            validation: `(known, unknown)` images to choose `gamma` on, the unknown ones
                from the exposure sources; not looked at where `gamma` was given.

        Returns:
            The object itself.

        Raises:
            ValueError: there are no labels, no known images, or a label is too large;
                or neither `gamma` nor `validation` is given.
        """
        if self._given_gamma is None and validation is None:
            raise ValueError(
                "expected `validation`, (known images, unknown images), to choose "
                "`gamma` on, or a number for `gamma`. Received: neither"
            )
        network, features, _, _ = read_classifier(model, data)
        features = np.random.default_rng(self.seed).permutation(features)
        features = features[: self.max_images]
        read = compile_function(lambda images: network(images)["features"])
        if self._given_gamma is not None:
            self.machine = self._machine(features, self._given_gamma)
        else:
            known, unknown = (
                np.concatenate([read(images) for images, _ in batches.iterate(part)])
                for part in validation  # type: ignore[union-attr]
            )
            machines = {gamma: self._machine(features, gamma) for gamma in _GAMMAS}

            def auroc(gamma):
                outside = machines[gamma].decision_function
                return metrics.auroc(-outside(known), -outside(unknown))

            self.gamma = max(_GAMMAS, key=auroc)
            self.machine = machines[self.gamma]
        self._scorer = lambda images: -self.machine.decision_function(read(images))  # type: ignore[union-attr]
        return self

    def _machine(self, features: np.ndarray, gamma: float) -> Pipeline:
        return make_pipeline(
            StandardScaler(), sklearn.svm.OneClassSVM(nu=self.nu, gamma=gamma)
        ).fit(features)
