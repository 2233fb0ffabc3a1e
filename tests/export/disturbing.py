"""Commands that score in shards, to be disturbed, and what must come of them."""

import io
import json
import os
import subprocess
import sys
import time

import numpy as np

from ood_keras.inference import shards

NUM_IMAGES = 12_000
NUM_SHARDS = 6
SECONDS = 600


def start(model, pictures, output, engine, **environment):
    """Starts `ood-predict` with two workers."""
    command = [sys.executable, "-m", "ood_keras.tools.predict", f"--model={model}"]
    command += [f"--output={output}", f"--shards={NUM_SHARDS}", f"--engine={engine}"]
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


def wait_for(process):
    """What a process says until it ends well."""
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    return said


def read_all(output):
    """`{name: bytes}` of all files in a folder."""
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file()
    }


def check_whole(said, contents, expected):
    """Checks that every image is in exactly one part, with the answer it had alone.

    Args:
        said: What the command printed.
        contents: `{name: bytes}` of all files in the output.
        expected: The columns of an undisturbed run.
    """
    import pyarrow.parquet

    names = [f"shard-{number:05d}" for number in range(NUM_SHARDS)]
    parts = sorted(name for name in contents if name.startswith(f"{shards.PARTS}/"))
    assert parts == [f"{shards.PARTS}/{name}.parquet" for name in names]
    manifest = json.loads(contents[shards.MANIFEST])
    assert [part["name"] for part in manifest["parts"]] == names
    assert manifest["images"] == NUM_IMAGES
    assert f"{NUM_IMAGES:,} images" in said
    tables = [pyarrow.parquet.read_table(io.BytesIO(contents[name])) for name in parts]
    found = pyarrow.concat_tables(tables).to_pydict()
    for name in ("path", "index", "label", "accepted"):
        assert found[name] == expected[name], name
    np.testing.assert_allclose(found["ood_score"], expected["ood_score"], atol=1e-5)
