"""Image networks by name: their maps, pixels and weights.

Those of `keras.applications`; `hub_backbones` has those of KerasHub.
"""

import ast
import inspect
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ood_keras.models import hub_backbones
from ood_keras.types import Path, Tensor

# What a user does not choose by the name.
_FIXED = (
    "include_top",
    "weights",
    "input_tensor",
    "input_shape",
    "pooling",
    "classes",
    "classifier_activation",
    "name",
)
_SUFFIXES = (".weights.h5", ".h5", ".keras")


def names() -> list[str]:
    """Returns the names of the networks in `keras.applications`."""
    return sorted(
        name
        for name, builder in vars(keras.applications).items()
        if inspect.isfunction(builder)
        and {"include_top", "weights"} <= set(inspect.signature(builder).parameters)
    )


def build(
    name: str, image_size: tuple[int, int], weights: Path | None = "imagenet"
) -> keras.Model:
    """Returns a network without its classifier, from RGB images to its last map.

    Of a transformer, to the row of its tokens, see `to_map`.

    Args:
        name: One of `names()`; with arguments of its builder after a colon, as in
            "MobileNetV2:alpha=0.35"; or a preset of KerasHub, as
            `hub_backbones.build` takes it.
        image_size: `(height, width)`.
        weights: "imagenet", which are downloaded once, or of a preset its own; a file
            of weights, see `load_weights`; or `None` for random ones.

    Raises:
        ValueError: there is no network of this name; it does not take such images or
            arguments; or the file of weights is of another network.
        ConnectionError: the weights cannot be downloaded.
        FileNotFoundError: there is no such file.
    """
    from_imagenet = weights == "imagenet"
    if hub_backbones.is_named(name):
        model = hub_backbones.build(name, image_size, load_weights=from_imagenet)
    else:
        model = _build(name, image_size, from_imagenet)
    if weights is not None and not from_imagenet:
        load_weights(model, weights, name)
    return model


def _build(name: str, image_size: tuple[int, int], from_imagenet: bool) -> keras.Model:
    builder, arguments = _parse(name)
    try:
        return builder(
            include_top=False,
            input_shape=(*image_size, 3),
            weights="imagenet" if from_imagenet else None,
            name="backbone",
            **arguments,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} cannot be built for images of {image_size[0]} x {image_size[1]} "
            f"pixels: {error}"
        ) from error
    except Exception as error:
        # Keras raises a plain `Exception` where a download fails.
        if "fetch failure" not in str(error):
            raise
        raise ConnectionError(
            f"the ImageNet weights of {name} could not be downloaded: {error}. Fetch "
            "that file where there is a network and give it as --backbone_weights=FILE "
            "(`weights` in Python), or train from random weights with "
            "--backbone_weights=none, which needs many more images and epochs"
        ) from error


def load_weights(model: keras.Model, path: Path, name: str = "the network") -> None:
    """Gives a network the weights in a file; nothing in the file is executed.

    Args:
        model: The network, without its classifier.
        path: `.weights.h5` or `.h5` as `save_weights` and `keras.applications` write
            it, of the same network without its classifier; or `.keras`, a model that
            is that network, with or without its classifier, or holds it as a layer, as
            the `model.keras` of a run does.
        name: What messages call the network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind or network, or holds a weight that is
            not finite.
    """
    path = pathlib.Path(path).expanduser()
    if not path.name.endswith(_SUFFIXES):
        raise ValueError(
            f"a file of weights ends in {', '.join(_SUFFIXES)}; other kinds may run "
            f"code when they are read. Received: {path}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights {path}")
    before = model.get_weights()
    try:
        if path.suffix == ".keras":
            model.set_weights(_find_in(path, [weight.shape for weight in before]))
        else:
            model.load_weights(path)
    except (OSError, TypeError, ValueError, KeyError) as error:
        model.set_weights(before)
        raise ValueError(
            f"{path} does not hold the weights of {name} without its classifier: "
            f"{str(error)[:500]}. Give a file of the same network, with the same "
            "arguments after its name"
        ) from error
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        model.set_weights(before)
        raise ValueError(f"{path} holds weights that are not finite numbers")


def preprocess(images: Tensor, name: str) -> Tensor:
    """Returns images in [0, 1], of a Functional model, as a network wants them.

    What `preprocess_input` of the network's own module, or the image converter of a
    preset, does to pixels of 0 to 255, with layers that any Keras loads. Grey images
    become RGB.

    Args:
        images: `(batch, height, width, channels)`, one channel or three.
        name: As for `build`.
    """
    if images.shape[-1] == 1:
        images = keras.layers.Concatenate(name="grey_to_rgb")([images] * 3)
    elif images.shape[-1] != 3:
        raise ValueError(
            "a backbone takes grey or RGB images, 1 or 3 channels. Received: images "
            f"with {images.shape[-1]} channels"
        )
    gains, offsets, reverses = _probe(_find_preprocessing(name), name)
    if reverses:
        images = keras.ops.flip(images, axis=-1)
    return keras.layers.Rescaling(gains, offsets, name="preprocessing")(images)


def to_map(made: Any, network: keras.Model, image_size: tuple[int, int]) -> Tensor:
    """Returns what a network made of images, in a Functional model, as its last map.

    Args:
        made: What `network` returned.
        network: What `build` returned.
        image_size: As for `build`.
    """
    return hub_backbones.to_map(made, network, image_size)


def _find_preprocessing(name: str) -> Callable[[Any], Any]:
    if hub_backbones.is_named(name):
        return hub_backbones.find_preprocessing(name)
    return sys.modules[_parse(name)[0].__module__].preprocess_input


def _probe(
    function: Callable[[Any], Any], name: str
) -> tuple[list[float], list[float], bool]:
    """Gain and offset of each channel from [0, 1], and whether RGB becomes BGR.

    Read off from what a network's own function makes of black, red, green and blue.
    """
    colours = np.concatenate([np.zeros((1, 3)), np.eye(3)]).astype(np.float32)
    made = np.asarray(function(255 * colours.reshape(4, 1, 1, 3))).reshape(4, 3)
    offsets, matrix = made[0], made[1:] - made[0]
    reverses = not np.allclose(matrix, np.diag(np.diag(matrix)), atol=1e-4)
    diagonal = np.diag(matrix[::-1] if reverses else matrix)
    if not np.allclose(
        matrix[::-1] if reverses else matrix, np.diag(diagonal), atol=1e-4
    ):
        raise ValueError(
            f"the preprocessing of {name} mixes colours, which is not supported"
        )
    return [float(x) for x in diagonal], [float(x) for x in offsets], reverses


def _parse(name: str) -> tuple[Callable, dict[str, Any]]:
    network, _, text = str(name).partition(":")
    if network not in names():
        raise ValueError(
            f"there is no backbone {network!r}; the networks of keras.applications "
            f"are: {', '.join(names())}. One of KerasHub is keras_hub:PRESET"
        )
    builder = getattr(keras.applications, network)
    allowed = [x for x in inspect.signature(builder).parameters if x not in _FIXED]
    arguments = {}
    for part in filter(None, text.split(",")):
        argument, _, value = part.partition("=")
        if argument.strip() not in allowed:
            raise ValueError(
                f"{network} takes {', '.join(allowed) or 'no arguments'} after a "
                f"colon, as in MobileNetV2:alpha=0.35. Received: {name!r}"
            )
        try:
            value = re.sub("^(true|false)$", lambda x: x[0].title(), value.strip())
            arguments[argument.strip()] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            raise ValueError(
                f"{argument}={value} of {name!r} is no number, true or false"
            ) from None
    return builder, arguments


def _find_in(path: pathlib.Path, shapes: list[tuple]) -> list[np.ndarray]:
    """The weights of these shapes, those of a network, in a saved model."""
    saved = keras.saving.load_model(path, compile=False, safe_mode=True)
    for layer in [saved, *saved.layers]:
        found = [tuple(weight.shape) for weight in layer.weights]
        if found[: len(shapes)] == shapes:
            return [np.asarray(weight) for weight in layer.weights[: len(shapes)]]
    raise ValueError(f"no part of it has {len(shapes)} weights of the same shapes")
