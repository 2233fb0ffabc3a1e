"""Runs a function of images compiled, for any batch size, without retracing."""

import collections
import concurrent.futures
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from ood_keras import machine
from ood_keras.types import Tensor

# On a CPU, slices of this size side by side take two thirds of the time of one batch
# whose operations share the cores: their activations stay in the cache, and no core
# waits at the end of an operation.
_SLICE = 64


def compile_function(function: Callable[[Tensor], Any]) -> Callable[[np.ndarray], Any]:
    """Returns `function` compiled where the backend can: NumPy in, NumPy out.

    Under TensorFlow one graph is traced per image shape, with a free batch dimension,
    so the last, smaller batch costs no second trace. XLA stays off: on a CPU it makes
    convolutions several times slower than the ordinary kernels.

    What it gives for an image with pixels that are NaN or infinite is NaN: a ReLU or a
    maximum may lose them on their way.

    Args:
        function: From a float tensor `(batch, height, width, channels)` to a tensor or
            a nest of tensors with a row for each image; it may close over variables,
            which are read at each call.
    """
    if keras.backend.backend() != "tensorflow":

        def run_eagerly(images):
            outputs = function(keras.ops.convert_to_tensor(images))
            outputs = keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)
            return _nan_where_not_finite(images, outputs)

        return run_eagerly
    import tensorflow as tf

    graphs = {}
    tracing = threading.Lock()

    def run(images):
        shape = images.shape[1:]
        with tracing:
            if shape not in graphs:
                # A concrete function, because TensorFlow would take the many detectors
                # of a process for one function that is traced again and again, and
                # warn.
                graphs[shape] = tf.function(
                    function, autograph=False, jit_compile=False
                ).get_concrete_function(tf.TensorSpec((None, *shape), tf.float32))
        outputs = graphs[shape](tf.constant(np.asarray(images, np.float32)))
        outputs = tf.nest.map_structure(lambda tensor: tensor.numpy(), outputs)
        return _nan_where_not_finite(images, outputs)

    return run


def _nan_where_not_finite(images: np.ndarray, outputs: Any) -> Any:
    strange = ~np.isfinite(images).all(axis=(1, 2, 3))
    if not strange.any():
        return outputs
    outputs = keras.tree.map_structure(np.array, outputs)
    for rows in keras.tree.flatten(outputs):
        if np.issubdtype(rows.dtype, np.floating):
            rows[strange] = np.nan
    return outputs


def over_batches(
    run: Callable[[np.ndarray], Any], batches: Iterable[np.ndarray]
) -> Iterator[Any]:
    """Yields `run(images)` of consecutive slices of the batches, in their order.

    On a CPU, slices run side by side, never more images at once than a batch has.

    Args:
        run: What `compile_function` returned; what it computes for an image must not
            depend on the other images of a batch.
        batches: An iterable of float arrays `(batch, height, width, channels)`; empty
            ones are skipped.
    """
    batches = (images for images in batches if len(images))
    first = next(batches, None)
    if first is None:
        return
    num_threads = min(machine.num_cores() + 1, len(first) // _SLICE)
    if num_threads < 2 or _has_accelerator():
        yield run(first)
        yield from map(run, batches)
        return
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        pending: collections.deque[concurrent.futures.Future] = collections.deque()
        for images in _slices(first, batches):
            pending.append(pool.submit(run, images))
            if len(pending) > 2 * num_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _slices(first: np.ndarray, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for images in itertools.chain([first], batches):
        for start in range(0, len(images), _SLICE):
            yield images[start : start + _SLICE]


def _has_accelerator() -> bool:
    """Whether the backend computes elsewhere, where large batches are faster."""
    if keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf

    return any(
        device.device_type != "CPU" for device in tf.config.list_logical_devices()
    )
