"""Runs a function of images compiled, for any batch size, without retracing."""

import keras
import numpy as np


def compiled(function):
    """Returns `function` compiled where the backend can: NumPy in, NumPy out.

    Under TensorFlow one graph is traced per image shape, with a free batch dimension,
    so the last, smaller batch costs no second trace. XLA stays off: on a CPU it makes
    convolutions several times slower than the ordinary kernels.

    Args:
        function: From a float tensor `(batch, height, width, channels)` to a tensor or
            a nest of tensors; it may close over variables, which are read at each call.
    """
    if keras.backend.backend() != "tensorflow":
        return lambda images: keras.tree.map_structure(
            keras.ops.convert_to_numpy, function(keras.ops.convert_to_tensor(images))
        )
    import tensorflow as tf

    graphs = {}

    def run(images):
        shape = images.shape[1:]
        if shape not in graphs:
            # A concrete function, because TensorFlow would take the many detectors of
            # a process for one function that is traced again and again, and warn.
            graphs[shape] = tf.function(
                function, autograph=False, jit_compile=False
            ).get_concrete_function(tf.TensorSpec((None, *shape), tf.float32))
        outputs = graphs[shape](tf.constant(np.asarray(images, np.float32)))
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), outputs)

    return run
