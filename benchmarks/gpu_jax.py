"""What this package costs on one GPU with the JAX backend, beside plain Keras.

  python benchmarks/gpu_jax.py --output=benchmarks/results/gpu_jax.json

Two comparisons in one run, on random images of MNIST's size. Training: `se_alexnet` by
`model.fit` with `OpenSetLoss`, and the same network with plain cross-entropy, for each
size of a batch; no metrics, arrays in memory. Scoring: `score` of each detector, and
`model.predict` of the network that it is fitted on. Two sides take turns, and swap who
goes first, so that whatever else the machine does hits both; the first turn, which
compiles, is left out and timed by itself. A ratio is that of the medians: 1.00 is plain
Keras, less is slower than it.

TensorFlow need not be installed. After `--seconds`, no new measurement begins, and the
result, which is written after each of them, names those that were left out; training
gets 60 % of that time. `--small` is a try on a CPU, whose numbers say nothing.
"""

import argparse
import json
import os
import pathlib
import platform
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

import ood_keras
from ood_keras import detectors
from ood_keras.files import write_json

NUM_CLASSES = 10
SEED = 0
# What was compiled does not count; each of the others is one turn of both sides.
ROUNDS = 3
FULL = {
    "batch_sizes": [512, 128, 2048],
    "num_images": 65536,
    "network": {},
    "detectors": None,
}
SMALL = {
    "batch_sizes": [8, 16],
    "num_images": 64,
    "network": {"filters": (4, 4), "hidden_size": 8, "feature_size": 12},
    "detectors": ["energy", "mahalanobis", "odin"],
}
NUM_TO_FIT = 4096
# Of many kinds; the others follow in the order of their names. As many are fitted
# together.
FIRST = ("energy", "mahalanobis", "knn", "vim", "odin", "gram")


def network(size, loss=None):
    keras.utils.set_random_seed(SEED)
    model = ood_keras.models.se_alexnet(num_classes=NUM_CLASSES, **size["network"])
    if loss is not None:
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss=loss)
    return model


def take_turns(ours, plain, num_images, rounds):
    """Images a second of both, their ratio, and how long the first calls took."""
    sides, seconds = {"ours": ours, "plain": plain}, {"ours": [], "plain": []}
    for turn in range(rounds + 1):
        for name in sorted(sides, reverse=turn % 2 == 1):
            start = time.perf_counter()
            sides[name]()
            seconds[name].append(time.perf_counter() - start)
    speed = {name: num_images / np.median(times[1:]) for name, times in seconds.items()}
    by_turn = [
        plain / ours
        for ours, plain in zip(seconds["ours"][1:], seconds["plain"][1:], strict=True)
    ]
    return {
        "images_per_second": {name: round(value) for name, value in speed.items()},
        "ratio": round(float(speed["ours"] / speed["plain"]), 3),
        "ratio_by_turn": [round(min(by_turn), 3), round(max(by_turn), 3)],
        "first_call_seconds": {
            name: round(times[0], 1) for name, times in seconds.items()
        },
    }


def measure_training(size, rounds, deadline):
    """Yields `(batch size, what take_turns finds)`; `None` where no time was left."""
    random = np.random.default_rng(SEED)
    images = random.random((size["num_images"], 28, 28, 1), np.float32)
    # One image in N + 1 is unknown, as in the paper.
    labels = (np.arange(len(images)) % (NUM_CLASSES + 1)).astype(np.int32)
    known_or_unknown = np.where(labels == NUM_CLASSES, ood_keras.UNKNOWN, labels)
    ours = network(size, ood_keras.losses.OpenSetLoss(NUM_CLASSES))
    plain = network(size, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for batch_size in size["batch_sizes"]:
        options = {"batch_size": batch_size, "verbose": 0}
        yield (
            batch_size,
            None
            if time.monotonic() > deadline
            else take_turns(
                lambda options=options: ours.fit(images, known_or_unknown, **options),
                lambda options=options: plain.fit(images, labels, **options),
                len(images),
                rounds,
            ),
        )


def measure_scoring(size, rounds, deadline):
    """Yields `(detector, what take_turns finds)`; a text where there is none: why."""
    random = np.random.default_rng(SEED + 1)
    model = network(size)
    batch_size = max(size["batch_sizes"])
    images = random.random((size["num_images"], 28, 28, 1), np.float32)
    to_fit = images[:NUM_TO_FIT], np.arange(min(NUM_TO_FIT, len(images))) % NUM_CLASSES
    names = size["detectors"] or dict.fromkeys([*FIRST, *detectors.names()])
    names = list(names)
    for first in range(0, len(names), len(FIRST)):
        together = names[first : first + len(FIRST)]
        if time.monotonic() > deadline:
            yield from ((name, "no time was left") for name in together)
            continue
        start = time.perf_counter()
        fitted, refused = detectors.fit_together(
            together, model, to_fit, num_classes=NUM_CLASSES
        )
        seconds = time.perf_counter() - start
        print(f"fitted {', '.join(fitted)} in {seconds:.0f} s", flush=True)
        yield from refused.items()
        for name, detector in fitted.items():
            if time.monotonic() > deadline:
                yield name, "no time was left"
                continue
            yield (
                name,
                take_turns(
                    lambda detector=detector: detector.score(images, batch_size),
                    lambda: model.predict(images, batch_size=batch_size, verbose=0),
                    len(images),
                    rounds,
                ),
            )


def describe():
    import jax

    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "num_devices": len(jax.devices()),
        "platform": device.platform,
        "tensorflow_imported": sys.modules.get("tensorflow") is not None,
        "versions": {
            "jax": jax.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "ood_keras": ood_keras.__version__,
            "python": platform.python_version(),
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    if keras.backend.backend() != "jax":
        parser.error(
            f"expected KERAS_BACKEND=jax. Received: {keras.backend.backend()!r}"
        )
    start = time.monotonic()
    size = SMALL if arguments.small else FULL
    result = {
        **describe(),
        "small": arguments.small,
        "seed": SEED,
        "rounds": arguments.rounds,
        "num_images": size["num_images"],
        "training": {},
        "scoring_batch_size": max(size["batch_sizes"]),
        "scoring": {},
        "left_out": {},
    }

    def note(part, name, found):
        if isinstance(found, dict):
            result[part][str(name)] = found
        else:
            result["left_out"][f"{part} {name}"] = found or "no time was left"
        print(part, name, found, flush=True)
        result["seconds"] = round(time.monotonic() - start)
        if arguments.output:
            write_json(arguments.output, result)

    until = start + 0.6 * arguments.seconds
    for batch_size, found in measure_training(size, arguments.rounds, until):
        note("training", batch_size, found)
    until = start + arguments.seconds
    for name, found in measure_scoring(size, arguments.rounds, until):
        note("scoring", name, found)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
