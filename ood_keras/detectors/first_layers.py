"""Which pixels a network takes, as its first layers tell."""

from collections.abc import Mapping
from typing import Literal

import keras
import numpy as np

from ood_keras.batches import eager_at_once
from ood_keras.detectors import listening, logit_layers
from ood_keras.detectors.network import Network
from ood_keras.layers import PixelScaling
from ood_keras.types import Tensor

PixelRange = Literal["0,1", "0,255"]

# A factor below this turns 255 into a few units at most; one above, 1 into that.
_SMALL_FACTOR = 0.05
# Mean and variance of pixels in [0, 1] are smaller.
_LARGE_MEAN, _LARGE_VARIANCE = 1.5, 1.0


def tell_pixels(model: keras.Model, images: Tensor) -> tuple[PixelRange, str] | None:
    """Which range of pixels the first layers of a network are made for.

    `Rescaling` and `Normalization` layers before the first convolution or `Dense` layer
    tell, as those inside of `keras.applications` and of Keras's tutorials do: one that
    divides by 255 takes 0 to 255. Preprocessing that is no layer does not.

    Args:
        model: A `keras.Model`.
        images: Some images `(n, height, width, channels)` to run it on.

    Returns:
        `(range, layer)`: "0,1" or "0,255", and the name of the layer that tells; `None`
        if none does.
    """
    layers = list(listening.name_layers(model).values())
    calls, _ = listening.listen(model, layers, images)
    for layer in calls:
        found = _range_of(layer)
        if found is not None:
            return found, layer.name
        if logit_layers.has_kernel(layer):
            return None
    return None


def measure_gaps(
    model: keras.Model, images: Mapping[str, Tensor]
) -> dict[str, float] | None:
    """How far images are from those that the first batch normalisation learnt from.

    Mean over the channels of `|m - M| / sqrt(V) + |log(v / V)|`, with m and v the mean
    and variance of what it is given, M and V its moving ones, which training left. In
    the range of pixels that a network was trained on, it is near 0.

    Args:
        model: A `keras.Model`.
        images: `{name: images (n, height, width, channels)}`.

    Returns:
        `{name: gap}`; `None` for a network without such a layer, or an untrained one.
    """
    layers = [
        layer
        for layer in listening.name_layers(model).values()
        if isinstance(layer, keras.layers.BatchNormalization)
        and not (
            np.all(np.asarray(layer.moving_mean) == 0)
            and np.all(np.asarray(layer.moving_variance) == 1)
        )
    ]
    if not layers or not images:
        return None
    some = next(iter(images.values()))
    calls, _ = listening.listen(model, layers, some[:1])
    first = next((layer for layer in calls if layer is not model), None)
    if first is None or first.axis not in (-1, 3):
        return None
    variance = np.asarray(first.moving_variance, np.float64) + first.epsilon
    gaps = {}
    for name, some in images.items():
        mean, found = _moments_before(model, first, some)
        shift = np.abs(mean - np.asarray(first.moving_mean))
        spread = np.abs(np.log((found + first.epsilon) / variance))
        gaps[name] = float(np.mean(shift / np.sqrt(variance) + spread))
    return gaps


def _moments_before(model, layer, images):
    """Mean and variance `(channels,)` of what a layer is given.

    A few images run at once: the inner maps of all of them would take gigabytes.
    """
    count, sums, squares = 0, 0.0, 0.0
    size = eager_at_once(images.shape[1:])
    for start in range(0, len(images), size):
        calls, _ = listening.listen(model, [layer], images[start : start + size])
        given = np.asarray(keras.ops.cast(calls[layer][0], "float32"), np.float64)
        given = given.reshape(-1, given.shape[-1])
        count += len(given)
        sums = sums + given.sum(axis=0)
        squares = squares + np.square(given).sum(axis=0)
    mean = sums / count
    return mean, np.maximum(squares / count - np.square(mean), 0.0)


def takes_bytes(network: Network) -> bool:
    """Whether uint8 images, divided by 255, are what a network takes.

    Raises:
        TypeError: a first layer says that it takes pixels from 0 to 255.
    """
    told = tell_pixels(network.model, network.sample)
    if told is not None and told[0] == "0,255":
        raise TypeError(
            f"the network begins with the layer {told[1]!r}, which takes pixels from 0 "
            "to 255; bytes are divided by 255 here, as in all that is served, and "
            "would be almost black to it. Wrap it in a model that takes [0, 1] (Pixels "
            "in docs/guides/model.md), or use ood_keras.adopt, which does"
        )
    return True


def _range_of(layer: keras.layers.Layer) -> PixelRange | None:
    """What a layer that scales pixels takes; `None` for any other."""
    if isinstance(layer, PixelScaling):
        return "0,1"
    if isinstance(layer, keras.layers.Rescaling):
        factor = float(np.max(np.abs(np.asarray(layer.scale, np.float64))))
        return "0,255" if factor < _SMALL_FACTOR else "0,1"
    if isinstance(layer, keras.layers.Normalization):
        mean = np.asarray(keras.ops.convert_to_numpy(layer.mean))
        variance = np.asarray(keras.ops.convert_to_numpy(layer.variance))
        if layer.invert:
            return None
        large = np.max(mean) > _LARGE_MEAN or np.max(variance) > _LARGE_VARIANCE
        return "0,255" if large else "0,1"
    return None
