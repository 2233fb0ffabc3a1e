"""Ratio of images/s: our pipeline, loss and metrics against plain Keras, in one run.

  python benchmarks/training_overhead.py \\
      --output=benchmarks/results/training_overhead.json

Both sides train the same network with the same optimizer for the same number of steps
on images of MNIST's size: one by `model.fit` on in-memory float arrays with plain
cross-entropy and accuracy, one by `model.fit` on `pipelines.interleave` with
`OpenSetLoss` and the Keras metrics named below. They take turns, so that whatever else
the machine does hits both; the ratios are those of the medians. `ratio` is from the
first step to the last. `ratio_of_epochs` is of the whole call: Keras' own iterator over
arrays waits for TensorFlow's tuner at its end, ours has it off, which weighs the more,
the shorter an epoch is.
"""

import argparse
import json
import os
import pathlib
import platform
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import ood_keras
from ood_keras import pipelines
from ood_keras.files import write_json

NUM_CLASSES = 10
BATCH_SIZE = 128


def model(loss, metrics):
    keras.utils.set_random_seed(0)
    network = ood_keras.models.se_alexnet(num_classes=NUM_CLASSES)
    network.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss=loss,
        metrics=metrics,
        jit_compile=False,
    )
    return network


class Steps(keras.callbacks.Callback):
    """When the first step of the last epoch began and its last one ended."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            self.first = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.last = time.perf_counter()


def split(source, role, images, labels, num_classes):
    names = tuple(f"{source} {index}" for index in range(num_classes))
    return pipelines.Split(source, role, images, labels, names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()

    random = np.random.default_rng(0)
    num_images = arguments.steps * BATCH_SIZE
    num_known = num_images * NUM_CLASSES // (NUM_CLASSES + 1)
    num_unknown = num_images - num_known
    pixels = random.integers(0, 256, (num_images, 28, 28, 1), np.uint8)
    labels = np.arange(num_images) % NUM_CLASSES
    known = split("known", "train", pixels[:num_known], labels[:num_known], NUM_CLASSES)
    unknown = split("unknown", "train", pixels[num_known:], np.full(num_unknown, -1), 0)
    metrics = [
        ood_keras.metrics.KnownAccuracy(NUM_CLASSES),
        ood_keras.metrics.Ranking(NUM_CLASSES),
    ]
    ours = model(ood_keras.losses.OpenSetLoss(NUM_CLASSES), metrics)
    plain = model(
        keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"]
    )
    mixed = pipelines.interleave(known, unknown, NUM_CLASSES, batch_size=BATCH_SIZE)
    floats = pixels.astype(np.float32) / 255
    plain_labels = np.where(np.arange(num_images) < num_known, labels, NUM_CLASSES)

    clock = Steps()

    def fit_ours():
        ours.fit(mixed, verbose=0, callbacks=[clock])

    def fit_plain():
        plain.fit(
            floats,
            plain_labels,
            batch_size=BATCH_SIZE,
            verbose=0,
            callbacks=[clock],
        )

    steps, epochs = ({"ours": [], "plain": []} for _ in range(2))
    for turn in range(arguments.rounds + 1):
        for name, fit in (("ours", fit_ours), ("plain", fit_plain)):
            start = time.perf_counter()
            fit()
            if turn:  # the first turn compiles
                epochs[name].append(time.perf_counter() - start)
                steps[name].append(clock.last - clock.first)
        print(f"round {turn} of {arguments.rounds}", flush=True)
    speed = {name: num_images / np.median(times) for name, times in steps.items()}
    result = {
        "images_per_second": {name: round(value, 1) for name, value in speed.items()},
        "ratio": round(speed["ours"] / speed["plain"], 3),
        "ratio_of_epochs": round(
            float(np.median(epochs["plain"]) / np.median(epochs["ours"])), 3
        ),
        "metrics": [type(metric).__name__ for metric in metrics],
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "versions": {"keras": keras.__version__, "ood_keras": ood_keras.__version__},
    }
    print(json.dumps(result, indent=2))
    if arguments.output:
        write_json(arguments.output, result)


if __name__ == "__main__":
    main()
