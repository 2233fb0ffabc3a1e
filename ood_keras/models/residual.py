"""A small residual network for photographs, with and without the modified block."""

from collections.abc import Sequence

import keras
from keras import layers

from ood_keras.conventions import check_count
from ood_keras.models import parts
from ood_keras.types import ImageShape, Tensor

_SMALLEST_SIDE = 16
# The first stage works on a map of at most this side, whatever the image size.
_FIRST_SIDE = 48


def residual(
    input_shape: ImageShape = (32, 32, 3),
    num_classes: int = 10,
    *,
    unknown_class: bool = True,
    block: parts.Block = "modified_se",
    filters: Sequence[int] = (32, 64, 128),
    depth: int = 1,
    hidden_size: int = 256,
    feature_size: int = 128,
    dropout: float = 0.3,
    feature_temperature: float | None = None,
) -> keras.Model:
    """Builds a residual network whose every stage ends in a block.

    Use it for photographs where no pretrained network serves (He et al. 2016, "Deep
    residual learning", with the block of the paper behind each stage). One stage per
    entry of `filters`, each on half the side of the one before:

        `depth` residual units: two convolutions of 3 x 3 with batch normalisation, and
        a shortcut, which is a convolution of 1 x 1 where the shape changes;
        the block

    then the mean over the last map, a dense hidden layer, `"features"`, `"logits"`.
    Images of more than 48 pixels a side are halved until they have no more, by the
    stride of the first convolution and by maximum pooling.

    Args:
        input_shape: `(height, width, channels)`, sides of 16 pixels or more.
        num_classes: Integer N, the number of known classes: 2 or more, or 1 with
            an unknown class.
        unknown_class: Whether to add the unknown class as the last logit.
        block: "modified_se" (the paper's block), "se" or "none".
        filters: Channels of each stage, two stages or more.
        depth: Residual units in a stage.
        hidden_size: Units of the dense layer before the features.
        feature_size: Number of features.
        dropout: Fraction in [0, 1) dropped before the hidden layer and before the
            features.
        feature_temperature: Where features are scaled to one length in training, one
            over that length, see `ood_keras.layers.TrainTimeNorm`; `None` leaves them
            alone. Defaults to `None`.

    Returns:
        A Functional `keras.Model` from images `(batch, height, width, channels)` to
        logits `(batch, num_classes + 1)`, or `(batch, num_classes)`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> import ood_keras
    >>> ood_keras.models.residual((64, 64, 3), num_classes=4).output_shape
    (None, 5)
    """
    input_shape = parts.check_input_shape(input_shape, _SMALLEST_SIDE)
    filters = parts.check_filters(filters)
    block = parts.check_block(block)
    depth = check_count("depth", depth)
    images = keras.Input(input_shape, name="image")
    side = max(input_shape[:2])
    x = _convolve(images, filters[0], 3, 2 if side > _FIRST_SIDE else 1, "stem")
    x = parts.normalized_relu(x, "stem")
    while max(x.shape[1:3]) > _FIRST_SIDE:
        x = layers.MaxPooling2D(padding="same", data_format="channels_last")(x)
    for stage, channels in enumerate(filters, start=1):
        for unit in range(1, depth + 1):
            stride = 2 if stage > 1 and unit == 1 else 1
            x = _unit(x, channels, stride, f"stage_{stage}_unit_{unit}")
        x = parts.add_block(x, block, f"block_{stage}")
    x = layers.GlobalAveragePooling2D(data_format="channels_last", name="pool")(x)
    logits = parts.classify(
        x,
        num_classes,
        unknown_class=unknown_class,
        hidden_size=hidden_size,
        feature_size=feature_size,
        dropout=dropout,
        feature_temperature=feature_temperature,
    )
    return keras.Model(images, logits, name="residual")


def _unit(x: Tensor, channels: int, stride: int, name: str) -> Tensor:
    shortcut = x
    if stride > 1 or x.shape[-1] != channels:
        shortcut = _convolve(x, channels, 1, stride, f"{name}_shortcut")
        shortcut = parts.normalize(shortcut, f"{name}_shortcut_norm")
    x = _convolve(x, channels, 3, stride, f"{name}_1")
    x = parts.normalized_relu(x, f"{name}_1_relu")
    x = parts.normalize(_convolve(x, channels, 3, 1, f"{name}_2"), f"{name}_2_norm")
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_sum")([x, shortcut]))


def _convolve(x: Tensor, channels: int, kernel: int, stride: int, name: str) -> Tensor:
    return layers.Conv2D(
        channels,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        data_format="channels_last",
        name=f"{name}_conv",
    )(x)
