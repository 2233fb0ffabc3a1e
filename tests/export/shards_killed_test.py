"""Kills of workers, drivers and nodes while shards are scored: nothing is lost.

`pytest -m slow tests/export/shards_killed_test.py`; those with Ray need
`pip install ray`.
"""

import contextlib
import os
import pathlib
import signal

import pytest
from disturbing import NUM_SHARDS, check_whole, read_all, start, wait_for, watch

from ood_keras.inference import shards

pytestmark = pytest.mark.slow


def find_writers(output):
    """`{number of a process: its unfinished part}`; it stands in the part's name."""
    parts = (output / shards.PARTS).glob(".*.tmp.parquet")
    return {int(path.name.split(".")[3].split("_")[0]): path for path in parts}


def find_parent(process):
    """The number of the process that started one; `None` where that has ended."""
    with contextlib.suppress(OSError):
        stat = pathlib.Path(f"/proc/{process}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[1])
    return None


def count_parts(output):
    return len(list((output / shards.PARTS).glob("[!.]*")))


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_killed_worker_and_a_killed_driver_lose_nothing(
    small_tflite, many_pictures, undisturbed, tmp_path, engine
):
    if engine == "ray":
        pytest.importorskip("ray", reason="Ray is not installed")
    output = tmp_path / "answers"
    process = start(small_tflite, many_pictures, output, engine)
    for _ in watch(process):
        if killed := find_writers(output):
            worker, part = killed.popitem()
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
            # It ended in the midst of its part, else the kill shows nothing.
            if part.exists():
                break
    for _ in watch(process):
        if count_parts(output) >= 2 and find_writers(output):
            break
    process.kill()
    process.communicate()
    assert 2 <= count_parts(output) < NUM_SHARDS
    assert not (output / shards.MANIFEST).exists()
    said = wait_for(start(small_tflite, many_pictures, output, engine))
    check_whole(said, read_all(output), undisturbed)


def test_a_worker_that_is_killed_again_and_again_is_replaced(
    small_tflite, many_pictures, undisturbed, tmp_path
):
    pytest.importorskip("ray", reason="Ray is not installed")
    output = tmp_path / "answers"
    process = start(small_tflite, many_pictures, output, "ray")
    killed = set()
    for _ in watch(process):
        # Each time another shard, of which none is given up before its third attempt.
        for worker, part in find_writers(output).items():
            shard = part.name.split(".")[1]
            if shard not in killed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                if part.exists():
                    killed.add(shard)
        if len(killed) == 3:
            break
    check_whole(wait_for(process), read_all(output), undisturbed)


def test_a_lost_node_of_a_cluster_loses_nothing(
    small_tflite, many_pictures, undisturbed, tmp_path, monkeypatch
):
    pytest.importorskip("ray", reason="Ray is not installed")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    output = tmp_path / "answers"
    monkeypatch.setenv("RAY_worker_niceness", "0")
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1}
    )
    try:
        other = cluster.add_node(num_cpus=1)
        process = start(
            small_tflite, many_pictures, output, "ray", RAY_ADDRESS=cluster.address
        )
        nodes = set()
        for _ in watch(process):
            nodes |= {find_parent(worker) for worker in find_writers(output)} - {None}
            if len(nodes) == 2:
                break
        # Workers of two nodes have written, each started by its own.
        raylet = other.all_processes["raylet"][0].process.pid
        assert raylet in nodes
        for _ in watch(process):
            if raylet in {find_parent(worker) for worker in find_writers(output)}:
                break
        cluster.remove_node(other, allow_graceful=False)
        check_whole(wait_for(process), read_all(output), undisturbed)
    finally:
        cluster.shutdown()
