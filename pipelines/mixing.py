"""Cutout and PixMix, augmentations that are known to help against unknown images."""

import functools

import numpy as np
import tensorflow as tf

from ood_keras.pipelines import augmentations, rendering
from ood_keras.types import Tensor

_NUM_PICTURES = 64
_MOST_ROUNDS, _SHARPNESS = 4, 3.0


@augmentations.register
def cutout(images: Tensor, seed: Tensor, *, size: float = 0.5) -> Tensor:
    """Covers a square of each image with its mean colour.

    Its centre lies anywhere in the image, so that part of it may lie outside (DeVries
    and Taylor 2017, "Improved regularization of convolutional neural networks with
    cutout", with 16 of CIFAR-10's 32 pixels). Stateless.

    Args:
        images: float32 `(batch, height, width, channels)` in [0, 1].
        seed: int32 `(2,)`.
        size: Side of the square, as a share of the image's shorter side.

    Returns:
        float32 `(batch, height, width, channels)` in [0, 1].

    Example:

    >>> images = tf.random.uniform((2, 32, 32, 3))
    >>> cutout(images, [1, 2]).shape
    TensorShape([2, 32, 32, 3])
    """
    height, width = images.shape[1], images.shape[2]
    half = size * min(height, width) / 2
    draws = tf.random.stateless_uniform([2, tf.shape(images)[0], 1, 1], seed)
    rows = tf.range(height, dtype=tf.float32)[:, None] + 0.5
    columns = tf.range(width, dtype=tf.float32) + 0.5
    covered = (tf.abs(rows - draws[0] * height) < half) & (
        tf.abs(columns - draws[1] * width) < half
    )
    mean = tf.reduce_mean(images, [1, 2], keepdims=True)
    return tf.where(covered[..., None], mean, images)


@augmentations.register
def pixmix(images: Tensor, seed: Tensor) -> Tensor:
    """Mixes each image with pictures of rich structure that show nothing.

    Half of the images begin in another rendering (`random_photo_rendering`); then, 0 to
    4 times, each is added to or multiplied by such a rendering of itself or one of 64
    pictures that `mixing_pictures` generates, with random weights (Hendrycks et al.
    2022, "PixMix: dreamlike pictures comprehensively improve safety measures", with
    their default settings; their pictures are fractals and feature visualisations that
    must be downloaded). Stateless.

    Args:
        images: float32 `(batch, height, width, channels)` in [0, 1].
        seed: int32 `(2,)`.

    Returns:
        float32 `(batch, height, width, channels)` in [0, 1].

    Example:

    >>> images = tf.random.uniform((2, 32, 32, 3))
    >>> pixmix(images, [1, 2]).shape
    TensorShape([2, 32, 32, 3])
    """
    pictures = tf.constant(mixing_pictures(tuple(images.shape[1:])))
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, _MOST_ROUNDS + 2))
    count = tf.shape(images)[0]
    draws = tf.random.stateless_uniform([2, count, 1, 1, 1], seeds[0])
    rounds = tf.floor(draws[0] * (_MOST_ROUNDS + 1))
    starts = tf.reshape(draws[1] < 0.5, [-1])
    mixed = _render_some(images, images, starts, seeds[1])
    for number, round_seed in enumerate(seeds[2:]):
        going_on = tf.where(tf.reshape(rounds > number, [-1]))
        made = _mix_once(
            tf.gather_nd(mixed, going_on),
            tf.gather_nd(images, going_on),
            pictures,
            round_seed,
        )
        mixed = tf.tensor_scatter_nd_update(mixed, going_on, made)
    return tf.ensure_shape(mixed, images.shape)


def _mix_once(mixed, images, pictures, seed):
    """One round for all images of a batch."""
    choose, render, pick, weigh = tf.unstack(
        tf.random.experimental.stateless_split(seed, 4)
    )
    count = tf.shape(mixed)[0]
    own, adds, flips = tf.unstack(
        tf.random.stateless_uniform([3, count, 1, 1, 1], choose) < 0.5
    )
    rows = tf.random.stateless_uniform(
        [count], pick, maxval=_NUM_PICTURES, dtype=tf.int32
    )
    other = tf.gather(pictures, rows)
    other = _render_some(other, images, tf.reshape(own, [-1]), render)
    first_weight, second_weight = _draw_weights(count, weigh, flips)
    adds = tf.reshape(adds, [-1])
    # Powers take long, so that each is computed only where it is wanted.
    places = [tf.where(chosen) for chosen in (adds, ~adds)]
    made = [
        operation(
            *(
                tf.gather_nd(part, where)
                for part in (mixed, other, first_weight, second_weight)
            )
        )
        for operation, where in zip((add, multiply), places, strict=True)
    ]
    for where, part in zip(places, made, strict=True):
        mixed = tf.tensor_scatter_nd_update(mixed, where, part)
    return tf.clip_by_value(mixed, 0.0, 1.0)


def _render_some(others, images, chosen, seed):
    """`others`, with renderings of the chosen of `images` in their places."""
    where = tf.where(chosen)
    part = tf.ensure_shape(tf.gather_nd(images, where), [None, *images.shape[1:]])
    rendered = rendering.random_photo_rendering(part, seed)
    return tf.tensor_scatter_nd_update(others, where, rendered)


def add(first: Tensor, second: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Returns `a * first + b * second` of images that are seen as -1 to 1."""
    return (a * (2 * first - 1) + b * (2 * second - 1) + 1) / 2


def multiply(first: Tensor, second: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Returns `first ** a * second ** b` of images that are seen as 0 to 2."""
    # At 0, a negative power would be infinite.
    return tf.pow(2 * first, a) * tf.pow(tf.maximum(2 * second, 1e-6), b) / 2


def _draw_weights(count, seed, convex):
    """Weights of the image and of what is mixed in, each `(count, 1, 1, 1)`.

    Where `convex`, both are from 0 to 1; else the second one is negative.
    """
    shape = [count, 1, 1, 1]
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    near = _draw_beta(shape, seeds[0], _SHARPNESS, 1.0)
    far, again = (_draw_beta(shape, each, 1.0, _SHARPNESS) for each in seeds[1:])
    return tf.where(convex, near, 1 + far), tf.where(convex, far, -again)


def _draw_beta(shape, seed, first, second):
    """Draws of a beta distribution, one of whose parameters is 1, by its inverse."""
    draws = tf.random.stateless_uniform(shape, seed)
    if second == 1.0:
        return tf.pow(draws, 1 / first)
    return 1 - tf.pow(1 - draws, 1 / second)


@functools.lru_cache(maxsize=4)
def mixing_pictures(shape: tuple[int, int, int]) -> np.ndarray:
    """Returns the pictures that `pixmix` mixes in, always the same.

    A third each: fractals of iterated functions, whose attractor is drawn point by
    point; waves of all lengths whose power falls with the frequency, as in photographs;
    discs of random sizes and colours that cover one another ("dead leaves").

    Args:
        shape: `(height, width, channels)`.

    Returns:
        float32 `(64, height, width, channels)` in [0, 1].
    """
    kinds = (_draw_fractal, _draw_waves, _draw_leaves)
    return np.stack(
        [
            kinds[number % 3](np.random.default_rng([number, *shape]), shape)
            for number in range(_NUM_PICTURES)
        ]
    ).astype(np.float32)


def _draw_fractal(random, shape):
    height, width, channels = shape
    num_maps = random.integers(2, 5)
    matrices = []
    for _ in range(num_maps):
        left, _ = np.linalg.qr(random.normal(size=(2, 2)))
        right, _ = np.linalg.qr(random.normal(size=(2, 2)))
        # Contractions, so that every sequence of them ends in the attractor.
        matrices.append(left @ np.diag(random.uniform(0.3, 0.85, 2)) @ right)
    matrices, offsets = np.array(matrices), random.uniform(-1, 1, (num_maps, 2))
    points = random.normal(size=(2000, 2))
    colours = random.random((num_maps, channels))
    inks = np.full((len(points), channels), 0.5)
    picture, hits = np.zeros(shape), np.zeros((height, width, 1))
    for step in range(40):
        which = random.integers(num_maps, size=len(points))
        points = np.einsum("nij,nj->ni", matrices[which], points) + offsets[which]
        inks = (inks + colours[which]) / 2
        if step < 10:
            continue
        if step == 10:
            low = points.min(axis=0)
            extent = np.maximum(points.max(axis=0) - low, 1e-6)
        places = ((points - low) / extent * (height - 1, width - 1)).round()
        rows, columns = places.astype(int).clip(0, (height - 1, width - 1)).T
        np.add.at(picture, (rows, columns), inks)
        np.add.at(hits, (rows, columns), 1)
    ground = random.random(channels)
    return np.where(hits > 0, picture / np.maximum(hits, 1), ground)


def _draw_waves(random, shape):
    height, width, channels = shape
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    slope = random.uniform(0.7, 1.7)
    phases = random.normal(size=(channels, height, width))
    spectrum = np.fft.fft2(phases) / frequency**slope
    waves = np.moveaxis(np.fft.ifft2(spectrum).real, 0, -1)
    low, high = np.percentile(waves, [2, 98], axis=(0, 1))
    return ((waves - low) / np.maximum(high - low, 1e-9)).clip(0, 1)


def _draw_leaves(random, shape):
    height, width, channels = shape
    rows, columns = np.mgrid[:height, :width]
    picture = np.broadcast_to(random.random(channels), shape).copy()
    side = min(height, width)
    for _ in range(120):
        # Few large ones, many small ones.
        radius = side * 0.03 / max(0.06, random.random()) ** 0.9
        centre = random.uniform(0, (height, width))
        inside = np.hypot(rows - centre[0], columns - centre[1]) < radius
        picture[inside] = random.random(channels)
    return picture
