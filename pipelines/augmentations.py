"""Augmentations by name, the library's and one's own."""

import inspect
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import tensorflow as tf

from ood_keras import plugins
from ood_keras.types import Tensor

# From float32 images `(batch, height, width, channels)` in [0, 1] and a seed, int32
# `(2,)`, to images of the same shape.
Augmentation: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_Function = TypeVar("_Function", bound=Callable)
_AUGMENTATIONS: dict[str, Callable] = {}


def register(augmentation: _Function) -> _Function:
    """Makes an augmentation known by the name of its function; a decorator.

    Put it into a module of your own and import that module (commands do so with
    `--plugin=MODULE`); the library's are registered in the same way. A recipe's
    `augment` and `pipelines.interleave(augment=)` then take it by that name. It runs in
    training alone, on known and unknown images alike, inside of `tf.data`.

    Args:
        augmentation: Function `(images, seed)`, further arguments having defaults:
            float32 `(batch, height, width, channels)` in [0, 1], and int32 `(2,)`,
            which differs for each step and is its only source of randomness
            (`tf.random.stateless_uniform` and the like), so that a resumed run sees
            the same images. Returns images of the same shape and range.

    Returns:
        `augmentation`.

    Raises:
        TypeError: it is no function of images and a seed.
        ValueError: another function has this name.

    Example:

    >>> @pipelines.augmentations.register
    ... def random_invert(images, seed):
    ...     draws = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed)
    ...     return tf.where(draws < 0.5, 1.0 - images, images)
    >>> mixed = pipelines.interleave(known, unknown, 10, augment="random_invert")
    """
    if not inspect.isfunction(augmentation) or not _takes_two(augmentation):
        raise TypeError(
            "an augmentation is a function (images, seed), further arguments having "
            f"defaults. Received: {augmentation!r}"
        )
    name = augmentation.__name__
    plugins.check_free("augmentation", name, _AUGMENTATIONS.get(name), augmentation)
    _AUGMENTATIONS[name] = augmentation
    return augmentation


def get(name: str) -> Augmentation:
    """Returns the augmentation of this name, a function `(images, seed)`.

    Several names, joined by "+", are one after the other: "random_shift+cutout".

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if isinstance(name, str) and "+" in name:
        return _chain([get(part.strip()) for part in name.split("+")])
    if not isinstance(name, str) or name not in _AUGMENTATIONS:
        raise plugins.UnknownNameError(
            f"unknown augmentation {name!r}; expected one of: {', '.join(names())}"
        )
    return _AUGMENTATIONS[name]


def _chain(parts: list[Augmentation]) -> Augmentation:
    """Returns the augmentation that applies all of `parts`, each with its own seed."""

    def augment(images, seed):
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, len(parts)))
        for part, part_seed in zip(parts, seeds, strict=True):
            images = part(images, part_seed)
        return images

    return augment


def names() -> list[str]:
    """Returns the names of all augmentations, in the order of the alphabet."""
    return sorted(_AUGMENTATIONS)


def _takes_two(function: Callable) -> bool:
    """Whether a function can be called with two arguments by their positions."""
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    return True
