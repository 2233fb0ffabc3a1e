"""Runs killed with SIGKILL end as if nothing had happened."""

import itertools
import multiprocessing
import random
import signal
import time

import keras
import numpy as np
import pytest
import resumable_run

# Children are forked from a process that has imported everything and run nothing.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["ood_keras.training"])


def _start(function, *arguments):
    process = _processes.Process(target=function, args=arguments)
    process.start()
    return process


def _result(run_dir):
    """All that a run computed: arrays of its last checkpoint, history, best weights."""
    newest = sorted((run_dir / "checkpoints").glob("*.npz"))[-1]
    with np.load(newest, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "details"}
    rows = (run_dir / "history.csv").read_text().splitlines()
    seconds = rows[0].split(",").index("seconds")
    history = [row.split(",")[:seconds] + row.split(",")[seconds + 1 :] for row in rows]
    model = keras.models.load_model(run_dir / "model.keras")
    saved = model.get_weights() + [v.numpy() for v in model.optimizer.variables]
    return newest.name, arrays, history, saved


def _assert_same(run_dir, reference):
    name, arrays, history, saved = _result(run_dir)
    assert (name, history) == (reference[0], reference[2])
    for (key, array), expected in zip(
        arrays.items(), reference[1].values(), strict=True
    ):
        assert array.tobytes() == expected.tobytes(), key
    for array, expected in zip(saved, reference[3], strict=True):
        assert array.tobytes() == expected.tobytes()
    leftovers = [path for path in run_dir.rglob(".*") if path.name != ".lock"]
    assert not leftovers
    events = sorted(path.name for path in (run_dir / "logs").rglob("*tfevents*"))
    assert len(events) == 2 * resumable_run.EPOCHS


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What an uninterrupted run computes."""
    run_dir = tmp_path_factory.mktemp("reference") / "run"
    process = _start(resumable_run.train_until_write, run_dir, 0, None)
    process.join()
    assert process.exitcode == 0
    return _result(run_dir)


def test_the_same_seed_gives_the_same_bits_with_other_checkpoints(reference, tmp_path):
    # In this process, and without a checkpoint inside an epoch: saving and the state of
    # the process change nothing.
    resumable_run.train(tmp_path / "run", checkpoint_every=1000.0)
    _assert_same(tmp_path / "run", reference)


def test_killed_at_files(reference, tmp_path):
    """Each process dies at one of its next files; the last one has none to die at."""
    generator = random.Random(0)
    moments = itertools.cycle(["half written", "before rename", "after rename"])
    kills = 0
    while not (tmp_path / "run" / "model.keras").exists():
        arguments = (tmp_path / "run", generator.randint(2, 7), next(moments))
        process = _start(resumable_run.train_until_write, *arguments)
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= 5
    _assert_same(tmp_path / "run", reference)


def test_killed_at_random_times(reference, tmp_path):
    generator = random.Random(1)
    run_dir = tmp_path / "run"
    kills = 0
    while kills < 5:
        process = _start(resumable_run.train_until_write, run_dir, 0, None)
        written = _checkpoints(run_dir)
        while process.is_alive() and _checkpoints(run_dir) == written:
            time.sleep(0.005)
        time.sleep(generator.uniform(0.0, 0.03))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    assert kills >= 1
    resumable_run.train(run_dir)
    _assert_same(run_dir, reference)


def _checkpoints(run_dir):
    return {path.name for path in run_dir.glob("checkpoints/[0-9]*")}


@pytest.mark.parametrize(
    ("limit", "target"), [(8_000, "00000-00000000.npz"), (28_000, "model.keras")]
)
def test_writes_that_fail(reference, tmp_path, limit, target):
    """The kernel refuses the write itself, as on a full disk."""
    run_dir, message = tmp_path / "run", tmp_path / "message.txt"
    process = _start(resumable_run.train_with_small_files, run_dir, limit, message)
    process.join()
    assert process.exitcode == 0
    text = message.read_text()
    assert f"could not write {next(run_dir.rglob('checkpoints')).parent}" in text
    assert target in text
    assert "File too large" in text
    names = {path.name for path in run_dir.rglob("*")}
    assert target not in names
    assert not [name for name in names if ".tmp" in name]
    resumable_run.train(run_dir)
    _assert_same(run_dir, reference)
