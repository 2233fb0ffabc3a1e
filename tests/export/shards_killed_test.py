"""Kills of workers, drivers and nodes while shards are scored: nothing is lost.

`pytest -m slow tests/export/shards_killed_test.py`; those with Ray need
`pip install ray`.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet
import pytest
from brightness import idx

from ood_keras import export
from ood_keras.inference import batch_scoring, shards

pytestmark = pytest.mark.slow

NUM_IMAGES = 12_000
SECONDS = 600


@pytest.fixture(scope="module")
def model(exported, tmp_path_factory):
    """A TFLite file, since processes open it in a moment."""
    folder = tmp_path_factory.mktemp("edge") / "edge"
    export.tflite(
        exported.path, folder, formats=["float32"], known_images=exported.images
    )
    return folder / "float32" / "model.tflite"


@pytest.fixture(scope="module")
def pictures(exported, tmp_path_factory):
    pixels = np.random.default_rng(0).integers(
        0, 256, (NUM_IMAGES, *exported.pixels.shape[1:3]), np.uint8
    )
    path = tmp_path_factory.mktemp("pictures") / "many.idx"
    path.write_bytes(idx(pixels))
    return path


@pytest.fixture(scope="module")
def expected(model, pictures, tmp_path_factory):
    """The answers of one process that nobody disturbs."""
    path = tmp_path_factory.mktemp("expected") / "answers.parquet"
    batch_scoring.score_to_file(export.load(model), [pictures], path)
    return pyarrow.parquet.read_table(path).to_pydict()


def start(model, pictures, output, engine, **environment):
    command = [sys.executable, "-m", "ood_keras.tools.predict", f"--model={model}"]
    command += [f"--output={output}", "--shards=6", f"--engine={engine}"]
    # Ray is considerate of others, and would wait long for a machine that is busy.
    environment = {**os.environ, "RAY_worker_niceness": "0", **environment}
    return subprocess.Popen(
        [*command, "--workers=2", str(pictures)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def watch(process):
    """Yields until the process has had its time, and fails if it ends before."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read()
        yield
        time.sleep(0.01)
    raise AssertionError("nothing happened for so long")


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


def check_whole(process, output, expected):
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    parts = sorted((output / shards.PARTS).iterdir())
    assert [path.name for path in parts] == [
        f"shard-{number:05d}.parquet" for number in range(6)
    ]
    manifest = json.loads((output / shards.MANIFEST).read_text())
    assert [part["name"] for part in manifest["parts"]] == [path.stem for path in parts]
    assert manifest["images"] == NUM_IMAGES
    assert f"{NUM_IMAGES:,} images" in said
    found = pyarrow.concat_tables(map(pyarrow.parquet.read_table, parts)).to_pydict()
    for name in ("path", "index", "label", "accepted"):
        assert found[name] == expected[name], name
    np.testing.assert_allclose(found["ood_score"], expected["ood_score"], atol=1e-5)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_killed_worker_and_a_killed_driver_lose_nothing(
    model, pictures, expected, tmp_path, engine
):
    if engine == "ray":
        pytest.importorskip("ray", reason="Ray is not installed")
    output = tmp_path / "answers"
    process = start(model, pictures, output, engine)
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
    assert 2 <= count_parts(output) < 6
    assert not (output / shards.MANIFEST).exists()
    check_whole(start(model, pictures, output, engine), output, expected)


def test_a_worker_that_is_killed_again_and_again_is_replaced(
    model, pictures, expected, tmp_path
):
    pytest.importorskip("ray", reason="Ray is not installed")
    output = tmp_path / "answers"
    process = start(model, pictures, output, "ray")
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
    check_whole(process, output, expected)


def test_a_lost_node_of_a_cluster_loses_nothing(
    model, pictures, expected, tmp_path, monkeypatch
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
        process = start(model, pictures, output, "ray", RAY_ADDRESS=cluster.address)
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
        check_whole(process, output, expected)
    finally:
        cluster.shutdown()
