"""A network of several inputs, made one of a single image input."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from ood_keras.layers import ConstantInput


def parse(values: Mapping[str, Any] | Sequence[str] | None) -> dict[str, Any]:
    """Numbers by name, from a mapping or from texts such as "age=0.5".

    Raises:
        ValueError: a text is not of this form.
    """
    if values is None or isinstance(values, Mapping):
        return dict(values or {})
    found = {}
    for text in values:
        name, separator, number = str(text).partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            separator = ""
        if not (separator and name.strip() and math.isfinite(found[name.strip()])):
            raise ValueError(
                "expected NAME=NUMBER for each input other than the picture, with "
                f"commas between them. Received: {text!r}"
            )
    return found


def close(network: keras.Model, values: Mapping[str, Any]) -> keras.Model:
    """The same network with all inputs but that of the picture set to constants.

    Args:
        network: As it was given; not changed. A network of one input stays as it is,
            unless it takes a dict.
        values: A number for each other input, or an array of its shape, by name.

    Returns:
        A model of one input. Several outputs keep their names.

    Raises:
        ValueError: the inputs have no names, there is none of a name, or not just one
            is left for the picture.
    """
    inputs = _inputs(network)
    if not values and (len(inputs) != 1 or not isinstance(_structure(network), dict)):
        return network
    names = [one.name for one in inputs]
    unknown = [name for name in values if name not in names]
    left = [name for name in names if name not in values]
    if unknown or len(left) != 1:
        raise ValueError(
            f"the network has {_describe(inputs)}. Give a number for each of them but "
            "the picture's, --other_inputs=NAME=NUMBER. Received: "
            f"{', '.join(values) or 'none'}"
        )
    picture = inputs[names.index(left[0])]
    image = keras.Input(picture.shape[1:], dtype=picture.dtype, name=picture.name)
    tensors = [
        image if one is picture else _constant(one, values[one.name], image)
        for one in inputs
    ]
    answer = network(keras.tree.pack_sequence_as(_structure(network), tensors))
    if isinstance(answer, (list, tuple)):
        outputs = list(network.output_names)
        if len(set(outputs)) == len(answer):
            answer = dict(zip(outputs, answer, strict=True))
    return keras.Model(image, answer, name=network.name)


def _constant(one: Any, value: Any, image: Any) -> Any:
    shape = one.shape[1:]
    if None in shape:
        raise ValueError(
            f"the input {one.name!r} has the shape (batch, "
            f"{', '.join(map(str, shape))}), which no constant has. Make a keras.Model "
            "of one image input, and adopt that"
        )
    made = ConstantInput(value, shape, name=f"{one.name}_constant")(image)
    return made if one.dtype == made.dtype else keras.ops.cast(made, one.dtype)


def _structure(network: keras.Model) -> Any:
    """How the inputs are given: one, a list, a dict."""
    try:
        return network.input
    except AttributeError:
        # A Sequential network that no other has called does not say; it takes one.
        return network.inputs[0]


def _inputs(network: keras.Model) -> list[Any]:
    """The symbolic inputs of a network; none of one that does not name them."""
    try:
        return list(network.inputs or ())
    except (AttributeError, ValueError):
        return []


def _describe(inputs: Sequence[Any]) -> str:
    if not inputs:
        return "no inputs with names, as that of a subclassed model"
    listed = ", ".join(f"{one.name} {tuple(one.shape)}" for one in inputs)
    return f"{len(inputs)} input{'s' * (len(inputs) > 1)}, {listed}"
