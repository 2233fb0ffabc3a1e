"""What a network takes and gives, found and checked on labelled known pictures."""

import dataclasses
import time

import keras
import numpy as np

from ood_keras import detectors as detector_room
from ood_keras import pipelines
from ood_keras.detectors import first_layers
from ood_keras.types import ImageShape, Json
from ood_keras.workflows.adoption import class_check, pixel_ranges
from ood_keras.workflows.adoption.given_network import GivenNetwork

# Labelled pictures on which ranges of pixels and orders of classes are tried.
_NUM_TRIED = 512
# Of these, about as many tell what a SavedModel gives.
_NUM_SHOWN = 64
# And those whose statistics are compared with batch normalisation's, at once.
_NUM_MEASURED = 32


@dataclasses.dataclass
class Contract:
    """What a network takes and gives, as it was found.

    Attributes:
        model: The network as a Keras model of images in [0, 1].
        pixels: What it takes itself.
        found_by: Who says so.
        image_shape: `(height, width, channels)`.
        output: Name of the output that classifies, or `None`.
        head: What the output is.
        gives: What a SavedModel gives, one of `wrapping.OUTPUTS`; else `None`.
        gives_found_on: On how many images that was found.
        accuracy: `{range: share of known validation pictures that are classified as
            their folders do}`, of every range that was tried.
        seconds_per_image: How long the network takes.
        notes: What the user should know.
    """

    model: keras.Model
    pixels: pixel_ranges.PixelRange
    found_by: str
    image_shape: ImageShape
    output: str | None
    head: str
    accuracy: dict[str, float]
    seconds_per_image: float
    gives: str | None = None
    gives_found_on: int | None = None
    notes: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"The network takes pixels of {self.pixels.name!r}, by {self.found_by}: "
            f"{self.accuracy[self.pixels.name]:.1%} of the known validation pictures "
            f"tried are classified as their folders do. It gives {self.head}."
        )

    def to_json(self) -> Json:
        return {
            "pixels": self.pixels.to_json(),
            "pixels_found_by": self.found_by,
            "image_shape": list(self.image_shape),
            "output": self.output,
            "head": self.head,
            "accuracy_by_pixels": self.accuracy,
            **(
                {"gives": self.gives, "gives_found_on": self.gives_found_on}
                if self.gives is not None
                else {}
            ),
        }


def find(
    network: GivenNetwork, source: pipelines.Source, unknown_class: bool = False
) -> Contract:
    """Finds what a network takes and gives, on labelled known pictures.

    Args:
        network: The network.
        source: The known source, in the network's image shape and order of classes.
        unknown_class: Whether the last output is of an unknown class.

    Raises:
        ValueError: the network is no classifier, or its classes or pixels are not those
            of the pictures; the message says which, and what to give.
    """
    shape, count = source.image_shape, source.num_classes
    some = source.validation.take(min(len(source.validation), _NUM_TRIED))
    images, labels = some.images.astype(np.float32) / 255, some.labels
    told = network.declared
    tried = pixel_ranges.candidates(shape, *([told] if told else []))
    shown = images[:: max(1, len(images) // _NUM_SHOWN)]
    found_on = network.tell_output(shape, tried, shown)
    # In its own pixels, so that each range can be tried.
    bare = network.wrap(pixel_ranges.RANGES["0,1"], shape)
    view = detector_room.Network(bare, sample=images[:2])
    class_check.check_count(view.num_logits, source, unknown_class)

    def run(pixels):
        return np.concatenate(
            [outputs["logits"][:, :count] for outputs, _ in view.batches(pixels, 64)]
        )

    hint = first_layers.tell_pixels(bare, images[:2])
    ranges = {one.name: one for one in tried}
    run(images[:64])  # The graph is made, which is not to be timed.
    start = time.monotonic()
    trials = pixel_ranges.try_ranges(run, images, labels, tried)
    seconds = (time.monotonic() - start) / (len(images) * len(tried))
    if not trials:
        raise ValueError(
            "the network gives NaN or infinite numbers for known pictures in every "
            f"range of pixels that was tried ({', '.join(ranges)}). Look for weights "
            "that diverged"
        )
    name, by = _choose_pixels(
        network, source, trials, labels, hint, ranges, bare, images
    )
    head = _describe_head(view, source.class_names)
    return Contract(
        model=network.wrap(ranges[name], shape),
        pixels=ranges[name],
        found_by=by,
        image_shape=shape,
        output=network.output,
        head=head,
        accuracy={name: trial.accuracy for name, trial in trials.items()},
        seconds_per_image=seconds,
        gives=network.gives,
        gives_found_on=found_on,
    )


def _choose_pixels(network, source, trials, labels, hint, ranges, bare, images):
    """Returns the name of the range that a network takes, and who says so."""
    count, names = len(labels), source.class_names
    best = pixel_ranges.best_of(trials)
    told, by = network.declared, network.declared_by
    told = told.name if told is not None else hint[0] if hint is not None else None
    likeliest = trials.get(told, trials[best])
    class_check.check_order(likeliest, labels, names, trials[best].accuracy)
    class_check.check_knows(trials[best], labels, names, best)
    if network.declared is not None:
        pixel_ranges.check_told(told, by, trials, count)
        return told, by
    by = f"trial on {count} known pictures"
    if hint is not None:
        try:
            pixel_ranges.check_told(told, "a layer", trials, count)
            return told, f"its layer {hint[1]!r}"
        except ValueError:
            by += f", against its layer {hint[1]!r}"
    gaps = first_layers.measure_gaps(
        bare, {name: ranges[name].apply(images[:_NUM_MEASURED]) for name in trials}
    )
    return pixel_ranges.choose(trials, ranges, count, gaps), by


def _describe_head(view, class_names) -> str:
    if view.num_units == 1:
        return (
            f"one number z, with two classes of logits [0, z]: a large one is "
            f"{class_names[1]!r}"
        )
    if view.activation == "sigmoid":
        return (
            f"{view.num_logits} independent sigmoids, whose log-odds are taken as "
            "logits: the class is that of the largest, and the probabilities become a "
            "softmax, which sums to 1"
        )
    if view.activation == "softmax":
        return f"a softmax over {view.num_logits} classes, which is undone"
    return f"logits of {view.num_logits} classes"
