"""Trains what tells upright characters from transposed ones, and counts its mistakes.

  python benchmarks/emnist_orientation.py --data_dir=DIR \\
      --output=benchmarks/results/emnist_orientation.json [--train]

With --train it first writes `pipelines/sources/upright.json`: a network of 16 hidden
units, fitted to EMNIST's letters and MNIST's digits of the training parts, all upright,
so that its value of an image minus that of the transposed image is the logarithm of the
odds. Then, and without --train, it draws samples of each size from the test parts, as
they are and transposed, and counts how `orientation.judge` judges them. Noise and
clothes have no right answer: of these, the count of `None` is of interest.
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from provenance import provenance

from ood_keras import pipelines, resizing
from ood_keras.files import write_json, write_text
from ood_keras.pipelines.sources import orientation

NUM_HIDDEN = 16
NUM_DIGITS = 15_000
SIZES = (1, 5, 10, 20, 26, 50, 100, 1000)
CHARACTERS = ("emnist/letters", "mnist", "kannada_mnist")
OTHERS = ("fashion_mnist", "uniform_noise")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--draws", type=int, default=1000)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.data_dir)
    found = {}
    for spec in CHARACTERS + OTHERS:
        images = test_images(spec, arguments.data_dir)
        found[spec] = {
            str(size): counts(images, size, arguments.draws) for size in SIZES
        }
        print(spec, *found[spec].items(), sep="\n  ", flush=True)
    if arguments.output:
        write_json(
            arguments.output,
            {"draws": arguments.draws, "counts": found, **provenance("numpy")},
        )


def train(data_dir):
    keras.utils.set_random_seed(0)
    letters = pipelines.load("emnist/letters", data_dir=data_dir).train.images
    digits = pipelines.load("mnist", data_dir=data_dir).train.images[:NUM_DIGITS]
    images = resizing.adapt(np.concatenate([letters, digits]), orientation.SHAPE)
    pixels = images[..., 0].astype(np.float32) / 255
    network = keras.Sequential(
        [
            keras.layers.Flatten(),
            keras.layers.Dense(
                NUM_HIDDEN,
                "relu",
                use_bias=False,
                kernel_regularizer=keras.regularizers.L2(1e-4),
            ),
            keras.layers.Dense(1, use_bias=False),
        ]
    )
    image = keras.Input(pixels.shape[1:])
    odds = network(image) - network(keras.ops.transpose(image, (0, 2, 1)))
    model = keras.Model(image, odds)
    model.compile(
        keras.optimizers.Adam(2e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    model.fit(pixels, np.ones(len(pixels)), batch_size=512, epochs=25, verbose=2)
    stored = {}
    for name, weights in zip(("hidden", "output"), network.get_weights(), strict=True):
        unit = float(np.abs(weights).max()) / 127
        stored[f"{name}_unit"] = unit
        stored[name] = np.rint(weights.squeeze() / unit).astype(int).tolist()
    # One hidden unit's weights to a line would be 196 long; one pixel's is 16.
    rows = ",\n".join(str(row) for row in stored["hidden"])
    text = (
        '{\n"made_by": "benchmarks/emnist_orientation.py --train",\n'
        f'"hidden_unit": {stored["hidden_unit"]!r},\n"hidden": [\n{rows}\n],\n'
        f'"output_unit": {stored["output_unit"]!r},\n"output": {stored["output"]}\n}}\n'
    )
    folder = pathlib.Path(orientation.__file__).parent
    write_text(folder / orientation.WEIGHTS, text)
    orientation._weights.cache_clear()


def test_images(spec, data_dir):
    if spec == "kannada_mnist":
        spec = f"idx:{data_dir / spec}"
    return pipelines.load(spec, data_dir=data_dir).test.images


def counts(images, size, draws):
    """How samples of upright images, and the same transposed, are judged."""
    random = np.random.default_rng(size)
    total = {"right": 0, "wrong": 0, "undecided": 0}
    for _ in range(draws):
        sample = images[random.choice(len(images), size, replace=False)]
        for stand, pixels in (
            (orientation.UPRIGHT, sample),
            (orientation.TRANSPOSED, sample.transpose(0, 2, 1, 3)),
        ):
            answer = orientation.judge(pixels)
            outcome = "right" if answer == stand else "wrong" if answer else "undecided"
            total[outcome] += 1
    return total


if __name__ == "__main__":
    main()
