"""What training on a frozen backbone will cost, from a few of its steps."""

import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np

from ood_keras import models, pipelines
from ood_keras.training import recipes
from ood_keras.training.features import FeatureData, FeatureStore
from ood_keras.types import Dataset, ImageShape
from ood_keras.workflows.training import label_each

# Batches that the backbone makes maps of: one that warms it up, and those that count.
_WARM_UP, _MEASURED = 1, 3


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of a recipe with a frozen backbone.

    Attributes:
        seconds_per_image: Of one rendering of an image, from its pixels to its map.
        bytes_per_image: Of its map, on disk.
        seconds_per_step: Of what is on top, with its reading.
        seconds_per_fine_tune_step: Of the whole network; `None` if it is never trained.
    """

    seconds_per_image: float
    bytes_per_image: int
    seconds_per_step: float
    seconds_per_fine_tune_step: float | None


def measure(
    recipe: recipes.Recipe,
    image_shape: ImageShape,
    num_classes: int,
    *,
    shows_unknown: bool,
    time_steps: Callable[[keras.Model, Dataset, Dataset], float],
) -> Measured:
    """Runs a few batches of each part of a training, on noise.

    The backbone has random weights, which take as long as others: nothing is
    downloaded or looked for.

    Args:
        recipe: With a backbone that is frozen first.
        image_shape: `(height, width, channels)`.
        num_classes: Number of known classes.
        shows_unknown: Whether unknown images are trained with.
        time_steps: Function from a compiled model, batches to warm it up with and
            batches to time, both without end, to the seconds of a step.

    Raises:
        ValueError: there is no such backbone, or it takes no such images.
    """
    plan = dataclasses.replace(recipe, backbone_weights=None, fine_tune_epochs=0)
    objective = plan.objective
    data = _make_data(plan, image_shape, num_classes, shows_unknown)

    model = objective.build_model(image_shape, num_classes)
    # As with pretrained weights.
    model.get_layer("backbone").trainable = False
    backbone, head = models.cut(model, "pool" if plan.block == "none" else "map")
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(backbone, pathlib.Path(folder))
        per_image = _time_images(store, data)
        maps = FeatureData(data, store, 1, progress=False)
        objective.compile(head, num_classes, data.steps_per_epoch)
        batches = label_each(maps, objective.outputs).epoch(0).repeat()
        per_step = time_steps(head, batches, batches)
    fine_tune_step = None
    if recipe.fine_tune_epochs:
        models.unfreeze(model)
        objective.compile(model, num_classes, data.steps_per_epoch)
        batches = label_each(data, objective.outputs).epoch(0).repeat()
        fine_tune_step = time_steps(model, batches, batches)
    return Measured(per_image, store.bytes_per_image, per_step, fine_tune_step)


def make_noise(
    count: int, image_shape: ImageShape, num_classes: int
) -> tuple[pipelines.Split, pipelines.Split]:
    """Two training splits of `count` images of noise each, to time a training on.

    Args:
        count: How many images; of at least `num_classes`, each class has one.
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes, which take turns.
    """
    class_names = tuple(map(str, range(num_classes)))
    random = np.random.default_rng(0)
    known, unknown = (
        pipelines.Split(
            name,
            "train",
            random.integers(0, 256, (count, *image_shape), np.uint8),
            np.arange(count) % num_classes,
            class_names,
        )
        for name in ("known", "unknown")
    )
    return known, unknown


def _make_data(
    recipe: recipes.Recipe, image_shape: ImageShape, num_classes: int, shows: bool
) -> pipelines.Interleave:
    """Noise, of which an epoch is whole batches; each class has an image at least."""
    size = recipe.batch_size
    count = size * max(-(-num_classes // size), 1 if shows else 2)
    known, unknown = make_noise(count, image_shape, num_classes)
    return pipelines.Interleave(
        known,
        [unknown.as_unknown()] if shows else None,
        num_classes,
        batch_size=size,
        seed=0,
        unknown_per_epoch=count if shows else None,
        augment=recipe.augment,
    )


def _time_images(store: FeatureStore, data: pipelines.Interleave) -> float:
    """Seconds that the map of an augmented image takes, as a training makes them."""
    started, counted = 0.0, 0
    rendering = data.rendering(1).repeat(_WARM_UP + _MEASURED)

    def batches() -> Iterator[tuple]:
        nonlocal started, counted
        for number, (images, labels) in enumerate(rendering.take(_WARM_UP + _MEASURED)):
            if number == _WARM_UP:
                started = time.perf_counter()
            if number >= _WARM_UP:
                counted += len(images)
            yield images, labels

    sizes = [len(labels) for _, labels in data.rendering(0)]
    count = sum(np.resize(sizes, _WARM_UP + _MEASURED).tolist())
    store.read("timed", batches(), count)
    return (time.perf_counter() - started) / counted
