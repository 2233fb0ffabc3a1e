"""Features of one length in training, of any length afterwards (T2FNorm)."""

from typing import Any

import keras
from keras import ops

from ood_keras.conventions import check_number
from ood_keras.types import Json, Shape, Tensor


@keras.saving.register_keras_serializable(package="ood_keras")
class TrainTimeNorm(keras.layers.Layer):
    """Scales features to one length in training, and leaves them alone afterwards.

    Use it between the features and the classifier, so that training cannot answer by
    the length of features, which then tells known from unknown images (Regmi et al.
    2023, "T2FNorm: train-time feature normalization for OOD detection in image
    classification", Eq. 3). In training

        output = x / (temperature * ||x||)

    and in inference `output = x`. It goes with any loss, with an unknown class or
    without.

    Args:
        temperature: Float > 0, one over the length of features in training. Defaults to
            `0.1`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: `(batch, D)`.
        training: Whether to scale.

    Returns:
        A tensor of the shape of the input.

    Raises:
        ValueError: `temperature` is out of its range.

    Example:

    >>> import numpy as np, ood_keras
    >>> layer = ood_keras.layers.TrainTimeNorm(temperature=0.5)
    >>> features = np.array([[3.0, 4.0]], "float32")
    >>> print(np.array(layer(features, training=True)))
    [[1.2 1.6]]
    >>> print(np.array(layer(features)))
    [[3. 4.]]
    """

    def __init__(self, temperature: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = check_number(
            "temperature", temperature, "(0, inf)", "one over the length of features"
        )

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not training:
            return inputs
        wide = ops.cast(inputs, "float32")
        # Not `ops.norm`, whose gradient at 0 is infinite.
        squares = ops.sum(ops.square(wide), axis=-1, keepdims=True)
        return ops.cast(
            wide / (self.temperature * ops.sqrt(squares + 1e-14)), inputs.dtype
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> Json:
        return {**super().get_config(), "temperature": self.temperature}
