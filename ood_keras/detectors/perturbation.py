"""Images moved a small step towards a lower score."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ood_keras import batches
from ood_keras.detectors.compiled import compile_function
from ood_keras.types import Images, Tensor


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
    images = ops.convert_to_tensor(images)
    outputs, signs = _find_signs(images, run)
    return outputs, [images - step * sign for sign in signs]


def score_steps(
    images: Images,
    run: Callable[[Tensor], tuple[Any, list[Tensor]]],
    steps: Sequence[float],
    batch_size: int = 256,
) -> np.ndarray:
    """Scores of images that are moved by each of several steps, from one gradient.

    Args:
        images: As anything that `ood_keras.batches.iterate` takes.
        run: See `lower_scores`; each score is of the images moved against its own
            gradient.
        steps: Lengths of the step; 0 leaves the images as they are.
        batch_size: Images per run of the network, moved ones counted.

    Returns:
        float32 `(images, steps, scores)`.

    Raises:
        RuntimeError: Keras runs on a backend that takes no gradients.
    """

    def score(images):
        _, signs = _find_signs(images, run)
        of_scores = []
        for index, sign in enumerate(signs):
            moved = ops.concatenate([images - step * sign for step in steps])
            rows = ops.reshape(run(moved)[1][index], (len(steps), -1))
            of_scores.append(ops.transpose(rows))
        return ops.stack(of_scores, axis=-1)

    compiled = compile_function(score)
    walk = batches.iterate_images(images, max(1, batch_size // len(steps)))
    return np.concatenate([compiled(batch) for batch in walk if len(batch)])


def _find_signs(images, run):
    """`(outputs, signs)`: what `run` gives, the sign of the gradient of each score."""
    check_backend()
    outputs, gradients = _GRADIENTS[keras.backend.backend()](images, run)

    def sign_of(gradient):
        sign = ops.sign(gradient)
        # A norm, say of features that are all 0, has no gradient at 0.
        return ops.where(ops.isnan(sign), ops.zeros_like(sign), sign)

    return outputs, [sign_of(gradient) for gradient in gradients]


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
