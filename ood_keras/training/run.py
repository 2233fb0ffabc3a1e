"""The state of one training run, and the steps that change it."""

import math
import pathlib
import re
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ood_keras import files, metrics
from ood_keras.training import checkpoints, logs
from ood_keras.types import TrainingData, Validator

_BEST = "best/"
_SELECTING = ("fpr95_known_positive", "detection_error", "auroc")


class TrainingRun:
    """One training run: where it stands, and what takes it further.

    Attributes:
        epoch: Completed epochs.
        step: Steps taken in the epoch after them.
        seconds: Time spent in that epoch so far.
        history: One row per completed epoch.
        best_epoch: Index in `history` of the best epoch, or `None`.
        best_weights: The model's weights after that epoch.
        restored: Arrays of a checkpoint that still wait for the variables to exist.
    """

    def __init__(
        self,
        model: keras.Model,
        data: TrainingData,
        folder: pathlib.Path,
        epochs: int,
        checkpoint_every: float,
        progress: bool,
    ) -> None:
        self.model = model
        self.data = data
        self.folder = folder
        self.epochs = epochs
        self.checkpoint_every = checkpoint_every
        self.progress = progress
        self.epoch = 0
        self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []
        self.best_epoch: int | None = None
        self.best_weights: list[np.ndarray] = []
        self.restored: dict[str, np.ndarray] | None = None
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)

    def resume(self) -> None:
        """Takes up the newest checkpoint, if there is one."""
        checkpoint = checkpoints.read_newest(self.folder / "checkpoints")
        if checkpoint is None:
            return
        self.restored = checkpoint.arrays
        self.epoch, self.step = checkpoint.epoch, checkpoint.step
        self.seconds = checkpoint.details["seconds"]
        self.history = checkpoint.details["history"]
        self.best_epoch = checkpoint.details["best_epoch"]
        self.best_weights = [
            array for name, array in checkpoint.arrays.items() if name.startswith(_BEST)
        ]
        logs.write(self.folder, self.history)
        if self.epoch == self.epochs:
            self.say(f"{self.folder} is complete: {self.epochs} epochs were trained.")
        else:
            self.say(
                f"Continuing {self.folder} from epoch {self.epoch + 1}/{self.epochs}, "
                f"step {self.step}/{self.data.steps_per_epoch}."
            )

    def run_epoch(self, validator: Validator) -> None:
        """Trains to the end of the epoch, measures, and writes everything down."""
        dataset = _exactly(
            self.data.epoch(self.epoch, self.step),
            self.data.steps_per_epoch - self.step,
            f"data.epoch({self.epoch}, {self.step})",
        )
        if self.restored is not None and self.step:
            _build_metrics(self.model, dataset)
        callback = _Bookkeeping(self)
        results = self.model.fit(
            dataset,
            initial_epoch=self.epoch,
            epochs=self.epoch + 1,
            shuffle=False,
            verbose=0,
            callbacks=[callback],
        ).history
        row = {
            "epoch": self.epoch + 1,
            **{name: float(values[-1]) for name, values in results.items()},
            "learning_rate": float(
                keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
            ),
        }
        _check_loss(row["loss"], self.epoch)
        measured = validator.measure()
        row["seconds"] = round(callback.count_seconds(), 3)
        row |= {f"val_{name}": float(value) for name, value in measured.items()}
        _check_measured(row)
        self.history.append(row)
        if self.best_epoch is None or _rank(row) < _rank(self.history[self.best_epoch]):
            self.best_epoch = self.epoch
            self.best_weights = self.model.get_weights()
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        # The checkpoint decides; after a kill the rest is written again from it.
        self.save()
        logs.write(self.folder, self.history)
        self.say(_line(row, self.epochs))

    def finish(self) -> None:
        """Puts the best weights into the model and writes `model.keras`."""
        path = self.folder / "model.keras"
        was_complete = self.restored is not None and path.exists()
        if self.restored is not None:
            self.restore()
        for variable, array in zip(self.model.weights, self.best_weights, strict=True):
            variable.assign(_restore_type(array, variable))
        if not was_complete:
            files.check_clock()
            with files.atomic_file(path) as temporary:
                getattr(self.model, "inference_model", self.model).save(temporary)
        best = self.history[self.best_epoch]  # type: ignore[index]
        names = ("val_fpr95_known_positive", "val_known_accuracy", "val_known_loss")
        name = next(name for name in names if name in best)
        self.say(
            f"Best epoch: {best['epoch']}, with {name} {best[name]:.4f}. "
            f"{path} has its weights."
        )

    def save(self) -> None:
        """Writes a checkpoint of this moment."""
        if keras.backend.backend() == "jax":
            # Between two steps, Keras keeps them apart from the variables.
            self.model.jax_state_sync()
        arrays = {
            name: keras.ops.convert_to_numpy(variable)
            for name, variable in self._variables().items()
        }
        arrays |= {
            f"{_BEST}{index:05d}": array
            for index, array in enumerate(self.best_weights)
        }
        details = {
            "seconds": self.seconds,
            "history": self.history,
            "best_epoch": self.best_epoch,
        }
        checkpoints.write(
            self.folder / "checkpoints",
            checkpoints.Checkpoint(self.epoch, self.step, arrays, details),
        )

    def restore(self) -> None:
        """Gives every variable the value it had in the checkpoint."""
        stored = {
            without_counters(name): array
            for name, array in self.restored.items()  # type: ignore[union-attr]
            if not name.startswith(_BEST)
        }
        variables = {
            without_counters(name): variable
            for name, variable in self._variables().items()
        }
        strangers = sorted(stored.keys() ^ variables.keys())
        if strangers:
            raise ValueError(
                f"the checkpoint in {self.folder} is of another model or optimizer: "
                f"these variables are on one side only: {strangers[:4]}. Choose "
                "another run_dir"
            )
        for name, variable in variables.items():
            variable.assign(_restore_type(stored[name], variable))
        self.restored = None

    def say(self, text: str) -> None:
        if self.progress:
            print(text, flush=True)

    def _variables(self) -> dict[str, keras.Variable]:
        """`{name: variable}` of all that a training step reads and changes."""
        groups = {
            "model": self.model.variables,
            "optimizer": self.model.optimizer.variables,
        }
        if self.step:
            groups["metrics"] = self.model.metrics_variables
        return {
            f"{group}/{index:05d}/{variable.path}": variable
            for group, variables in groups.items()
            for index, variable in enumerate(variables)
        }


class _Bookkeeping(keras.callbacks.Callback):
    """What a `TrainingRun` does inside an epoch: restore, then count, show and save."""

    def __init__(self, run: TrainingRun) -> None:
        super().__init__()
        self.run = run
        self.first_step = run.step
        self.started = time.monotonic() - run.seconds
        self.saved = time.monotonic()
        self.bar: Any = None

    def count_seconds(self) -> float:
        """Seconds spent in this epoch, those before a resume included."""
        return time.monotonic() - self.started

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # Not before `fit`, which forgets the metrics of the last epoch just now.
        if self.run.restored is not None:
            self.run.restore()
        elif epoch == 0:
            self.run.save()
        if self.run.progress:
            from tqdm import tqdm

            self.bar = tqdm(
                total=self.run.data.steps_per_epoch,
                initial=self.run.step,
                desc=f"epoch {epoch + 1}/{self.run.epochs}",
                unit="step",
                leave=False,
                disable=None,  # Only on a terminal.
            )

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        run = self.run
        steps = run.data.steps_per_epoch
        # With steps_per_execution > 1 the last call may count past the end.
        step = min(self.first_step + batch + 1, steps)
        if self.bar is not None and self.bar.update(step - run.step):
            self.bar.set_postfix(loss=f"{float(logs['loss']):.4f}", refresh=False)
        run.step = step
        if step < steps and time.monotonic() - self.saved >= run.checkpoint_every:
            _check_loss(float(logs["loss"]), run.epoch)
            run.seconds = self.count_seconds()
            run.save()
            self.saved = time.monotonic()

    def on_train_end(self, logs: Any = None) -> None:
        if self.bar is not None:
            self.bar.close()


def without_counters(text: str) -> str:
    """`text` without the numbers that Keras appends to automatic names.

    The second model built in one process has `dense_1` where the first had `dense`.
    """
    return re.sub(r"_\d+(?![0-9a-zA-Z])", "", text)


def _build_metrics(model, dataset):
    """Creates the variables of the compiled metrics, which wait for a batch.

    What the batch leaves in them is forgotten when the epoch begins.
    """
    batch = next(iter(dataset))
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
    outputs = model(images, training=False)
    model.compute_loss(images, labels, outputs, weights, training=False)
    model.compute_metrics(images, labels, outputs, weights)


def _exactly(dataset: tf.data.Dataset, count: int, name: str) -> tf.data.Dataset:
    """`dataset`, checked to be `count` batches long."""
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            "`data.epoch(index, start_step)` must return a tf.data.Dataset. Received: "
            f"{type(dataset).__name__}"
        )
    length = int(dataset.cardinality())
    if length < 0:  # Not known: TensorFlow counts while it reads.
        return dataset.apply(tf.data.experimental.assert_cardinality(count))
    if length != count:
        raise ValueError(
            f"{name} must have the {count} batches that `steps_per_epoch` leaves. "
            f"Received: {length}"
        )
    return dataset


def _restore_type(array: np.ndarray, variable: keras.Variable) -> np.ndarray:
    """A saved array as the type of its variable."""
    # NumPy saves bfloat16 as two nameless bytes.
    return array.view(variable.dtype) if array.dtype.kind == "V" else array


def _tells_unknown(row: dict[str, float]) -> bool:
    """Whether a row has what the best epoch is chosen by, with unknown images."""
    return all(f"val_{name}" in row for name in _SELECTING)


class DivergedError(ValueError):
    """The loss is NaN or infinite; another learning rate may help."""


def _check_measured(row: dict[str, float]) -> None:
    names = _SELECTING if _tells_unknown(row) else ("known_loss",)
    if not all(math.isfinite(row.get(f"val_{name}", math.nan)) for name in names):
        measured = {name: row[name] for name in row if name.startswith("val_")}
        raise ValueError(
            "the best epoch is chosen by known_loss, or by "
            f"{', '.join(_SELECTING)}: `validation.measure()` must return these, as "
            f"finite numbers. Received: {measured}"
        )


def _check_loss(loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"training diverged: the loss is {loss} in epoch {epoch + 1}. Start again "
            "in a new run_dir with a lower learning rate"
        )


def find_best(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """The row of the best epoch of a history, whose weights are kept.

    Args:
        history: What `training.fit` returned; not empty.
    """
    return min(history, key=_rank)


def _rank(row: dict[str, float]) -> tuple[float, ...]:
    """Lower is better."""
    if not _tells_unknown(row):
        return -row.get("val_known_accuracy", 0.0), row["val_known_loss"]
    return (
        row["val_fpr95_known_positive"],
        # Easy unknowns are told apart long before the known classes are.
        -row.get("val_known_accuracy", 0.0),
        row["val_detection_error"],
        -row["val_auroc"],
    )


def _line(row: dict[str, float], epochs: int) -> str:
    others = [f"val_{name}" for name in metrics.names() if name not in _SELECTING]
    hidden = ["epoch", "seconds", *others]
    numbers = [f"{name}: {row[name]:.4g}" for name in row if name not in hidden]
    return " - ".join(
        [f"epoch {row['epoch']}/{epochs}", f"{row['seconds']:.0f}s", *numbers]
    )
