"""`training.fit`: selection, bookkeeping, interruptions and errors, in one process."""

import contextlib
import csv
import errno
import fcntl
import itertools
import json
import os
import platform
import re
import time

import keras
import numpy as np
import pytest
import resumable_run
import sklearn.metrics
import tensorflow as tf
from resumable_run import build_model, train

import ood_keras
from ood_keras import files, layers, losses, metrics, models, training
from ood_keras.training import run_directory, validation


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """`(run_dir, history, weights)` of a run of two epochs."""
    run_dir = tmp_path_factory.mktemp("uninterrupted") / "run"
    model = build_model()
    history = train(run_dir, model)
    return run_dir, history, model.get_weights()


@contextlib.contextmanager
def failing(target, error):
    """Raises `error` where a file whose name ends in `target` would be put in place."""

    class Disk:
        def __getattr__(self, name):
            return getattr(os, name)

        def replace(self, source, path):
            if str(path).endswith(target):
                raise error
            os.replace(source, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", Disk())
        yield


def assert_equal_weights(left, right):
    for array, expected in zip(left, right, strict=True):
        assert array.tobytes() == expected.tobytes()


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def test_trains_as_plain_model_fit_does(tmp_path):
    model, data = build_model(), resumable_run.Data()
    train(tmp_path / "run", model, epochs=1)
    plain = build_model()
    logs = plain.fit(data.epoch(0), shuffle=False, verbose=0).history
    assert_equal_weights(model.get_weights(), plain.get_weights())
    (row,) = train(tmp_path / "run", build_model(), epochs=1)
    assert row["loss"] == logs["loss"][0]
    assert row["known_accuracy"] == logs["known_accuracy"][0]


def test_validation_metrics_are_those_of_the_weights(tmp_path):
    model, data = build_model(), resumable_run.Data()
    (row,) = train(tmp_path / "run", model, epochs=1)
    logits = model.predict(data.images, verbose=0)
    known = data.labels >= 0
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    auroc = sklearn.metrics.roc_auc_score(~known, probabilities[:, -1])
    assert row["val_auroc"] == pytest.approx(auroc, abs=1e-9)
    accuracy = np.mean(logits[known, :-1].argmax(axis=1) == data.labels[known])
    assert row["val_known_accuracy"] == pytest.approx(accuracy, abs=1e-12)
    names = metrics.evaluate_scores([0.0], [1.0]).keys()
    assert {f"val_{name}" for name in names} <= row.keys()


def test_keeps_the_best_epoch_over_a_resume(tmp_path, monkeypatch):
    """Ties of FPR95: by accuracy, detection error, AUROC, then the earlier epoch."""
    rows = [(0.2, 0.9, 0.0, 1.0), (0.1, 0.8, 0.3, 0.9), (0.1, 0.8, 0.2, 0.7)]
    rows += [(0.1, 0.8, 0.2, 0.8), (0.1, 0.8, 0.2, 0.8), (0.1, 0.7, 0.1, 1.0)]
    names = ("fpr95_known_positive", "known_accuracy", "detection_error", "auroc")
    weights = []

    def measure(self):
        weights.append(self._model.get_weights())
        return {
            **dict.fromkeys(("aupr_in", "aupr_out"), 0.5),
            **dict(zip(names, rows[len(weights) - 1], strict=True)),
        }

    monkeypatch.setattr(validation.Validation, "measure", measure)
    with (
        pytest.raises(KeyboardInterrupt),
        failing("00005-00000003.npz", KeyboardInterrupt()),
    ):
        train(tmp_path / "run", epochs=6)
    model = build_model()
    train(tmp_path / "run", model, epochs=6)
    assert len(weights) == 6
    assert_equal_weights(model.get_weights(), weights[3])
    assert weights[3][0].tobytes() != weights[4][0].tobytes()
    saved = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert_equal_weights(saved.get_weights(), weights[3])


def test_writes_history_events_and_run(uninterrupted):
    run_dir, history, _ = uninterrupted
    with open(run_dir / "history.csv", newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert rows == history
    assert [row["epoch"] for row in history] == [1, 2]
    events = {}
    for path in sorted((run_dir / "logs").rglob("*tfevents*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                key = (path.parent.name, value.tag, event.step)
                assert key not in events
                events[key] = value.simple_value
    for row in history:
        step = row["epoch"]
        assert events["train", "loss", step] == pytest.approx(row["loss"])
        assert events["validation", "auroc", step] == pytest.approx(row["val_auroc"])
    assert len(events) == sum(len(row) - 1 for row in history)
    run = json.loads((run_dir / "run.json").read_text())
    assert run["settings"] == resumable_run.SETTINGS
    assert run["seed"] == resumable_run.SEED
    assert run["versions"]["ood_keras"] == ood_keras.__version__
    assert run["loss"]["class_name"] == "OpenSetLoss"
    assert len(list((run_dir / "checkpoints").iterdir())) == 2


def test_a_complete_run_returns_its_history(uninterrupted, capsys):
    run_dir, history, weights = uninterrupted
    kept = [*(run_dir / "checkpoints").iterdir(), *run_dir.glob("*.[jk]*")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    model, data = build_model(), resumable_run.Data()
    data.epoch = None
    assert train(run_dir, model, data, progress=True) == history
    assert_equal_weights(model.get_weights(), weights)
    assert "is complete" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert len(kept) == 4


def test_says_where_it_is(tmp_path, capsys):
    with (
        pytest.raises(KeyboardInterrupt),
        failing("00001-00000003.npz", KeyboardInterrupt()),
    ):
        train(tmp_path / "run", progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("epoch 1/2 - ")
    assert "val_fpr95_known_positive: " in lines[0]
    train(tmp_path / "run", progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Continuing {tmp_path / 'run'} from epoch 2/2, step 2/8."
    assert [line.split(" - ")[0] for line in lines[1:2]] == ["epoch 2/2"]
    assert lines[2].startswith("Best epoch: ")


@pytest.mark.parametrize(
    "target",
    [
        "run.json",
        "00000-00000000.npz",
        "00001-00000003.npz",
        "history.csv",
        "validation/events.out.tfevents.0000000001",
        "model.keras",
    ],
)
def test_a_full_disk_loses_nothing(uninterrupted, tmp_path, target):
    run_dir = tmp_path / "run"
    with (
        pytest.raises(OSError, match=r"No space left.* free space") as caught,
        failing(target, OSError(errno.ENOSPC, "No space left on device")),
    ):
        train(run_dir)
    assert target in str(caught.value)
    assert not [path for path in run_dir.rglob(".*") if path.name != ".lock"]
    model = build_model()
    history = train(run_dir, model)
    assert without_seconds(history) == without_seconds(uninterrupted[1])
    assert_equal_weights(model.get_weights(), uninterrupted[2])


def test_a_read_only_disk_is_an_error_at_once(tmp_path, monkeypatch):
    def mkdir(*arguments, **keywords):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.mkdir", mkdir)
    with pytest.raises(OSError, match=r"Read-only file system.*writable folder"):
        train(tmp_path / "run")


def adam_with_averages(model):
    optimizer = keras.optimizers.Adam(
        0.01, use_ema=True, ema_momentum=0.9, gradient_accumulation_steps=2
    )
    # A metric with state of its own, and one that Keras makes from a name.
    auroc = metrics.AUROC(resumable_run.NUM_CLASSES, capacity=256)
    model.compile(
        optimizer,
        losses.OpenSetLoss(3),
        metrics=[auroc, "accuracy"],
        jit_compile=False,
    )
    return model


def three_steps_per_execution(model):
    # Keras' default, with XLA.
    model.compile("sgd", losses.OpenSetLoss(3), steps_per_execution=3)
    return model


def bfloat16(model):
    keras.config.set_dtype_policy("bfloat16")
    try:
        model = build_model()
    finally:
        keras.config.set_dtype_policy("float32")
    return model


def loss_on_features(model):
    training.set_seed(0)
    model = models.with_features(
        keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(6, activation="relu", name="features"),
                keras.layers.Dropout(0.2),
                keras.layers.Dense(4, name="logits"),
            ]
        )
    )
    loss = {
        "logits": losses.WeightedCrossEntropy(3),
        "features": losses.Objectosphere(3, gamma=5.0, on="features"),
    }
    model.compile("adam", loss, jit_compile=False)
    return model


class TwoTargets(resumable_run.Data):
    """The labels once per output, and a length that TensorFlow does not know."""

    def epoch(self, index, start_step=0):
        dataset = super().epoch(index, start_step)
        dataset = dataset.filter(lambda images, labels: True)
        return dataset.map(lambda x, y: (x, {"logits": y, "features": y}))


@pytest.mark.parametrize(
    ("variant", "data"),
    [
        (adam_with_averages, resumable_run.Data()),
        (three_steps_per_execution, resumable_run.Data()),
        (bfloat16, resumable_run.Data()),
        (loss_on_features, TwoTargets()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_resumes_whatever_is_trained(tmp_path, variant, data):
    expected = variant(build_model())
    expected_history = train(tmp_path / "whole", expected, data)
    # The fourth step of epoch 2 was taken, but its checkpoint not written.
    with (
        pytest.raises(KeyboardInterrupt),
        failing("00001-00000006.npz", KeyboardInterrupt()),
    ):
        train(tmp_path / "resumed", variant(build_model()), data)
    model = variant(build_model())
    # Once to its end, and once more when it is complete.
    for _ in range(2):
        history = train(tmp_path / "resumed", model, data)
        assert without_seconds(history) == without_seconds(expected_history)
        assert_equal_weights(model.get_weights(), expected.get_weights())
        left, right = model.optimizer.variables, expected.optimizer.variables
        assert_equal_weights([v.numpy() for v in left], [v.numpy() for v in right])
        model = variant(build_model())


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(uninterrupted, tmp_path):
    run_dir = tmp_path / "run"
    with (
        pytest.raises(KeyboardInterrupt),
        failing("00001-00000006.npz", KeyboardInterrupt()),
    ):
        train(run_dir)
    newest = run_dir / "checkpoints" / "00001-00000005.npz"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    model = build_model()
    with pytest.warns(UserWarning, match=r"00001-00000005.npz is damaged"):
        train(run_dir, model)
    assert_equal_weights(model.get_weights(), uninterrupted[2])


def test_refuses_another_run(uninterrupted):
    run_dir = uninterrupted[0]
    settings = {"recipe": {"name": "test", "learning_rate": 0.1}}
    with pytest.raises(
        ValueError, match=r"settings.recipe.learning_rate is 0.05 there"
    ):
        train(run_dir, settings=settings)
    with pytest.raises(ValueError, match=r"seed is 3 there and 4 here"):
        train(run_dir, seed=4)
    with pytest.raises(ValueError, match=r"epochs is 2 there and 3 here"):
        train(run_dir, epochs=3)
    with pytest.raises(ValueError, match=r"initial_learning_rate is 0.05 there"):
        train(run_dir, build_model(learning_rate=0.06))
    with pytest.raises(ValueError, match=r"model.parameters is"):
        train(run_dir, loss_on_features(None), TwoTargets())


def test_refuses_other_weights_of_the_losses(tmp_path):
    arguments = {"data": TwoTargets(), "epochs": 1}
    train(tmp_path, loss_on_features(None), **arguments)
    model = loss_on_features(None)
    weights = {"logits": 1.0, "features": 100.0}
    model.compile("adam", model.loss, loss_weights=weights, jit_compile=False)
    with pytest.raises(ValueError, match=r"loss_weights is None there"):
        train(tmp_path, model, **arguments)


class Described(resumable_run.Data):
    def __init__(self, seed):
        super().__init__()
        self.seed = seed

    def get_config(self):
        return {"seed": self.seed}


def test_refuses_other_data(tmp_path):
    train(tmp_path, data=Described(1), epochs=1)
    with pytest.raises(ValueError, match=r"data.seed is 1 there and 2 here"):
        train(tmp_path, data=Described(2), epochs=1)


class Measured:
    def __init__(self, **numbers):
        self.numbers = numbers

    def measure(self):
        return self.numbers


def test_takes_what_an_own_validation_measures(tmp_path):
    own = Measured(known_loss=np.float32(0.5), share=np.int64(1))
    (row,) = train(tmp_path, epochs=1, validation=own)
    assert (row["val_known_loss"], row["val_share"]) == (0.5, 1.0)
    more = Measured(known_loss=0.5, auroc=0.9)
    (row,) = train(tmp_path / "more", epochs=1, validation=more)
    assert row["val_auroc"] == 0.9
    for numbers in ({"auroc": 0.9}, {"known_loss": np.nan}):
        with pytest.raises(ValueError, match="is chosen by known_loss, or by fpr95"):
            train(tmp_path / "run", epochs=1, validation=Measured(**numbers))


def test_takes_up_a_run_that_wrote_less_down(tmp_path):
    history = train(tmp_path, data=Described(1), epochs=1)
    run = json.loads((tmp_path / "run.json").read_text())
    for name in ("data", "loss_weights", "weighted_metrics"):
        del run[name]
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert train(tmp_path, data=Described(1), epochs=1) == history


def test_takes_up_a_run_with_batch_normalisation_of_keras(tmp_path):
    """As networks had it in earlier versions."""
    model = build_model(normalization=keras.layers.BatchNormalization)
    history = train(tmp_path, model, epochs=1)
    assert type(build_model().layers[1]) is layers.BatchNormalization
    assert train(tmp_path, epochs=1) == history


def test_refuses_a_folder_that_is_no_run(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"no run.*thesis.txt"):
        train(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ValueError, match=r"is not the run.json of a run"):
        train(tmp_path)


def test_refuses_a_second_process(tmp_path):
    with open(tmp_path / ".lock", "w") as lock:
        # As an earlier version did, which left the file empty.
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match=r"another process is training"):
            train(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_says_which_process_trains_and_a_lock_left_behind_holds_nobody_up(tmp_path):
    with run_directory.open_run(tmp_path, {"a": 1}):
        holder = f"process {os.getpid()} on {platform.node()}"
        with (
            pytest.raises(BlockingIOError, match=re.escape(f"{tmp_path} ({holder})")),
            run_directory.open_run(tmp_path, {"a": 1}),
        ):
            pass
    (tmp_path / ".lock").write_text("process 1 on a machine that is gone, " * 99)
    with run_directory.open_run(tmp_path, {"a": 1}):
        assert (tmp_path / ".lock").read_text() == f"training: {holder}\n"


def test_a_clock_that_jumps_changes_nothing(uninterrupted, tmp_path, monkeypatch):
    real, calls = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: real() - 86_400 * (next(calls) % 9))
    model = build_model()
    history = train(tmp_path / "run", model)
    assert [row["loss"] for row in history] == [row["loss"] for row in uninterrupted[1]]
    assert all(row["seconds"] >= 0 for row in history)
    for weights, expected in zip(model.get_weights(), uninterrupted[2], strict=True):
        assert weights.tobytes() == expected.tobytes()


def test_a_clock_that_keras_files_cannot_hold_is_said_before_training(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    with pytest.raises(ValueError, match="clock says 1970-01-01"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_disk_without_locks_is_an_error_that_helps(tmp_path, monkeypatch):
    def none(*_, **__):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files, "lock", none)
    with (
        pytest.raises(OSError, match=r"cannot be locked .* on a disk that has locks"),
        run_directory.open_run(tmp_path, {}),
    ):
        pass


def test_warns_about_other_versions(uninterrupted):
    path = uninterrupted[0] / "run.json"
    text = path.read_text()
    try:
        path.write_text(text.replace(tf.__version__, "1.0.0"))
        with pytest.warns(UserWarning, match=r"tensorflow is '1.0.0' there"):
            train(uninterrupted[0])
    finally:
        path.write_text(text)


class Shorter(resumable_run.Data):
    def epoch(self, index, start_step=0):
        return super().epoch(index, start_step).skip(1)


class Diverging(resumable_run.Data):
    def epoch(self, index, start_step=0):
        return (
            super().epoch(index).map(lambda images, labels: (images * np.nan, labels))
        )


IMAGES = np.zeros((4, 8, 8, 1), np.float32)
LABELS = np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": keras.Sequential()}, TypeError, "call model.compile first"),
        ({"data": [1]}, TypeError, "training data must be a split.*a list, "),
        ({"data": Shorter()}, ValueError, r"must have the 8 batches.*Received: 7"),
        ({"data": Diverging()}, ValueError, "diverged: the loss is nan in epoch 1"),
        ({"epochs": 0}, ValueError, "integer >= 1"),
        ({"seed": 1.5}, ValueError, "integer from 0"),
        ({"checkpoint_every": -1}, ValueError, "seconds >= 0"),
        ({"settings": {"a": {1, 2}}}, TypeError, "plain JSON"),
        ({"score": "mps"}, ValueError, "unknown_probability"),
        ({"num_classes": 4}, ValueError, "extra logit"),
        ({"num_classes": 2, "score": "msp"}, ValueError, "for num_classes=2"),
        ({"validation": IMAGES}, TypeError, "a pair"),
        ({"validation": (IMAGES, IMAGES)}, ValueError, "must have labels"),
        ({"validation": ((IMAGES, LABELS - 1), IMAGES)}, ValueError, "from -1 to 1"),
        ({"validation": ((IMAGES, LABELS), IMAGES[:0])}, ValueError, "no unknown"),
        (
            {"validation": ((IMAGES, LABELS), IMAGES[:, :6])},
            ValueError,
            r"here \(8, 8, 1\).*shape \(6, 8, 1\).*Resize",
        ),
        ({"validation": (iter([]), IMAGES)}, TypeError, "only once"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_errors_teach(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        train(tmp_path / "run", **arguments)


def test_refuses_probabilities(tmp_path):
    model = keras.Sequential([build_model(), keras.layers.Softmax()])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"must be logits.*Remove the softmax"):
        train(tmp_path / "run", model)


def test_set_seed_decides_weights_and_dropout():
    images = np.ones((4, 8, 8, 1), np.float32)
    first, second = (build_model()(images, training=True).numpy() for _ in range(2))
    assert first.tobytes() == second.tobytes()
    for seed in (-1, 2**32, True, "0"):
        with pytest.raises(ValueError, match="integer from 0"):
            training.set_seed(seed)
