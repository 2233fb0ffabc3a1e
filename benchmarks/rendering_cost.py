"""What an augmentation costs a training step, as ratios in one run.

  python benchmarks/rendering_cost.py --output=benchmarks/results/rendering_cost.json

The same network is trained by `model.fit` on `pipelines.interleave`, with each
augmentation and without one, in turn, so that whatever else the machine does hits all
alike. `time_of_a_step` is how long a step takes, that without an augmentation being 1:
data are made ready while the network computes, so on a machine with cores to spare it
is less than the work. `processor_time_of_the_data` is that of the pipeline alone,
walked over without a network, in units of such a step's processor time.
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from provenance import provenance
from training_overhead import BATCH_SIZE, NUM_CLASSES, Steps, model, split

from ood_keras import files, losses, pipelines

AUGMENTATIONS = (None, "random_shift", "random_rendering", "random_photo_rendering")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    mixes = {name: mix(name, arguments.steps) for name in AUGMENTATIONS}
    network = model(losses.OpenSetLoss(NUM_CLASSES), [])
    clock = Steps()
    steps, data, processor = ({name: [] for name in mixes} for _ in range(3))
    for turn in range(arguments.rounds + 1):
        # Each goes first as often as the others.
        first = turn % len(AUGMENTATIONS)
        for name in AUGMENTATIONS[first:] + AUGMENTATIONS[:first]:
            batches = mixes[name]
            began = time.process_time()
            network.fit(batches, verbose=0, callbacks=[clock])
            fitted = time.process_time()
            walk(batches)
            if turn:  # The first turn compiles.
                steps[name].append(clock.last - clock.first)
                processor[name].append(fitted - began)
                data[name].append(time.process_time() - fitted)
        print(f"round {turn} of {arguments.rounds}", flush=True)
    result = {
        "time_of_a_step": ratios(steps, steps[None]),
        "processor_time_of_the_data": ratios(data, processor[None]),
        "batch_size": BATCH_SIZE,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        **provenance("tensorflow", "keras", "numpy"),
    }
    print(result)
    if arguments.output:
        files.write_json(arguments.output, result)


def mix(augmentation, steps):
    """Known and unknown images of MNIST's size for so many steps."""
    random = np.random.default_rng(0)
    num_images = steps * BATCH_SIZE
    num_known = num_images * NUM_CLASSES // (NUM_CLASSES + 1)
    pixels = random.integers(0, 256, (num_images, 28, 28, 1), np.uint8)
    labels = np.arange(num_known) % NUM_CLASSES
    known = split("known", "train", pixels[:num_known], labels, NUM_CLASSES)
    unknown_labels = np.full(num_images - num_known, -1)
    unknown = split("unknown", "train", pixels[num_known:], unknown_labels, 0)
    return pipelines.interleave(
        known, unknown, NUM_CLASSES, batch_size=BATCH_SIZE, augment=augmentation
    )


def walk(batches):
    for _ in batches:
        pass


def ratios(times, of):
    """Medians over that of `of`; without an augmentation the name is "none"."""
    unit = np.median(of)
    return {
        name or "none": round(float(np.median(each) / unit), 3)
        for name, each in times.items()
    }


if __name__ == "__main__":
    main()
