"""Gradients on whatever backend Keras runs on, for tests."""

import keras
from keras import ops


def values_and_gradient(function, inputs):
    """`function(inputs)` and the gradient of its sum, NumPy arrays.

    Args:
        function: From a tensor to a tensor of any shape.
        inputs: An array or a tensor.
    """
    inputs = ops.convert_to_tensor(inputs)
    values, gradient = _BACKENDS[keras.backend.backend()](function, inputs)
    return ops.convert_to_numpy(values), ops.convert_to_numpy(gradient)


def _with_tensorflow(function, inputs):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        values = function(inputs)
    return values, tape.gradient(values, inputs)


def _with_jax(function, inputs):
    import jax

    values, pull_back = jax.vjp(function, inputs)
    return values, pull_back(ops.ones_like(values))[0]


def _with_torch(function, inputs):
    import torch

    inputs = inputs.detach().requires_grad_(True)
    values = function(inputs)
    return values, torch.autograd.grad(values.sum(), inputs)[0]


_BACKENDS = {
    "tensorflow": _with_tensorflow,
    "jax": _with_jax,
    "torch": _with_torch,
}
