"""Commands over a pipe, so that each library runs in an environment of its own.

Needs NumPy only. `serve` is the worker's end: one JSON object a line on standard input,
one answer a line on standard output. `Side` is the other end.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
import traceback

import numpy as np

NUM_THREADS = 2


def serve(library):
    """Answers commands until standard input ends.

    Args:
        library: An object with `versions()`, `names()`, `load(weights)`,
            `logits(images, batch_size)`, `fit(name, images, labels, batch_size)`,
            `score(images, batch_size)` and `score_features(features, batch_size)`, all
            of NumPy arrays.
    """
    # glibc gives back to the system, and asks for again, what is larger than any block
    # freed before: a library that was never fitted would take twice the time.
    np.empty(30 * 2**20, np.uint8)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # Libraries print; that must not end up between the answers.
    arrays = {}

    def read(path):
        if path not in arrays:
            arrays[path] = np.load(path)
        return arrays[path]

    def timed(function, *arguments, output=None):
        start = time.perf_counter()
        result = function(*arguments)
        seconds = time.perf_counter() - start
        if output is not None:
            np.save(output, result)
        return {"seconds": seconds}

    def load(weights):
        arrays.clear()
        with np.load(weights) as file:
            library.load(dict(file))
        return {"versions": library.versions(), "names": library.names()}

    def fit(detector, images, labels, batch_size):
        return timed(library.fit, detector, read(images), read(labels), batch_size)

    def logits(images, batch_size, output=None, first=None):
        return timed(library.logits, read(images)[:first], batch_size, output=output)

    def score(images, batch_size, output=None, first=None):
        return timed(library.score, read(images)[:first], batch_size, output=output)

    def score_features(features, batch_size):
        return timed(library.score_features, read(features), batch_size)

    commands = {
        "load": load,
        "fit": fit,
        "logits": logits,
        "score": score,
        "score_features": score_features,
    }
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = commands[request.pop("command")](**request)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


class SideError(RuntimeError):
    """What the other side raised."""


class Side:
    """One library in its own process, idle until it is asked something.

    Args:
        python: The interpreter of the library's environment.
        script: Which of the scripts beside this file to run.
        *arguments: Arguments of the script.
    """

    def __init__(self, python, script, *arguments):
        # An OpenBLAS told to use old kernels would slow the peers' NumPy and Faiss.
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("OPENBLAS_")
        }
        for variable in (
            "OMP_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "TF_NUM_INTRAOP_THREADS",
            "TF_NUM_INTEROP_THREADS",
        ):
            environment[variable] = str(NUM_THREADS)
        environment.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
        self._process = subprocess.Popen(
            [python, pathlib.Path(__file__).parent / script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, command, **arguments):
        """The answer to one command, a dict.

        Raises:
            SideError: the library raised, or its process ended.
        """
        request = {
            key: str(value) if isinstance(value, pathlib.Path) else value
            for key, value in arguments.items()
        }
        try:
            print(
                json.dumps({"command": command, **request}),
                file=self._process.stdin,
                flush=True,
            )
        except BrokenPipeError:
            raise SideError("its process has ended") from None
        line = self._process.stdout.readline()
        if not line:
            raise SideError("its process has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise SideError(answer["error"])
        return answer

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def in_batches(function, rows, batch_size):
    """`function` of each batch of rows, joined."""
    return np.concatenate(
        [
            np.asarray(function(rows[start : start + batch_size]))
            for start in range(0, len(rows), batch_size)
        ]
    )
