"""Images moved a small step towards a lower score."""

from collections.abc import Callable
from typing import Any

import keras

from ood_keras.types import Tensor


def lower_scores(
    images: Tensor, run: Callable[[Tensor], tuple[Any, list[Tensor]]], step: float
) -> tuple[Any, list[Tensor]]:
    """Moves images against the sign of the gradient of their scores.

    Args:
        images: `(batch, height, width, channels)`.
        run: From images to `(outputs, scores)`, scores a list of tensors `(batch,)`.
        step: Length of the step, in the units of the images.

    Returns:
        `(outputs, moved)`: what `run` returned for the images as they are, and for each
        score the images moved against its gradient; a pixel without one stays.
    """
    import tensorflow as tf

    images = tf.convert_to_tensor(images)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        outputs, scores = run(images)

    def direction(score):
        sign = tf.sign(tape.gradient(score, images))
        # A norm, say of features that are all 0, has no gradient at 0.
        return tf.where(tf.math.is_nan(sign), tf.zeros_like(sign), sign)

    return outputs, [images - step * direction(score) for score in scores]


def check_backend() -> None:
    """Raises a RuntimeError unless Keras runs on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "detectors that perturb their input need gradients in the graph, which "
            "this package takes with TensorFlow only. Set KERAS_BACKEND=tensorflow, or "
            f"use a perturbation of 0. Received: {keras.backend.backend()!r}"
        )
