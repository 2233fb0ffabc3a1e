"""Images of pure noise, the paper's section 5.1."""

import numpy as np

from ood_keras.pipelines.sources import base
from ood_keras.pipelines.sources.registry import register

_LICENCE = "made by a random generator"


@register(name="uniform_noise", is_made=True, licence=_LICENCE)
def open_uniform(request: base.Request) -> base.Source:
    """Opens `uniform_noise`: every pixel uniform in [0, 1]."""
    return base.from_generator(
        request,
        (28, 28, 1),
        lambda random, shape, _: random.integers(0, 256, shape, dtype=np.uint8),
    )


@register(name="gaussian_noise", is_made=True, licence=_LICENCE)
def open_gaussian(request: base.Request) -> base.Source:
    """Opens `gaussian_noise`: every pixel normal, mean 0.5, variance 1, clipped."""

    def make(random, shape, _):
        pixels = 0.5 + random.standard_normal(shape, dtype=np.float32)
        return np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)

    return base.from_generator(request, (28, 28, 1), make)
