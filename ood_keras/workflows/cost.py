"""What a recipe will cost in minutes and memory, from a few of its steps."""

import sys
import time

import numpy as np

from ood_keras import pipelines
from ood_keras.training import recipes
from ood_keras.types import ImageShape, Json
from ood_keras.workflows.training import LabelsForEach

# Steps that are not counted, since graphs are made and memory is warmed up in them, and
# steps that are.
_WARM_UP, _MEASURED = 3, 5
# A pass without gradients takes about a third of a step's time for each image.
_FORWARD_SHARE = 1 / 3


def estimate(
    recipe: str | recipes.Recipe,
    image_shape: ImageShape,
    *,
    num_classes: int,
    num_train: int,
    num_validation: int,
    shows_unknown: bool = True,
) -> Json:
    """Estimates what a training will cost, from a few steps on this machine.

    The network is built and trained for eight steps on noise of the right shape, with
    the augmentation of the recipe; five of them are timed. An epoch takes its steps and
    a pass over the validation images. Memory is the largest that this process has
    taken, and the known images as bytes. What else runs on the machine then and now
    makes a difference, so this is an estimate.

    Args:
        recipe: Name of a recipe, or a `Recipe`.
        image_shape: `(height, width, channels)`.
        num_classes: Number of known classes.
        num_train: Number of known training images.
        num_validation: Number of known validation images.
        shows_unknown: Whether unknown images are trained with, where the recipe may.

    Returns:
        `{"recipe", "image_shape", "epochs", "steps_per_epoch", "seconds_per_step",
        "minutes", "memory_bytes"}`.

    Raises:
        ValueError: there are no training images, the recipe cannot have such a
            network, or it has a backbone.
    """
    recipe = find_recipe(recipe)
    if num_train < 1:
        raise ValueError("there are no readable training images to estimate a cost for")
    objective = recipe.objective
    # One of each class at least, as `Interleave` wants it.
    count = max(recipe.batch_size * (_WARM_UP + _MEASURED), num_classes)
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
    others = (
        [unknown.as_unknown()] if shows_unknown and objective.shows_unknown else None
    )
    data = pipelines.Interleave(
        known,
        others,
        num_classes,
        batch_size=recipe.batch_size,
        seed=0,
        augment=recipe.augment,
    )
    model = objective.build_model(image_shape, num_classes)
    objective.compile(model, num_classes, data.steps_per_epoch)
    outputs = objective.outputs
    batches = data if len(outputs) == 1 else LabelsForEach(data, outputs)
    model.fit(batches.epoch(0).take(_WARM_UP), shuffle=False, verbose=0)
    start = time.perf_counter()
    model.fit(batches.epoch(0, _WARM_UP).take(_MEASURED), shuffle=False, verbose=0)
    seconds = (time.perf_counter() - start) / _MEASURED
    # An epoch of `interleave` holds each known image once, and the unknown ones.
    per_epoch = 0
    if others is not None:
        per_epoch = recipe.unknown_per_epoch or round(num_train / num_classes)
    steps = -(-(num_train + per_epoch) // recipe.batch_size)
    judged = 2 * num_validation if others is not None else num_validation
    validation = _FORWARD_SHARE * seconds * judged / recipe.batch_size
    process = _measure_process()
    images = num_train + num_validation
    if others is not None:
        synthetic = recipe.synthetic_images
        images += num_train if synthetic is None else synthetic
    return {
        "recipe": recipe.name,
        "image_shape": list(image_shape),
        "epochs": recipe.epochs,
        "steps_per_epoch": steps,
        "seconds_per_step": seconds,
        "minutes": recipe.epochs * (steps * seconds + validation) / 60,
        "memory_bytes": process + images * int(np.prod(image_shape)),
    }


def find_recipe(recipe: str | recipes.Recipe) -> recipes.Recipe:
    """Returns a recipe whose cost can be estimated.

    Raises:
        ValueError: no recipe is called so, or it has a backbone.
    """
    if not isinstance(recipe, recipes.Recipe):
        recipe = recipes.get(recipe)
    if recipe.is_pretrained:
        raise ValueError(
            f"the cost of the recipe {recipe.name!r} is that of its backbone, whose "
            "features are computed once; it is not estimated. Choose another recipe"
        )
    return recipe


def describe(estimate: Json) -> str:
    """What `estimate` returns, as a sentence."""
    minutes = estimate["minutes"]
    shown = f"{minutes:.0f} minutes" if minutes >= 10 else f"{minutes:.1f} minutes"
    if minutes >= 120:
        shown = f"{minutes / 60:.1f} hours"
    shape = "x".join(map(str, estimate["image_shape"]))
    return (
        f"Estimate for the recipe {estimate['recipe']} at {shape}, from "
        f"{_MEASURED} steps on this machine as it is now: {shown} "
        f"({estimate['epochs']} epochs of {estimate['steps_per_epoch']:,} steps of "
        f"{estimate['seconds_per_step']:.2f} s) and "
        f"{estimate['memory_bytes'] / 2**30:.1f} GiB of memory"
    )


def _measure_process() -> int:
    """The most memory that this process had, in bytes; 0 where nobody says."""
    try:
        import resource
    except ImportError:  # Windows has none.
        return 0
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
