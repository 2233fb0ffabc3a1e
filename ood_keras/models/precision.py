"""Networks that compute in 16 bits while they train, and as float32 afterwards."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import keras

# What a network computes in; its variables are float32 in any case.
MixedPrecision: TypeAlias = Literal["bfloat16", "float16"]
MIXED_PRECISIONS: tuple[MixedPrecision, ...] = ("bfloat16", "float16")
_PREFIX = "mixed_"


@contextlib.contextmanager
def mixed_precision(kind: MixedPrecision | None) -> Iterator[None]:
    """Within it, layers that are made compute in 16 bits, variables being float32.

    The networks of this package give their logits, and what a frozen backbone hands
    on, as float32 all the same.

    Args:
        kind: "bfloat16", "float16", or `None`, which changes nothing.
    """
    if kind is None:
        yield
        return
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_PREFIX + kind)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def in_float32(model: keras.Model) -> keras.Model:
    """Returns a model of mixed precision as one that computes in float32.

    Detectors, thresholds and exported files are of that one: files for other runtimes
    know no 16-bit numbers, or round them otherwise.

    Args:
        model: A Functional or Sequential `keras.Model`.

    Returns:
        A new model of the same weights, not compiled; `model` itself, where all of its
        layers compute in float32 already.
    """
    if not any(_is_mixed(layer) for layer in model._flatten_layers()):
        return model
    twin = type(model).from_config(_replace(model.get_config()))
    twin.set_weights(model.get_weights())
    return twin


def _is_mixed(layer: keras.layers.Layer) -> bool:
    return str(getattr(layer.dtype_policy, "name", "")).startswith(_PREFIX)


def _replace(config: Any) -> Any:
    """A config with float32 in place of every policy and tensor of 16 bits."""
    if isinstance(config, dict):
        return {key: _replace(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_replace(value) for value in config)
    mixed = [_PREFIX + kind for kind in MIXED_PRECISIONS]
    is_16_bit = isinstance(config, str) and config in (*MIXED_PRECISIONS, *mixed)
    return "float32" if is_16_bit else config
