"""Runs a function of images compiled, for any batch size, without retracing."""

import collections
import concurrent.futures
import contextvars
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from ood_keras import machine
from ood_keras.batches import files_at_once
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

    JAX compiles for each size of a batch. A batch that is smaller than one before is
    filled up to a power of two, or to the largest so far if that is less, so that few
    sizes are compiled. Torch runs the function as it is, without gradients.

    What it gives for an image with pixels that are NaN or infinite is NaN: a ReLU or a
    maximum may lose them on their way.

    Args:
        function: From a float tensor `(batch, height, width, channels)` to a tensor or
            a nest of tensors with a row for each image, which depends on that image
            alone; it may close over variables, which are read at each call.
    """
    compilers = {"tensorflow": _in_graphs, "jax": _with_jax, "torch": _with_torch}
    run = compilers.get(keras.backend.backend(), _eagerly)(function)

    def run_and_mark(images):
        return _nan_where_not_finite(images, run(images))

    return run_and_mark


def as_constant(array: np.ndarray, *, transposed: bool = False) -> Tensor:
    """A float32 tensor of what a detector has learnt.

    A large one is an argument of a graph of `compile_function`: as a constant in it, it
    takes TensorFlow many times its size, and seconds at the first call.

    Args:
        array: Of any shape; `(rows, columns)` if it is transposed.
        transposed: Whether to give its transpose, to multiply rows with.
    """
    if array.nbytes < _LARGE or not _captures.get():
        # Torch keeps the order in memory, and multiplies matrices of another order
        # with other bits; a loaded array has the usual one.
        tensor = ops.convert_to_tensor(np.ascontiguousarray(array), "float32")
        return ops.transpose(tensor) if transposed else tensor
    import tensorflow as tf

    # Multiplying with one that is transposed on the way is much slower.
    array = np.ascontiguousarray(array.T if transposed else array)
    with tf.init_scope():
        return tf.constant(array, tf.float32)


_LARGE = 2**20
_captures: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "captures", default=False
)


def _eagerly(function):
    def run(images):
        outputs = function(ops.convert_to_tensor(images))
        return keras.tree.map_structure(ops.convert_to_numpy, outputs)

    return run


def _with_torch(function):
    import torch

    return torch.no_grad()(_eagerly(function))


def _in_graphs(function):
    import tensorflow as tf

    graphs = {}
    tracing = threading.Lock()

    def run(images):
        shape = images.shape[1:]
        if shape not in graphs:
            trace(shape)
        outputs = graphs[shape](tf.constant(np.asarray(images, np.float32)))
        # Most functions give one tensor, and a walk over a nest takes a while.
        if isinstance(outputs, tf.Tensor):
            return outputs.numpy()
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), outputs)

    def trace(shape):
        with tracing:
            if shape not in graphs:
                # A concrete function, because TensorFlow would take the many detectors
                # of a process for one function that is traced again and again, and
                # warn.
                captures = _captures.set(True)
                try:
                    graphs[shape] = tf.function(
                        function, autograph=False, jit_compile=False
                    ).get_concrete_function(tf.TensorSpec((None, *shape), tf.float32))
                finally:
                    _captures.reset(captures)

    return run


def _with_jax(function):
    compiled: dict[tuple, _JaxFunction] = {}
    making = threading.Lock()

    def run(images):
        shape = images.shape[1:]
        with making:
            if shape not in compiled:
                compiled[shape] = _JaxFunction(function, shape)
        return compiled[shape](np.asarray(images, np.float32))

    return run


class _JaxFunction:
    """A function of images of one shape, compiled by JAX.

    To JAX, what a function closes over is constant. So the variables that it reads are
    found out and handed over at each call.
    """

    def __init__(self, function, shape):
        import jax

        reads = _VariableReads()
        with reads:
            jax.eval_shape(function, jax.ShapeDtypeStruct((1, *shape), np.float32))
        self._variables = reads.variables
        self._compiled = jax.jit(self._function_of_values(function))
        self._largest = 0
        self._lock = threading.Lock()

    def _function_of_values(self, function):
        def function_of_values(values, images):
            state = zip(self._variables, values, strict=True)
            with keras.StatelessScope(state_mapping=state):
                return function(images)

        return function_of_values

    def __call__(self, images):
        count = len(images)
        filled = np.zeros((self._size(count), *images.shape[1:]), np.float32)
        filled[:count] = images
        values = [variable.value for variable in self._variables]
        outputs = self._compiled(values, filled)
        return keras.tree.map_structure(
            lambda tensor: ops.convert_to_numpy(tensor)[:count], outputs
        )

    def _size(self, count):
        """The number of images in the batch that is run for `count`."""
        with self._lock:
            self._largest = max(self._largest, count)
            return min(self._largest, 1 << (count - 1).bit_length())


class _VariableReads(keras.StatelessScope):
    """Notes each variable whose value is read within it."""

    def __init__(self) -> None:
        super().__init__()
        self.variables: list[keras.Variable] = []

    def get_current_value(self, variable):
        if not any(variable is known for known in self.variables):
            self.variables.append(variable)
        return super().get_current_value(variable)


def _nan_where_not_finite(images: np.ndarray, outputs: Any) -> Any:
    pixels = images.reshape(-1)
    # A finite sum has finite parts, and this one is read off in one quick pass.
    if np.isfinite(np.dot(pixels, pixels)):
        return outputs
    strange = ~np.isfinite(images).all(axis=(1, 2, 3))
    if not strange.any():
        return outputs
    outputs = keras.tree.map_structure(np.array, outputs)
    for rows in keras.tree.flatten(outputs):
        if np.issubdtype(rows.dtype, np.floating):
            rows[strange] = np.nan
    return outputs


def run_in_parts(run: Callable[[np.ndarray], Any], images: np.ndarray) -> Any:
    """`run(images)`, of fewer at once where they are large, as inner maps then are.

    Args:
        run: What `compile_function` returned.
        images: Float array `(batch, height, width, channels)`, not empty.
    """
    size = files_at_once(images.shape[1:])
    if len(images) <= size:
        return run(images)
    parts = [run(images[start : start + size]) for start in range(0, len(images), size)]
    return keras.tree.map_structure(lambda *rows: np.concatenate(rows), *parts)


def over_batches(
    run: Callable[[np.ndarray], Any], batches: Iterable[np.ndarray]
) -> Iterator[Any]:
    """Yields `run(images)` of consecutive slices of the batches, in their order.

    With TensorFlow on a CPU, slices run side by side, never more images at once than a
    batch has; of large images, slices are smaller.

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
    size = min(_SLICE, files_at_once(first.shape[1:]))
    num_threads = min(machine.num_cores() + 1, len(first) // size)
    if num_threads < 2 or not _gains_by_slices():
        for images in itertools.chain([first], batches):
            yield run_in_parts(run, images)
        return
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        pending: collections.deque[concurrent.futures.Future] = collections.deque()
        for images in _slices(first, batches, size):
            pending.append(pool.submit(run, images))
            if len(pending) > 2 * num_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _slices(
    first: np.ndarray, batches: Iterable[np.ndarray], size: int
) -> Iterator[np.ndarray]:
    for images in itertools.chain([first], batches):
        for start in range(0, len(images), size):
            yield images[start : start + size]


def _gains_by_slices() -> bool:
    """Whether slices side by side are faster than a batch: TensorFlow's on a CPU."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return all(
        device.device_type == "CPU" for device in tf.config.list_logical_devices()
    )
