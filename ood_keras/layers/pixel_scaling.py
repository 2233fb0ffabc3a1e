"""Turns pixels in [0, 1] into what a network takes that was trained on others."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ood_keras.types import Json, Shape, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class PixelScaling(keras.layers.Layer):
    """Scales pixels in [0, 1] to the range that a network was trained on.

    Put it before a network that takes other pixels, so that what is served takes
    [0, 1], as everything in this package does:

        output = scale * x + offset

    after the order of the channels is reversed, if that is asked for (a network that
    was trained on blue, green, red). Unlike `keras.layers.Rescaling` it computes in
    float32 whatever the global policy is, since 255 steps do not fit into float16.

    Args:
        scale: A number, or one for each channel. Defaults to `1.0`.
        offset: A number, or one for each channel, that is added. Defaults to `0.0`.
        reverse_channels: Whether red, green, blue become blue, green, red.
            `scale` and `offset` are then those of blue, green, red.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`.

    Call arguments:
        inputs: `(batch, height, width, channels)` in [0, 1].

    Returns:
        A tensor of the shape of `inputs`.

    Raises:
        ValueError: there are several numbers, but not one for each channel.

    Example:

    >>> import numpy as np, ood_keras
    >>> layer = ood_keras.layers.PixelScaling(scale=255.0)
    >>> float(layer(np.full((1, 1, 1, 3), 0.5, "float32"))[0, 0, 0, 0])
    127.5
    """

    def __init__(
        self,
        scale: float | Sequence[float] = 1.0,
        offset: float | Sequence[float] = 0.0,
        reverse_channels: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.scale = _numbers(scale)
        self.offset = _numbers(offset)
        self.reverse_channels = bool(reverse_channels)

    def build(self, input_shape: Shape) -> None:
        for name in ("scale", "offset"):
            value = getattr(self, name)
            if isinstance(value, list) and len(value) != input_shape[-1]:
                raise ValueError(
                    f"`{name}` has {len(value)} numbers for {input_shape[-1]} channels."
                    f" Expected one number, or one for each. Received: {value}"
                )
        super().build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        if self.reverse_channels:
            inputs = ops.flip(inputs, axis=-1)
        scale = ops.convert_to_tensor(self.scale, inputs.dtype)
        return inputs * scale + ops.convert_to_tensor(self.offset, inputs.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "scale": self.scale,
            "offset": self.offset,
            "reverse_channels": self.reverse_channels,
        }


def _numbers(value: Any) -> float | list[float]:
    # NumPy's numbers and arrays without axes are one number too.
    if np.ndim(value) == 0:
        return float(value)
    return [float(number) for number in value]
