"""The heat map of `inference.heat_maps` as part of a graph."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ood_keras.inference.heat_map import list_windows
from ood_keras.types import ImageShape

# Covered copies of an image that the network sees at once; more take memory for the
# maps inside a large network.
_AT_ONCE = 16


def heat_maps(
    score: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor, image_shape: ImageShape
) -> tf.Tensor:
    """By how much the score of an image falls where a part of it is covered.

    The same windows, the same filling and the same median as `inference.heat_maps`,
    one image after the other.

    Args:
        score: From images `(n, height, width, channels)` to their scores `(n,)`.
        images: Float32 `(batch, height, width, channels)`.
        image_shape: `(height, width, channels)`.

    Returns:
        Float32 `(batch, height, width)`, at least 0.
    """
    windows = np.array(list(list_windows(image_shape)), np.int32)
    sizes = sorted(set(windows[:, 2].tolist()))

    def heat_map(image):
        whole = score(image[None])[0]
        heat = tf.zeros(image_shape[:2])
        for side in sizes:
            places = windows[windows[:, 2] == side, :2]
            scores = _score_covered(score, image, places, side)
            falls = tf.nn.relu(whole - scores) / float(side**2)
            heat += _medians(falls, places, side, image_shape)
        return heat

    return tf.map_fn(
        heat_map, images, parallel_iterations=1, fn_output_signature=tf.float32
    )


def _score_covered(score, image, places, side):
    """The scores of an image with a window covered, for each place, `(places,)`."""
    count = len(places)
    # The last part is filled up, so that all parts have one shape.
    extra = -count % min(_AT_ONCE, count)
    parts = np.concatenate([places, places[:1].repeat(extra, axis=0)])
    parts = parts.reshape(-1, min(_AT_ONCE, count), 2)

    def score_part(part):
        covered = tf.map_fn(
            lambda place: cover(image, place, side),
            part,
            fn_output_signature=tf.TensorSpec(image.shape, tf.float32),
        )
        return score(covered)

    scores = tf.map_fn(
        score_part,
        tf.constant(parts),
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec(parts.shape[1:2], tf.float32),
    )
    return tf.reshape(scores, [-1])[:count]


def cover(image: tf.Tensor, place: tf.Tensor, side: int) -> tf.Tensor:
    """A copy of an image with a window filled in, as `inference.heat_map.cover` does.

    Args:
        image: `(height, width, channels)`, larger than the window.
        place: int32 `(2,)`, first row and first column of the window.
        side: Of the window, in pixels.
    """
    height, width, _ = image.shape
    top, left = place[0], place[1]
    bottom, right = top + side, left + side
    near = tf.range(1, side + 1, dtype=tf.float32)
    down, across = (1 / near)[:, None, None], (1 / near)[None, :, None]
    # Beyond the edge there is no pixel: it weighs nothing.
    total, weights = 0.0, 0.0
    for exists, pixels, weight in (
        (top > 0, image[None, tf.maximum(top - 1, 0), left:right], down),
        (
            bottom < height,
            image[None, tf.minimum(bottom, height - 1), left:right],
            down[::-1],
        ),
        (left > 0, image[top:bottom, None, tf.maximum(left - 1, 0)], across),
        (
            right < width,
            image[top:bottom, None, tf.minimum(right, width - 1)],
            across[:, ::-1],
        ),
    ):
        weight *= tf.cast(exists, tf.float32)
        total += weight * pixels
        weights += weight
    filled = tf.math.divide_no_nan(total, weights * tf.ones_like(total))
    around = [[top, height - bottom], [left, width - right], [0, 0]]
    inside = tf.pad(tf.ones((side, side, 1), tf.bool), around)
    filled = tf.ensure_shape(tf.pad(filled, around), image.shape)
    return tf.where(inside, filled, image)


def _medians(falls, places, side, image_shape):
    """At each pixel the median over the windows that cover it, `(height, width)`."""
    rows, columns = (np.unique(places[:, axis]) for axis in (0, 1))
    # Windows are a grid: those of a pixel are the rows times the columns over it.
    over_rows, over_columns = (
        _covering(starts, side, length)
        for starts, length in zip((rows, columns), image_shape[:2], strict=True)
    )
    index = (
        over_rows[:, None, :, None] * len(columns) + over_columns[None, :, None, :]
    ).reshape(*image_shape[:2], -1)
    is_there = (
        (over_rows >= 0)[:, None, :, None] & (over_columns >= 0)[None, :, None, :]
    ).reshape(index.shape)
    layers = tf.where(is_there, tf.gather(falls, np.where(is_there, index, 0)), np.inf)
    layers = tf.sort(layers, axis=-1)
    count = is_there.sum(axis=-1)
    middle = np.stack([(count - 1) // 2, count // 2], axis=-1)
    return tf.reduce_mean(tf.gather(layers, middle, batch_dims=2), axis=-1)


def _covering(starts, side, length):
    """Which starts of windows cover each pixel of a line; -1 where there are less."""
    pixels = np.arange(length)[:, None]
    covers = (starts <= pixels) & (pixels < starts + side)
    found = np.full((length, covers.sum(axis=1).max()), -1, np.int32)
    for pixel, row in enumerate(covers):
        found[pixel, : row.sum()] = np.flatnonzero(row)
    return found
