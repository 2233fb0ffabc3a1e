"""Processes that train one model on JAX: equal to one, and what becomes of a loss."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import types

import backends
import keras
import numpy as np
import pytest
import resumable_run
import tensorflow as tf

from ood_keras import training
from ood_keras.training import processes

SCRIPT = pathlib.Path(__file__).with_name("joined_processes.py")
MINUTES = 60


def start(run_dir, address, number=None, saves=None, devices=1):
    """Starts a process: number so of two, or, without a number, one alone."""
    own = {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    if number is not None:
        own |= {
            "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
            "KERAS_DISTRIBUTION_PROCESS_ID": str(number),
        }
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(run_dir), *([str(saves)] if saves else [])],
        env={
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            **os.environ,
            "KERAS_BACKEND": "jax",
            **own,
            "PYTHONPATH": os.pathsep.join(
                [str(SCRIPT.parent), *backends.python_path()]
            ),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_address():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listening.getsockname()[1]}"


def finish(*started, timeout=10 * MINUTES):
    """What each printed; all must end well."""
    said = []
    try:
        for process in started:
            out, error = process.communicate(timeout=timeout)
            assert process.returncode == 0, error[-3000:]
            said.append(out)
    finally:
        for process in started:
            process.kill()
    return said


def train_two(run_dir, saves=(None, None)):
    """Starts two processes; where there is a number, one dies after so many saves."""
    address = free_address()
    return [start(run_dir, address, number, saves[number]) for number in (0, 1)]


def beside(run_dir):
    return run_dir.with_name(f"{run_dir.name}.process-1")


def read_history(run_dir):
    """`{column: numbers}` without the times."""
    rows = [
        line.split(",") for line in (run_dir / "history.csv").read_text().splitlines()
    ]
    columns = dict(zip(rows[0], np.array(rows[1:], float).T, strict=True))
    del columns["seconds"]
    return columns


def read_weights(run_dir):
    return keras.models.load_model(run_dir / "model.keras").get_weights()


@pytest.fixture(scope="module")
def jax():
    if not backends.is_installed("jax"):
        pytest.skip("jax is not installed")


@pytest.fixture(scope="module")
def runs(jax, tmp_path_factory):
    """Run directories of one process, of one with two devices, and of two processes."""
    folder = tmp_path_factory.mktemp("runs")
    found = {name: folder / name for name in ("one", "devices", "two")}
    (found["said"],) = finish(start(found["one"], free_address()))
    finish(start(found["devices"], free_address(), devices=2))
    finish(*train_two(found["two"]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("way", ["two", "devices"])
def test_two_train_as_one(runs, way):
    one, two = read_weights(runs["one"]), read_weights(runs[way])
    moved = resumable_run.build_model().get_weights()
    assert max(np.abs(a - b).max() for a, b in zip(one, moved, strict=True)) > 0.01
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    first, second = read_history(runs["one"]), read_history(runs[way])
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_each_process_saves_to_its_own_path(runs):
    two, other = runs["two"], beside(runs["two"])
    for name in ("run.json", "history.csv", "model.keras", "checkpoints"):
        assert (two / name).exists() and (other / name).exists()
    for a, b in zip(read_weights(two), read_weights(other), strict=True):
        assert a.tobytes() == b.tobytes()
    assert not runs["one"].with_name("one.process-1").exists()


@pytest.mark.slow
def test_fewer_processes_than_were_told_are_refused(runs):
    assert re.search(r"expected 2 processes .* sees 1: each would", runs["said"])


@pytest.mark.slow
@pytest.mark.parametrize(("number", "disk"), [(1, "kept"), (0, "lost")])
def test_a_killed_process_ends_the_job_and_the_same_command_resumes(
    runs, tmp_path, number, disk
):
    run_dir = tmp_path / "run"
    saves = [None, None]
    saves[number] = 5
    started = train_two(run_dir, saves)
    victim, survivor = started[number], started[1 - number]
    victim.communicate(timeout=10 * MINUTES)
    killed = time.monotonic()
    assert victim.returncode == -signal.SIGKILL
    try:
        _, error = survivor.communicate(timeout=3 * MINUTES)
    finally:
        survivor.kill()
    assert time.monotonic() - killed < 3 * MINUTES
    assert survivor.returncode != 0
    said = f"process {1 - number} of 2 lost another one.*Give the same command"
    # Where the first is lost, JAX may end the others before they can say so.
    assert re.search(said, error) or (
        number == 0 and "another task died" in error.replace("\n", " ")
    )
    assert not (run_dir / "model.keras").exists()
    if disk == "lost":
        shutil.rmtree(beside(run_dir) if number else run_dir)
    finish(*train_two(run_dir))
    for whole, resumed in (
        (runs["two"], run_dir),
        (beside(runs["two"]), beside(run_dir)),
    ):
        for a, b in zip(read_weights(whole), read_weights(resumed), strict=True):
            assert a.tobytes() == b.tobytes()
    assert len(read_history(run_dir)["epoch"]) == resumable_run.EPOCHS
    run = json.loads((beside(run_dir) / "run.json").read_text())
    assert run == json.loads((run_dir / "run.json").read_text())


def run_ray(run_dir, way):
    done = subprocess.run(
        [sys.executable, str(SCRIPT.with_name("joined_by_ray.py")), str(run_dir), way],
        env={**os.environ, "RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        timeout=10 * MINUTES,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.slow
def test_actors_of_ray_train_as_one_process(runs, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    run_ray(tmp_path / "run", "actors")
    for a, b in zip(
        read_weights(runs["one"]), read_weights(tmp_path / "run"), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert (beside(tmp_path / "run") / "model.keras").exists()


def start_command(run_dir, data, address, number, *overrides):
    """Starts `ood-train`: number so of two processes, or, without a number, alone."""
    told = {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
        "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
        "KERAS_DISTRIBUTION_PROCESS_ID": str(number),
    }
    small = ("epochs=2", "batch_size=32", "filters=[4,4]", "hidden_size=8")
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "ood_keras.tools.train", "--recipe=demo"),
            f"--known=npz:{data / 'known.npz'}",
            f"--unknown=npz:{data / 'unknown.npz'}",
            f"--run_dir={run_dir}",
            *(f"--override={change}" for change in (*small, *overrides)),
        ],
        env={
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            **os.environ,
            "KERAS_BACKEND": "jax",
            **({} if number is None else told),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_the_command_trains_by_two_processes_as_by_one(jax, tmp_path):
    rng = np.random.default_rng(0)
    for name, num_labels in (("known", 3), ("unknown", 0)):
        parts = {}
        for part, count in (("train", 100), ("validation", 40), ("test", 40)):
            pixels = rng.integers(0, 120, (count, 28, 28), np.uint8)
            if num_labels:
                labels = np.arange(count) % num_labels
                pixels += (60 * labels[:, None, None]).astype(np.uint8)
                parts[f"y_{part}"] = labels
            parts[f"x_{part}"] = pixels
        np.savez(tmp_path / f"{name}.npz", **parts)
    one, two = tmp_path / "one", tmp_path / "two"
    even = "unknown_per_epoch=40"
    finish(start_command(one, tmp_path, "", None, even))
    address = free_address()
    finish(*(start_command(two, tmp_path, address, number, even) for number in (0, 1)))
    for a, b, c in zip(
        read_weights(one), read_weights(two), read_weights(beside(two)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert b.tobytes() == c.tobytes()
    # Each process writes to its own path alone, as on a machine of its own.
    verdicts = [
        json.loads((run_dir / "training_verdict.json").read_text())
        for run_dir in (one, two, beside(two))
    ]
    assert verdicts[0] == verdicts[1] == verdicts[2]


@pytest.mark.slow
def test_a_trainer_of_ray_that_trains_two_models_is_refused(jax, tmp_path):
    pytest.importorskip(
        "ray.train", reason="ray[train] is not installed", exc_type=ImportError
    )
    said = run_ray(tmp_path / "run", "trainer")
    assert "refused: expected 2 processes" in said
    assert not (tmp_path / "run").exists()


def test_a_number_of_processes_that_nobody_joined_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    with pytest.raises(ValueError, match=r"expected 2 processes .* sees 1: each would"):
        resumable_run.train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_workers_of_ray_that_see_nobody_else_are_refused(tmp_path, monkeypatch):
    context = types.SimpleNamespace(get_world_size=lambda: 3)
    ray = types.SimpleNamespace(get_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray.train", ray)
    with pytest.raises(ValueError, match="expected 3 processes"):
        resumable_run.train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_transfer_is_for_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "count_processes", lambda: 2)
    recipe = training.recipes.get("photos")
    with pytest.raises(ValueError, match=r"one process\. Received: 2 processes\. Use"):
        training.fit_transfer(
            None,
            None,
            objective=recipe.objective,
            run_dir=tmp_path / "run",
            validation=(None, None),
            num_classes=3,
            settings={},
            seed=0,
        )
    assert not (tmp_path / "run").exists()


def test_other_backends_cannot_be_joined():
    with pytest.raises(
        ValueError, match=r"KERAS_BACKEND=jax alone.*keras/issues/20585"
    ):
        training.join_processes(num_processes=2)


def test_multi_worker_mirrored_is_refused(tmp_path):
    model = resumable_run.build_model()
    kind = tf.distribute.MultiWorkerMirroredStrategy
    # To make one takes a process of its own; it says nothing that is looked at.
    model._distribute_strategy = kind.__new__(kind)
    with pytest.raises(
        ValueError, match=r"does not work under Keras 3.*join_processes"
    ):
        resumable_run.train(tmp_path / "run", model)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("size", "step"), [(15, 0), (48, 2)])
def test_batches_that_cannot_be_split_are_named(monkeypatch, size, step):
    monkeypatch.setattr(processes, "_count_devices", lambda: 16)
    monkeypatch.setattr(resumable_run, "BATCH_SIZE", size)
    data = resumable_run.Data(num_images=121)
    with pytest.raises(ValueError, match=f"over 16 devices, and batch {step} of an ep"):
        processes.check_batches(data)


def test_an_error_of_this_process_alone_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "count_processes", lambda: 2)
    with pytest.raises(KeyError), processes.explain_loss(tmp_path):
        raise KeyError("no")
    lost = "UNKNOWN: Gloo AllGather failed: Connection reset by peer"
    with (
        pytest.raises(RuntimeError, match="lost another one"),
        processes.explain_loss(tmp_path),
    ):
        raise ValueError(lost)
