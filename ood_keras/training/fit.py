"""Trains a model with checkpoints, exact resume and selection on validation data."""

import contextlib
import hashlib
import json
from typing import Any

import keras

from ood_keras import files
from ood_keras.conventions import check_count, check_num_classes
from ood_keras.layers import BatchNormalization
from ood_keras.training import processes, run_directory
from ood_keras.training.as_training_data import as_training_data
from ood_keras.training.run import TrainingRun, without_counters
from ood_keras.training.set_seed import set_seed
from ood_keras.training.validation import Validation
from ood_keras.types import Images, Json, Path, TrainingData, Validator

_BACKENDS = ("tensorflow", "jax")
# What `model.compile` was given and training depends on.
_COMPILED = ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics")


def fit(
    model: keras.Model,
    data: TrainingData | Any,
    *,
    epochs: int,
    run_dir: Path,
    validation: tuple[Images, Images | None] | Validator,
    num_classes: int,
    settings: Json | None = None,
    seed: int = 0,
    score: str | None = "unknown_probability",
    batch_size: int = 128,
    checkpoint_every: float = 30.0,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Trains a model so that a killed run resumes exactly, and keeps the best epoch.

    Use it for runs worth keeping; `model.fit` stays right for a quick look. The
    training is Keras' own `model.fit`, one call per epoch; around it come:

    * Resume. A run that ended at any moment, by SIGKILL too, goes on when the same call
      is made again, and ends with the weights, bit for bit, and the history of a run
      that was not interrupted: batch normalisation, dropout, optimizer and running
      metrics included. A completed run returns its history at once.
    * Selection. After every epoch the model is measured on `validation`, exactly. The
      best epoch has the lowest `val_fpr95_known_positive`; ties go to the higher
      `val_known_accuracy`, then to the lower `val_detection_error`, the higher
      `val_auroc`, the earlier epoch.
      Without unknown validation images it has the highest `val_known_accuracy`; ties go
      to the lower `val_known_loss`, which decides alone where there is no classifier.

    `run_dir` receives `run.json`, `history.csv`, `logs/` (TensorBoard), `checkpoints/`
    and at the end `model.keras`, with the best epoch's weights. A model that only
    serves to train another one names that as its attribute `inference_model`, and then
    that is the one in `model.keras`.

    Several processes may train one model on JAX, see `training.join_processes`; all
    make the same call. The first has `run_dir`, and each other a folder beside it, with
    `.process-1` and so on after its name. If one is lost, so are the others, and the
    same call in all of them goes on from the newest checkpoint that any has.

    Args:
        model: A compiled `keras.Model` with logits as its output, or as the output
            "logits" of a dict; any other needs a `validation` that measures it. Call
            `training.set_seed(seed)` before building it. It is trained in place and
            left with the weights of the best epoch (the optimizer keeps its last
            state). An optimizer with `use_ema` puts its averages into the weights after
            each epoch, as after any `model.fit`. Its randomness must come from layers
            and their seed generators, as that of Keras' own layers does: no other can
            be resumed.
        data: Has `steps_per_epoch`, and `epoch(index, start_step)`, which returns the
            batches of that epoch from that step on as a `tf.data.Dataset` and is the
            same whenever it is called: `pipelines.Interleave`. What its `get_config()`
            says, if it has one, is compared like `settings`. Or images with labels, -1
            for unknown: arrays `(images, labels)`, a `tf.data.Dataset` or a
            `keras.utils.PyDataset`, read once into memory as `pipelines.as_split` does;
            every image is then in every epoch once.
        epochs: Passes over the data in all, those before a resume included.
        run_dir: Folder of the run: new, empty, or that of the same run.
        validation: `(known, unknown)` image data, known with labels `0..N-1`; unknown
            is `None` where training must not be steered by any. Or an object whose
            `measure()` returns `{name: number}` after every epoch: `known_loss`, or
            `fpr95_known_positive`, `detection_error` and `auroc`, among any others.
        num_classes: N, the number of known classes.
        settings: Plain JSON values that say what is run: recipe, data sources and their
            fingerprints. Saved in `run.json`; a resumed run must have the same.
        seed: Decides all that is random but the order and the augmentation of `data`,
            which has a seed of its own. Saved and compared like `settings`.
        score: The score of the selection, a name in `detectors.output_scores`.
            "unknown_probability" needs N + 1 logits. `None` will do where `validation`
            measures by itself.
        batch_size: Images per step, where `data` is arrays or a dataset.
        checkpoint_every: Seconds between checkpoints inside an epoch: what a kill can
            cost. There is one after every epoch in any case.
        progress: Whether to show a progress bar (on a terminal only) and print one line
            per epoch.

    Returns:
        One dict per epoch: `epoch` (from 1), `loss` and the compiled metrics,
        `learning_rate`, `seconds`, and `val_` before each name of
        `metrics.evaluate_scores` and before `known_accuracy` (without unknown images
        `known_accuracy` and `known_loss`). Fractions, not percent.

    Raises:
        ValueError: an argument out of range, a `run_dir` that holds another run,
            training that diverged, or a clock before 1980 or after 2107; or processes
            that would each train a model of its own, were given different runs, or
            cannot split each batch evenly.
        TypeError: `model`, `data`, `validation` or `settings` are of another kind.
        BlockingIOError: another process is training in `run_dir`.
        RuntimeError: another of the processes that train together is gone.
        OSError: a full or read-only disk. Nothing is half written; make space and
            make the same call again.

    Example:

    >>> training.set_seed(0)
    >>> model = ood_keras.models.se_alexnet(input_shape=(28, 28, 1), num_classes=10)
    >>> model.compile("sgd", ood_keras.losses.OpenSetLoss(num_classes=10))
    >>> history = training.fit(
    ...     model, pipelines.Interleave(known.train, unknown.train, num_classes=10),
    ...     epochs=6, run_dir="runs/mnist", num_classes=10,
    ...     validation=(known.validation.dataset(), unknown.validation.dataset()),
    ... )
    >>> min(row["val_fpr95_known_positive"] for row in history)
    0.0007
    """
    files.check_clock()
    epochs = check_count("epochs", epochs)
    _check_arguments(model, checkpoint_every)
    processes.check(model)
    set_seed(seed)
    num_classes = check_num_classes(num_classes, least=1)
    data = as_training_data(data, num_classes, batch_size=batch_size, seed=seed)
    validator: Any = validation
    if not hasattr(validation, "measure"):
        validator = Validation(model, validation, num_classes, score)  # type: ignore[arg-type]
    run = {
        "settings": {} if settings is None else settings,
        "seed": seed,
        "epochs": epochs,
        "steps_per_epoch": int(data.steps_per_epoch),
        "num_classes": num_classes,
        "score": score,
        **_description(model),
    }
    if hasattr(data, "get_config"):
        run["data"] = data.get_config()
    processes.check_batches(data)
    own = processes.choose_folder(run_dir)
    with (
        processes.explain_loss(own),
        run_directory.open_run(own, run) as folder,
        _strategy_of(model),
    ):
        processes.check_alike(run)
        progress = progress and processes.find_own_number() == 0
        training = TrainingRun(model, data, folder, epochs, checkpoint_every, progress)
        training.resume()
        while training.epoch < epochs:
            training.run_epoch(validator)
        training.finish()
        return training.history


def _strategy_of(model: keras.Model) -> Any:
    """The scope of the `tf.distribute` strategy that a model was made in."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _check_arguments(model: keras.Model, checkpoint_every: float) -> None:
    if keras.backend.backend() not in _BACKENDS:
        raise ValueError(
            "training.fit needs KERAS_BACKEND=tensorflow or jax; on others use "
            f"model.fit. Received: {keras.backend.backend()!r}"
        )
    if not isinstance(model, keras.Model) or not getattr(model, "compiled", False):
        raise TypeError(
            "`model` must be a compiled keras.Model: call model.compile first. "
            f"Received: {type(model).__name__}"
        )
    if not checkpoint_every >= 0:
        raise ValueError(
            "`checkpoint_every` must be a number of seconds >= 0. Received: "
            f"checkpoint_every={checkpoint_every!r}"
        )


def _description(model: keras.Model) -> Json:
    """What the model is and how it is trained, as JSON."""
    # A model that could not be saved at the end fails here, before training begins.
    text = json.dumps(keras.saving.serialize_keras_object(model), sort_keys=True)
    config = json.loads(_as_of_keras(without_counters(text)))
    compiled = config.pop("compile_config", None) or {}
    text = json.dumps(config)
    return {
        "model": {
            "parameters": getattr(model, "inference_model", model).count_params(),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        },
        **{part: compiled.get(part) for part in _COMPILED},
    }


def _as_of_keras(text: str) -> str:
    """`text` with Keras' batch normalisation in place of ours, which does the same.

    Runs of versions that had Keras' own can so be resumed.
    """
    layer = keras.saving.serialize_keras_object(BatchNormalization())
    module, name = json.dumps(layer["module"]), json.dumps(layer["registered_name"])
    text = text.replace(f'"module": {module}', '"module": "keras.layers"')
    return text.replace(f'"registered_name": {name}', '"registered_name": null')
