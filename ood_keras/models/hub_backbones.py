"""Image networks of KerasHub, by preset: their maps, pixels and weights.

KerasHub is optional, and imported only where a name asks for it.
"""

import difflib
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import keras

from ood_keras.types import Tensor

PREFIX = "keras_hub:"
_LOCAL = ("/", ".", "~")
_FETCH = (
    "Fetch it where there is a network: keras_hub.models.Backbone.from_preset(NAME)"
    ".save_to_preset(FOLDER), keras_hub.layers.ImageConverter.from_preset(NAME)"
    ".save_to_preset(FOLDER); and give keras_hub:FOLDER here"
)


def is_named(name: str) -> bool:
    """Whether a backbone is one of KerasHub.

    >>> is_named("keras_hub:resnet_50_imagenet"), is_named("ResNet50")
    (True, False)
    """
    return str(name).startswith(PREFIX)


def build(name: str, image_size: tuple[int, int], *, load_weights: bool) -> keras.Model:
    """Returns a network of KerasHub, from RGB images to its last map or its tokens.

    Args:
        name: `PREFIX` and the name of a preset, such as "resnet_50_imagenet", one with
            a scheme, such as "hf://USER/NAME", or a folder that `save_to_preset` wrote.
        image_size: `(height, width)`.
        load_weights: Whether to load the preset's weights; otherwise they are random.

    Raises:
        ValueError: KerasHub is not installed; there is no such preset; it is no network
            that makes one map, or one row of patches, of an image; or it does not take
            such images.
        ConnectionError: the preset cannot be downloaded.
        FileNotFoundError: there is no such folder.
    """
    hub = _import(name)
    preset, is_local = _find_preset(hub, name)
    try:
        network = hub.models.Backbone.from_preset(
            preset,
            load_weights=load_weights,
            image_shape=(*image_size, 3),
            dtype=keras.config.dtype_policy().name,
            name="backbone",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name} cannot be built for images of {image_size[0]} x {image_size[1]} "
            f"pixels: {str(error)[:500]}"
        ) from error
    except Exception as error:
        # What fails in a download differs by where a preset lies.
        if is_local:
            raise
        raise ConnectionError(
            f"{name} could not be downloaded: {str(error)[:500]}. {_FETCH}"
        ) from error
    _check(name, network, image_size)
    return network


def find_preprocessing(name: str) -> Callable[[Any], Any]:
    """Returns what a preset does to pixels of 0 to 255, but for their size.

    Args:
        name: As for `build`.

    Warns:
        UserWarning: the preset says nothing of pixels, which then stay in [0, 1].
    """
    hub = _import(name)
    preset, _ = _find_preset(hub, name)
    try:
        converter = hub.layers.ImageConverter.from_preset(preset)
    except (OSError, ValueError) as error:
        warnings.warn(
            f"{name} has no image converter that says which pixels it takes "
            f"({str(error)[:200]}); it is given them in [0, 1]. "
            "keras_hub.layers.ImageConverter(...).save_to_preset(FOLDER) adds one",
            stacklevel=2,
        )
        return lambda pixels: pixels / 255
    converter.image_size = None
    return converter


def to_map(made: Any, network: keras.Model, image_size: tuple[int, int]) -> Tensor:
    """Returns what a network made of images, in a Functional model, as a map.

    Patches become rows and columns; tokens before them, that of the class among them,
    are left out.

    Args:
        made: What `network` returned.
        network: What `build` returned.
        image_size: As for `build`.
    """
    (x,) = keras.tree.flatten(made)
    if len(x.shape) == 4:
        return x
    rows, columns = _count_patches(network, image_size)
    x = keras.layers.Cropping1D((x.shape[1] - rows * columns, 0), name="patches")(x)
    return keras.layers.Reshape((rows, columns, x.shape[-1]), name="patch_map")(x)


def _import(name: str) -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise ValueError(
            f"{name} is a network of KerasHub, and KerasHub cannot be imported "
            f"({error}). Install it, the extra `hub`: pip install keras-hub"
        ) from error
    return keras_hub


def _find_preset(hub: Any, name: str) -> tuple[str, bool]:
    """Returns what `from_preset` takes, and whether it is a folder here."""
    preset = str(name).removeprefix(PREFIX)
    folder = pathlib.Path(preset).expanduser()
    if preset and folder.is_dir():
        return str(folder.absolute()), True
    if "://" in preset:
        return preset, False
    if preset.startswith(_LOCAL):
        raise FileNotFoundError(
            f"there is no folder {folder} of a KerasHub preset, as save_to_preset "
            "writes it"
        )
    known = sorted(hub.models.Backbone.presets)
    if preset not in known:
        near = difflib.get_close_matches(preset, known, 5, 0.5)
        raise ValueError(
            f"KerasHub has no preset {preset!r}, and there is no such folder. "
            + (f"Did you mean {' or '.join(near)}? " if near else "")
            + "A backbone is keras_hub:NAME, such as keras_hub:resnet_50_imagenet, or "
            "keras_hub:FOLDER that save_to_preset wrote"
        )
    return preset, False


def _check(name: str, network: keras.Model, image_size: tuple[int, int]) -> None:
    """Raises unless a network makes one map, or one row of patches, of an image."""
    taken = [tuple(each.shape) for each in network.inputs]
    made = [tuple(each.shape) for each in network.outputs]
    fits = taken == [(None, *image_size, 3)] and len(made) == 1
    if fits and len(made[0]) == 3:
        rows, columns = _count_patches(network, image_size)
        fits = 0 < rows * columns <= (made[0][1] or 0)
    elif fits:
        fits = len(made[0]) == 4
    if not fits:
        raise ValueError(
            f"{name} is no backbone for images: it must make one map, or one row of "
            f"patches, of images (None, {image_size[0]}, {image_size[1]}, 3). It is a "
            f"{type(network).__name__} that takes {taken} and makes {made}. Take one "
            "such as ResNetBackbone, EfficientNetBackbone or ViTBackbone"
        )


def _count_patches(
    network: keras.Model, image_size: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns of the patches that a transformer cuts images into."""
    size = getattr(network, "patch_size", None)
    if size is None:
        return 0, 0
    height, width = (size, size) if isinstance(size, int) else size
    return image_size[0] // height, image_size[1] // width
