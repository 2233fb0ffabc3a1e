"""The package on JAX and torch: what runs, what says that it needs TensorFlow."""

import importlib
import os
import pathlib
import subprocess
import sys

import backends
import pytest

from ood_keras import _lazy

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_a_backend_that_is_not_installed_is_skipped_and_said(monkeypatch, capfd):
    asked = []

    def call(command, *, env, cwd):
        asked.append(env["KERAS_BACKEND"])
        return 0

    monkeypatch.setattr(backends, "is_installed", lambda name: name == "torch")
    monkeypatch.setattr(subprocess, "call", call)
    assert backends.main([]) == 0
    assert asked == ["torch"]
    assert "jax: skipped, it is not installed" in capfd.readouterr().out
    monkeypatch.setattr(backends, "is_installed", lambda name: False)
    assert backends.main([]) == 1
    assert "none of jax, torch is installed" in capfd.readouterr().out


def test_a_backend_that_fails_is_named_and_the_others_run(monkeypatch, capfd):
    monkeypatch.setattr(backends, "is_installed", lambda name: True)
    monkeypatch.setattr(
        subprocess, "call", lambda command, *, env, cwd: env["KERAS_BACKEND"] == "jax"
    )
    assert backends.main(["tests/losses"]) == 1
    assert capfd.readouterr().out.endswith("failed on: jax\n")


def test_what_needs_tensorflow_is_named(monkeypatch):
    def fail(name):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(importlib, "import_module", fail)
    get, _ = _lazy.attach("package", {"room": "package.room"})
    missing = "tensorflow.python"
    with pytest.raises(ModuleNotFoundError, match=r"^package\.room needs TensorFlow"):
        get("room")
    missing = "tensorflow_datasets"
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        get("room")


_IMPORT = """
import importlib, sys
import no_tensorflow
import ood_keras
for room in "layers losses metrics models detectors calibration evaluation".split():
    found = importlib.import_module(f"ood_keras.{room}")
    for name in found.__all__:
        getattr(found, name)
for room in ("training", "pipelines"):
    try:
        importlib.import_module(f"ood_keras.{room}")
    except ModuleNotFoundError as error:
        assert str(error).startswith(f"ood_keras.{room} needs TensorFlow"), error
    else:
        raise AssertionError(room)
try:
    ood_keras.export.saved_model
except ModuleNotFoundError as error:
    assert str(error).startswith("ood_keras.export.saved_model needs Te"), error
else:
    raise AssertionError("export")
assert "tensorflow" not in sys.modules
"""


def run_on(backend, *command):
    """Runs Python with another backend, where it is installed."""
    if not backends.is_installed(backend):
        pytest.skip(f"{backend} is not installed")
    path = [str(ROOT / "tests"), *backends.python_path()]
    return subprocess.run(
        [sys.executable, *command],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(path),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", backends.BACKENDS)
def test_rooms_load_without_tensorflow(backend):
    done = run_on(backend, "-c", _IMPORT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("backend", backends.BACKENDS)
def test_a_few_tests_pass_on_the_backend(backend):
    done = run_on(
        backend,
        "tests/backends.py",
        f"--backends={backend}",
        "tests/detectors/compiled_test.py",
        "tests/losses/objectosphere_test.py",
        "tests/layers/squeeze_excitation_test.py",
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
