"""Ratio of time to an earlier checkout: metrics, scoring, a SavedModel, an export.

  git worktree add EARLIER COMMIT
  python benchmarks/against_earlier.py --earlier=EARLIER \\
      --output=benchmarks/results/against_earlier.json

Both sides take turns, each in a fresh process, so that whatever else the machine does
hits both. Within a process every job is repeated and the fastest time counts; the ratio
is that of the medians of the rounds, this checkout to the earlier one. Only names that
both checkouts have are used. The numbers are of small networks with random weights and
of made-up scores: what is compared is the package, not a model.

On a machine that has other work, look at the seconds of the CPU: of the clock on the
wall, no job is ever undisturbed.

`without_files` is an export, by this checkout, of a model like the others whose
images have two channels, so that no file holds them: what it takes less is the price of
files that are read, and checked, in the graph.
"""

import argparse
import functools
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
WITHOUT_FILES = "export of a SavedModel that takes no files"
CLOCKS = ("seconds", "cpu_seconds")
NUM_SCORES, NUM_IMAGES = 1_000_000, 4096


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--earlier", type=pathlib.Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--side", choices=("now", "earlier"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side)))
        return
    if arguments.earlier is None or not (arguments.earlier / "ood_keras").is_dir():
        parser.error(f"--earlier must be a checkout. Received: {arguments.earlier}")
    from provenance import provenance

    result = {
        "earlier": git(arguments.earlier, "rev-parse", "--short", "HEAD"),
        "rounds": arguments.rounds,
        **provenance("numpy", "tensorflow", "keras"),
    }
    runs = {"now": [], "earlier": []}
    for _ in range(arguments.rounds):
        for side, root in (("now", ROOT), ("earlier", arguments.earlier)):
            runs[side].append(run(side, root.resolve()))
            print(side, runs[side][-1])
    # What the check of the files' path takes: two channels are no image file.
    without_files = [one.pop(WITHOUT_FILES) for one in runs["now"]]
    result["without_files"] = dict(zip(CLOCKS, medians(without_files), strict=True))
    result["jobs"] = {}
    for job in runs["earlier"][0]:
        now, earlier = (
            medians([one[job] for one in runs[side]]) for side in ("now", "earlier")
        )
        result["jobs"][job] = {}
        for name, left, right in zip(CLOCKS, now, earlier, strict=True):
            result["jobs"][job] |= {
                name: left,
                f"{name}_earlier": right,
                f"ratio_of_{name}": round(left / right, 3),
            }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


def medians(pairs):
    return [round(statistics.median(values), 5) for values in zip(*pairs, strict=True)]


def git(folder, *arguments):
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def run(side, root):
    """The seconds of every job in a process that imports the package from `root`."""
    with tempfile.TemporaryDirectory() as folder:
        # `pipelines` and `tools` stand beside the package in a checkout.
        package = pathlib.Path(folder) / "ood_keras"
        package.mkdir()
        for path in (root / "ood_keras").iterdir():
            (package / path.name).symlink_to(path)
        for name in ("pipelines", "saved_models", "study", "tools"):
            if (root / name).is_dir():
                (package / name).symlink_to(root / name)
        process = subprocess.run(
            [sys.executable, __file__, f"--side={side}"],
            env={**os.environ, "PYTHONPATH": folder, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
        )
    if process.returncode:
        sys.exit(process.stderr)
    return json.loads(process.stdout.splitlines()[-1])


def measure(side):
    import numpy as np

    from ood_keras import calibration, detectors, export, metrics

    rng = np.random.default_rng(0)
    known = rng.normal(size=NUM_SCORES).astype(np.float32)
    unknown = rng.normal(1, size=NUM_SCORES).astype(np.float32)
    model = network(channels=1)
    images = rng.uniform(size=(NUM_IMAGES, 28, 28, 1)).astype(np.float32)
    labels = np.arange(NUM_IMAGES) % 10
    energy = detectors.get("energy", num_classes=10).fit(model)
    distances = detectors.get("mahalanobis", num_classes=10)
    distances.fit(model, (images, labels))
    threshold = calibration.conformal(energy.score(images), 0.95)
    seconds = {
        "metrics of two million scores": fastest(
            lambda: metrics.evaluate_scores(known, unknown), 3
        ),
        "conformal threshold of a million scores": fastest(
            lambda: calibration.conformal(known, 0.95), 5
        ),
        "energy of 4,096 images": fastest(lambda: energy.score(images), 5),
        "mahalanobis of 4,096 images": fastest(lambda: distances.score(images), 5),
        "energy, 64 times one image": fastest_each(
            lambda i: energy.score(images[i : i + 1]), 64
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        versions = iter(range(1, 9))
        names = [str(number) for number in range(10)]

        def write():
            path = f"{folder}/{next(versions)}"
            return export.saved_model(
                model,
                energy,
                threshold,
                path,
                class_names=names,
                sample_images=images[:64],
            )

        seconds["export of a SavedModel"] = fastest(write, 2)
        if side == "now":
            seconds[WITHOUT_FILES] = fastest(without_files(folder), 2)
        predictor = export.load(f"{folder}/1")
        seconds["SavedModel, 4,096 images"] = fastest(
            lambda: predictor.predict(images), 5
        )
        seconds["SavedModel, 64 times one image"] = fastest_each(
            lambda i: predictor.predict(images[i : i + 1]), 64
        )
        files = [encode(image) for image in images[:1024]]
        seconds["SavedModel, 1,024 PNG files"] = fastest(
            lambda: predictor.predict_bytes(files), 5
        )
    return seconds


def without_files(folder):
    """A function that exports a model whose images no file holds."""
    import numpy as np

    from ood_keras import calibration, detectors, export

    model = network(channels=2)
    detector = detectors.get("energy", num_classes=10).fit(model)
    images = np.random.default_rng(0).uniform(size=(1024, 28, 28, 2))
    images = images.astype(np.float32)
    threshold = calibration.conformal(detector.score(images), 0.95)
    versions = iter(range(1, 9))
    names = [str(number) for number in range(10)]

    def write():
        return export.saved_model(
            model,
            detector,
            threshold,
            f"{folder}/without_files/{next(versions)}",
            class_names=names,
            sample_images=images[:64],
        )

    return write


def network(channels):
    import keras

    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((28, 28, channels)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def encode(image):
    import io

    from PIL import Image

    content = io.BytesIO()
    Image.fromarray((image[..., 0] * 255).astype("uint8")).save(content, "PNG")
    return content.getvalue()


def fastest(job, times, seconds=2.5):
    """The least `[seconds, CPU seconds]` of a job, repeated so often and so long."""
    job()
    taken = []
    while len(taken) < times or sum(wall for wall, _ in taken) < seconds:
        taken.append(clock(job))
    return [min(values) for values in zip(*taken, strict=True)]


def fastest_each(job, count, seconds=3.0):
    """The sums of the least times of `job(0)` to `job(count - 1)`, as `fastest`.

    One of them is over before the machine turns to something else; all together, on a
    machine that has other work, never are.
    """
    least, start = [[float("inf")] * 2] * count, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for number in range(count):
            taken = clock(functools.partial(job, number))
            least[number] = [
                min(pair) for pair in zip(least[number], taken, strict=True)
            ]
    return [sum(values) for values in zip(*least, strict=True)]


def clock(job):
    """`[seconds, CPU seconds]` of one run, those of its processes included."""
    wall, processor, children = time.perf_counter(), time.process_time(), in_children()
    job()
    spent = time.process_time() - processor + in_children() - children
    return [time.perf_counter() - wall, spent]


def in_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
