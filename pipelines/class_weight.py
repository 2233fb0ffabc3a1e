"""Weights of classes in the loss, for data in which the label -1 means unknown."""

import types
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from ood_keras.conventions import UNKNOWN, check_number, is_integer
from ood_keras.types import Tensor


def weigh_classes(
    dataset: tf.data.Dataset, class_weight: Mapping[int, float]
) -> tf.data.Dataset:
    """Gives every image of a dataset the weight of its class, for `model.fit`.

    Use it in place of the argument `class_weight` of `model.fit`, which cannot be used
    with a `tf.data.Dataset` that holds unknown images: Keras looks the weight up at the
    index -1 and fails with `indices[...] = -1 is not in [0, ...)`. With NumPy arrays
    and with a `keras.utils.PyDataset`, `model.fit(..., class_weight=...)` works: there
    too every label that is not named weighs 1, the unknown ones included.
    `pipelines.interleave` takes `class_weight` itself.

    The weights multiply the loss of each image, beside what the loss does by itself:
    some of `ood_keras.losses` have an `unknown_weight` too. Metrics are only weighted
    if they are listed under `weighted_metrics`.

    Args:
        dataset: `tf.data.Dataset` of `(images, labels)` with integer labels of shape
            `(batch,)` or `(batch, 1)`, or `()` before batching; -1 for unknown images.
        class_weight: `{label: weight}` with labels `0..N-1`, and -1 for the weight of
            unknown images; weights are at least 0. Labels that are not named weigh 1.

    Returns:
        `tf.data.Dataset` of `(images, labels, weights)`, weights float32, of the shape
        `(batch,)`, or `()` before batching.

    Raises:
        TypeError: `dataset` is of another kind, `class_weight` is no dict.
        ValueError: a label or a weight is out of range, the elements of the dataset are
            no pairs, they have weights already, or the labels are one-hot.

    Example:

    ```python
    data = pipelines.weigh_classes(dataset, {3: 5.0, ood_keras.UNKNOWN: 0.5})
    model.fit(data)
    ```
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            "`weigh_classes` is for a tf.data.Dataset; with arrays or a PyDataset give "
            "`class_weight` to `model.fit`, where unknown images weigh 1. Received: "
            f"{type(dataset).__name__}"
        )
    weights_of = lookup(class_weight)
    spec = dataset.element_spec
    pairs = isinstance(spec, tuple) and len(spec) == 2
    if not pairs or not isinstance(spec[1], tf.TensorSpec):
        raise ValueError(
            "expected a dataset of pairs (images, labels), without sample weights and "
            f"with one tensor of labels. Received elements: {spec}"
        )
    labels = spec[1]
    rank = labels.shape.rank
    if rank is None or rank > 2 or (rank == 2 and labels.shape[1] != 1):
        raise ValueError(
            "labels must be integers of shape (batch,) or (batch, 1), with -1 for "
            "unknown images; turn one-hot labels into integers with argmax. Received: "
            f"labels of shape {tuple(labels.shape)}"
        )
    return dataset.map(lambda images, labels: (images, labels, weights_of(labels)))


def lookup(
    class_weight: Mapping[int, float], num_classes: int | None = None
) -> Callable[[Tensor], Tensor]:
    """Returns the function from integer labels to float32 weights `(batch,)`.

    Args:
        class_weight: As in `weigh_classes`.
        num_classes: Number N of known classes, to check the labels; `None` takes any.
    """
    weights = check(class_weight, num_classes)
    named = np.array(list(weights), np.int64)
    # The last one is that of labels that are not named.
    values = np.array([*weights.values(), 1.0], np.float32)

    def weights_of(labels):
        if labels.shape.rank == 2:
            labels = tf.squeeze(labels, axis=1)
        same = tf.cast(labels, tf.int64)[..., None] == named
        row = tf.where(tf.reduce_any(same, -1), tf.argmax(same, -1), len(named))
        return tf.gather(values, row)

    return weights_of


def check(
    class_weight: Mapping[int, float], num_classes: int | None = None
) -> dict[int, float]:
    """Returns `class_weight` as `{int: float}`, or says what is wrong with it."""
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            "`class_weight` must be a dict {label: weight}, such as {0: 1.0, 3: 5.0, "
            f"-1: 0.5}} with -1 for unknown images. Received: {class_weight!r}"
        )
    if not class_weight:
        raise ValueError(
            "`class_weight` is empty; leave it out if all images weigh the same"
        )
    for label in class_weight:
        if (
            not is_integer(label)
            or label < UNKNOWN
            or (num_classes is not None and label >= num_classes)
        ):
            last = "N-1" if num_classes is None else num_classes - 1
            raise ValueError(
                f"the labels in `class_weight` must be integers 0 to {last}, or "
                f"{UNKNOWN} for unknown images. Received: {label!r}"
            )
    return {
        int(label): check_number(
            f"class_weight[{label}]", weight, "[0, inf)", "the weight of an image"
        )
        for label, weight in class_weight.items()
    }


def balance(labels: np.ndarray, num_classes: int) -> dict[int, float]:
    """Returns the weights with which every known class counts as much as any other.

    `num_images / (num_classes * images_of_the_class)`, as "balanced" in scikit-learn,
    so that the mean weight of a known image is 1. Unknown images keep the weight 1.

    Args:
        labels: Integers `(num_images,)`, `0..num_classes-1`, each at least once.
        num_classes: Number N of known classes.

    >>> balance(np.array([0, 0, 0, 1]), 2)
    {0: 0.6666666666666666, 1: 2.0}
    """
    counts = np.bincount(labels, minlength=num_classes)
    return {
        label: len(labels) / (num_classes * int(count))
        for label, count in enumerate(counts)
    }


def explain(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Makes `model.fit(dataset, class_weight=...)` say what to do instead.

    Keras applies `class_weight` with `dataset.map`, before any of our code runs, and
    its look-up dies at the label -1. A dataset that was transformed since then is
    another object, and has Keras' own error.

    Args:
        dataset: A dataset that holds the label -1. It is changed in place.

    Returns:
        `dataset`.
    """
    transform = dataset.map

    def check_and_map(self, map_func, *args, **kwargs):
        if getattr(map_func, "__name__", "") == "class_weights_map_fn":
            raise ValueError(
                "`class_weight` of `model.fit` has no place for the label -1 of "
                "unknown images in a tf.data.Dataset. Give it to "
                "`pipelines.interleave(..., class_weight={0: 2.0, -1: 0.5})`, or use "
                "`pipelines.weigh_classes(dataset, class_weight)`; labels that are not "
                "named weigh 1"
            )
        return transform(map_func, *args, **kwargs)

    dataset.map = types.MethodType(check_and_map, dataset)
    return dataset
