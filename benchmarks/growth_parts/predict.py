"""The command `ood-predict`, from 10^3 images on, beside the bare SavedModel.

The shipped MNIST model. `idx` and `png` are the command itself, in a process of its own
with CSV as its output: of one IDX file, and of a folder of PNG files. `saved_model` is
a process that only calls the model's signature, on arrays that are there already, 256
images a call, 10,000 images made at a time. It and `png` stop at --most_held: a million
files take 4 GB of disk for a while, and all an hour. The pictures are the model's own
known examples, each moved by a few pixels. `seconds`, of the processor, and memory are
those of the whole process, TensorFlow and its start included; `images_per_second` is
what the command prints, by the clock and without its start. `times_the_bare_model`
compares the seconds of an image, those of the first 1,000, in which the start is,
subtracted.
"""

import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np
from growth_parts import sides

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "growth.py"
MODEL = ROOT / "saved_models" / "mnist" / "1"
BATCH, SLICE = 256, 10_000
FIRST, MOST, MOST_HELD = 10**3, 10**6, 10**6
PACKAGES = ("numpy", "tensorflow", "pillow")
SIDES = ("idx", "png", "saved_model")


def measure(most, most_held):
    """The rows of all sides; these take turns at each size."""
    found = {side: {} for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        examples = read_examples()
        for size in sides.powers(FIRST, most):
            path = folder / "images.idx"
            write_idx(path, examples, size)
            found["idx"][str(size)] = command(path, folder)
            path.unlink()
            if size <= most_held:
                found["saved_model"][str(size)] = run(
                    [
                        *(sys.executable, str(SCRIPT), "--part=predict"),
                        *("--side=saved_model", f"--most={size}"),
                    ]
                )
                write_pngs(folder / "png", examples, size)
                found["png"][str(size)] = command(folder / "png", folder)
    return compare(found)


def compare(found):
    """Adds to the rows what an image costs beside the bare model."""

    def cost(rows, size):
        first = rows[str(FIRST)]["seconds"]
        return (rows[str(size)]["seconds"] - first) / (size - FIRST)

    for side in ("idx", "png"):
        for size, row in found[side].items():
            bare_size = min(int(size), max(map(int, found["saved_model"])))
            if bare_size > FIRST:
                bare = cost(found["saved_model"], bare_size)
                ratio = cost(found[side], int(size)) / bare
                row["times_the_bare_model"] = round(ratio, 2)
    return {"model": str(MODEL.relative_to(ROOT)), "batch": BATCH, "sides": found}


def read_examples():
    """The model's known examples, uint8 `(num_images, height, width)`."""
    from ood_keras.inference import known_examples

    return known_examples.read(MODEL).images[..., 0]


def make_pictures(examples, start, count):
    """Some of an endless row of pictures, uint8 `(count, height, width)`."""
    rng = np.random.default_rng(start)
    pictures = examples[rng.integers(0, len(examples), count)]
    down, right = rng.integers(-2, 3, (2, count, 1))
    height, width = pictures.shape[1:]
    rows = (np.arange(height) + down) % height
    columns = (np.arange(width) + right) % width
    index = np.arange(count)[:, None, None]
    return pictures[index, rows[:, :, None], columns[:, None, :]]


def write_idx(path, examples, size):
    with open(path, "wb") as file:
        file.write(struct.pack(">4B3I", 0, 0, 8, 3, size, *examples.shape[1:]))
        for start in range(0, size, SLICE):
            count = min(SLICE, size - start)
            file.write(make_pictures(examples, start, count).tobytes())


def write_pngs(folder, examples, size):
    """Adds what is missing; a folder for every 1,000 pictures."""
    from PIL import Image

    for start in range(0, size, 1000):
        part = folder / f"{start:07d}"
        if part.is_dir():
            continue
        part.mkdir(parents=True)
        for number, picture in enumerate(make_pictures(examples, start, 1000)):
            Image.fromarray(picture).save(part / f"{number:03d}.png")


def command(path, folder):
    """The row of `ood-predict` on a file or a folder."""
    output = folder / "answers.csv"
    row = run(
        [
            *(sys.executable, "-m", "ood_keras.tools.predict", f"--model={MODEL}"),
            *(f"--output={output}", str(path)),
        ]
    )
    output.unlink()
    return row


def run(arguments):
    """Runs a process with one thread; what it says, its seconds and its memory."""
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **sides.ONE_THREAD},
    )
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{arguments} ended with {process.returncode}")
    speed = re.search(r"([\d,]+) images/s", said)
    return {
        "images_per_second": int(speed[1].replace(",", "")),
        "seconds": round(used.ru_utime + used.ru_stime, 2),
        "mebibytes": round(used.ru_maxrss / 1024, 1),
    }


def measure_side(side, most, most_held):
    """Calls the signature alone on `most` images; prints the speed, as the command."""
    import tensorflow as tf

    signature = tf.saved_model.load(str(MODEL)).signatures["serving_default"]
    examples, seconds = read_examples(), 0.0
    for start in range(0, most, SLICE):
        pictures = make_pictures(examples, start, min(SLICE, most - start))
        images = pictures[..., None].astype(np.float32) / 255
        began = time.monotonic()
        for first in range(0, len(images), BATCH):
            outputs = signature(image=tf.constant(images[first : first + BATCH]))
            outputs["ood_score"].numpy()
        seconds += time.monotonic() - began
    print(f"{most / seconds:,.0f} images/s")


def draw(found):
    """Seconds of the processor, and memory, against the number of images."""
    titles = {
        "seconds": "seconds of the processor, with the start",
        "mebibytes": "memory, all of it, MiB",
    }
    figure = sides.draw(found["sides"], titles, "images")
    figure.axes[1].set(yscale="linear", ylim=(0, None))
    return figure
