"""Ratio of training steps: TensorFlow with oneDNN against TensorFlow without.

  python benchmarks/onednn.py --output=benchmarks/results/onednn.json

TensorFlow reads TF_ENABLE_ONEDNN_OPTS while it is imported, so each side is a process
of its own, and the two take turns, so that whatever else the machine does hits both.
Each trains the networks on random images of their usual size; the ratios are those of
the medians of all steps. Where nobody sets the variable, TensorFlow uses oneDNN only on
processors with instructions made for networks; the commands that train set it. Run it
on one core, as a study is.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from provenance import provenance

from ood_keras.files import write_json

SIDES = {"onednn": "1", "without": "0"}
_WARM_UP = 2


def measure(steps):
    """Prints the seconds of each step by network, as JSON."""
    import keras
    import numpy as np

    import ood_keras
    from ood_keras import models

    found = {}
    for name, make, shape, batch_size in (
        ("se_alexnet", models.se_alexnet, (28, 28, 1), 128),
        ("alexnet", models.alexnet, (28, 28, 1), 128),
        ("residual, modified block", models.residual, (32, 32, 3), 64),
    ):
        keras.utils.set_random_seed(0)
        model = make(shape, 10)
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            ood_keras.losses.OpenSetLoss(10),
            jit_compile=False,
        )
        random = np.random.default_rng(0)
        batch = (
            random.random((batch_size, *shape), "float32"),
            random.integers(-1, 10, batch_size),
        )
        found[name] = []
        for _ in range(_WARM_UP + steps):
            start = time.perf_counter()
            model.train_on_batch(*batch)
            found[name].append(time.perf_counter() - start)
        del found[name][:_WARM_UP]
    print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.steps)
        return
    where = provenance("tensorflow", "keras")
    seconds = {side: {} for side in SIDES}
    for _ in range(arguments.rounds):
        for side, value in SIDES.items():
            done = subprocess.run(
                [sys.executable, __file__, "--measure", f"--steps={arguments.steps}"],
                env={
                    **os.environ,
                    "TF_ENABLE_ONEDNN_OPTS": value,
                    "TF_CPP_MIN_LOG_LEVEL": "3",
                },
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            )
            for network, steps in json.loads(done.stdout.splitlines()[-1]).items():
                seconds[side].setdefault(network, []).extend(steps)
    result = {}
    for network in seconds["onednn"]:
        medians = {side: statistics.median(seconds[side][network]) for side in SIDES}
        result[network] = {
            "milliseconds": {side: round(1e3 * s, 1) for side, s in medians.items()},
            "ratio": round(medians["without"] / medians["onednn"], 3),
        }
        print(network, result[network], flush=True)
    result |= {
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        **where,
    }
    if arguments.output:
        write_json(arguments.output, result)


if __name__ == "__main__":
    main()
