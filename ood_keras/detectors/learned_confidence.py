"""Learned confidence: a small network that tells how sure a classifier may be."""

from typing import Any

import keras
import numpy as np
import scipy.special
from keras import layers, ops

from ood_keras.conventions import check_count, check_number, check_seed
from ood_keras.detectors.base import Detector
from ood_keras.detectors.collected import Statistics
from ood_keras.detectors.network import Network
from ood_keras.detectors.registry import register
from ood_keras.detectors.statistics import Sample
from ood_keras.types import Images, Json, Outputs, Tensor

_NUM_HIDDEN = 4


@register
class LearnedConfidence(Detector):
    """Scores by a small network that regresses the probability of the true class.

    ConfidNet of Corbiere, Thome, Bar-Hen, Cord and Perez, "Addressing Failure
    Prediction by Learning Model Confidence", NeurIPS 2019, first stage: with TCP the
    softmax probability that the classifier gives to the true class of a known training
    image, `fit` trains a head of four dense layers with ReLU and one of 1 unit so that
    the mean of (sigmoid(head(features)) - TCP)^2 is small. The classifier is only read.
    The score is -head(features), the log-odds against confidence: higher is more
    unknown. A classifier that is right on nearly all training images leaves little to
    learn.

    Args:
        hidden_size: Units of each hidden layer.
        epochs: Passes over the features of the training images.
        learning_rate: Of Adam.
        batch_size: Images in a step of training.
        max_images: Images to learn from at most, drawn at random: their features, `4 *
            D` bytes each, are held in memory.
        seed: Decides initial weights, order and sample. No other random state is read
            or changed.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: an argument is out of its range; or, on `fit`, there are no labels.

    Example:

    >>> detector = LearnedConfidence().fit(model, (images, labels))
    >>> ood_score = detector.score(images)
    """

    name = "learned_confidence"
    learns = True
    needs_labels = True

    def __init__(
        self,
        *,
        hidden_size: int = 400,
        epochs: int = 30,
        learning_rate: float = 1e-4,
        batch_size: int = 128,
        max_images: int = 100_000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_size = check_count("hidden_size", hidden_size)
        self.epochs = check_count("epochs", epochs)
        self.learning_rate = check_number(
            "learning_rate", learning_rate, "(0, inf)", "that of Adam"
        )
        self.batch_size = check_count("batch_size", batch_size)
        self.max_images = check_count("max_images", max_images)
        self.seed = check_seed(seed)

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "hidden_size": self.hidden_size,
            "epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
            "max_images": self.max_images,
            "seed": self.seed,
        }

    def score_outputs(self, outputs: Outputs) -> Tensor:
        values = outputs["features"]
        for index in range(_NUM_HIDDEN + 1):
            values = ops.matmul(values, self.get_tensor(f"kernel_{index}"))
            values = values + self.get_tensor(f"bias_{index}")
            values = ops.relu(values) if index < _NUM_HIDDEN else values
        return -values[:, 0]

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        sample = Sample(self.max_images, self.seed, shard)
        for outputs, labels in self.known_batches(network, data):
            logits = outputs["logits"].astype(np.float64)
            target = true_class_probability(logits, labels).astype(np.float32)
            sample.add(features=outputs["features"], target=target)
        return {"sample": sample}

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        head = self._train(**statistics["sample"].rows())
        for index, layer in enumerate(head.layers):
            kernel, bias = layer.get_weights()
            self.arrays |= {f"kernel_{index}": kernel, f"bias_{index}": bias}

    def _train(self, features: np.ndarray, target: np.ndarray) -> keras.Model:
        """The head, trained on features `(n, D)` and TCP `(n, 1)`."""
        sizes = [self.hidden_size] * _NUM_HIDDEN + [1]
        head = keras.Sequential([keras.Input((features.shape[1],), dtype="float32")])
        generator = np.random.default_rng(self.seed)
        for index, size in enumerate(sizes):
            seed = int(generator.integers(2**31))
            head.add(
                layers.Dense(
                    size,
                    activation="relu" if index < _NUM_HIDDEN else None,
                    kernel_initializer=keras.initializers.GlorotUniform(seed),
                    dtype="float32",
                )
            )
        head.compile(
            keras.optimizers.Adam(self.learning_rate),
            loss=confidence_loss,
            jit_compile=False,
        )
        for _ in range(self.epochs):
            order = generator.permutation(len(features))
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                head.train_on_batch(features[rows], target[rows])
        return head


def true_class_probability(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """TCP: softmax(z)_y of each image, `(n, 1)`, from `(n, K)` and integers `(n,)`."""
    probabilities = scipy.special.softmax(logits, axis=1)
    return probabilities[range(len(labels)), labels][:, None]


def confidence_loss(target: Tensor, log_odds: Tensor) -> Tensor:
    """(sigmoid(log_odds) - target)^2, each of shape `(batch, 1)`."""
    return ops.square(ops.sigmoid(log_odds) - target)
