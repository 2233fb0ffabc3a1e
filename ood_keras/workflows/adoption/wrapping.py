"""The network as it is served: pixels in [0, 1] in, one answer out."""

import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from ood_keras.detectors.network import image_shape
from ood_keras.layers import LogitsOfProbabilities
from ood_keras.types import ImageShape, Path
from ood_keras.workflows.adoption.pixel_ranges import PixelRange

# What a SavedModel may give; the last two are probabilities.
LOGITS = "logits"
OUTPUTS = (LOGITS, "softmax", "sigmoid")
_ROUNDING = 1e-5
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
    folder: Path,
    pixels: PixelRange,
    shape: ImageShape,
    output: str | None,
    gives: str | None = None,
) -> keras.Model:
    """The same of a SavedModel, which gives probabilities or logits and no more.

    Args:
        folder: The SavedModel.
        pixels: What it takes.
        shape: `(height, width, channels)`.
        output: Name of the output that classifies, or `None` if there is one.
        gives: What `tell_output` found. `None` is for runs of earlier versions, which
            decided by eight images of noise and did not record it.

    Raises:
        ValueError: it has no signature for images, or as for `wrap`.
    """
    layer = open_saved_model(folder)
    found = _try(layer, pixels.apply(np.zeros((2, *shape), np.float32)))
    place = _place(layer, found, output)
    images = keras.Input(shape, name="image", dtype="float32")
    seen = images if pixels.is_unit else pixels.layer()(images)
    answer = _pick(layer(seen), place)
    if gives is None:
        noise = np.random.default_rng(0).uniform(size=(8, *shape)).astype(np.float32)
        gives = _kind_of(_values(layer, place, pixels.apply(noise), folder))
    elif gives not in OUTPUTS:
        raise ValueError(
            f"a network gives one of {', '.join(OUTPUTS)}. Received: {gives!r}"
        )
    if gives != LOGITS:
        answer = LogitsOfProbabilities(gives)(answer)
    return keras.Model(images, answer, name="saved_model_adopted")


def tell_output(
    folder: Path,
    shape: ImageShape,
    output: str | None,
    ranges: Iterable[PixelRange],
    pictures: np.ndarray,
) -> tuple[str, int]:
    """Tells whether a SavedModel gives probabilities or logits.

    Probabilities lie in [0, 1] whatever the network is given; logits may for some
    images, and are squeezed beyond recognition where they are taken for probabilities.
    So it is shown much: noise, one level, bright regions, single channels, pictures;
    each in all ranges of pixels, since which one is right is not known yet.

    Args:
        folder: The SavedModel.
        shape: `(height, width, channels)`.
        output: Name of the output that classifies, or `None` if there is one.
        ranges: The ranges of pixels.
        pictures: Known ones, floats in [0, 1].

    Returns:
        `(gives, num_images)`: one of `OUTPUTS`, and on how many images that was found.

    Raises:
        ValueError: as for `wrap_saved_model`.
    """
    layer = open_saved_model(folder)
    found = _try(layer, np.zeros((2, *shape), np.float32))
    place = _place(layer, found, output)
    images = np.concatenate([_extremes(shape), pictures])
    values = np.concatenate(
        [
            _values(layer, place, one.apply(images[start : start + 8]), folder)
            for one in ranges
            for start in range(0, len(images), 8)
        ]
    )
    return _kind_of(values), len(values)


def _values(layer, place, pixels, folder):
    values = np.asarray(_pick(layer(pixels), place))
    if values.ndim != 2:
        raise ValueError(
            f"the SavedModel {folder} is no classifier of images: its output has the "
            f"shape {values.shape} for {len(pixels)} images. Expected "
            f"({len(pixels)}, classes)"
        )
    return values


def _kind_of(values: np.ndarray) -> str:
    """One of `OUTPUTS`, by numbers `(num_images, classes)` that a network gave."""
    # In a wrong range, numbers may overflow.
    values = values[np.isfinite(values).all(axis=-1)]
    if not len(values) or values.min() < -_ROUNDING or values.max() > 1 + _ROUNDING:
        return LOGITS
    sums = np.allclose(values.sum(axis=-1), 1, atol=1e-2) and values.shape[-1] > 1
    return "softmax" if sums else "sigmoid"


def _extremes(shape: ImageShape) -> np.ndarray:
    """Images in [0, 1] that draw out of a network what it can give."""
    random = np.random.default_rng(0)
    images = [*random.uniform(size=(8, *shape))]
    for contrast in (0.05, 0.25, 0.6):
        for offset in (0.0, 0.5, 1.0):
            noise = random.uniform(size=shape)
            images.append(offset * (1 - contrast) + contrast * noise)
    images += [np.full(shape, level) for level in (0.0, 0.25, 0.5, 0.75, 1.0)]
    height, width = shape[0] // 2, shape[1] // 2
    for top in (0, height // 2, height):
        for left in (0, width // 2, width):
            image = np.zeros(shape)
            image[top : top + max(1, height), left : left + max(1, width)] = 1
            images += [image, 1 - image]
    for channel in range(shape[2]) if shape[2] > 1 else ():
        image = np.zeros(shape)
        image[..., channel] = 1
        images += [image, 1 - image]
    return np.stack(images).astype(np.float32)


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
