"""Runs the tests of what works on every backend of Keras, once on each of the others.

    python tests/backends.py [--backends=jax,torch] [PYTEST_ARGUMENT...]

Layers, losses, metrics, networks, detectors and thresholds, as if TensorFlow were not
installed. What is about TensorFlow itself is skipped, with the reason. A backend that
is not installed is skipped too, and said; if none is, that is an error. JAX compiles
without its costly optimizations, which halves the time and changes no test.
"""

import argparse
import importlib.util
import os
import pathlib
import subprocess
import sys

BACKENDS = ("jax", "torch")
ROOT = pathlib.Path(__file__).resolve().parents[1]
USUAL = [
    f"tests/{folder}"
    for folder in (
        "layers",
        "losses",
        "metrics",
        "models",
        "calibration",
        "conformance/keras_objects_test.py",
        "detectors",
    )
]
COMMAND = [
    *(sys.executable, "-m", "pytest", "-q"),
    *("-p", "no_tensorflow", "-p", "no:cacheprovider"),
]


def is_installed(backend):
    return importlib.util.find_spec(backend) is not None


def python_path():
    return filter(None, [os.environ.get("PYTHONPATH")])


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--backends", default=BACKENDS, type=lambda text: text.split(",")
    )
    known, asked = parser.parse_known_args(arguments)
    # For the plugin that stands for a machine without TensorFlow.
    path = os.pathsep.join([str(ROOT / "tests"), *python_path()])
    results = {}
    for backend in known.backends:
        if not is_installed(backend):
            print(f"{backend}: skipped, it is not installed", flush=True)
            continue
        print(f"{backend}:", flush=True)
        results[backend] = subprocess.call(
            [*COMMAND, *(asked or USUAL)],
            env={
                "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
                **os.environ,
                "KERAS_BACKEND": backend,
                "PYTHONPATH": path,
            },
            cwd=ROOT,
        )
    failed = [backend for backend, code in results.items() if code]
    if failed:
        print(f"failed on: {', '.join(failed)}")
    if not results:
        print(f"none of {', '.join(known.backends)} is installed: pip install jax")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
