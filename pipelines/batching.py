"""The one place where arrays become a `tf.data.Dataset`."""

from collections.abc import Callable

import tensorflow as tf

from ood_keras import machine
from ood_keras.conventions import check_count
from ood_keras.pipelines import preprocessing, stored_images
from ood_keras.types import PixelArray, Tensor

_MAX_PARALLEL_CALLS = 8


def batches(
    images: PixelArray,
    labels: Tensor,
    order: Tensor,
    batch_size: int,
    *,
    start_step: int = 0,
    augment: Callable[[Tensor, Tensor], Tensor] | None = None,
    weights_of: Callable[[Tensor], Tensor] | None = None,
) -> tf.data.Dataset:
    """Returns the batches of `images[order]`, `labels[order]`, in that order.

    Whole batches are gathered by index from one uint8 tensor, or, of images on disk,
    from their file: no per-image op runs while training and of Python at most one call
    per batch, nothing is shuffled in a buffer (the order is the shuffle, so it can
    start at any step), and four times fewer bytes move than with float images. Scaling
    to [0, 1] is the last step but the augmentation.

    Args:
        images: uint8 `(num_images, height, width, channels)`, array, tensor or images
            on disk.
        labels: int32 `(num_images,)`, array or tensor.
        order: Integers `(num_rows,)`, indices into the two.
        batch_size: Rows per batch; the last batch may be smaller.
        start_step: Number of batches to leave out at the start.
        augment: `None`, or a function `(images, step)` of a float batch and the int64
            number of the batch; it must be stateless.
        weights_of: `None`, or a function from int32 labels to float32 weights, both
            `(batch,)`.

    Returns:
        `tf.data.Dataset` of float32 `(batch, height, width, channels)` in [0, 1], int32
        `(batch,)` and, with `weights_of`, float32 `(batch,)`, of known cardinality.

    Raises:
        ValueError: `batch_size` is not positive.
    """
    batch_size = check_count("batch_size", batch_size)
    # In main memory also where there is a GPU: batches are gathered on the CPU.
    with tf.device("CPU:0"):
        if not stored_images.is_on_disk(images):
            images = tf.convert_to_tensor(images)
        labels, order = tf.convert_to_tensor(labels), tf.convert_to_tensor(order)
    num_steps = -(-int(order.shape[0]) // batch_size)
    dataset = tf.data.Dataset.range(start_step, num_steps)
    batch = gather(images, labels, order, batch_size, augment, weights_of)
    return pipeline(dataset, batch)


def gather(
    images: PixelArray,
    labels: Tensor,
    order: Tensor,
    batch_size: int,
    augment: Callable[[Tensor, Tensor], Tensor] | None = None,
    weights_of: Callable[[Tensor], Tensor] | None = None,
) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Returns the function from a step to its batch; see `batches`."""

    def batch(step):
        start = step * batch_size
        rows = order[start : start + batch_size]
        floats = preprocessing.to_float(_take(images, rows))
        if augment is not None:
            floats = augment(floats, step)
        floats = tf.ensure_shape(floats, [None, *images.shape[1:]])
        chosen = tf.gather(labels, rows)
        if weights_of is None:
            return floats, chosen
        return floats, chosen, weights_of(chosen)

    return batch


def _take(images: PixelArray, rows: Tensor) -> Tensor:
    if not stored_images.is_on_disk(images):
        return tf.gather(images, rows)
    # Not stateful: several batches may be read at once.
    some = tf.numpy_function(images.__getitem__, [rows], tf.uint8, stateful=False)
    return tf.ensure_shape(some, [None, *images.shape[1:]])


def pipeline(
    steps: tf.data.Dataset, batch: Callable[[Tensor], tuple[Tensor, ...]]
) -> tf.data.Dataset:
    """Maps `batch` over a dataset of steps, in parallel and in order."""
    # Each call that runs ahead holds a batch.
    num_calls = min(machine.num_cores(), _MAX_PARALLEL_CALLS)
    return (
        steps.map(batch, num_parallel_calls=num_calls, deterministic=True)
        .prefetch(2)
        .with_options(options())
    )


def options() -> tf.data.Options:
    """Returns the options of every dataset: in order, and without tuning as it runs.

    TensorFlow's tuner wakes up at growing intervals of up to a minute, and an iterator
    that has come to its end waits for the next one: so an epoch of 50 s took 85 s.
    """
    chosen = tf.data.Options()
    chosen.deterministic = True
    chosen.autotune.enabled = False
    return chosen
