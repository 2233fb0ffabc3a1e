"""Mixes known and unknown images at an exact ratio, deterministically."""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from ood_keras.conventions import (
    UNKNOWN,
    check_count,
    check_num_classes,
    is_integer,
)
from ood_keras.pipelines import (
    augmentations,
    batching,
    contents,
    roles,
    stored_images,
)
from ood_keras.pipelines import class_weight as class_weights
from ood_keras.pipelines.as_split import as_split
from ood_keras.pipelines.split import Split, even_shares
from ood_keras.types import Json, Tensor


class Interleave:
    """Epochs of known and unknown images, each a pure function of seed and number.

    Use it where training must be able to resume (`training.fit` does); `interleave`
    gives the same epochs as one dataset for `model.fit`.

    An epoch holds every known image once and, with per-class normalisation (section
    3.2 of the paper, and its 60,000 known to 6,000 unknown images),
    `round(num_known / num_classes)` unknown ones, so that all unknowns together count
    as one class. They are spread evenly over the unknown sources, the remainder to the
    first ones. Every source hands out its images without repetition until all were
    used, then starts over in a new order, also across epochs. Unknown images stand at
    equal distances in the epoch, so any run of images, and so each batch, holds the
    same number of them, up to one.

    Args:
        known: `Split` with labels `0..num_classes-1`; or arrays `(images, labels)`, a
            `tf.data.Dataset` or a `keras.utils.PyDataset`, which `as_split` reads once
            into memory.
        unknown: `Split`, or images in any of these forms, or a list of such; their
            labels are ignored, all become -1. Each gives at least one image to an
            epoch. `None` says that known images alone are wanted.
        num_classes: Number N of known classes.
        batch_size: Images per step, known and unknown together. The last batch of an
            epoch may be smaller.
        seed: Decides the order and the augmentation.
        normalize: If `False`, every unknown image appears once per epoch instead.
        unknown_per_epoch: Number of unknown images in an epoch, in place of
            `round(num_known / num_classes)`.
        augment: `None`, one of `augmentations.names()`, or a function `(images, seed)`
            on a float batch and an int32 `(2,)` seed, which differs for each step and
            must be its only source of randomness.
        class_weight: `None`, or `{label: weight}`, as in `weigh_classes`: batches then
            have a third part, the weight of each image in the loss. Use it in place of
            the argument of `model.fit`, which does not know the label -1. Labels that
            are not named weigh 1; -1 names the unknown images. "balanced" weighs known
            classes by one over their number of images, with a mean of 1.

    Raises:
        TypeError: something else than images was given, or `class_weight` is no dict.
        ValueError: there are no unknown images; a known class has no image; a label is
            out of range; image shapes differ; a class is both known and unknown;
            `unknown_per_epoch` is given where nothing is left to choose; a label or a
            weight in `class_weight` is out of range.

    Example:

    ```python
    mixed = pipelines.Interleave(known.train, unknown.train, num_classes=10)
    for epoch in range(3):
        for images, labels in mixed.epoch(epoch):
            model.train_on_batch(images, labels)
    ```
    """

    def __init__(
        self,
        known: Any,
        unknown: Any,
        num_classes: int,
        *,
        batch_size: int = 128,
        seed: int = 0,
        normalize: bool = True,
        unknown_per_epoch: int | None = None,
        augment: str | Callable[[Tensor, Tensor], Tensor] | None = None,
        class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
    ) -> None:
        known_only = unknown is None
        if known_only:
            unknown = []
        known = as_split(known, "known images")
        unknown = [
            as_split(
                part, f"unknown images {number}" if number > 1 else "unknown images"
            )
            for number, part in enumerate(_list_of_sources(unknown), start=1)
        ]
        self.num_classes = check_num_classes(num_classes, least=1)
        self.batch_size = check_count("batch_size", batch_size)
        self.seed = _natural("seed", seed)
        _check_known(known, self.num_classes)
        if not known_only:
            _check_unknown(known, unknown)
        if unknown_per_epoch is not None and (known_only or not normalize):
            raise ValueError(
                "`unknown_per_epoch` needs unknown images and normalize=True. "
                f"Received: unknown_per_epoch={unknown_per_epoch}, "
                f"normalize={normalize}, "
                f"{len(unknown)} unknown splits"
            )
        roles.check_classes([known], unknown)
        sizes = [len(split) for split in unknown]
        quotas = sizes
        if normalize and not known_only:
            total = round(len(known) / self.num_classes)
            if unknown_per_epoch is not None:
                unknown_per_epoch = check_count("unknown_per_epoch", unknown_per_epoch)
                total = unknown_per_epoch
            quotas = even_shares(max(total, len(unknown)), len(unknown))
        self.normalize = normalize
        self._config = {
            "known": known.fingerprint(),
            # Their labels are not looked at.
            "unknown": [split.pixel_fingerprint for split in unknown],
            "batch_size": self.batch_size,
            "seed": self.seed,
            "normalize": bool(normalize),
            "unknown_per_epoch": unknown_per_epoch,
            "augment": _name_of(augment),
        }
        self._weights_of = None
        if isinstance(class_weight, str):
            if class_weight != "balanced":
                raise ValueError(
                    '`class_weight` must be "balanced" or a dict {label: weight}. '
                    f"Received: {class_weight!r}"
                )
            class_weight = class_weights.balance(known.labels, self.num_classes)
        if class_weight is not None:
            self._weights_of = class_weights.lookup(class_weight, self.num_classes)
            weights = class_weights.check(class_weight)
            # Not where there are none, so that earlier runs can be resumed.
            self._config["class_weight"] = {
                str(label): weights[label] for label in sorted(weights)
            }
        self._num_known = len(known)
        self._class_names = list(known.class_names)
        self._sizes, self._quotas = sizes, quotas
        self._augment = (
            augmentations.get(augment) if isinstance(augment, str) else augment
        )
        self._images = stored_images.join([split.images for split in [known, *unknown]])
        labels = np.concatenate([known.labels, np.full(sum(sizes), UNKNOWN, np.int32)])
        # In main memory also where there is a GPU: batches are gathered on the CPU.
        with tf.device("CPU:0"):
            self._labels = tf.constant(labels)
            if not stored_images.is_on_disk(self._images):
                self._images = tf.constant(self._images)

    @property
    def num_images(self) -> int:
        """Images per epoch, known and unknown together."""
        return self._num_known + self.num_unknown

    @property
    def num_unknown(self) -> int:
        """Unknown images per epoch."""
        return sum(self._quotas)

    @property
    def num_rows(self) -> int:
        """Images in all, whether an epoch uses them or not."""
        return len(self._images)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.num_images / self.batch_size)

    def get_config(self) -> Json:
        """What is mixed and how, plain JSON values; splits by their fingerprints.

        A function that augments is named only, so that another one of that name passes
        for the same.
        """
        return self._config

    def epoch(self, index: int, start_step: int = 0) -> tf.data.Dataset:
        """Returns the batches of one epoch, from `start_step` on.

        Args:
            index: Number of the epoch, from 0. The same index gives the same batches,
                in any process and whatever was read before.
            start_step: Number of batches to leave out, to resume within the epoch.

        Returns:
            `tf.data.Dataset` of float32 `(batch, height, width, channels)` images in
            [0, 1] and int32 `(batch,)` labels, and, with `class_weight`, float32
            `(batch,)` weights.
        """
        index = _natural("index", index)
        if not 0 <= start_step <= self.steps_per_epoch:
            raise ValueError(
                f"`start_step` must be 0 to {self.steps_per_epoch}, the steps of an "
                f"epoch. Received: start_step={start_step}"
            )
        return self._finish(
            batching.batches(
                self._images,
                self._labels,
                self.order(index),
                self.batch_size,
                start_step=start_step,
                augment=self._augmentation_of(index),
                weights_of=self._weights_of,
            )
        )

    def rendering(self, number: int, batch_size: int = 64) -> tf.data.Dataset:
        """Returns every image once, in the order of the rows that `order` names.

        Use it to compute something of the images once and not in every epoch.

        Args:
            number: 0 leaves the images as they are; any other decides the augmentation,
                always alike.
            batch_size: Images per batch.

        Returns:
            `tf.data.Dataset` of `(images, labels)`, as `epoch` has them.
        """
        number = _natural("number", number)
        return batching.batches(
            self._images,
            self._labels,
            np.arange(len(self._images), dtype=np.int32),
            batch_size,
            augment=self._augmentation_of(number, 1) if number else None,
        )

    def weigh(self, labels: Tensor) -> tuple[Tensor, ...]:
        """Returns what follows the images of a batch: labels, and weights if any."""
        return (labels, self._weights_of(labels)) if self._weights_of else (labels,)

    def dataset(self) -> tf.data.Dataset:
        """Returns a dataset of which every new iteration is the next epoch."""
        counter = itertools.count()

        # The only Python that runs while training, once per epoch.
        def next_epoch():
            index = next(counter)
            return np.int64(index), self.order(index)

        def read_next_epoch(_):
            index, order = tf.numpy_function(next_epoch, [], [tf.int64, tf.int32])
            return tf.ensure_shape(index, []), tf.ensure_shape(order, [None])

        def batches_of(index, order):
            return batching.pipeline(
                tf.data.Dataset.range(self.steps_per_epoch),
                batching.gather(
                    self._images,
                    self._labels,
                    order,
                    self.batch_size,
                    self._augmentation_of(index),
                    self._weights_of,
                ),
            )

        return self._finish(
            tf.data.Dataset.range(1)
            .map(read_next_epoch)
            .flat_map(batches_of)
            .apply(tf.data.experimental.assert_cardinality(self.steps_per_epoch))
            # Options set inside `flat_map` do not reach the outer dataset.
            .with_options(batching.options())
        )

    def order(self, index: int) -> np.ndarray:
        """Returns the epoch's rows as int32 `(num_images,)`.

        Rows below `len(known)` are known images, the others unknown ones, in the order
        of the sources.
        """
        random = _generator(self.seed, index)
        known = random.permutation(self._num_known).astype(np.int32)
        if not self.num_unknown:
            return known
        first = self._num_known + np.cumsum([0, *self._sizes[:-1]])
        unknown = np.concatenate(
            [
                first[source] + self._next_images(source, index)
                for source in range(len(self._sizes))
            ]
        )
        order = np.empty(self.num_images, np.int32)
        is_unknown = np.zeros(self.num_images, bool)
        is_unknown[_even_positions(self.num_images, len(unknown), random)] = True
        order[is_unknown] = random.permutation(unknown)
        order[~is_unknown] = known
        return order

    def _finish(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The dataset with what a reader of it may ask: names, and why it has no -1."""
        if len(self._class_names) == self.num_classes:
            dataset.class_names = self._class_names
        # Keras itself refuses weights of both kinds at once.
        if self._weights_of is None and self.num_unknown:
            return class_weights.explain(dataset)
        return dataset

    def _next_images(self, source: int, index: int) -> np.ndarray:
        # The source is one endless row of permutations; this is the epoch's stretch.
        size, quota = self._sizes[source], self._quotas[source]
        start = index * quota
        first_pass, last_pass = start // size, (start + quota - 1) // size
        passes = [
            _generator(self.seed, number, source + 1).permutation(size)
            for number in range(first_pass, last_pass + 1)
        ]
        offset = start - first_pass * size
        return np.concatenate(passes)[offset : offset + quota]

    def _augmentation_of(
        self, index: Tensor, use: int = 0
    ) -> Callable[[Tensor, Tensor], Tensor] | None:
        if self._augment is None:
            return None
        seed = _fold_in([self.seed, use], index)
        return lambda images, step: self._augment(images, _fold_in(seed, step))  # type: ignore[misc]


def interleave(
    known: Any,
    unknown: Any,
    num_classes: int,
    **options: Any,
) -> tf.data.Dataset:
    """Mixes known and unknown images into one dataset for `model.fit`.

    Every new iteration over the dataset, so every epoch of `model.fit`, is the next
    epoch of `Interleave`, which describes the mixture, the arguments and the errors.
    (Keras takes one batch more to build a model that was never called; that look counts
    as an iteration.) The number of steps is known, so Keras shows progress.

    Args:
        known: Images with labels `0..num_classes-1`: a `Split`, arrays, a
            `tf.data.Dataset` or a `keras.utils.PyDataset`.
        unknown: Images in one of these forms, or a list of such.
        num_classes: Number N of known classes.
        **options: The keyword arguments of `Interleave`.

    Returns:
        `tf.data.Dataset` of float32 `(batch, height, width, channels)` images in
        [0, 1] and int32 `(batch,)` labels, -1 for unknown; with `class_weight` also
        float32 `(batch,)` weights.

    Example:

    ```python
    known, unknown = pipelines.load("mnist"), pipelines.load("emnist/letters")
    model.fit(pipelines.interleave(known.train, unknown.train, num_classes=10))
    ```
    """
    return Interleave(known, unknown, num_classes, **options).dataset()


def _list_of_sources(unknown: Any) -> list[Any]:
    """One source, or several, as a list; a pair of arrays is one."""
    if isinstance(unknown, list):
        return unknown
    splits = isinstance(unknown, tuple) and all(
        isinstance(part, Split | tuple | tf.data.Dataset) for part in unknown
    )
    return list(unknown) if splits else [unknown]


def _check_known(known: Split, num_classes: int) -> None:
    if len(known) == 0:
        raise ValueError(f"{known} has no images; training needs known images")
    labels = known.labels
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(outside):
        raise ValueError(
            f"{known}: labels of known images must be 0 to {num_classes - 1}, for "
            f"num_classes={num_classes}. Received: {len(outside)} labels out of range, "
            f"the first is {labels[outside[0]]} at index {outside[0]}. Check "
            "`num_classes`; unknown images belong into `unknown`"
        )
    empty = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if len(empty):
        names = [
            f"{index} ({known.class_names[index]})"
            if index < known.num_classes
            else str(index)
            for index in empty
        ]
        raise ValueError(
            f"{known}: every known class needs at least one image, but there is none "
            f"of class {', '.join(names)}. Add images, lower `num_classes` "
            f"(received: {num_classes}), or leave the class out, for example with "
            "`select`"
        )
    contents.check(known, known=True)


def _check_unknown(known: Split, unknown: list[Split]) -> None:
    if not unknown:
        raise ValueError(
            "there are no unknown images: `unknown` is an empty list. Give at least "
            'one split; without data, `pipelines.load("synthetic", known=...)` makes '
            "outliers from the known images; `None` trains on known images alone"
        )
    for split in unknown:
        if len(split) == 0:
            raise ValueError(f"there are no unknown images in {split}")
        if split.image_shape != known.image_shape:
            raise ValueError(
                f"known and unknown images must have one shape. Received: {known} "
                f"{known.image_shape}, {split} {split.image_shape}. Load both with "
                f"image_shape={known.image_shape}"
            )
        contents.check(split, known=False)


def _even_positions(length: int, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` of `range(length)` at equal distances, with a random start.

    Any stretch of B positions holds B * count / length of them, rounded up or down.
    """
    positions = (np.arange(count) + random.random()) * (length / count)
    return np.minimum(positions.astype(np.int64), length - 1)


def _fold_in(seed: Tensor, number: Tensor) -> Tensor:
    # The seed takes the type of the number, and other types give other seeds.
    number = tf.cast(number, tf.int32)
    return tf.random.experimental.stateless_fold_in(seed, number)


def _generator(*words: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def _name_of(augment: str | Callable[[Tensor, Tensor], Tensor] | None) -> str | None:
    if augment is None or isinstance(augment, str):
        return augment
    return getattr(augment, "__qualname__", type(augment).__qualname__)


def _natural(name: str, value: int) -> int:
    if not is_integer(value) or not 0 <= value < 2**31:
        raise ValueError(
            f"`{name}` must be an integer from 0 to 2**31 - 1. Received: {value!r}"
        )
    return int(value)
