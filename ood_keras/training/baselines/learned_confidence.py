"""Learned confidence: a small network that tells how sure a classifier may be."""

from typing import Self

import keras
from keras import layers

from ood_keras.conventions import check_count
from ood_keras.detectors.compiled import compile_function
from ood_keras.detectors.learned_confidence import (
    confidence_loss,
    true_class_probability,
)
from ood_keras.training.baselines.base import Baseline, read_classifier
from ood_keras.training.set_seed import set_seed
from ood_keras.types import Images


class LearnedConfidence(Baseline):
    """Regresses the probability of the true class from a frozen classifier's features.

    ConfidNet of Corbiere, Thome, Bar-Hen, Cord and Perez, "Addressing Failure
    Prediction by Learning Model Confidence" (NeurIPS 2019), first stage: with TCP the
    probability that the classifier gives to the true class of a training image, the
    confidence c = sigmoid(head(features)) minimises the mean of (c - TCP)^2. The head
    is the authors' for MNIST: four dense layers of 400 units with ReLU, and one of 1.
    Their second stage, in which a copy of the classifier's convolutions is trained
    further, is left out. Scored by -head(features), the log-odds against confidence.

    Args:
        hidden_size: Units of each hidden layer. Defaults to `400`.
        epochs: Passes over the features. Defaults to `30`; the authors choose the best
            of up to 500 by validation.
        learning_rate: Of Adam. Defaults to `1e-4`, the authors'.
        batch_size: Defaults to `128`.
        seed: Decides initial weights and order.

    Attributes:
        head: The trained `keras.Model` from features to log-odds, known after `fit`.

    Example:

    >>> baseline = LearnedConfidence().fit(classifier, (images, labels))
    >>> ood_score = baseline.score(test_images)
    """

    head: keras.Model | None = None

    def __init__(
        self,
        hidden_size: int = 400,
        epochs: int = 30,
        learning_rate: float = 1e-4,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        self.hidden_size = check_count("hidden_size", hidden_size)
        self.epochs = check_count("epochs", epochs)
        self.learning_rate = learning_rate
        self.batch_size = check_count("batch_size", batch_size)
        self.seed = seed

    def fit(self, model: keras.Model, data: Images) -> Self:
        """Trains the head.

        Args:
            model: A trained classifier with N logits; it is only read.
            data: Its known training images with labels.

        Returns:
            The object itself.

        Raises:
            ValueError: there are no labels, no known images, or a label is too large.
        """
        network, features, logits, labels = read_classifier(model, data)
        set_seed(self.seed)
        hidden = [layers.Dense(self.hidden_size, "relu") for _ in range(4)]
        self.head = keras.Sequential(
            [keras.Input((features.shape[1],)), *hidden, layers.Dense(1)]
        )
        self.head.compile(
            keras.optimizers.Adam(self.learning_rate),
            loss=confidence_loss,
            jit_compile=False,
        )
        self.head.fit(
            features,
            true_class_probability(logits, labels),
            batch_size=self.batch_size,
            epochs=self.epochs,
            verbose=0,
        )
        self._scorer = compile_function(
            lambda images: -self.head(network(images)["features"])[:, 0]  # type: ignore[misc]
        )
        return self
