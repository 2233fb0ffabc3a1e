"""The pixels that a network takes: declared, told by its layers, or found by trial."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from ood_keras.layers import PixelScaling
from ood_keras.types import ImageShape, Json

# As in keras.applications.imagenet_utils: of red, green, blue, for pixels in [0, 1]...
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# ... and of blue, green, red, for pixels from 0 to 255.
_CAFFE_MEAN = (103.939, 116.779, 123.68)


@dataclasses.dataclass(frozen=True)
class PixelRange:
    """What becomes of pixels in [0, 1] before a network sees them.

    Attributes:
        name: What `--input_range` calls it.
        scale: The factor, or one for each channel.
        offset: What is added, or one for each channel.
        reverse_channels: Whether red, green, blue become blue, green, red first.
    """

    name: str
    scale: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0
    reverse_channels: bool = False

    @property
    def is_unit(self) -> bool:
        """Whether the network takes [0, 1] as it is."""
        unit = np.all(np.equal(self.scale, 1)) and np.all(np.equal(self.offset, 0))
        return bool(unit) and not self.reverse_channels

    def apply(self, images: np.ndarray) -> np.ndarray:
        """What the network takes for float images in [0, 1]."""
        if self.reverse_channels:
            images = images[..., ::-1]
        scaled = images * np.asarray(self.scale, np.float32)
        return scaled + np.asarray(self.offset, np.float32)

    def layer(self) -> keras.layers.Layer:
        """The same as a layer."""
        return PixelScaling(
            self.scale, self.offset, self.reverse_channels, name="pixels"
        )

    def to_json(self) -> Json:
        return dataclasses.asdict(self)


RANGES = {
    one.name: one
    for one in (
        PixelRange("0,1"),
        PixelRange("0,255", 255.0),
        PixelRange("-1,1", 2.0, -1.0),
        PixelRange(
            "imagenet_torch",
            tuple(1 / deviation for deviation in _DEVIATION),
            tuple(
                -mean / deviation
                for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)
            ),
        ),
        PixelRange("imagenet_caffe", 255.0, tuple(-mean for mean in _CAFFE_MEAN), True),
    )
}


def parse(text: str) -> PixelRange:
    """Returns the range that `--input_range` names: one of `RANGES`, or LOW,HIGH.

    Raises:
        ValueError: it is neither.

    Example:

    >>> parse("-0.5,0.5")
    PixelRange(name='-0.5,0.5', scale=1.0, offset=-0.5, reverse_channels=False)
    """
    name = "".join(text.split())
    if name in RANGES:
        return RANGES[name]
    try:
        low, high = map(float, name.split(","))
        if np.isfinite([low, high]).all() and low < high:
            return PixelRange(name, high - low, low)
    except ValueError:
        pass
    raise ValueError(
        "the input range of a network is two numbers, LOW,HIGH, which black and white "
        f"become, or one of {', '.join(RANGES)}. Received: {text!r}"
    )


def of_preprocessor(preprocessor: Any) -> tuple[PixelRange, tuple[int, int] | None]:
    """What a KerasHub preprocessor does to pixels, and the `(height, width)` it makes.

    Raises:
        ValueError: it has none for images.
    """
    converter = getattr(preprocessor, "image_converter", None)
    if converter is None:
        raise ValueError(
            "the preprocessor of this KerasHub task has no image converter, so its "
            "input is no image. Give an image classifier"
        )
    scale = _numbers(getattr(converter, "scale", None), 1.0)
    offset = _numbers(getattr(converter, "offset", None), 0.0)
    # The converter takes 0 to 255.
    scale = (
        tuple(255 * one for one in scale) if isinstance(scale, tuple) else 255 * scale
    )
    size = getattr(converter, "image_size", None)
    return PixelRange("preprocessor", scale, offset), size and tuple(size)


def candidates(image_shape: ImageShape, *others: PixelRange) -> list[PixelRange]:
    """The ranges worth trying on such images, `others` first."""
    found = {one.name: one for one in others}
    for name, one in RANGES.items():
        if image_shape[-1] == 3 or not name.startswith("imagenet"):
            found.setdefault(name, one)
    return list(found.values())


@dataclasses.dataclass(frozen=True)
class Trial:
    """How well a network knows labelled pictures in one range of pixels.

    Attributes:
        accuracy: Share of pictures whose class has the largest logit.
        likelihood: Mean logarithm of the probability of their class.
        predictions: The classes, `(num_images,)`.
    """

    accuracy: float
    likelihood: float
    predictions: np.ndarray


def try_ranges(
    run: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    ranges: Iterable[PixelRange],
) -> dict[str, Trial]:
    """Shows a network labelled known pictures in several ranges.

    Args:
        run: From float images, as the network takes them, to its known logits.
        images: Float images in [0, 1].
        labels: Their classes.
        ranges: What to try.
    """
    found = {}
    for one in ranges:
        logits = run(one.apply(images)).astype(np.float64)
        if not np.isfinite(logits).all():
            continue
        rest = logits - logits.max(axis=-1, keepdims=True)
        logarithms = rest - np.log(np.exp(rest).sum(axis=-1, keepdims=True))
        predictions = logits.argmax(axis=-1)
        found[one.name] = Trial(
            accuracy=float(np.mean(predictions == labels)),
            likelihood=float(logarithms[np.arange(len(labels)), labels].mean()),
            predictions=predictions,
        )
    return found


def best_of(trials: Mapping[str, Trial]) -> str:
    """The range in which most pictures are known; of equal ones, the likelier."""
    return max(
        trials, key=lambda name: (trials[name].accuracy, trials[name].likelihood)
    )


def room(count: int) -> float:
    """How far two accuracies on so many pictures may differ and mean nothing."""
    # Two standard errors of the difference, at its largest, and never less than 5 %.
    return max(0.05, 2 * np.sqrt(0.5 / count))


def choose(
    trials: Mapping[str, Trial],
    ranges: Mapping[str, PixelRange],
    count: int,
    gaps: Mapping[str, float] | None = None,
) -> str:
    """Returns the range that a network was trained on, where nobody says.

    The range in which clearly most pictures are known; where several are as good, the
    one in which the first batch normalisation sees what it saw in training; without
    one, that in which the network is surest, unless it is also the one with the largest
    numbers, which make any network surer.

    Args:
        trials: What was found of each.
        ranges: The ranges, by name.
        count: Number of pictures.
        gaps: How far each is from the statistics of batch normalisation, or `None`.

    Raises:
        ValueError: nothing decides between two.
    """
    top = max(trial.accuracy for trial in trials.values())
    rivals = [name for name in trials if trials[name].accuracy > top - room(count)]
    if gaps is not None:
        order = sorted(rivals, key=lambda name: gaps[name])
        if len(order) == 1 or gaps[order[1]] > 2 * gaps[order[0]]:
            return order[0]
    best = best_of({name: trials[name] for name in rivals})
    size = {name: float(np.max(np.abs(ranges[name].scale))) for name in rivals}
    surest = max(rivals, key=lambda name: trials[name].likelihood)
    if len(rivals) == 1 or size[surest] < max(size.values()):
        return surest if len(rivals) > 1 else best
    shown = ", ".join(f"{name} {trials[name].accuracy:.0%}" for name in rivals)
    raise ValueError(
        "which pixels does the network take? Its layers do not say, and of "
        f"{count} known pictures it classifies as many as their folders do whether it "
        f"is given one range or another: {shown}. Its scores would differ, so say what "
        "black and white were in its training, with --input_range: 0,1 if pixels were "
        "divided by 255, 0,255 if they were not"
    )


def check_told(told: str, by: str, trials: Mapping[str, Trial], count: int) -> None:
    """Raises a ValueError if another range than one that was told is clearly right.

    Args:
        told: Name of the range.
        by: Who told it, for the message.
        trials: What was found of each.
        count: Number of pictures.
    """
    best = best_of(trials)
    if told not in trials:
        raise ValueError(
            f"{by} says that the network takes pixels of {told!r}, and of such it "
            f"makes NaN; of {best!r} it does not. Give --input_range={best}"
        )
    if trials[best].accuracy > trials[told].accuracy + room(count):
        raise ValueError(
            f"{by} says that the network takes pixels of {told!r}, but of {count} "
            f"known pictures it then classifies {trials[told].accuracy:.0%} as their "
            f"folders do, and with {best!r} {trials[best].accuracy:.0%}. Give "
            f"--input_range={best}, if that is what it was trained on"
        )


def _numbers(value: Any, default: float) -> float | tuple[float, ...]:
    if value is None:
        return default
    if np.ndim(value) == 0:
        return float(value)
    return tuple(float(number) for number in np.asarray(value).reshape(-1))
