"""AlexNet scaled to small images, with and without the modified block (Figure 4)."""

import math
from collections.abc import Sequence

import keras
from keras import layers

from ood_keras.conventions import check_count, check_num_classes
from ood_keras.models import parts
from ood_keras.types import ImageShape, Tensor

_SMALLEST_SIDE = 28
# The last pooling leaves a map of at most this side, whatever the image size, so that
# the dense layers do not grow with the image.
_LAST_SIDE = 4


def se_alexnet(
    input_shape: ImageShape = (28, 28, 1),
    num_classes: int = 10,
    *,
    unknown_class: bool = True,
    filters: Sequence[int] = (32, 64, 96, 96),
    branch_filters: int | None = None,
    hidden_size: int = 256,
    feature_size: int = 128,
    dropout: float = 0.3,
    feature_temperature: float | None = None,
) -> keras.Model:
    """Builds an AlexNet-style classifier with the modified block in every stage.

    Use it as the paper does (its Figure 4), trained on known and unknown images with
    `ood_keras.losses.OpenSetLoss`. One stage per entry of `filters`:

        convolution (kernel 5 in the first stage, then 3), batch normalisation, ReLU,
        maximum pooling by 2 in the first two stages, `ModifiedSEBlock`

    then a pooling to at most 4 x 4, dropout, a dense hidden layer, dropout, a dense
    layer of features and the classifier.

    The features pass a ReLU if there are at least `num_classes` of them. Fewer, for
    example the two of the paper's section 4, stay linear: `num_classes` directions do
    not fit into the positive corner of so small a space.

    Args:
        input_shape: `(height, width, channels)` of the images, sides of 28 pixels or
            more. Defaults to `(28, 28, 1)`.
        num_classes: Integer N, the number of known classes: 2 or more, or 1 with
            an unknown class. Defaults to `10`.
        unknown_class: Whether to add the unknown class as the last logit, as
            `WeightedCrossEntropy`, `Objectosphere` and `OpenSetLoss` need it.
            `EntropicOpenSet` and `OutlierExposure` need `False`. Defaults to `True`.
        filters: Channels of the convolution of each stage, two stages or more.
            Defaults to `(32, 64, 96, 96)`.
        branch_filters: Channels of each branch of a block. `None` means a quarter of
            the stage's channels. Defaults to `None`.
        hidden_size: Units of the dense layer before the features. Defaults to `256`.
        feature_size: Number of features; 2 draws them as a picture. Defaults to `128`.
        dropout: Fraction in [0, 1) dropped before the hidden layer and before the
            features, never between features and classifier. Defaults to `0.3`.
        feature_temperature: Where features are scaled to one length in training, one
            over that length, see `ood_keras.layers.TrainTimeNorm`; `None` leaves them
            alone. Defaults to `None`.

    Returns:
        A Functional `keras.Model` from images `(batch, height, width, channels)` to
        logits `(batch, num_classes + 1)`, or `(batch, num_classes)` without the
        unknown class. The layers named `"features"` and `"logits"` hold these outputs.
        Logits are float32 in mixed precision, too.

    Raises:
        ValueError: a side of `input_shape` is missing or below 28 pixels, or another
            argument is out of its range.

    Example:

    >>> import ood_keras
    >>> model = ood_keras.models.se_alexnet((32, 32, 3), num_classes=10)
    >>> model.output_shape
    (None, 11)
    """
    return _alexnet(
        "modified_se",
        input_shape,
        num_classes,
        unknown_class=unknown_class,
        filters=filters,
        branch_filters=branch_filters,
        hidden_size=hidden_size,
        feature_size=feature_size,
        dropout=dropout,
        feature_temperature=feature_temperature,
        name="se_alexnet",
    )


def alexnet(
    input_shape: ImageShape = (28, 28, 1),
    num_classes: int = 10,
    *,
    unknown_class: bool = True,
    filters: Sequence[int] = (32, 64, 96, 96),
    hidden_size: int = 256,
    feature_size: int = 128,
    dropout: float = 0.3,
    squeeze_excitation: bool = False,
    feature_temperature: float | None = None,
) -> keras.Model:
    """Builds the network of `se_alexnet` without the modified block.

    Use it to see what the block is worth (the paper's Figure 5). Arguments, returns
    and errors are those of `ood_keras.models.se_alexnet`, and one more:

    Args:
        squeeze_excitation: Whether plain `ood_keras.layers.SqueezeExcitation` stands
            in the block's place. Defaults to `False`.

    Example:

    >>> import ood_keras
    >>> ood_keras.models.alexnet(num_classes=5, unknown_class=False).output_shape
    (None, 5)
    """
    return _alexnet(
        "se" if squeeze_excitation else "none",
        input_shape,
        num_classes,
        unknown_class=unknown_class,
        filters=filters,
        branch_filters=None,
        hidden_size=hidden_size,
        feature_size=feature_size,
        dropout=dropout,
        feature_temperature=feature_temperature,
        name="alexnet",
    )


def _alexnet(
    block,
    input_shape,
    num_classes,
    *,
    unknown_class,
    filters,
    branch_filters,
    hidden_size,
    feature_size,
    dropout,
    feature_temperature,
    name,
):
    num_classes = check_num_classes(num_classes, least=1 if unknown_class else 2)
    input_shape = parts.check_input_shape(input_shape, _SMALLEST_SIDE)
    filters = parts.check_filters(filters)
    if branch_filters is not None:
        branch_filters = check_count("branch_filters", branch_filters)

    images = keras.Input(input_shape, name="image")
    x = images
    for stage, channels in enumerate(filters, start=1):
        x = layers.Conv2D(
            channels,
            5 if stage == 1 else 3,
            padding="same",
            use_bias=False,
            data_format="channels_last",
            name=f"conv_{stage}",
        )(x)
        x = parts.normalized_relu(x, f"stage_{stage}")
        if stage <= 2:
            x = _pool(x, (2, 2), f"pool_{stage}")
        x = parts.add_block(x, block, f"block_{stage}", branch_filters)
    strides = tuple(math.ceil(side / _LAST_SIDE) for side in x.shape[1:3])
    x = layers.Flatten(name="flatten")(_pool(x, strides, "pool_last"))
    logits = parts.classify(
        x,
        num_classes,
        unknown_class=unknown_class,
        hidden_size=hidden_size,
        feature_size=feature_size,
        dropout=dropout,
        feature_temperature=feature_temperature,
    )
    return keras.Model(images, logits, name=name)


def _pool(x: Tensor, strides: tuple[int, ...], name: str) -> Tensor:
    return layers.MaxPooling2D(
        strides, padding="same", data_format="channels_last", name=name
    )(x)
