"""What the networks are made of: normalisation, blocks, and the classifier on top."""

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from keras import layers

from ood_keras.conventions import (
    check_count,
    check_num_classes,
    check_number,
    is_integer,
)
from ood_keras.layers import (
    BatchNormalization,
    ModifiedSEBlock,
    SqueezeExcitation,
    TrainTimeNorm,
)
from ood_keras.replicas import count_replicas
from ood_keras.types import ImageShape, Tensor

# The paper's block, plain squeeze-and-excitation, or neither.
Block: TypeAlias = Literal["modified_se", "se", "none"]
BLOCKS: tuple[Block, ...] = ("modified_se", "se", "none")


def normalize(x: Tensor, name: str) -> Tensor:
    return BatchNormalization(
        momentum=0.9, synchronized=count_replicas() > 1, name=name
    )(x)


def normalized_relu(x: Tensor, name: str) -> Tensor:
    return layers.ReLU(name=name)(normalize(x, f"{name}_norm"))


def add_block(
    x: Tensor, block: Block, name: str, branch_filters: int | None = None
) -> Tensor:
    """Returns `x` behind a block of this kind; as it is where that is "none"."""
    if block == "modified_se":
        return ModifiedSEBlock(branch_filters, name=name)(x)
    return SqueezeExcitation(name=name)(x) if block == "se" else x


def classify(
    x: Tensor,
    num_classes: int,
    *,
    unknown_class: bool,
    hidden_size: int,
    feature_size: int,
    dropout: float,
    feature_temperature: float | None,
) -> Tensor:
    """Returns the logits of flat inputs `(batch, D)`.

    Dropout, a dense hidden layer, dropout, the layer `"features"`, with a temperature
    `TrainTimeNorm`, the layer `"logits"`. Features pass a ReLU if there are at least
    `num_classes` of them.
    """
    num_classes = check_num_classes(num_classes, least=1 if unknown_class else 2)
    dropout = check_number("dropout", dropout, "[0, 1)", "the fraction to drop")
    hidden_size = check_count("hidden_size", hidden_size)
    feature_size = check_count("feature_size", feature_size)
    x = layers.Dropout(dropout, name="hidden_dropout")(x)
    x = layers.Dense(hidden_size, use_bias=False, name="hidden_dense")(x)
    x = normalized_relu(x, "hidden")
    x = layers.Dropout(dropout, name="features_dropout")(x)
    # Not normalised: the norm of the features must be free to tell known from unknown.
    features = layers.Dense(
        feature_size,
        activation="relu" if feature_size >= num_classes else None,
        name="features",
    )(x)
    if feature_temperature is not None:
        features = TrainTimeNorm(feature_temperature, name="feature_norm")(features)
    return layers.Dense(
        num_classes + bool(unknown_class), dtype="float32", name="logits"
    )(features)


def check_input_shape(input_shape: Any, smallest_side: int) -> ImageShape:
    """Returns `(height, width, channels)`; raises for small or incomplete ones."""
    sizes = positive_integers(input_shape)
    if len(sizes) != 3:
        raise ValueError(
            "`input_shape` must be (height, width, channels), all known. Received: "
            f"input_shape={input_shape!r}"
        )
    if min(sizes[:2]) < smallest_side:
        raise ValueError(
            f"the network needs images of at least {smallest_side} x {smallest_side} "
            "pixels; resize or pad smaller ones. Received: "
            f"input_shape={sizes}"
        )
    return sizes  # type: ignore[return-value]


def check_filters(filters: Any) -> tuple[int, ...]:
    """Returns the channels of two stages or more."""
    channels = positive_integers(filters)
    if len(channels) < 2:
        raise ValueError(
            "`filters` must give the channels of two stages or more, for example "
            f"(32, 64, 96, 96). Received: filters={filters!r}"
        )
    return channels


def check_block(block: Any) -> Block:
    if block not in BLOCKS:
        raise ValueError(
            f"`block` must be one of {', '.join(map(repr, BLOCKS))}. Received: "
            f"block={block!r}"
        )
    return block


def positive_integers(values: Iterable[Any]) -> tuple[int, ...]:
    """`values` as a tuple of ints; an empty one if they are anything else."""
    try:
        values = tuple(values)
    except TypeError:
        return ()
    if not all(is_integer(value) and value >= 1 for value in values):
        return ()
    return tuple(map(int, values))
