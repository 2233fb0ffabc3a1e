"""A prior network, scored by how flat its Dirichlet distribution is."""

from typing import Literal, Self

import keras

from ood_keras.conventions import check_count, check_num_classes
from ood_keras.detectors import output_scores
from ood_keras.detectors.compiled import compile_function
from ood_keras.detectors.network import Network
from ood_keras.losses.prior_network import (
    PriorNetwork as PriorNetworkLoss,
)
from ood_keras.training.baselines.base import Baseline
from ood_keras.training.set_seed import set_seed
from ood_keras.types import Dataset, Tensor


class PriorNetwork(Baseline):
    """Trains a classifier with `losses.PriorNetwork`; scores by differential entropy.

    Malinin and Gales, "Predictive Uncertainty Estimation via Prior Networks" (NeurIPS
    2018). A network that was trained with that loss already, by `training.fit` for
    example, is scored with `use_trained`.

    Args:
        num_classes: Integer N >= 2.
        concentration, weight, direction: As in `losses.PriorNetwork`.
        epochs: Defaults to `10`.
        learning_rate: Of Adam. Defaults to `1e-3`.
        seed: Given to `training.set_seed` before training. Build the model after
            `training.set_seed`, too.

    Example:

    >>> model = models.se_alexnet(num_classes=10, unknown_class=False)
    >>> mixed = pipelines.interleave(known.train, unknown.train, num_classes=10)
    >>> ood_score = PriorNetwork(10).fit(model, mixed).score(test_images)
    """

    def __init__(
        self,
        num_classes: int,
        concentration: float = 100.0,
        weight: float | None = None,
        direction: Literal["reverse", "forward"] = "reverse",
        epochs: int = 10,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        self.num_classes = check_num_classes(num_classes)
        self.loss = PriorNetworkLoss(num_classes, concentration, weight, direction)
        self.epochs = check_count("epochs", epochs)
        self.learning_rate = learning_rate
        self.seed = seed

    def fit(self, model: keras.Model, data: Dataset) -> Self:
        """Trains `model`, in place.

        Args:
            model: A `keras.Model` with N logits.
            data: `tf.data.Dataset` of batches of images with labels, -1 for unknown.

        Returns:
            The object itself.

        Raises:
            ValueError: the model does not have N logits.
        """
        set_seed(self.seed)
        model.compile(
            keras.optimizers.Adam(self.learning_rate), self.loss, jit_compile=False
        )
        model.fit(data, epochs=self.epochs, shuffle=False, verbose=0)
        return self.use_trained(model)

    def use_trained(self, model: keras.Model) -> Self:
        """Scores with a model that was trained with `losses.PriorNetwork`."""
        network = Network(model)
        self._scorer = compile_function(
            lambda images: differential_entropy(network(images)["logits"])
        )
        return self

    scored = use_trained  # Its name in earlier versions.


def differential_entropy(logits: Tensor) -> Tensor:
    """Entropy of Dir(exp(logits)), `(batch,)`; see the detector of that name."""
    return output_scores.differential_entropy(logits, logits.shape[-1])
