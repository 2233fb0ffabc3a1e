"""Logits of a network that shows nothing but probabilities."""

from typing import Any

import keras
from keras import ops

from ood_keras.types import Json, Shape, Tensor

# Below the rounding of float32 a probability says nothing but that it is small.
_LEAST = 1e-7


@keras.saving.register_keras_serializable(package="ood_keras")
class LogitsOfProbabilities(keras.layers.Layer):
    """Logits whose softmax gives probabilities back, as far as these are not rounded.

    For a network that cannot be looked into, such as a SavedModel of somebody else;
    where the layer that makes the probabilities is seen, its logits are exact and
    better. Of a softmax p, an image's logits are `log p` less their mean over the
    classes (Aitchison's centred log-ratio, 1986): what a softmax keeps of logits. Of
    sigmoids, they are the log-odds `log p - log(1 - p)`. Probabilities are taken to be
    at least 1e-7.

    Args:
        activation: `"softmax"` or `"sigmoid"`: what made the probabilities.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`.

    Call arguments:
        inputs: Probabilities `(batch, classes)`.

    Returns:
        Logits of the same shape, float32.

    Raises:
        ValueError: `activation` is neither.

    Example:

    >>> import numpy as np, ood_keras
    >>> layer = ood_keras.layers.LogitsOfProbabilities()
    >>> logits = layer(np.array([[0.8, 0.2]], "float32"))
    >>> np.round(np.exp(logits) / np.exp(logits).sum(), 4).tolist()
    [[0.800000011920929, 0.20000000298023224]]
    """

    def __init__(self, activation: str = "softmax", **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        if activation not in ("softmax", "sigmoid"):
            raise ValueError(
                "`activation` must be 'softmax' or 'sigmoid'. Received: "
                f"activation={activation!r}"
            )
        self.activation = activation

    def call(self, inputs: Tensor) -> Tensor:
        logarithms = ops.log(ops.clip(inputs, _LEAST, 1.0))
        if self.activation == "softmax":
            return logarithms - ops.mean(logarithms, axis=-1, keepdims=True)
        return logarithms - ops.log(ops.clip(1.0 - inputs, _LEAST, 1.0))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> Json:
        return {**super().get_config(), "activation": self.activation}
