"""Images moved a small step towards a lower score."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

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

    Raises:
        RuntimeError: Keras runs on a backend that takes no gradients.
    """
    check_backend()
    images = ops.convert_to_tensor(images)
    outputs, gradients = _GRADIENTS[keras.backend.backend()](images, run)

    def direction(gradient):
        sign = ops.sign(gradient)
        # A norm, say of features that are all 0, has no gradient at 0.
        return ops.where(ops.isnan(sign), ops.zeros_like(sign), sign)

    return outputs, [images - step * direction(gradient) for gradient in gradients]


def check_backend() -> None:
    """Raises a RuntimeError unless Keras runs on a backend that takes gradients."""
    if keras.backend.backend() not in _GRADIENTS:
        raise RuntimeError(
            "detectors and attacks that move images need gradients. Set KERAS_BACKEND "
            f"to one of {', '.join(_GRADIENTS)}, or use a perturbation of 0. Received: "
            f"{keras.backend.backend()!r}"
        )


def _with_tensorflow(images, run):
    """`(outputs, gradients)` of `run`, the gradients one for each score."""
    import tensorflow as tf

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        outputs, scores = run(images)
    return outputs, [tape.gradient(score, images) for score in scores]


def _with_jax(images, run):
    import jax

    scores, pull_back, outputs = jax.vjp(
        lambda images: run(images)[::-1], images, has_aux=True
    )
    gradients = []
    for index in range(len(scores)):
        weights = [
            ops.full_like(score, float(place == index))
            for place, score in enumerate(scores)
        ]
        gradients.append(pull_back(weights)[0])
    return outputs, gradients


def _with_torch(images, run):
    import torch

    with torch.enable_grad():
        images = images.detach().requires_grad_(True)
        outputs, scores = run(images)
        gradients = [
            torch.autograd.grad(score.sum(), images, retain_graph=True)[0]
            for score in scores
        ]
    outputs = keras.tree.map_structure(
        lambda output: None if output is None else output.detach(), outputs
    )
    return outputs, gradients


_GRADIENTS = {
    "tensorflow": _with_tensorflow,
    "jax": _with_jax,
    "torch": _with_torch,
}
