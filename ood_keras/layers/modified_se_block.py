"""The modified squeeze-and-excitation block, the paper's Figure 1."""

from typing import Any

import keras
from keras import ops

from ood_keras.conventions import check_count
from ood_keras.layers.batch_normalization import BatchNormalization
from ood_keras.layers.squeeze_excitation import SqueezeExcitation, check_image_channels
from ood_keras.replicas import count_replicas
from ood_keras.types import Json, Shape, Tensor

_KERNELS = (3, 5)


@keras.saving.register_keras_serializable(package="ood_keras")
class ModifiedSEBlock(keras.layers.Layer):
    """Adds context at two scales to the features, then weighs all channels together.

    Use it after a convolution in a classifier that is trained with known and unknown
    images. It is Figure 1 of "Out-of-Distribution Classification with Adaptive
    Learning of Low-level Contextual Features":

        branch_k = maxpool_k(relu(batch_norm(conv_k(x))))    for k = 3 and k = 5
        stacked  = concatenate(x, branch_3, branch_5)        on the channels
        output   = squeeze_excitation(stacked)

    Height and width stay as they are (stride 1, zero padding). What the figure
    leaves open is decided in `docs/decisions/modified_se_block.md`.

    Args:
        filters: Integer >= 1, channels of each branch. `None` means a quarter of the
            input's channels. Defaults to `None`.
        ratio: Integer >= 1, reduction of the excitation's hidden layer; see
            `ood_keras.layers.SqueezeExcitation`. Defaults to `4`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: `(batch, height, width, channels)`.
        training: Whether batch normalisation uses the statistics of the batch.

    Returns:
        A tensor `(batch, height, width, channels + 2 * filters)`: the input's
        channels first, then those of the branches with kernels 3 and 5.

    Raises:
        ValueError: `filters` or `ratio` is not an integer >= 1; or the input does not
            have four axes with a known number of channels.

    Example:

    >>> import numpy as np, ood_keras
    >>> block = ood_keras.layers.ModifiedSEBlock(filters=8)
    >>> tuple(block(np.ones((2, 14, 14, 32), "float32")).shape)
    (2, 14, 14, 48)
    """

    def __init__(
        self, filters: int | None = None, ratio: int = 4, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filters = None if filters is None else check_count("filters", filters)
        self.ratio = check_count("ratio", ratio)

    def build(self, input_shape: Shape) -> None:
        filters = self._branch_filters(check_image_channels(self, input_shape))
        # Flat lists, since Keras does not save what stands in lists of lists.
        self.convolutions = []
        self.normalizations = []
        for kernel in _KERNELS:
            convolution = keras.layers.Conv2D(
                filters,
                kernel,
                padding="same",
                use_bias=False,
                data_format="channels_last",
                dtype=self.dtype_policy,
                name=f"convolution_{kernel}",
            )
            convolution.build(input_shape)
            self.convolutions.append(convolution)
            normalization = BatchNormalization(
                momentum=0.9,
                # Over the whole batch where replicas share it.
                synchronized=count_replicas() > 1,
                dtype=self.dtype_policy,
                name=f"normalization_{kernel}",
            )
            normalization.build((*input_shape[:-1], filters))
            self.normalizations.append(normalization)
        self.squeeze_excitation = SqueezeExcitation(
            self.ratio, dtype=self.dtype_policy, name="squeeze_excitation"
        )
        self.squeeze_excitation.build(self.compute_output_shape(input_shape))
        # `load_model` freezes a layer before those within it exist.
        made = (*self.convolutions, *self.normalizations, self.squeeze_excitation)
        for layer in made:
            layer.trainable = self.trainable

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        stacked = [inputs]
        for kernel, convolution, normalization in zip(
            _KERNELS, self.convolutions, self.normalizations, strict=True
        ):
            x = ops.relu(normalization(convolution(inputs), training=training))
            stacked.append(
                ops.max_pool(
                    x,
                    kernel,
                    strides=1,
                    padding="same",
                    data_format="channels_last",
                )
            )
        return self.squeeze_excitation(ops.concatenate(stacked, axis=-1))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        channels = input_shape[-1]
        return (
            *input_shape[:-1],
            channels + len(_KERNELS) * self._branch_filters(channels),
        )

    def get_config(self) -> Json:
        return {
            **super().get_config(),
            "filters": self.filters,
            "ratio": self.ratio,
        }

    def _branch_filters(self, channels: int) -> int:
        return self.filters or max(1, channels // 4)
