"""The network as it is served: pixels in [0, 1] in, one answer out."""

import math
from typing import Any

import keras
import numpy as np

from ood_keras.detectors.network import image_shape
from ood_keras.layers import LogitsOfProbabilities
from ood_keras.types import ImageShape, Path
from ood_keras.workflows.adoption.pixel_ranges import PixelRange

# What a SavedModel of Keras 3 calls the signature that predicts.
_ENDPOINTS = ("serve", "serving_default")


def find_shape(
    network: keras.Model, given: ImageShape | None, size: tuple[int, int] | None
) -> ImageShape | None:
    """`(height, width, channels)` of the images that a network takes.

    Args:
        network: The network.
        given: What the user said, or `None`.
        size: `(height, width)` that its preprocessor makes, or `None`.

    Returns:
        The shape, or `None` if nothing says: then it is that of the known pictures.

    Raises:
        ValueError: the network takes no image, or several inputs, or not those.
    """
    inputs = _inputs(network)
    if inputs is not None and len(inputs) != 1:
        names = ", ".join(str(one.name) for one in inputs)
        raise ValueError(
            f"the network has {len(inputs)} inputs ({names}), and pictures give one. "
            "Set the others to constants by name, --other_inputs=NAME=NUMBER"
        )
    own = image_shape(network)
    shape: Any = inputs[0].shape[1:] if inputs is not None else own
    if shape is not None and len(shape) != 3:
        raise ValueError(
            f"the network takes an input of shape (batch, {', '.join(map(str, shape))})"
            ", and images have the axes (batch, height, width, channels). Give a "
            "network that takes images"
        )
    found: Any = given or own
    if found is None and size is not None and shape is not None:
        found = (*size, shape[-1])
    if found is None or shape is None:
        return None if found is None else tuple(found)
    fits = all(two in (None, one) for one, two in zip(found, shape, strict=True))
    if not fits:
        raise ValueError(
            f"the network takes images of shape {tuple(shape)}. Received: "
            f"image_shape={tuple(found)}"
        )
    return tuple(found)


def _inputs(network):
    """The symbolic inputs of a network, or `None` for one that has none."""
    try:
        inputs = network.inputs
    except (AttributeError, ValueError):
        return None
    return list(inputs) if inputs else None


def wrap(
    network: keras.Model, pixels: PixelRange, shape: ImageShape, output: str | None
) -> keras.Model:
    """A Keras model that takes images in [0, 1] and gives what the network gives.

    Args:
        network: The network; called as it is, in inference mode.
        pixels: What it takes.
        shape: `(height, width, channels)`.
        output: Name of the output that classifies, or `None` if there is one.

    Raises:
        ValueError: there is no such output, or several and none is named; or it does
            not classify.
    """
    found = _try(network, pixels.apply(np.zeros((2, *shape), np.float32)))
    place = _place(network, found, output)
    made = _pick(found, place)
    if not hasattr(made, "shape") or len(made.shape) != 2 or made.shape[-1] is None:
        raise ValueError(
            "the network is no classifier of images: for two images its output has the "
            f"shape {tuple(getattr(made, 'shape', ()))}, and (2, classes) was expected."
            " A network that ends in features needs its classifying layer; one that "
            "finds or segments things is none"
        )
    if pixels.is_unit and place is None and image_shape(network) == tuple(shape):
        return network
    images = keras.Input(shape, name="image", dtype="float32")
    seen = images if pixels.is_unit else pixels.layer()(images)
    answer = _pick(network(seen, training=False), place)
    return keras.Model(images, answer, name=f"{network.name}_adopted")


def wrap_saved_model(
    folder: Path, pixels: PixelRange, shape: ImageShape, output: str | None
) -> keras.Model:
    """The same of a SavedModel, which gives probabilities or logits and no more.

    Args:
        folder: The SavedModel.
        pixels: What it takes.
        shape: `(height, width, channels)`.
        output: Name of the output that classifies, or `None` if there is one.

    Raises:
        ValueError: it has no signature for images, or as for `wrap`.
    """
    layer = open_saved_model(folder)
    found = _try(layer, pixels.apply(np.zeros((2, *shape), np.float32)))
    place = _place(layer, found, output)
    images = keras.Input(shape, name="image", dtype="float32")
    seen = images if pixels.is_unit else pixels.layer()(images)
    answer = _pick(layer(seen), place)
    noise = np.random.default_rng(0).uniform(size=(8, *shape)).astype(np.float32)
    values = np.asarray(_pick(layer(pixels.apply(noise)), place))
    if values.ndim != 2:
        raise ValueError(
            f"the SavedModel {folder} is no classifier of images: its output has the "
            f"shape {values.shape} for 8 images. Expected (8, classes)"
        )
    if np.all((values >= 0) & (values <= 1)):
        sums = np.allclose(values.sum(axis=-1), 1, atol=1e-2) and values.shape[-1] > 1
        answer = LogitsOfProbabilities("softmax" if sums else "sigmoid")(answer)
    return keras.Model(images, answer, name="saved_model_adopted")


def shape_of_saved_model(folder: Path) -> ImageShape | None:
    """`(height, width, channels)` that a SavedModel takes, or `None` if it is free.

    Raises:
        ValueError: it takes no images, or cannot be read.
    """
    import tensorflow as tf

    try:
        signatures = tf.saved_model.load(str(folder)).signatures
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise _unreadable(folder, error) from error
    for name in (_ENDPOINTS[1], *signatures):
        if name not in signatures:
            continue
        inputs = list(signatures[name].structured_input_signature[1].values())
        shape = inputs[0].shape if len(inputs) == 1 else None
        if shape is None or shape.rank != 4:
            raise ValueError(
                f"the signature {name!r} of the SavedModel {folder} takes "
                f"{', '.join(str(one.shape) for one in inputs)}. Expected one input, "
                "images (batch, height, width, channels)"
            )
        sizes = shape.as_list()[1:]
        return None if None in sizes else tuple(sizes)
    return None


def _unreadable(folder: Path, error: Exception) -> ValueError:
    return ValueError(f"{folder} cannot be read as a SavedModel ({error})")


def open_saved_model(folder: Path) -> keras.layers.TFSMLayer:
    """The signature of a SavedModel that predicts, as a layer.

    Raises:
        ValueError: it has none.
    """
    import tensorflow as tf

    try:
        signatures = list(tf.saved_model.load(str(folder)).signatures)
        layers = {}
        for endpoint in (*_ENDPOINTS, *signatures):
            try:
                layers[endpoint] = keras.layers.TFSMLayer(
                    str(folder), call_endpoint=endpoint, name="saved_model"
                )
                break
            except (ValueError, AttributeError, KeyError):
                continue
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise _unreadable(folder, error) from error
    if not layers:
        raise ValueError(
            f"the SavedModel {folder} has no signature to call ({len(signatures)} "
            "signatures, no endpoint 'serve'). Write it with model.export(folder) of "
            "Keras 3, or with tf.saved_model.save(model, folder, signatures=...)"
        )
    return next(iter(layers.values()))


def describe_sizes(network: keras.Model) -> str:
    """What a network is, in a few words."""
    count = sum(math.prod(weight.shape) for weight in network.weights)
    return f"{type(network).__name__} {network.name!r}, {count:,} parameters"


def _try(network, images):
    try:
        return network(images, training=False)
    except Exception as error:
        raise ValueError(
            "the network cannot be run on images of the shape (batch, height, width, "
            f"channels) = {images.shape}. Give --image_shape=HEIGHT,WIDTH,CHANNELS as "
            f"it was trained on. Keras says: {str(error)[:500]}"
        ) from error


def _names(network, found):
    """The names of the outputs of a network."""
    if isinstance(found, dict):
        return list(found)
    if isinstance(found, (list, tuple)):
        names = list(getattr(network, "output_names", ()))
        known = len(names) == len(found) and len(set(names)) == len(names)
        return names if known else [str(number) for number in range(len(found))]
    return []


def _place(network, found, output):
    """Where among the outputs the one that classifies is; `None` of a single one."""
    names = _names(network, found)
    shapes = {
        name: tuple(getattr(_pick(found, (place, name)), "shape", ()))
        for place, name in enumerate(names)
    }
    if output is None and "logits" in names:
        output = "logits"
    if output is None and len(names) == 1:
        output = names[0]
    if output is None and not names:
        return None
    if output is None or output not in names:
        asked = "" if output is None else f"none is called {output!r}: "
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"the network has {len(names) or 1} outputs, {asked}"
            f"{listed or 'and it has no name'}. "
            + (
                "Say which of them classifies, --logits=NAME"
                if names
                else "Leave --logits out"
            )
        )
    return names.index(output), output


def _pick(found, place):
    if place is None:
        return found
    number, name = place
    return found[name] if isinstance(found, dict) else found[number]
