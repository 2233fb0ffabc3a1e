"""Random renderings: the same drawing or photograph, scanned or drawn otherwise."""

import functools

import tensorflow as tf

from ood_keras.pipelines import augmentations
from ood_keras.types import Tensor

# Of the Gaussian kernel: of the widest, with sigma 1, 1 % lies further out.
_RADIUS = 2


@augmentations.register
def random_rendering(images: Tensor, seed: Tensor, *, strength: float = 1.0) -> Tensor:
    """Renders each drawing in another way that keeps what it shows.

    One in five stays as it is. Of the others, each is turned, sheared, zoomed and
    shifted with bilinear interpolation (three in four); its strokes get thicker or
    thinner (half); it is blurred, or reduced and enlarged again (half); its tones go
    through a gamma curve (half), a contrast curve from mild to binary (a third), and
    are scaled about a level, which may lift the background (a third); noise is added (a
    fifth). What comes in from outside is black. Of dark ink on white paper all this is
    done to the negative, so that its paper stays white. Stateless: the same images and
    seed give the same result.

    A classifier whose known and unknown training images all pass through it is judged
    by what images show, and less by how they were scanned.

    Args:
        images: float32 `(batch, height, width, channels)` in [0, 1].
        seed: int32 `(2,)`.
        strength: Scales every change; 1 is the widest that was meant.

    Returns:
        float32 `(batch, height, width, channels)` in [0, 1].

    Example:

    >>> images = tf.ones((2, 28, 28, 1))
    >>> random_rendering(images, [1, 2]).shape
    TensorShape([2, 28, 28, 1])
    """
    # Ink is light and its ground is dark for all that follows.
    light = _on_light_paper(images)
    images = tf.where(light, 1.0 - images, images)
    images = _render(images, seed, strength, _OF_DRAWINGS)
    return tf.where(light, 1.0 - images, images)


@augmentations.register
def random_photo_rendering(
    images: Tensor, seed: Tensor, *, strength: float = 1.0
) -> Tensor:
    """Renders each picture in another way that keeps what it shows.

    Half of them are mirrored. One in five then stays as it is. Of the others, each is
    turned, sheared, zoomed and shifted with bilinear interpolation, less far than a
    drawing (three in four); blurred, or reduced and enlarged again (two in five);
    its tones go through a gamma curve (two in five) and a mild contrast curve (a
    fifth), are scaled about a level, which may lift the background (two in five), and,
    in colour, channel by channel (two in five); noise is added (a fifth). At the edges
    the picture is reflected. Stateless: the same images and seed give the same result.

    Args:
        images: float32 `(batch, height, width, channels)` in [0, 1].
        seed: int32 `(2,)`.
        strength: Scales every change; 1 is the widest that was meant.

    Returns:
        float32 `(batch, height, width, channels)` in [0, 1].

    Example:

    >>> images = tf.ones((2, 32, 32, 3))
    >>> random_photo_rendering(images, [1, 2]).shape
    TensorShape([2, 32, 32, 3])
    """
    mirror_seed, seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    (mirror,) = _Draws(tf.shape(images)[0])(mirror_seed, 1)
    images = tf.where(mirror < 0.5, tf.reverse(images, [2]), images)
    return _render(images, seed, strength, _OF_PHOTOS)


@augmentations.register
def mild_rendering(images: Tensor, seed: Tensor) -> Tensor:
    """Renders each drawing as `random_rendering` does, at half the strength.

    As drawings come from users, rather than as far as a network should be pushed: for
    validation images, which choose threshold, detector and epoch.

    Args:
        images: float32 `(batch, height, width, channels)` in [0, 1].
        seed: int32 `(2,)`.

    Returns:
        float32 `(batch, height, width, channels)` in [0, 1].
    """
    return random_rendering(images, seed, strength=_MILD)


@augmentations.register
def mild_photo_rendering(images: Tensor, seed: Tensor) -> Tensor:
    """Renders each picture as `random_photo_rendering` does, at half the strength.

    For validation images, see `mild_rendering`.

    Args:
        images: float32 `(batch, height, width, channels)` in [0, 1].
        seed: int32 `(2,)`.

    Returns:
        float32 `(batch, height, width, channels)` in [0, 1].
    """
    return random_photo_rendering(images, seed, strength=_MILD)


_MILD = 1 / 2
# Of a drawing whose edges are mostly lighter, the ground is white paper.
_LIGHT = 0.9
_UNTOUCHED = 1 / 5


def _render(images, seed, strength, changes):
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, len(changes) + 1))
    draws = _Draws(tf.shape(images)[0])
    touched = draws(seeds[-1], 1)[0] >= _UNTOUCHED
    for (change, share), change_seed in zip(changes, seeds[:-1], strict=True):
        draws_seed, chosen_seed = tf.unstack(
            tf.random.experimental.stateless_split(change_seed, 2)
        )
        chosen = touched & (draws(chosen_seed, 1)[0] < share)
        images = _change_some(
            images,
            chosen,
            lambda some, rows, change=change, seed=draws_seed: tf.clip_by_value(
                change(some, seed, strength, draws.only(rows)), 0.0, 1.0
            ),
        )
    return images


def _on_light_paper(images):
    """Which images have a light ground, `(batch, 1, 1, 1)`."""
    edges = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    levels = tf.concat([tf.reduce_min(edge, axis=-1) for edge in edges], axis=1)
    share = tf.reduce_mean(tf.cast(levels > _LIGHT, tf.float32), axis=1)
    return tf.reshape(share > 0.5, [-1, 1, 1, 1])


class _Draws:
    """Random numbers for the images of a batch, or for those of some rows of it.

    An image has the same ones, whichever others are looked at.
    """

    def __init__(self, count, rows=None):
        self._count, self._rows = count, rows

    def only(self, rows):
        """Those of the rows `(n, 1)`."""
        return _Draws(self._count, rows)

    def __call__(self, seed, number, low=0.0, high=1.0):
        """`number` uniform ones for each image, each `(n, 1, 1, 1)`."""
        shape = [number, self._count, 1, 1, 1]
        numbers = tf.unstack(tf.random.stateless_uniform(shape, seed, low, high))
        return [self._take(each) for each in numbers]

    def normal(self, seed, shape):
        """Normal ones of a shape for each image, `(n, *shape)`."""
        return self._take(tf.random.stateless_normal([self._count, *shape], seed))

    def _take(self, numbers):
        return numbers if self._rows is None else tf.gather_nd(numbers, self._rows)


def _change_some(images, chosen, change):
    """`images` with `change(some, rows)` in place of the chosen ones alone."""
    rows = tf.where(tf.reshape(chosen, [-1]))
    some = tf.ensure_shape(tf.gather_nd(images, rows), [None, *images.shape[1:]])
    return tf.tensor_scatter_nd_update(images, rows, change(some, rows))


def _move(images, seed, strength, draws, fill_mode="CONSTANT"):
    turn, zoom, shear, right, down = (
        tf.reshape(draw, [-1]) * strength for draw in draws(seed, 5, -1.0, 1.0)
    )
    height, width = images.shape[1], images.shape[2]
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    # The transform leads from output to input pixels.
    cosine, sine = tf.cos(0.2 * turn), tf.sin(0.2 * turn)
    scale = tf.exp(0.18 * zoom)
    xx, xy = scale * cosine, scale * (0.15 * shear * cosine - sine)
    yx, yy = scale * sine, scale * (0.15 * shear * sine + cosine)
    to_x = centre_x + 0.09 * width * right
    to_y = centre_y + 0.09 * height * down
    zero = tf.zeros_like(xx)
    transforms = tf.stack(
        [
            xx,
            xy,
            to_x - xx * centre_x - xy * centre_y,
            yx,
            yy,
            to_y - yx * centre_x - yy * centre_y,
            zero,
            zero,
        ],
        axis=1,
    )
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=images.shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill_mode,
    )
    return tf.ensure_shape(moved, images.shape)


def _move_photo(images, seed, strength, draws):
    return _move(images, seed, 0.8 * strength, draws, "REFLECT")


def _change_pen(images, seed, strength, draws):
    which, share = draws(seed, 2)

    def widen(size, images, _):
        return tf.nn.max_pool2d(images, size, 1, "SAME")

    def thin(size, images, _):
        return 1.0 - tf.nn.max_pool2d(1.0 - images, size, 1, "SAME")

    pen = images
    for low, high, change, size in (
        # The wider window is rarer: it closes the eye of an e, or breaks a thin stroke.
        (0.0, 0.15, widen, 3),
        (0.15, 0.5, widen, 2),
        (0.5, 0.9, thin, 2),
        (0.9, 1.0, thin, 3),
    ):
        chosen = (which >= low) & (which < high)
        pen = _change_some(pen, chosen, functools.partial(change, size))
    return images + strength * share * (pen - images)


def _soften(images, seed, strength, draws):
    which, width = draws(seed, 2)
    height, columns = images.shape[1], images.shape[2]

    def blur(some, rows):
        return _blur(some, strength * (0.45 + 0.55 * tf.gather_nd(width, rows)))

    def resize(factor, method, some, _):
        small = (max(1, round(factor * height)), max(1, round(factor * columns)))
        reduced = tf.image.resize(some, small, "area")
        return tf.image.resize(reduced, (height, columns), method)

    for low, high, change in (
        (0.0, 0.5, blur),
        (0.5, 0.67, functools.partial(resize, 0.72, "bilinear")),
        (0.67, 0.84, functools.partial(resize, 0.72, "bicubic")),
        (0.84, 1.0, functools.partial(resize, 0.5, "bicubic")),
    ):
        images = _change_some(images, (which >= low) & (which < high), change)
    return images


def _blur(images, sigma):
    """A Gaussian blur with a `sigma` `(batch, 1, 1, 1)` for each image, in pixels."""
    offsets = range(-_RADIUS, _RADIUS + 1)
    weights = [tf.exp(-(offset**2) / (2.0 * sigma**2 + 1e-6)) for offset in offsets]
    total = tf.add_n(weights)
    height, width = images.shape[1], images.shape[2]
    pad = [_RADIUS, _RADIUS]
    rows = tf.pad(images, [[0, 0], pad, [0, 0], [0, 0]], "SYMMETRIC")
    images = tf.add_n(
        [weight * rows[:, i : i + height] for i, weight in enumerate(weights)]
    )
    columns = tf.pad(images / total, [[0, 0], [0, 0], pad, [0, 0]], "SYMMETRIC")
    images = tf.add_n(
        [weight * columns[:, :, i : i + width] for i, weight in enumerate(weights)]
    )
    return images / total


def _bend_tones(images, seed, strength, draws):
    (exponent,) = draws(seed, 1, -0.8, 0.8)
    # At 0, the power's gradient, which nobody asks for, would be infinite.
    return tf.pow(tf.maximum(images, 1e-6), tf.exp(strength * exponent))


def _sharpen_tones(images, seed, strength, draws):
    # From mild to nearly binary.
    return _bend_contrast(images, seed, strength, draws, 3.0)


def _raise_contrast(images, seed, strength, draws):
    return _bend_contrast(images, seed, strength, draws, 0.9)


def _bend_contrast(images, seed, strength, draws, most):
    steepness, level = draws(seed, 2)
    slope = tf.exp(1.0 + most * strength * steepness)
    level = 0.5 + 0.3 * strength * (level - 0.5)
    low, high = (tf.sigmoid(slope * (end - level)) for end in (0.0, 1.0))
    return (tf.sigmoid(slope * (images - level)) - low) / (high - low)


def _scale_tones(images, seed, strength, draws):
    contrast, brightness, about = draws(seed, 3)
    contrast = 1.0 - 0.4 * strength * contrast
    # Half of them about black, so that the background stays what it is.
    level = tf.where(about < 0.5, 0.0, 0.5)
    offset = tf.where(about < 0.5, 0.0, 0.12 * strength * (brightness - 0.5))
    return level + contrast * (images - level) + offset


def _noise(images, seed, strength, draws):
    size_seed, noise_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    (size,) = draws(size_seed, 1, 0.0, 0.06)
    noise = draws.normal(noise_seed, images.shape[1:])
    return images + strength * size * noise


def _cast_colour(images, seed, strength, draws):
    if images.shape[-1] == 1:
        return images
    gains = tf.concat(draws(seed, images.shape[-1], -0.18, 0.18), axis=-1)
    return images * (1.0 + strength * gains)


# In this order, each with the share of the images that it changes.
_OF_DRAWINGS = (
    (_move, 3 / 4),
    (_change_pen, 1 / 2),
    (_soften, 1 / 2),
    (_bend_tones, 1 / 2),
    (_sharpen_tones, 1 / 3),
    (_scale_tones, 1 / 3),
    (_noise, 1 / 5),
)
_OF_PHOTOS = (
    (_move_photo, 3 / 4),
    (_soften, 2 / 5),
    (_bend_tones, 2 / 5),
    (_raise_contrast, 1 / 5),
    (_scale_tones, 2 / 5),
    (_cast_colour, 2 / 5),
    (_noise, 1 / 5),
)
