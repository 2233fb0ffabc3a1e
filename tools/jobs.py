"""The jobs behind the commands: they join data, model, training, measuring and export.

Everything here can be called from Python; the commands only parse flags. A run lives in
one folder, `run_dir`.
"""

import dataclasses
import json
import pathlib

import keras
import numpy as np

from ood_keras import calibration, detectors, evaluation, pipelines, training
from ood_keras import export as exporting
from ood_keras.files import atomic_file
from ood_keras.pipelines import recipes

DETECTORS = ("unknown_probability", "msp", "max_logit", "energy", "objectosphere")

# Enough exposure images to judge a checkpoint by; more would only cost time.
_MAX_VALIDATION_UNKNOWN = 5000
_NUM_SAMPLES = 64


def train(*, known, unknown, run_dir, recipe="fast", data_dir=None, overrides=(), seed=0):
    """Trains a recipe into `run_dir`, or resumes it there.

    Args:
        known: Spec of the known source.
        unknown: Specs of the unknown sources to train with.
        run_dir: The folder of the run.
        recipe: Name of a recipe, or a `recipes.Recipe`.
        data_dir: The folder of the data sets.
        overrides: `field=value` strings that change the recipe.
        seed: Decides everything.

    Returns:
        The history that `training.fit` returns.

    Raises:
        ValueError: nothing to train with, leaking splits, an unknown recipe or field.
    """
    if not unknown:
        raise ValueError(
            "no unknown source was given to train with. Name at least one, for example "
            "`emnist/letters`, a folder of your own (`folder:PATH`), or `synthetic`, "
            "which is made from the known images"
        )
    if not isinstance(recipe, recipes.Recipe):
        recipe = recipes.get(recipe, **_parse_overrides(overrides))
    training.set_seed(seed)
    known_source, unknown_sources = _load(known, unknown, data_dir)
    num_classes = known_source.num_classes
    known_train = known_source.train
    total = recipe.unknown_images or round(len(known_train) / num_classes)
    shares = _shares(total, len(unknown_sources))
    unknown_train = [
        source.train.take(min(share, len(source.train)), seed=seed)
        for source, share in zip(unknown_sources, shares, strict=True)
    ]
    known_validation, unknown_validation = _validation(known_source, unknown_sources)
    pipelines.check_roles(
        known={"train": known_train, "validation": known_validation},
        unknown={"train": unknown_train, "validation": unknown_validation},
    )
    data = pipelines.Interleave(
        known_train,
        unknown_train,
        num_classes,
        batch_size=recipe.batch_size,
        seed=seed,
        augment=recipe.augment,
    )
    model = recipe.build_model(known_source.image_shape, num_classes)
    # XLA makes convolutions on a CPU three times slower than oneDNN's kernels.
    model.compile(
        recipe.build_optimizer(data.steps_per_epoch),
        loss=recipe.build_loss(num_classes),
        jit_compile=False,
    )
    return training.fit(
        model,
        data,
        epochs=recipe.epochs,
        run_dir=run_dir,
        validation=(known_validation.dataset(), _concatenated(unknown_validation)),
        num_classes=num_classes,
        seed=seed,
        settings={
            "known": known,
            "unknown": list(unknown),
            "data_dir": data_dir,
            "image_shape": list(known_source.image_shape),
            "class_names": list(known_source.class_names),
            "recipe": dataclasses.asdict(recipe),
            "data": {
                f"{split.source}/{split.role}": {
                    "images": len(split),
                    "sha256": split.fingerprint(),
                }
                for split in [
                    known_train,
                    known_validation,
                    *unknown_train,
                    *unknown_validation,
                ]
            },
        },
    )


def evaluate(*, run_dir, unknown, data_dir=None, detectors=DETECTORS):
    """Measures the run's model on test images and writes the result into the run.

    The detector is selected on validation data alone: known images, and unknown images
    of the sources that the run was trained with.

    Args:
        run_dir: A finished run.
        unknown: Specs of the unknown test sources.
        data_dir: The folder of the data sets; default: the run's.
        detectors: Names of the detectors to compare.

    Returns:
        The `evaluation.Report`.
    """
    run_dir = pathlib.Path(run_dir)
    settings = _settings(run_dir)
    seed = settings["seed"]
    exposed = settings["unknown"]
    data_dir = data_dir or settings["data_dir"]
    known_source, exposed_sources = _load(settings["known"], exposed, data_dir)
    _, test_sources = _load(settings["known"], unknown, data_dir, known_source)
    known_validation, unknown_validation = _validation(known_source, exposed_sources)
    tests = {spec: source.test for spec, source in zip(unknown, test_sources, strict=True)}
    pipelines.check_roles(
        known={"validation": known_validation, "test": known_source.test},
        unknown={"validation": unknown_validation, "test": list(tests.values())},
    )
    model = keras.models.load_model(run_dir / "model.keras")
    report = evaluation.evaluate(
        _fitted(detectors, model, known_source),
        known=(settings["known"], known_source.test.dataset()),
        unknown={spec: split.dataset() for spec, split in tests.items()},
        validation_known=known_validation.dataset(),
        validation_unknown=_concatenated(unknown_validation),
        seen=exposed,
        protocol={"seed": seed, "recipe": settings["recipe"]["name"]},
    )
    report.save(run_dir)
    return report
