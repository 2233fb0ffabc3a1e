"""What happens to a batch of images between the bytes and the network."""

import math

import tensorflow as tf

from ood_keras.pipelines import augmentations
from ood_keras.types import Tensor


def to_float(images: Tensor) -> Tensor:
    """Returns bytes `(..., height, width, channels)` as float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / 255.0


@augmentations.register
def random_affine(
    images: Tensor,
    seed: Tensor,
    *,
    max_shift: float = 0.07,
    max_degrees: float = 8.0,
    max_zoom: float = 0.08,
) -> Tensor:
    """Moves, turns and zooms each image a little, about its centre.

    What comes in from outside is black. Stateless: the same images and seed give the
    same result.

    Args:
        images: float32 `(batch, height, width, channels)` in [0, 1].
        seed: int32 `(2,)`.
        max_shift: Largest shift along each axis, as a share of height and width.
        max_degrees: Largest turn in either direction.
        max_zoom: Largest enlargement and reduction, as a share: 0.1 is 0.9 to 1.1.

    Returns:
        float32 `(batch, height, width, channels)` in [0, 1], bilinearly interpolated.

    Example:

    >>> images = tf.ones((2, 28, 28, 1))
    >>> random_affine(images, [1, 2]).shape
    TensorShape([2, 28, 28, 1])
    """
    batch = tf.shape(images)[0]
    height, width = images.shape[1], images.shape[2]
    uniform = tf.random.stateless_uniform([4, batch], seed, -1.0, 1.0)
    angle = uniform[0] * (max_degrees * math.pi / 180)
    # The transform maps output to input pixels, so it divides by the zoom.
    scale = 1.0 / (1.0 + uniform[1] * max_zoom)
    cosine, sine = tf.cos(angle) * scale, tf.sin(angle) * scale
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    shift_x = centre_x + uniform[2] * max_shift * width
    shift_y = centre_y + uniform[3] * max_shift * height
    zero = tf.zeros_like(angle)
    transforms = tf.stack(
        [
            cosine,
            -sine,
            shift_x - cosine * centre_x + sine * centre_y,
            sine,
            cosine,
            shift_y - sine * centre_x - cosine * centre_y,
            zero,
            zero,
        ],
        axis=1,
    )
    return _transform(images, transforms, "BILINEAR")


@augmentations.register
def random_shift(images: Tensor, seed: Tensor, *, max_pixels: int = 2) -> Tensor:
    """Moves each image by a whole number of pixels along each axis.

    Nothing is interpolated, so that strokes stay as sharp as those of images that are
    not augmented. What comes in from outside is black. Stateless.

    Args:
        images: float32 `(batch, height, width, channels)` in [0, 1].
        seed: int32 `(2,)`.
        max_pixels: Largest shift in either direction.

    Returns:
        float32 `(batch, height, width, channels)` in [0, 1].

    Example:

    >>> images = tf.ones((2, 28, 28, 1))
    >>> random_shift(images, [1, 2]).shape
    TensorShape([2, 28, 28, 1])
    """
    shape = [2, tf.shape(images)[0]]
    pixels = tf.random.stateless_uniform(
        shape, seed, -max_pixels, max_pixels + 1, tf.int32
    )
    shift_x, shift_y = tf.unstack(tf.cast(pixels, tf.float32))
    zero, one = tf.zeros_like(shift_x), tf.ones_like(shift_x)
    transforms = tf.stack([one, zero, shift_x, zero, one, shift_y, zero, zero], axis=1)
    return _transform(images, transforms, "NEAREST")


@augmentations.register
def random_shift_flip(images: Tensor, seed: Tensor, *, max_pixels: int = 2) -> Tensor:
    """`random_shift`, and a mirror image from left to right with probability 1/2.

    For things that have no sides, such as clothes; the mirror image of a digit is not a
    digit. Stateless.

    Args:
        images: float32 `(batch, height, width, channels)` in [0, 1].
        seed: int32 `(2,)`.
        max_pixels: Largest shift in either direction.

    Returns:
        float32 `(batch, height, width, channels)` in [0, 1].

    Example:

    >>> images = tf.ones((2, 28, 28, 1))
    >>> random_shift_flip(images, [1, 2]).shape
    TensorShape([2, 28, 28, 1])
    """
    shift_seed, flip_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    images = random_shift(images, shift_seed, max_pixels=max_pixels)
    draws = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], flip_seed)
    return tf.where(draws < 0.5, tf.reverse(images, [2]), images)


@augmentations.register
def random_shift_flip_erase(
    images: Tensor, seed: Tensor, *, max_pixels: int = 2, largest: float = 0.5
) -> Tensor:
    """`random_shift_flip`, and half of the images lose a rectangle to black.

    The sides of the rectangle are 1/7 to `largest` of the image's; its centre lies
    anywhere in the image. (Zhong et al. 2020, "Random erasing data augmentation", with
    black in place of noise.) Stateless.

    Args:
        images: float32 `(batch, height, width, channels)` in [0, 1].
        seed: int32 `(2,)`.
        max_pixels: Largest shift in either direction.
        largest: Longest side of a rectangle, as a share of the image's.

    Returns:
        float32 `(batch, height, width, channels)` in [0, 1].

    Example:

    >>> images = tf.ones((2, 28, 28, 1))
    >>> random_shift_flip_erase(images, [1, 2]).shape
    TensorShape([2, 28, 28, 1])
    """
    first_seed, erase_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    images = random_shift_flip(images, first_seed, max_pixels=max_pixels)
    draws = tf.random.stateless_uniform([5, tf.shape(images)[0], 1, 1], erase_seed)
    y = (tf.range(images.shape[1], dtype=tf.float32) + 0.5) / images.shape[1]
    x = (tf.range(images.shape[2], dtype=tf.float32) + 0.5) / images.shape[2]
    half_height, half_width = tf.unstack((1 / 7 + draws[:2] * (largest - 1 / 7)) / 2)
    erased = (
        (tf.abs(y[:, None] - draws[2]) < half_height)
        & (tf.abs(x - draws[3]) < half_width)
        & (draws[4] < 0.5)
    )
    return tf.where(erased[..., None], 0.0, images)


def _transform(images: Tensor, transforms: Tensor, interpolation: str) -> Tensor:
    """Returns the images under projective transforms from output to input pixels."""
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=images.shape[1:3],
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode="CONSTANT",
    )
    return tf.ensure_shape(moved, images.shape)
