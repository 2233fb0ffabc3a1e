"""Squeeze-and-excitation: scales every channel by a learned, image-wide gate."""

from typing import Any

import keras
from keras import ops

from ood_keras.conventions import check_count
from ood_keras.types import Json, Shape, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class SqueezeExcitation(keras.layers.Layer):
    """Scales each channel by a gate computed from all channels of the whole image.

    Use it after a convolution to let the network emphasise the channels that matter
    for the image at hand. It is the block of Hu et al., "Squeeze-and-Excitation
    Networks" (CVPR 2018), section 3:

        s = mean of x over height and width
        gate = sigmoid(W2 relu(W1 s + b1) + b2)
        output = x * gate

    Args:
        ratio: Integer >= 1. How many times fewer units the hidden layer has than the
            input has channels (at least one unit). The original uses 16 for hundreds
            of channels; 4 keeps enough units for the tens of channels of a small
            network. Defaults to `4`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: `(batch, height, width, channels)`.

    Returns:
        A tensor of the shape of `inputs`.

    Raises:
        ValueError: `ratio` is not an integer >= 1; or the input does not have four
            axes with a known number of channels.

    Example:

    >>> import numpy as np, ood_keras
    >>> layer = ood_keras.layers.SqueezeExcitation(ratio=4)
    >>> tuple(layer(np.ones((2, 7, 7, 32), "float32")).shape)
    (2, 7, 7, 32)
    """

    def __init__(self, ratio: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ratio = check_count("ratio", ratio)

    def build(self, input_shape: Shape) -> None:
        channels = check_image_channels(self, input_shape)
        self.hidden = keras.layers.Dense(
            max(1, channels // self.ratio),
            activation="relu",
            dtype=self.dtype_policy,
            name="hidden",
        )
        self.gate = keras.layers.Dense(
            channels, activation="sigmoid", dtype=self.dtype_policy, name="gate"
        )
        self.hidden.build((None, channels))
        self.gate.build((None, self.hidden.units))
        # `load_model` freezes a layer before those within it exist.
        for layer in (self.hidden, self.gate):
            layer.trainable = self.trainable

    def call(self, inputs: Tensor) -> Tensor:
        squeezed = ops.mean(inputs, axis=(1, 2))
        gate = self.gate(self.hidden(squeezed))
        return inputs * gate[:, None, None, :]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> Json:
        return {**super().get_config(), "ratio": self.ratio}


def check_image_channels(layer: keras.layers.Layer, input_shape: Shape) -> int:
    """Returns the number of channels of `(batch, height, width, channels)`."""
    if len(input_shape) != 4 or input_shape[-1] is None:
        raise ValueError(
            f"{type(layer).__name__} expects images or feature maps of shape (batch, "
            "height, width, channels) with a known number of channels. Received: "
            f"input shape {tuple(input_shape)}"
        )
    return input_shape[-1]
