"""A split whose images went through an augmentation, once and for all."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ood_keras.pipelines import augmentations, pixel_cache, preprocessing
from ood_keras.pipelines.split import Split
from ood_keras.types import ImageShape, Tensor

_BATCH_SIZE = 512


def augment_once(
    split: Split,
    augment: str | Callable[[Tensor, Tensor], Tensor],
    *,
    seed: int = 0,
) -> Split:
    """Returns the split with every image changed by an augmentation, always alike.

    For images that choose or that a detector is fitted on, where the classifier is to
    be judged in random renderings and not only as the images were scanned.

    Args:
        split: The images, known or unknown.
        augment: Name of an augmentation, see `augmentations.names`, or such a
            function, of a float32 batch in [0, 1] and an int32 seed `(2,)`.
        seed: Decides the changes.

    Returns:
        A `Split` with the same labels and uint8 images; its fingerprint is another.

    Raises:
        ValueError: there is no augmentation of this name.

    Example:

    >>> rendered = augment_once(known.validation, "random_rendering")
    >>> len(rendered) == len(known.validation)
    True
    """
    if isinstance(augment, str):
        # The same one for every split, since tracing it takes longer than running it.
        change = _compile_once(augmentations.get(augment), split.image_shape)
    else:
        # What it reads besides its arguments may be another thing at the next call.
        change = _compile(augment, split.image_shape)
    images = pixel_cache.allocate(split.images.shape)
    for number, start in enumerate(range(0, len(split), _BATCH_SIZE)):
        rows = slice(start, start + _BATCH_SIZE)
        images[rows] = change(split.images[rows], [seed, number]).numpy()
    return dataclasses.replace(split, images=pixel_cache.finish(images))


def _compile(
    function: Callable[[Tensor, Tensor], Tensor], image_shape: ImageShape
) -> Any:
    @tf.function(
        input_signature=[
            tf.TensorSpec((None, *image_shape), tf.uint8),
            tf.TensorSpec((2,), tf.int32),
        ],
        autograph=False,
    )
    def change(images, batch_seed):
        changed = function(preprocessing.to_float(images), batch_seed)
        return tf.cast(tf.round(tf.clip_by_value(changed, 0.0, 1.0) * 255), tf.uint8)

    return change


_compile_once = functools.lru_cache(maxsize=8)(_compile)
