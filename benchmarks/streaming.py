"""What data on disk cost: memory that grows with the pictures, time that steps wait.

  python benchmarks/streaming.py --output=benchmarks/results/streaming.json
  python benchmarks/streaming.py --sizes 1000 10000 --packed zip tfrecord --no_input \\
      --output=benchmarks/results/streaming_packed.json

`memory`: folders of 64 x 64 colour photographs (JPEG files; some thousand different
ones, under as many names as it takes) are read as `ood-train` reads them, with the
usual limit of memory, below which pixels stay in memory, or all from disk, and some
hundred steps are trained. For each, in a process of its own: the largest private memory
of the process (RssAnon: what only ending it, or swapping, gives back; pages of the file
of pixels can be dropped at any time and are not in it), in MB above what the process
has once it has trained the same network on a few pictures. Of the most pictures, the
same `again`, with pixels that are on disk from before. `packed` is the same, of a zip
file and of TFRecord files of these pictures, where `--packed` names them.

`input`: the network of the recipe photos_scratch at 96 x 96, trained by turns on data
in memory, on disk, and on disk after the system has forgotten the file.
`processor_time_of_the_data` is that of the pipeline alone, walked over without a
network, in units of the processor time of a step: far below 1, no number of cores makes
the network wait. `time_waiting` is the share of the time of a step that passes until
its batch is there; with one core, some of it is work on other batches.
"""

import argparse
import json
import mmap
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from provenance import provenance

from ood_keras.conventions import MOST_GB_IN_MEMORY

SIZES = (1_000, 10_000, 200_000)
SIDE = 64
NUM_CLASSES = 10
BATCH_SIZE = 64
DIFFERENT = 2_000
STEPS = 100
# The limit of memory of each side.
LIMITS = {"usual": None, "disk": "0"}
RECORDS_IN_A_FILE = 5_000


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--packed", nargs="+", default=(), choices=["zip", "tfrecord"])
    parser.add_argument("--no_input", action="store_true", help="leave out `input`")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--part", choices=["memory", "input"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--spec", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part == "memory":
        print(json.dumps(measure_memory(arguments.spec)))
        return
    if arguments.part == "input":
        found = measure_input(arguments.folder, arguments.rounds, arguments.steps)
        print(json.dumps(found))
        return
    result = provenance("tensorflow", "keras", "numpy", "pillow")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        memory = compare_memory(folder, arguments.sizes, ["folder", *arguments.packed])
        result["memory"] = memory.pop("folder")
        if memory:
            result["packed"] = memory
        if not arguments.no_input:
            result["input"] = in_process("input", folder, "usual")
    result["image_shape"] = [SIDE, SIDE, 3]
    result["steps"] = STEPS
    print(json.dumps(result, indent=2))
    if arguments.output:
        from ood_keras import files

        files.write_json(arguments.output, result)


def compare_memory(folder, sizes, kinds):
    """`{kind: {side: {number of pictures: what measure_memory returns}}}`."""
    rows = {kind: {} for kind in kinds}
    pictures = folder / "pictures"
    for size in sorted(sizes):
        write_pictures(pictures, size)
        for kind in kinds:
            spec = f"--spec={kind}:{pack(pictures, kind)}"
            for side in LIMITS:
                if side == "disk" and size * SIDE * SIDE * 3 > MOST_GB_IN_MEMORY * 1e9:
                    continue  # It is the usual.
                row = in_process("memory", folder, side, spec)
                if size == max(sizes):
                    row["again"] = in_process("memory", folder, side, spec)
                rows[kind].setdefault(side, {})[str(size)] = row
                print(kind, side, size, row, file=sys.stderr, flush=True)
    return rows


def pack(pictures, kind):
    """Packs a folder of classes, anew; returns where the data of this kind lie."""
    files = sorted((pictures / "train").rglob("*.jpg"))
    packed = pictures.with_suffix(f".{kind}")
    if kind == "folder":
        return pictures
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as archive:
            for file in files:
                archive.write(file, file.relative_to(pictures))
        return packed
    import tensorflow as tf

    def feature(name, value):
        return {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))}

    packed.mkdir(exist_ok=True)
    for first in range(0, len(files), RECORDS_IN_A_FILE):
        name = packed / f"train-{first // RECORDS_IN_A_FILE:05}"
        with tf.io.TFRecordWriter(str(name)) as writer:
            for file in files[first : first + RECORDS_IN_A_FILE]:
                features = {
                    **feature("image/encoded", file.read_bytes()),
                    **feature("image/class/text", file.parent.name.encode()),
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    return packed


def in_process(part, folder, side, *arguments):
    """What a fresh process prints that measures one part."""
    environment = {**os.environ, "OOD_KERAS_CACHE_DIR": str(folder / "cache")}
    environment.pop("OOD_KERAS_MEMORY_GB", None)
    if LIMITS[side] is not None:
        environment["OOD_KERAS_MEMORY_GB"] = LIMITS[side]
    command = [sys.executable, __file__, f"--part={part}", f"--folder={folder}"]
    output = subprocess.run(
        [*command, *arguments, *sys.argv[1:]],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ).stdout
    return json.loads(output.splitlines()[-1])


def write_pictures(folder, size):
    """Adds JPEG files to a folder of classes until there are so many."""
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(size):
        name = folder / "train" / str(number % NUM_CLASSES) / f"{number:06}.jpg"
        if name.exists():
            continue
        name.parent.mkdir(parents=True, exist_ok=True)
        if number < DIFFERENT:
            coarse = random.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(coarse).resize((SIDE, SIDE)).save(name, quality=90)
        else:
            first = number % DIFFERENT
            os.link(name.with_name(f"{first:06}.jpg"), name)


def measure_memory(spec):
    """Reads and trains as `ood-train` does; MB of private memory, and seconds."""
    import keras

    from ood_keras import losses, models, pipelines

    def fit(data, steps):
        network.fit(data.take(steps), verbose=0)

    network = models.residual((SIDE, SIDE, 3), NUM_CLASSES, filters=(8, 16))
    network.compile(keras.optimizers.SGD(0.01), losses.OpenSetLoss(NUM_CLASSES))
    few = np.zeros((256, SIDE, SIDE, 3), np.uint8)
    few[:, ::2] = np.arange(256, dtype=np.uint8)[:, None, None, None]
    labels = np.arange(256) % NUM_CLASSES
    fit(pipelines.interleave((few, labels), few + 1, NUM_CLASSES), 20)
    watch = Watch()
    row = {}
    began = time.perf_counter()
    source = pipelines.load(spec)
    known = source.train
    row["seconds_of_reading"] = round(time.perf_counter() - began, 1)
    row["reading"] = watch.read()
    mixed = pipelines.Interleave(
        known, few, NUM_CLASSES, batch_size=BATCH_SIZE, normalize=False
    )
    row["checks"] = watch.read()
    fit(mixed.epoch(0).repeat(), STEPS)
    row["training"] = watch.read()
    for _ in source.validation.dataset():
        pass
    row["validation"] = watch.read()
    row["peak"] = max(row[part] for part in ("reading", "checks", "training"))
    row["images"] = type(known.images).__name__
    row["pixels"] = round(known.images.size / 1e6, 1)
    return row


class Watch:
    """Notes the largest private memory of this process, in MB above the first."""

    def __init__(self):
        self._first = self._most = private_megabytes()
        threading.Thread(target=self._run, daemon=True).start()

    def read(self):
        """The largest since the last call."""
        most, self._most = max(self._most, private_megabytes()), 0
        return round(most - self._first, 1)

    def _run(self):
        while True:
            self._most = max(self._most, private_megabytes())
            time.sleep(0.01)


def private_megabytes():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) * 1024 / 1e6


def measure_input(folder, rounds, steps):
    """How long steps of a network take and wait, with data in memory and on disk."""
    import keras

    from ood_keras import losses, models, pipelines

    side, count = 96, 20 * steps * BATCH_SIZE
    random = np.random.default_rng(0)
    path, shape = folder / "pixels.npy", (count, side, side, 3)
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    for start in range(0, count, BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        pixels[rows] = random.integers(0, 256, pixels[rows].shape, np.uint8)
    pixels.flush()
    del pixels
    pixels = np.load(path, mmap_mode="r")
    names = tuple(f"class {number}" for number in range(NUM_CLASSES))
    labels = np.arange(count) % NUM_CLASSES
    unknown = random.integers(0, 256, (256, side, side, 3), np.uint8)
    mixes = {}
    for name, images in (
        ("memory", np.array(pixels)),
        ("disk", pipelines.StoredImages(pixels)),
        ("disk, forgotten", pipelines.StoredImages(pixels)),
    ):
        known = pipelines.Split("known", "train", images, labels, names)
        mixes[name] = pipelines.Interleave(
            known, unknown, NUM_CLASSES, batch_size=BATCH_SIZE, normalize=False
        )
    network = models.residual((side, side, 3), NUM_CLASSES, filters=(32, 64, 128))
    network.compile(keras.optimizers.SGD(0.01), losses.OpenSetLoss(NUM_CLASSES))
    times = {name: {"step": [], "wait": [], "work": [], "data": []} for name in mixes}
    for turn in range(rounds + 1):
        for name, mixed in mixes.items():
            found = times[name]
            # Not the same pictures, which the system remembers, in every round.
            if name == "disk, forgotten":
                forget(pixels, path)
            began = time.process_time()
            walk(mixed.epoch(2 * turn), steps)
            data = time.process_time() - began
            if name == "disk, forgotten":
                forget(pixels, path)
            began, wall = time.process_time(), time.perf_counter()
            waited = train(network, mixed.epoch(2 * turn + 1), steps)
            if turn:  # The first turn compiles.
                found["data"].append(data)
                found["work"].append(time.process_time() - began)
                found["step"].append(time.perf_counter() - wall)
                found["wait"].append(waited)
        print(f"round {turn} of {rounds}", file=sys.stderr, flush=True)
    median = {
        name: {part: float(np.median(each)) for part, each in found.items()}
        for name, found in times.items()
    }
    unit = median["memory"]
    return {
        "processor_time_of_the_data": {
            name: round(one["data"] / unit["work"], 4) for name, one in median.items()
        },
        "time_waiting": {
            name: round(one["wait"] / one["step"], 4) for name, one in median.items()
        },
        "time_of_a_step": {
            name: round(one["step"] / unit["step"], 3) for name, one in median.items()
        },
        "seconds_of_a_step": round(unit["step"] / steps, 3),
        "image_shape": [side, side, 3],
        "batch_size": BATCH_SIZE,
        "rounds": rounds,
        "steps": steps,
    }


def train(network, dataset, steps):
    """Trains some steps; returns the seconds until their batches were there."""
    batches, waited = iter(dataset), 0.0
    for _ in range(steps):
        began = time.perf_counter()
        images, labels = next(batches)
        waited += time.perf_counter() - began
        network.train_on_batch(images, labels)
    return waited


def walk(dataset, steps):
    for _ in dataset.take(steps):
        pass


def forget(pixels, path):
    """Drops the pages of a mapped file from this process and from the system."""
    pixels._mmap.madvise(mmap.MADV_DONTNEED)
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
