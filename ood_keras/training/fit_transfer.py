"""Trains what is on top of a frozen backbone, then all of it."""

import dataclasses
import pathlib
import shutil
from typing import Any

import keras

from ood_keras import models
from ood_keras.training import objectives, processes, run_directory
from ood_keras.training.features import FeatureData, FeatureStore, FeatureValidation
from ood_keras.training.fit import fit
from ood_keras.types import Images, Json, Path


def fit_transfer(
    model: keras.Model,
    data: Any,
    *,
    objective: objectives.Objective,
    run_dir: Path,
    validation: tuple[Images, Images | None],
    num_classes: int,
    settings: Json,
    seed: int,
    wrap: Any = None,
    progress: bool = True,
) -> list[Json]:
    """Trains a `models.transfer` network in one part or two, each resumable exactly.

    First the backbone is frozen: its maps of all training images, known and unknown,
    are computed once, in several renderings of each, kept in the folder `features` of
    the run until it is done, and what is on top trains on them. Then, for the recipe's
    `fine_tune_epochs`, the backbone trains too, on images. The first part is then a run
    of its own, in the folder `frozen`.

    Args:
        model: What `objective.build_model` returned for a recipe with pretrained
            weights. It is left with the weights of the best epoch of the last part.
        data: A `pipelines.Interleave`.
        objective: The training method, whose recipe says how long each part lasts.
        run_dir: As for `training.fit`, as are the others.
        wrap: A function that is called on the data of each part, or `None`.

    Returns:
        The history of the last part, as `training.fit` returns it.

    Raises:
        ValueError: several processes train together; or as `training.fit`, as are the
            others.
    """
    if processes.count_processes() > 1:
        raise ValueError(
            "training.fit_transfer keeps the backbone's maps in one folder and trains "
            f"in one process. Received: {processes.count_processes()} processes. Use "
            "training.fit, which several can share"
        )
    recipe = objective.recipe
    run_dir = pathlib.Path(run_dir)
    wrap = wrap or (lambda data: data)
    options: dict[str, Any] = {
        "num_classes": num_classes,
        "settings": settings,
        "seed": seed,
        "score": objective.score,
        "progress": progress,
    }

    def compile_part(part, epochs, learning_rate):
        plan = dataclasses.replace(
            recipe, epochs=epochs, fine_tune_epochs=0, learning_rate=learning_rate
        )
        plan.objective.compile(part, num_classes, data.steps_per_epoch)

    history: list[Json] = []
    frozen_epochs = recipe.epochs - recipe.fine_tune_epochs
    if frozen_epochs:
        folder = run_dir
        if recipe.fine_tune_epochs:
            folder = run_dir / run_directory.FIRST_PART
            _check_before(run_dir, folder)
        features = folder / "features"
        backbone, head = models.cut(model, "pool" if recipe.block == "none" else "map")
        # Not as an attribute that Keras sees: the backbone is no part of the head.
        object.__setattr__(head, "inference_model", model)
        compile_part(head, frozen_epochs, recipe.learning_rate)
        store = FeatureStore(backbone, features)
        maps = FeatureData(data, store, recipe.feature_renderings, progress)
        history = fit(
            head,
            wrap(maps),
            epochs=frozen_epochs,
            run_dir=folder,
            validation=FeatureValidation(
                head, store, validation, num_classes, objective.score or ""
            ),
            **options,
        )
        # A complete run needs them no more.
        shutil.rmtree(features, ignore_errors=True)
    if recipe.fine_tune_epochs:
        models.unfreeze(model)
        rate = recipe.fine_tune_learning_rate
        compile_part(
            model,
            recipe.fine_tune_epochs,
            recipe.learning_rate / 10 if rate is None else rate,
        )
        history = fit(
            model,
            wrap(data),
            epochs=recipe.fine_tune_epochs,
            run_dir=run_dir,
            validation=validation,
            **options,
        )
    return history


def _check_before(run_dir: pathlib.Path, first: pathlib.Path) -> None:
    """Raises, before the first part begins, where the second could not follow."""
    run_directory.check_folder(run_dir)
    if (run_dir / "run.json").exists() and not (first / "run.json").exists():
        raise ValueError(
            f"{run_dir} holds a run without a first part in {first.name}/, so another "
            "run than one with fine_tune_epochs. Choose another run_dir"
        )
