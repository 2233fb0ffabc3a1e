"""`training.fit` on JAX ends with the same bits after an interruption."""

import json
import pathlib

import keras
import numpy as np
import pytest
from backends_test import run_on

SCRIPT = pathlib.Path(__file__).with_name("resumed_on_jax.py")


def result_of(run_dir):
    """Arrays of the last checkpoint by name, and the history without its times."""
    newest = max((run_dir / "checkpoints").glob("*.npz"))
    with np.load(newest, allow_pickle=False) as archive:
        arrays = {
            name: archive[name].tobytes() for name in archive.files if name != "details"
        }
    rows = (run_dir / "history.csv").read_text().splitlines()
    seconds = rows[0].split(",").index("seconds")
    history = [row.split(",")[:seconds] + row.split(",")[seconds + 1 :] for row in rows]
    return newest.name, list(arrays.values()), history


@pytest.mark.slow
def test_an_interrupted_run_on_jax_ends_with_the_same_bits(tmp_path):
    done = run_on("jax", str(SCRIPT), str(tmp_path))
    assert done.returncode == 0, done.stderr
    whole, interrupted = (
        result_of(tmp_path / name) for name in ("whole", "interrupted")
    )
    assert whole == interrupted
    run = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert run["versions"]["backend"] == "jax"
    # Both files open under TensorFlow, with the same weights, and they were trained.
    models = [
        keras.models.load_model(tmp_path / name / "model.keras")
        for name in ("whole", "interrupted")
    ]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        assert one.tobytes() == other.tobytes()
