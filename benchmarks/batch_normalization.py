"""Ratio of training steps: `layers.BatchNormalization` against Keras' own, in one run.

  python benchmarks/batch_normalization.py \
      --output=benchmarks/results/batch_normalization.json

Each network is built with either layer, all else alike, and trains on random images of
its usual size; the two take turns, so that whatever else the machine does hits both.
The ratios are those of the medians. Run it on one core, as a study is.
"""

import argparse
import os
import pathlib
import platform
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import ood_keras
from ood_keras import machine
from ood_keras.files import write_json
from ood_keras.layers import BatchNormalization, modified_se_block
from ood_keras.models import parts

_LAYERS = {"ours": BatchNormalization, "keras": keras.layers.BatchNormalization}
_NETWORKS = {
    "se_alexnet": (ood_keras.models.se_alexnet, (28, 28, 1), 128, {}),
    "alexnet": (ood_keras.models.alexnet, (28, 28, 1), 128, {}),
    "residual, modified block": (ood_keras.models.residual, (32, 32, 3), 64, {}),
    "residual": (ood_keras.models.residual, (32, 32, 3), 64, {"block": "none"}),
}


def build(network, layer):
    """Returns a compiled network with this layer, and a batch for it."""
    make, shape, batch_size, arguments = _NETWORKS[network]
    # What the networks make their layers of.
    parts.BatchNormalization = modified_se_block.BatchNormalization = _LAYERS[layer]
    keras.utils.set_random_seed(0)
    model = make(shape, 10, **arguments)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        ood_keras.losses.OpenSetLoss(10),
        jit_compile=False,
    )
    random = np.random.default_rng(0)
    images = random.random((batch_size, *shape), "float32")
    return model, (images, random.integers(-1, 10, batch_size))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    result = {}
    for network in _NETWORKS:
        models = {layer: build(network, layer) for layer in _LAYERS}
        seconds = {layer: [] for layer in _LAYERS}
        for turn in range(arguments.rounds + 2):
            for layer, (model, batch) in models.items():
                start = time.perf_counter()
                model.train_on_batch(*batch)
                if turn > 1:  # The first ones compile.
                    seconds[layer].append(time.perf_counter() - start)
        medians = {layer: float(np.median(times)) for layer, times in seconds.items()}
        result[network] = {
            "milliseconds": {name: round(1e3 * s, 1) for name, s in medians.items()},
            "ratio": round(medians["ours"] / medians["keras"], 3),
        }
        print(network, result[network], flush=True)
    result |= {
        "rounds": arguments.rounds,
        "machine": f"{machine.num_cores()} CPU cores, {platform.machine()}",
        "processor": machine.processor(),
        "versions": {"keras": keras.__version__, "ood_keras": ood_keras.__version__},
    }
    if arguments.output:
        write_json(arguments.output, result)


if __name__ == "__main__":
    main()
