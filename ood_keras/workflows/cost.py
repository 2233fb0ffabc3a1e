"""What a recipe will cost in minutes and memory, from a few of its steps."""

import math
import time
from collections.abc import Iterable

import keras
import numpy as np

from ood_keras import machine, pipelines
from ood_keras.training import recipes
from ood_keras.types import Dataset, ImageShape, Json
from ood_keras.workflows import transfer_cost
from ood_keras.workflows.run_data import count_outliers
from ood_keras.workflows.training import label_each

# Steps that are not counted, since graphs are made and memory is warmed up in them, and
# steps that are.
_WARM_UP, _MEASURED = 3, 5
# Beyond this, steps could end for want of memory, which no message survives.
_MOST_BATCH_BYTES = 2**29
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

    The network is built and trained for nine steps on noise of the right shape, with
    the augmentation of the recipe; five of them are timed. An epoch takes its steps and
    a pass over the validation images. Memory is the largest that this process has
    taken, and all images as bytes. What else runs on the machine then and now
    makes a difference, so this is an estimate.

    Of a recipe with pretrained weights, a few batches are shown to the backbone, with
    random weights, and some steps are made of what is on top and, if it is fine-tuned,
    of all. The features of all images are on disk while the training lasts.

    Args:
        recipe: Name of a recipe, or a `Recipe`.
        image_shape: `(height, width, channels)`.
        num_classes: Number of known classes.
        num_train: Number of known training images.
        num_validation: Number of known validation images.
        shows_unknown: Whether unknown images are trained with, where the recipe may.

    Returns:
        `{"recipe", "image_shape", "epochs", "steps_per_epoch", "seconds_per_step",
        "minutes", "memory_bytes"}`; with pretrained weights also `"seconds_per_image"`,
        `"feature_images"`, `"feature_bytes"`, `"fine_tune_epochs"` and, if there are
        such, `"seconds_per_fine_tune_step"`.

    Raises:
        ValueError: there are no training images, the recipe cannot have such a network,
            or the images are so large that steps would take gigabytes.
    """
    if not isinstance(recipe, recipes.Recipe):
        recipe = recipes.get(recipe)
    if num_train < 1:
        raise ValueError("there are no readable training images to estimate a cost for")
    _check_size(recipe, image_shape)
    if recipe.is_pretrained:
        return _estimate_transfer(
            recipe,
            image_shape,
            num_classes,
            num_train,
            num_validation,
            shows_unknown and recipe.objective.shows_unknown,
        )
    objective = recipe.objective
    # One of each class at least, as `Interleave` wants it.
    count = max(recipe.batch_size * (_WARM_UP + 1 + _MEASURED), num_classes)
    known, unknown = transfer_cost.make_noise(count, image_shape, num_classes)
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
    batches = label_each(data, objective.outputs)
    seconds = _time_steps(model, batches.epoch(0), batches.epoch(0, _WARM_UP))
    # An epoch of `interleave` holds each known image once, and the unknown ones.
    per_epoch = 0
    judged = num_validation
    images = num_train
    if others is not None:
        per_epoch = recipe.unknown_per_epoch or round(num_train / num_classes)
        judged += count_outliers(range(num_validation))
        synthetic = recipe.synthetic_images
        images += num_train if synthetic is None else synthetic
    images += judged
    steps = -(-(num_train + per_epoch) // recipe.batch_size)
    validation = _FORWARD_SHARE * seconds * judged / recipe.batch_size
    process = machine.peak_memory()
    return {
        "recipe": recipe.name,
        "image_shape": list(image_shape),
        "epochs": recipe.epochs,
        "steps_per_epoch": steps,
        "seconds_per_step": seconds,
        "minutes": recipe.epochs * (steps * seconds + validation) / 60,
        "memory_bytes": process + images * int(np.prod(image_shape)),
    }


def _check_size(recipe: recipes.Recipe, image_shape: ImageShape) -> None:
    """Raises where steps could take more memory than there is."""
    batch_bytes = 4 * recipe.batch_size * math.prod(image_shape)
    if batch_bytes > _MOST_BATCH_BYTES:
        raise ValueError(
            f"a batch of {recipe.batch_size} images of {_format_shape(image_shape)} "
            f"takes {batch_bytes / 2**30:.1f} GiB, and a step many times as much. Give "
            "a smaller size, --image_shape=HEIGHT,WIDTH,CHANNELS"
        )


def _format_shape(image_shape: Iterable[int]) -> str:
    return "x".join(map(str, image_shape))


def _estimate_transfer(
    recipe: recipes.Recipe,
    image_shape: ImageShape,
    num_classes: int,
    num_train: int,
    num_validation: int,
    shows_unknown: bool,
) -> Json:
    """What `estimate` returns for a recipe whose backbone is frozen first."""
    measured = transfer_cost.measure(
        recipe,
        image_shape,
        num_classes,
        shows_unknown=shows_unknown,
        time_steps=_time_steps,
    )
    # As `draw_exposure` makes them, and `Interleave` shows them.
    others = outliers = per_epoch = 0
    if shows_unknown:
        synthetic = recipe.synthetic_images
        others = num_train if synthetic is None else synthetic
        outliers = count_outliers(range(num_validation))
        per_epoch = recipe.unknown_per_epoch or round(num_train / num_classes)
    judged = num_validation + outliers
    steps = -(-(num_train + per_epoch) // recipe.batch_size)
    features = recipe.feature_renderings * (num_train + others) + judged
    frozen = recipe.epochs - recipe.fine_tune_epochs
    # A recipe that only fine-tunes has none.
    features *= frozen > 0

    def last(seconds_per_step):
        passes = _FORWARD_SHARE * seconds_per_step * judged / recipe.batch_size
        return steps * seconds_per_step + passes

    seconds = features * measured.seconds_per_image
    seconds += frozen * last(measured.seconds_per_step)
    tuning = {}
    if measured.seconds_per_fine_tune_step is not None:
        tuning = {"seconds_per_fine_tune_step": measured.seconds_per_fine_tune_step}
        seconds += recipe.fine_tune_epochs * last(measured.seconds_per_fine_tune_step)
    images = num_train + others + judged
    return {
        "recipe": recipe.name,
        "image_shape": list(image_shape),
        "epochs": recipe.epochs,
        "steps_per_epoch": steps,
        "seconds_per_step": measured.seconds_per_step,
        "minutes": seconds / 60,
        "memory_bytes": machine.peak_memory() + images * int(np.prod(image_shape)),
        "seconds_per_image": measured.seconds_per_image,
        "feature_images": features,
        "feature_bytes": features * measured.bytes_per_image,
        "fine_tune_epochs": recipe.fine_tune_epochs,
        **tuning,
    }


def _time_steps(model: keras.Model, first: Dataset, then: Dataset) -> float:
    """Seconds that a step on `then` takes, after some on `first`.

    The first step of `then` is not counted: an augmentation is built into a pipeline
    once in an epoch, which may take as long as many steps.
    """
    ends: list[float] = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter())
    )
    model.fit(first.take(_WARM_UP), shuffle=False, verbose=0)
    model.fit(then.take(1 + _MEASURED), callbacks=[note], shuffle=False, verbose=0)
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def describe(estimate: Json) -> str:
    """What `estimate` returns, as a sentence."""
    minutes = estimate["minutes"]
    shown = f"{minutes:.0f} minutes" if minutes >= 10 else f"{minutes:.1f} minutes"
    if minutes >= 120:
        shown = f"{minutes / 60:.1f} hours"
    shape = _format_shape(estimate["image_shape"])
    parts = _say_features(estimate) if "feature_images" in estimate else []
    tuned = estimate.get("fine_tune_epochs", 0)
    steps = f"epochs of {estimate['steps_per_epoch']:,} steps of"
    if estimate["epochs"] > tuned:
        parts.append(
            f"{estimate['epochs'] - tuned} {steps} {estimate['seconds_per_step']:.2f} s"
        )
    if tuned:
        seconds = estimate["seconds_per_fine_tune_step"]
        parts.append(f"{tuned} {steps} {seconds:.2f} s, of the whole network")
    disk = estimate.get("feature_bytes", 0) / 2**30
    return (
        f"Estimate for the recipe {estimate['recipe']} at {shape}, from "
        f"{_MEASURED} steps on this machine as it is now: {shown} "
        f"({'; '.join(parts)}) and "
        f"{estimate['memory_bytes'] / 2**30:.1f} GiB of memory"
        + (f", and {disk:.1f} GiB of disk for the features" if disk else "")
    )


def _say_features(estimate: Json) -> list[str]:
    count = estimate["feature_images"]
    if not count:
        return []
    return [
        f"features of {count:,} renderings of images at "
        f"{1000 * estimate['seconds_per_image']:.0f} ms each, timed with random "
        "weights, which take as long as those of the recipe"
    ]
