"""Outliers generated from known training images and procedurally."""

from collections.abc import Callable

import numpy as np

from ood_keras.pipelines import pixel_cache, stored_images
from ood_keras.pipelines.sources import base
from ood_keras.pipelines.sources.registry import register
from ood_keras.pipelines.split import Split, even_shares
from ood_keras.types import PixelArray

_CHUNK_BYTES = 32 * 2**20


@register(
    name="synthetic",
    is_made=True,
    licence="made from the known images, under their terms",
    # Its images are made from the known ones, in whatever form these are.
    forms=None,
)
def open_synthetic(request: base.Request) -> base.Source:
    """Opens `synthetic`: as many images of each of `KINDS`, in random order.

    Train outliers are made from known training images only, validation ones from known
    validation images, and so on. No image of any other data set is used, so a model
    trained with them has seen no real unknown.

    Raises:
        TypeError: `known` is neither a source nor a split.
        ValueError: `known` is missing, has too few images, or another shape is wanted.
    """
    known = request.known
    if known is None:
        raise ValueError(
            "`synthetic` makes its outliers from the known images: call "
            '`pipelines.load("synthetic", known=source)` with the known source or split'
        )
    if not isinstance(known, Split | base.Source):
        raise TypeError(
            "`known` must be the known source or one of its splits. Received: "
            f"{known!r}"
        )
    shape = known.image_shape
    if request.image_shape not in (None, shape):
        raise ValueError(
            "synthetic outliers have the shape of the known images. Received: "
            f"image_shape={request.image_shape} and known images {shape}; load the "
            "known source with that shape instead"
        )
    is_split = isinstance(known, Split)

    def make(random, shape, role):
        split = known if is_split else known.split(role)
        return outliers(random, shape[0], split.images, split.labels)

    roles = (known.role,) if is_split else known.roles  # type: ignore[union-attr]
    return base.from_generator(request, shape, make, roles)


def outliers(
    random: np.random.Generator, count: int, images: PixelArray, labels: np.ndarray
) -> PixelArray:
    """Returns `count` outliers, equal shares of each kind, in random order.

    Args:
        random: `numpy.random.Generator`.
        count: Number of outliers.
        images: Known images, uint8 `(num_images, height, width, channels)`.
        labels: Their classes, integers `(num_images,)`.

    Returns:
        uint8 `(count, height, width, channels)`, on disk where they are too many.

    Raises:
        ValueError: there are fewer than two known images.
    """
    known = _Known(images, labels)
    result = pixel_cache.allocate((count, *known.shape))
    chunk = max(1, _CHUNK_BYTES // (4 * int(np.prod(known.shape))))
    start = 0
    for kind, share in zip(KINDS.values(), even_shares(count, len(KINDS)), strict=True):
        for size in [chunk] * (share // chunk) + [share % chunk]:
            if size:
                made = kind(random, size, known)
                result[start : start + size] = np.rint(made.clip(0, 1) * 255)
                start += size
    order = random.permutation(count)
    return stored_images.choose(pixel_cache.finish(result), order)


class _Known:
    """Draws known images, float32 in [0, 1]."""

    def __init__(self, images: PixelArray, labels: np.ndarray) -> None:
        if len(images) < 2:
            raise ValueError(
                "synthetic outliers need at least two known images. Received: "
                f"{len(images)}"
            )
        order = np.argsort(labels, kind="stable")
        _, starts, counts = np.unique(
            labels[order], return_index=True, return_counts=True
        )
        if len(counts) == 1:
            # One class: any two images are as different as can be had.
            starts, counts = np.arange(len(order)), np.ones(len(order), np.int64)
        self._images, self._order = images, order
        self._starts, self._counts = (
            np.repeat(starts, counts),
            np.repeat(counts, counts),
        )
        self.shape = images.shape[1:]

    def draw(self, random: np.random.Generator, count: int) -> np.ndarray:
        return self._floats(random.integers(len(self._order), size=count))

    def draw_pairs(
        self, random: np.random.Generator, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns two arrays of images; the two of a pair are of different classes."""
        first = random.integers(len(self._order), size=count)
        second = random.integers(len(self._order) - self._counts[first])
        second += np.where(second >= self._starts[first], self._counts[first], 0)
        return self._floats(first), self._floats(second)

    def _floats(self, places: np.ndarray) -> np.ndarray:
        return self._images[self._order[places]].astype(np.float32) / 255


def patch_shuffles(
    random: np.random.Generator, count: int, known: _Known
) -> np.ndarray:
    """Known images, cut into 3x3, 4x4 or 7x7 patches that change places."""
    height, width, channels = known.shape
    grids = [grid for grid in (3, 4, 7) if grid <= min(height, width)] or [1]
    parts = []
    for grid, share in zip(grids, even_shares(count, len(grids)), strict=True):
        images = known.draw(random, share)
        rows, columns = -(-height // grid), -(-width // grid)
        padding = (0, rows * grid - height), (0, columns * grid - width)
        images = np.pad(images, ((0, 0), *padding, (0, 0)), mode="edge")
        patches = images.reshape(share, grid, rows, grid, columns, channels)
        patches = patches.swapaxes(2, 3)
        patches = patches.reshape(share, grid * grid, rows * columns * channels)
        order = random.random((share, grid * grid)).argsort(axis=1)
        patches = np.take_along_axis(patches, order[..., None], axis=1)
        patches = patches.reshape(share, grid, grid, rows, columns, channels)
        images = patches.swapaxes(2, 3).reshape(images.shape)
        parts.append(images[:, :height, :width])
    return np.concatenate(parts)


def inversions(random: np.random.Generator, count: int, known: _Known) -> np.ndarray:
    """Negatives of known images, at different contrasts."""
    low = _uniform(random, count, 0, 0.3)
    high = _uniform(random, count, 0.6, 1)
    return high - (high - low) * known.draw(random, count)


def joined_halves(random: np.random.Generator, count: int, known: _Known) -> np.ndarray:
    """Two halves of known images of different classes, side by side or stacked."""
    height, width, _ = known.shape
    first, second = known.draw_pairs(random, count)
    cut = _uniform(random, count, 0.35, 0.65)
    y = np.arange(height).reshape(1, height, 1, 1) / height
    x = np.arange(width).reshape(1, 1, width, 1) / width
    stacked = random.random((count, 1, 1, 1)) < 0.5
    joined = np.where(np.where(stacked, y, x) < cut, first, second)
    return _between(first, second, joined)


def blends(random: np.random.Generator, count: int, known: _Known) -> np.ndarray:
    """Mean or maximum of two known images of different classes."""
    first, second = known.draw_pairs(random, count)
    use_mean = random.random((count, 1, 1, 1)) < 0.5
    mean = (first + second) / 2
    return np.where(use_mean, mean, _between(first, second, np.maximum(first, second)))


def blurred_noise(random: np.random.Generator, count: int, known: _Known) -> np.ndarray:
    """Smooth random clouds at scales from a pixel to a quarter of the image."""
    return _stretch(_clouds(random, count, known.shape))


def blobs(random: np.random.Generator, count: int, known: _Known) -> np.ndarray:
    """Clouds cut off at a random level: black and white patches of any size."""
    clouds = _clouds(random, count, (*known.shape[:2], 1))
    level = _uniform(random, count, 0.25, 0.8)
    ranks = clouds.reshape(count, -1).argsort(axis=1).argsort(axis=1)
    ranks = ranks.reshape(clouds.shape) / (ranks.shape[1] - 1 or 1)
    return _paint(random, (ranks > level)[..., 0].astype(np.float32), known.shape)


def coloured_noise(
    random: np.random.Generator, count: int, known: _Known
) -> np.ndarray:
    """Noise with a power spectrum 1/f^a, a from 0 (white) to 4 (one slow wave)."""
    height, width, channels = known.shape
    white = random.standard_normal((count, height, width, channels), dtype=np.float32)
    spectrum = np.fft.rfft2(white, axes=(1, 2))
    y = np.fft.fftfreq(height).reshape(1, height, 1, 1)
    x = np.fft.rfftfreq(width).reshape(1, 1, -1, 1)
    frequency = np.hypot(y, x)
    frequency[0, 0, 0] = np.inf
    spectrum *= frequency ** (-_uniform(random, count, 0, 4) / 2)
    noise = np.fft.irfft2(spectrum, s=(height, width), axes=(1, 2))
    noise /= noise.std(axis=(1, 2, 3), keepdims=True) + 1e-6
    mean, spread = _uniform(random, count, 0.2, 0.8), _uniform(random, count, 0.1, 0.6)
    return _some_grey(random, mean + spread * noise).astype(np.float32)


def white_noise(random: np.random.Generator, count: int, known: _Known) -> np.ndarray:
    """Every pixel on its own: uniform, normal, or a few bright ones on black."""
    shape = (count, *known.shape)
    uniform = random.random(shape, dtype=np.float32)
    normal = 0.5 + random.standard_normal(shape, dtype=np.float32)
    specks = (uniform < _uniform(random, count, 0.02, 0.6)).astype(np.float32)
    which = random.integers(3, size=(count, 1, 1, 1))
    return _some_grey(random, np.choose(which, [uniform, normal, specks]))


def rectangles(random: np.random.Generator, count: int, known: _Known) -> np.ndarray:
    """One to six filled rectangles."""
    height, width, _ = known.shape
    y = np.arange(height).reshape(1, height, 1)
    x = np.arange(width).reshape(1, 1, width)

    def rectangle():
        top, bottom = np.sort(random.uniform(-0.2, 1.2, (2, count, 1, 1)), axis=0)
        left, right = np.sort(random.uniform(-0.2, 1.2, (2, count, 1, 1)), axis=0)
        inside_y = (y >= top * height) & (y < bottom * height)
        return inside_y & (x >= left * width) & (x < right * width)

    return _layers(random, count, known.shape, rectangle, most=6)


def shapes(random: np.random.Generator, count: int, known: _Known) -> np.ndarray:
    """One to four filled ellipses and triangles at any angle."""
    height, width, _ = known.shape
    y = ((np.arange(height) + 0.5) / height).reshape(1, height, 1)
    x = ((np.arange(width) + 0.5) / width).reshape(1, 1, width)

    def shape():
        angle = random.uniform(0, 2 * np.pi, (count, 1, 1))
        centre_y, centre_x = random.uniform(0.1, 0.9, (2, count, 1, 1))
        size_y, size_x = random.uniform(0.08, 0.45, (2, count, 1, 1))
        down = (
            np.cos(angle) * (y - centre_y) - np.sin(angle) * (x - centre_x)
        ) / size_y
        right = (
            np.sin(angle) * (y - centre_y) + np.cos(angle) * (x - centre_x)
        ) / size_x
        ellipse = down**2 + right**2 < 1
        triangle = (down < 0.7) & (down > 2 * np.abs(right) - 1)
        return np.where(random.random((count, 1, 1)) < 0.5, ellipse, triangle)

    return _layers(random, count, known.shape, shape, most=4)


def strokes(random: np.random.Generator, count: int, known: _Known) -> np.ndarray:
    """Two to five curved pen strokes: letters of no alphabet."""
    height, width, _ = known.shape
    y = np.arange(height, dtype=np.float32).reshape(1, height, 1) / height
    x = np.arange(width, dtype=np.float32).reshape(1, 1, width) / width
    radius = random.uniform(0.02, 0.07, (count, 1, 1)).astype(np.float32)
    num_strokes = random.integers(2, 6, (count, 1, 1))
    nearest = np.full((count, height, width), np.inf, np.float32)
    t = np.linspace(0, 1, 9).reshape(-1, 1, 1)
    for stroke in range(num_strokes.max()):
        # Points of a quadratic Bezier curve, joined by straight pieces; strokes that an
        # image does not have are drawn far outside.
        ends = random.uniform(0.1, 0.9, (3, count, 2))
        points = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
        points = points.astype(np.float32)[..., None, None]
        points[:, (num_strokes <= stroke).ravel()] = 1e3
        for (from_y, from_x), (to_y, to_x) in zip(
            points[:-1].swapaxes(1, 2), points[1:].swapaxes(1, 2), strict=True
        ):
            distance = _distance_to_piece(y, x, from_y, from_x, to_y, to_x)
            np.minimum(nearest, distance, out=nearest)
    softness = 0.5 / min(height, width)
    return _paint(random, 0.5 + (radius - nearest) / (2 * softness), known.shape)


def stripes(random: np.random.Generator, count: int, known: _Known) -> np.ndarray:
    """Waves, stripes and chessboards of any angle and period."""
    height, width, _ = known.shape
    y = np.arange(height).reshape(1, height, 1)
    x = np.arange(width).reshape(1, 1, width)

    def wave(angle):
        period = np.exp(
            random.uniform(np.log(2), np.log(max(height, 4)), (count, 1, 1))
        )
        phase = random.uniform(0, 2 * np.pi, (count, 1, 1))
        along = np.cos(angle) * x + np.sin(angle) * y
        return np.sin(2 * np.pi * along / period + phase)

    angle = random.uniform(0, np.pi, (count, 1, 1))
    first, second = wave(angle), wave(angle + np.pi / 2)
    crossed = random.random((count, 1, 1)) < 0.4
    pattern = np.where(crossed, first * second, first)
    sharp = random.random((count, 1, 1)) < 0.5
    pattern = np.where(sharp, np.sign(pattern), pattern)
    return _paint(random, (pattern + 1) / 2, known.shape)


def ramps(random: np.random.Generator, count: int, known: _Known) -> np.ndarray:
    """Plain surfaces and slow gradients of brightness."""
    height, width, channels = known.shape
    y = np.linspace(-1, 1, height).reshape(1, height, 1, 1)
    x = np.linspace(-1, 1, width).reshape(1, 1, width, 1)
    slope_y, slope_x = random.uniform(-0.5, 0.5, (2, count, 1, 1, channels))
    slope = _uniform(random, count, 0, 1) ** 2
    level = random.uniform(0, 1, (count, 1, 1, channels))
    return _some_grey(random, level + slope * (slope_y * y + slope_x * x))


# From the known images first, then from nothing.
KINDS = {
    kind.__name__: kind
    for kind in (
        patch_shuffles,
        inversions,
        joined_halves,
        blends,
        blurred_noise,
        blobs,
        coloured_noise,
        white_noise,
        rectangles,
        shapes,
        strokes,
        stripes,
        ramps,
    )
}


def _between(first: np.ndarray, second: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    """Replaces mixtures that are nearly one of their two images by the mean of both."""
    axes = (1, 2, 3)
    way = np.abs(mixed - first).mean(axes, keepdims=True)
    way /= np.abs(second - first).mean(axes, keepdims=True) + 1e-6
    return np.where(np.abs(way - 0.5) < 0.25, mixed, (first + second) / 2)


def _uniform(
    random: np.random.Generator, count: int, low: float, high: float
) -> np.ndarray:
    """One number per image, float32 `(count, 1, 1, 1)`."""
    return random.uniform(low, high, (count, 1, 1, 1)).astype(np.float32)


def _clouds(
    random: np.random.Generator, count: int, shape: tuple[int, ...]
) -> np.ndarray:
    """Returns blurred noise, `(count, *shape)`; the scale differs between images."""
    from scipy import ndimage

    largest = max(1.0, min(shape[:2]) / 4)
    scales = np.geomspace(0.7, largest, 6)
    parts = []
    for scale, share in zip(scales, even_shares(count, len(scales)), strict=True):
        white = random.standard_normal((share, *shape), dtype=np.float32)
        # "wrap" keeps the edges as lively as the middle.
        parts.append(ndimage.gaussian_filter(white, (0, scale, scale, 0), mode="wrap"))
    return np.concatenate(parts)


def _stretch(fields: np.ndarray) -> np.ndarray:
    """Brings each image to a lowest value of 0 and a highest of 1."""
    low = fields.min(axis=(1, 2, 3), keepdims=True)
    return (fields - low) / (fields.max(axis=(1, 2, 3), keepdims=True) - low + 1e-6)


def _some_grey(random: np.random.Generator, fields: np.ndarray) -> np.ndarray:
    """Makes half of the images grey: their first channel in all channels."""
    if fields.shape[-1] == 1:
        return fields
    is_grey = random.random((len(fields), 1, 1, 1)) < 0.5
    return np.where(is_grey, fields[..., :1], fields)


def _colours(
    random: np.random.Generator, count: int, channels: int, low: float, high: float
) -> np.ndarray:
    colours = random.uniform(low, high, (count, 1, 1, channels)).astype(np.float32)
    return _some_grey(random, colours)


def _paint(
    random: np.random.Generator, mask: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Turns masks `(count, height, width)` in [0, 1] into images of two colours.

    Three of four are bright on black, the others have any two colours.
    """
    count, channels = len(mask), shape[2]
    on_black = random.random((count, 1, 1, 1)) < 0.75
    paper = np.where(on_black, 0, _colours(random, count, channels, 0, 1))
    ink = _colours(random, count, channels, 0, 1)
    ink = np.where(on_black, 0.5 + ink / 2, ink)
    return paper + (ink - paper) * mask.clip(0, 1).astype(np.float32)[..., None]


def _layers(
    random: np.random.Generator,
    count: int,
    shape: tuple[int, ...],
    draw: Callable[[], np.ndarray],
    most: int,
) -> np.ndarray:
    """Paints one to `most` layers, each of its own colour, over black or grey."""
    on_black = random.random((count, 1, 1, 1)) < 0.75
    paper = np.where(on_black, 0, _colours(random, count, shape[2], 0, 1))
    images = np.broadcast_to(paper, (count, *shape)).astype(np.float32)
    num_layers = random.integers(1, most + 1, (count, 1, 1))
    for layer in range(most):
        mask = draw() & (layer < num_layers)
        colours = _colours(random, count, shape[2], 0, 1)
        images = np.where(mask[..., None], colours, images)
    return images


def _distance_to_piece(
    y: np.ndarray,
    x: np.ndarray,
    from_y: np.ndarray,
    from_x: np.ndarray,
    to_y: np.ndarray,
    to_x: np.ndarray,
) -> np.ndarray:
    """Distance of each pixel to a straight piece, `(count, height, width)`."""
    along_y, along_x = to_y - from_y, to_x - from_x
    length = along_y**2 + along_x**2 + 1e-12
    place = ((y - from_y) * along_y + (x - from_x) * along_x) / length
    place = place.clip(0, 1)
    return np.hypot(y - from_y - place * along_y, x - from_x - place * along_x)
