"""What all baselines share: scoring, and reading a trained classifier."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ood_keras import batches
from ood_keras.conventions import UNKNOWN
from ood_keras.detectors.base import check_finite
from ood_keras.detectors.network import Network
from ood_keras.types import Images

if TYPE_CHECKING:
    import keras


class Baseline:
    """Base class: a subclass's `fit` sets `_scorer` and returns the object.

    Attributes:
        _scorer: A function from float images `(batch, height, width, channels)` to
            scores `(batch,)`, both NumPy; `None` before `fit`.
    """

    _scorer: Callable[[np.ndarray], np.ndarray] | None = None

    def score(self, data: Images) -> np.ndarray:
        """The `ood_score` of each image: higher means more likely unknown.

        Args:
            data: Float images `(num_images, height, width, channels)` in [0, 1], or a
                dataset, with or without labels; labels are not looked at.

        Returns:
            Float32 array `(num_images,)`.

        Raises:
            RuntimeError: `fit` has not been called.
        """
        if self._scorer is None:
            raise RuntimeError(
                f"this {type(self).__name__} has learnt nothing yet; call `fit` before "
                "scoring"
            )
        scores = [
            np.asarray(self._scorer(images), np.float32)
            for images, _ in batches.iterate(data)
            if len(images)
        ]
        return np.concatenate([np.zeros((0,), np.float32), *scores])


def read_classifier(
    model: "keras.Model", data: Images
) -> tuple[Network, np.ndarray, np.ndarray, np.ndarray]:
    """What a trained classifier makes of known images.

    Args:
        model: A `keras.Model` with logits; it is only read.
        data: Known images with labels, as `ood_keras.batches.iterate` takes; images
            labelled -1 are left out.

    Returns:
        `(network, features (n, D), logits (n, K), labels (n,))`: the `Network` around
        `model`, and arrays.

    Raises:
        ValueError: there are no labels, no known images, a label is too large, or the
            network gives NaN for an image, or its pixels are.
    """
    network = Network(model)
    labels: Any
    features, logits, labels = [], [], []
    for outputs, given in network.batches(data):
        if given is None:
            raise ValueError(
                "expected known images with labels, (images, labels). Received: images "
                "only"
            )
        known = given != UNKNOWN
        check_finite([array[known] for array in outputs.values()], "data")
        features.append(outputs["features"][known])
        logits.append(outputs["logits"][known])
        labels.append(given[known])
    if not sum(map(len, labels)):
        raise ValueError("there is no known image, of a label from 0 up, to learn from")
    labels = np.concatenate(labels)
    if labels.min() < 0 or labels.max() >= network.num_logits:
        raise ValueError(
            f"labels must be from 0 to {network.num_logits - 1}, the logits of the "
            f"model. Received: labels from {labels.min()} to {labels.max()}"
        )
    return network, np.concatenate(features), np.concatenate(logits), labels
