"""Images of pure noise, the paper's section 5.1."""

import math
from collections.abc import Callable

import numpy as np

from ood_keras.pipelines import pixel_cache, stored_images
from ood_keras.pipelines.sources import base
from ood_keras.pipelines.sources.registry import register
from ood_keras.types import PixelArray

_MEAN_0, _STD_HALF = "mean_0", "std_0.5"
_LICENCE = "made by a random generator"


@register(name="uniform_noise", is_made=True, licence=_LICENCE)
def open_uniform(request: base.Request) -> base.Source:
    """Opens `uniform_noise`: every pixel uniform in [0, 1]."""
    return base.from_generator(
        request,
        (28, 28, 1),
        lambda random, shape, _: _fill(
            shape, lambda some: random.integers(0, 256, some, dtype=np.uint8)
        ),
    )


@register(
    name="gaussian_noise",
    is_made=True,
    licence=_LICENCE,
    forms={
        _MEAN_0: "mean 0 instead of 0.5, so that half of the pixels are black",
        _STD_HALF: "standard deviation 0.5 instead of 1, as Outlier Exposure has it",
    },
)
def open_gaussian(request: base.Request) -> base.Source:
    """Opens `gaussian_noise`: every pixel normal, mean 0.5, variance 1, clipped.

    Its forms have another mean or standard deviation, and are clipped to [0, 1] too:
    beyond it a value is no level of an image.
    """
    mean = 0.0 if _MEAN_0 in request.forms else 0.5
    std = 0.5 if _STD_HALF in request.forms else 1.0

    def make(random, shape, _):
        def draw(some):
            pixels = mean + std * random.standard_normal(some, dtype=np.float32)
            return np.rint(pixels.clip(0, 1) * 255)

        return _fill(shape, draw)

    return base.from_generator(request, (28, 28, 1), make)


def _fill(
    shape: tuple[int, ...], draw: Callable[[tuple[int, ...]], np.ndarray]
) -> PixelArray:
    """Draws images some at a time, with the numbers that one draw of all would give."""
    images = pixel_cache.allocate(shape)
    # NumPy makes four bytes of one number of the generator, and starts anew with each
    # draw.
    size = 4 * max(1, stored_images.CHUNK_BYTES // (4 * math.prod(shape[1:])))
    for start in range(0, shape[0], size):
        rows = images[start : start + size]
        rows[...] = draw(rows.shape)
    return pixel_cache.finish(images)
