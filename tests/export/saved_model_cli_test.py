"""TensorFlow's own command reads and runs an export, in a process of its own."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from ood_keras import export

COMMAND = pathlib.Path(sys.executable).with_name("saved_model_cli")


def cli(*arguments):
    if not COMMAND.exists():
        pytest.skip(f"needs {COMMAND}, which comes with TensorFlow")
    result = subprocess.run(
        [COMMAND, *map(str, arguments)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_it_shows_the_signatures(exported):
    text = cli("show", "--dir", exported.path, "--all")
    for signature in ("serving_default", "predict_at", "predict_bytes", "features"):
        assert f"signature_def['{signature}']" in text
    default = text.split("signature_def['serving_default']")[1].split("signature_def")[
        0
    ]
    assert "inputs['image'] tensor_info:\n        dtype: DT_FLOAT" in default
    assert "shape: (-1, 12, 10, 1)" in default
    for output in ("class_id", "label", "probabilities", "ood_score", "accepted"):
        assert f"outputs['{output}']" in default


def test_it_runs_the_model(exported, tmp_path):
    images = exported.images[:9].copy()
    images[4, 0, 0] = np.nan
    np.save(tmp_path / "images.npy", images)
    cli(
        *("run", "--dir", exported.path, "--tag_set", "serve"),
        *("--signature_def", "serving_default"),
        *("--inputs", f"image={tmp_path / 'images.npy'}", "--outdir", tmp_path / "out"),
    )
    expected = export.load(exported.path).predict(images)
    assert expected["accepted"].any() and not expected["accepted"].all()
    for name in ("class_id", "accepted", "valid", "probabilities", "ood_score"):
        answer = np.load(tmp_path / "out" / f"{name}.npy")
        if answer.dtype == np.float32:
            np.testing.assert_allclose(answer, expected[name], rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(answer, expected[name])
    assert answer.shape == (9,) and expected["class_id"][4] == -1
