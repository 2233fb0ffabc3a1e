"""Runs a model and listens to its layers: none is added, replaced or called twice."""

import collections
import contextlib
import itertools
import threading
from collections.abc import Iterable
from typing import Any

import keras

from ood_keras.types import Tensor

_listening = threading.RLock()


def name_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Returns layers by name; nested layers by path where several have the same name.

    The model's own layers keep their names. A layer without weights may have no path;
    then its name gets a number.
    """
    layers = model._flatten_layers(include_self=False)
    own = {id(layer) for layer in model.layers}
    count = collections.Counter(layer.name for layer in layers)
    count_own = collections.Counter(layer.name for layer in model.layers)
    found = {}
    for layer in layers:
        is_own = id(layer) in own and count_own[layer.name] == 1
        name = layer.name if is_own or count[layer.name] == 1 else layer.path
        if name is None:
            numbers = itertools.count(1)
            name = next(
                numbered
                for numbered in (f"{layer.name}:{number}" for number in numbers)
                if numbered not in found
            )
        found[name] = layer
    return found


def listen(
    model: Any, layers: Iterable[keras.layers.Layer], images: Tensor
) -> tuple[dict[keras.layers.Layer, tuple[Any, Any]], Any]:
    """Runs the model; returns `{layer: (input, output)}` in order, and its output.

    The last of the layers is the model itself.
    """
    calls: dict[keras.layers.Layer, tuple[Any, Any]] = {}
    here = threading.get_ident()

    def listener(layer, call):
        def listening(*args, **kwargs):
            output = call(*args, **kwargs)
            # The user may run the model in another thread meanwhile.
            if threading.get_ident() != here:
                return output
            calls.pop(layer, None)
            calls[layer] = (args[0] if args else next(iter(kwargs.values())), output)
            return output

        return listening

    # Keras looks the method up on the instance, so an entry in the instance's
    # dictionary is heard, and removing it leaves the layer as it was.
    with _listening, contextlib.ExitStack() as restore:
        for layer in layers:
            quantized = getattr(layer, "quantization_mode", None) is not None
            method = "quantized_call" if quantized else "call"
            own = vars(layer).get(method)
            vars(layer)[method] = listener(layer, getattr(layer, method))
            if own is None:
                restore.callback(vars(layer).pop, method)
            else:
                restore.callback(vars(layer).__setitem__, method, own)
        output = model(images, training=False)
    calls[model] = images, output
    return calls, output


def run(model: keras.Model, images: Tensor) -> Any:
    """Runs the model, or raises a ValueError that says what images it was given."""
    try:
        return model(images, training=False)
    except Exception as error:
        raise ValueError(
            "the model cannot be run on images of the shape (batch, height, width, "
            f"channels) = {tuple(images.shape)}. Expected a model with one input, "
            f"images of that shape. Keras says: {error}"
        ) from error
