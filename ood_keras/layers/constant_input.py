"""The same numbers for every image, as an input that pictures do not give."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ood_keras.types import Json, Shape, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class ConstantInput(keras.layers.Layer):
    """Gives the same numbers for every image of a batch, whatever the images are.

    Put it where a network takes a second input that pictures do not give, such as the
    age of a patient, so that it becomes a network of one image input.

    Args:
        value: A number, or nested lists of the shape of the input without its batch.
            Defaults to `0.0`.
        shape: That shape; a number is repeated over it. Defaults to that of `value`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`.

    Call arguments:
        inputs: `(batch, ...)`, of which nothing but the size of the batch is read.

    Returns:
        A float32 tensor `(batch, *shape)`.

    Raises:
        ValueError: `value` cannot be repeated over `shape`, or is not finite.

    Example:

    >>> import numpy as np, ood_keras
    >>> layer = ood_keras.layers.ConstantInput(0.5, shape=(2,))
    >>> tuple(layer(np.zeros((3, 28, 28, 1), "float32")).shape)
    (3, 2)
    """

    def __init__(
        self,
        value: float | Sequence[Any] = 0.0,
        shape: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        array = np.asarray(value, np.float32)
        self.shape = list(array.shape if shape is None else map(int, shape))
        try:
            repeated = np.broadcast_to(array, self.shape)
        except ValueError as error:
            raise ValueError(
                f"`value` must be a number or have the shape {tuple(self.shape)}. "
                f"Received: value of shape {array.shape}"
            ) from error
        if not np.isfinite(repeated).all():
            raise ValueError(f"`value` must be finite. Received: value={value}")
        self.value = array.tolist()
        self._repeated = repeated

    def call(self, inputs: Tensor) -> Tensor:
        value = ops.convert_to_tensor(self._repeated, "float32")
        return ops.broadcast_to(value, (ops.shape(inputs)[0], *self.shape))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *self.shape)

    def get_config(self) -> Json:
        return {**super().get_config(), "value": self.value, "shape": self.shape}
