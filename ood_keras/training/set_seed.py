"""One integer that decides everything."""

import keras


def set_seed(seed: int) -> None:
    """Makes everything that follows a function of `seed`, bit for bit.

    Call it before the model is built: initial weights and dropout masks come from it.
    It seeds Python, NumPy, Keras and its backend, and makes TensorFlow choose
    deterministic kernels for the rest of the process; `docs/decisions/resume.md` says
    what that costs. JAX is asked for such kernels of a GPU before it starts, by
    `XLA_FLAGS=--xla_gpu_deterministic_ops=true`. Equal means equal on one machine:
    another processor, another number of threads or another version of the backend may
    sum in another order.

    Args:
        seed: An integer from 0 to 2**32 - 1.

    Raises:
        ValueError: `seed` is something else.

    Example:

    >>> training.set_seed(0)
    >>> model = ood_keras.models.se_alexnet(input_shape=(28, 28, 1), num_classes=10)
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(
            f"`seed` must be an integer from 0 to 2**32 - 1. Received: seed={seed!r}"
        )
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
