"""How time and memory grow with the data: metrics and thresholds from 10^4 scores on.

  python benchmarks/growth.py --part=metrics --output=benchmarks/results/growth.json \\
      --picture=docs/images/growth_metrics.png

Half of the scores are known, normal float32 numbers. Three sides: `sketch`, a
`metrics.ScoreSketch` that is handed blocks of 10^6 scores and then asked for its
metrics, their bounds and a conformal threshold; `exact`, `metrics.evaluate_scores` and
`calibration.conformal` of two arrays; and scikit-learn's `roc_auc_score` and
`average_precision_score`, one of each, of one array with labels. The latter two hold
all scores in memory and stop at --most_exact. Making the scores is not counted.

Counted are seconds of the processor, which another process on the machine does not take
part in, and the highest memory of the process beyond what it has before its first size;
the inputs are in it, for they are what grows. Each side is a process of its own with
one thread, and of up to 10^6 scores the median of three rounds is taken.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from provenance import provenance

BLOCK = 1_000_000
TARGET = 0.95


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=["metrics"], default="metrics")
    parser.add_argument("--most", type=int, default=10**8)
    parser.add_argument("--most_exact", type=int, default=10**7)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--picture", type=pathlib.Path)
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = [10**power for power in range(4, 1 + len(str(arguments.most)))]
    sizes = [size for size in sizes if size <= arguments.most]
    exact = [size for size in sizes if size <= arguments.most_exact]
    if arguments.side:
        found = measure(arguments.side, sizes if arguments.side == "sketch" else exact)
        print(json.dumps(found))
        return
    result = {"target_acceptance": TARGET, **provenance("numpy", "scikit-learn")}
    result["metrics"] = compare({side: in_process(side) for side in SIDES})
    print(json.dumps(result, indent=2))
    from ood_keras import files

    if arguments.output:
        files.write_json(arguments.output, result)
    if arguments.picture:
        figure = draw(result["metrics"])
        with files.atomic_file(arguments.picture) as path:
            figure.savefig(path, format="png")


def in_process(side):
    """What `measure` returns, in a fresh process with one thread."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, "1")}
    command = [sys.executable, __file__, f"--side={side}", *sys.argv[1:]]
    output = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout
    return json.loads(output.splitlines()[-1])


def compare(found):
    """The rows of all sides, and what the sketch differs by from the exact values."""
    for size, row in found["sketch"].items():
        exact = found["exact"].get(size)
        if exact is None:
            continue
        low, high = row["auroc_bounds"]
        row["auroc_inside"] = low <= exact["auroc"] <= high
        row["threshold_above_exact"] = row["threshold"] / exact["threshold"] - 1
        row["times_faster_than_scikit_learn"] = round(
            found["scikit_learn"][size]["seconds"] / row["seconds"], 2
        )
    return found


def measure(side, sizes):
    """`{size: {"seconds", "mebibytes", "auroc", ...}}` of one side, in this process."""
    evaluate = SIDES[side]()
    evaluate(1000)
    before, rows = peak_mebibytes(), {}
    for size in sizes:
        rounds = [evaluate(size) for _ in range(3 if size <= 10**6 else 1)]
        rows[str(size)] = {
            **rounds[0],
            "seconds": round(statistics.median(one["seconds"] for one in rounds), 5),
            "mebibytes": round(peak_mebibytes() - before, 1),
        }
    return rows


def make_scores(size, seed=0):
    """`(known, unknown)` scores, float32, half of each."""
    rng = np.random.default_rng(seed)
    known = rng.standard_normal(size // 2, np.float32)
    return known + 5, rng.standard_normal(size - size // 2, np.float32) + 7


def peak_mebibytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def sketch_side():
    from ood_keras import calibration, metrics

    def evaluate(size):
        sketch, seconds = metrics.ScoreSketch(), 0.0
        for seed, start in enumerate(range(0, size, BLOCK)):
            scores = make_scores(min(BLOCK, size - start), seed)
            began = time.process_time()
            sketch.update(*scores)
            seconds += time.process_time() - began
        began = time.process_time()
        found, bounds = sketch.evaluate(), sketch.intervals()
        threshold = calibration.conformal(sketch, TARGET).value
        return {
            "seconds": seconds + time.process_time() - began,
            "auroc": found["auroc"],
            "auroc_bounds": bounds["auroc"],
            "threshold": threshold,
        }

    return evaluate


def all_scores(size):
    """The scores of all blocks, as two arrays."""
    blocks = [
        make_scores(min(BLOCK, size - start), seed)
        for seed, start in enumerate(range(0, size, BLOCK))
    ]
    return [np.concatenate(arrays) for arrays in zip(*blocks, strict=True)]


def exact_side():
    from ood_keras import calibration, metrics

    def evaluate(size):
        known, unknown = all_scores(size)
        began = time.process_time()
        auroc = metrics.evaluate_scores(known, unknown)["auroc"]
        threshold = calibration.conformal(known, TARGET).value
        seconds = time.process_time() - began
        return {"seconds": seconds, "auroc": auroc, "threshold": threshold}

    return evaluate


def scikit_learn_side():
    from sklearn.metrics import average_precision_score, roc_auc_score

    def evaluate(size):
        known, unknown = all_scores(size)
        labels = np.repeat(np.array([0, 1], np.int8), [len(known), len(unknown)])
        joint = np.concatenate([known, unknown])
        began = time.process_time()
        average_precision_score(labels, joint)
        auroc = float(roc_auc_score(labels, joint))
        return {"seconds": time.process_time() - began, "auroc": auroc}

    return evaluate


SIDES = {
    "sketch": sketch_side,
    "exact": exact_side,
    "scikit_learn": scikit_learn_side,
}


def draw(found):
    """Seconds of the processor, and memory, against the number of scores."""
    from matplotlib.figure import Figure

    from ood_keras.evaluation import style

    figure = Figure(figsize=(8, 3), layout="constrained")
    titles = {"seconds": "seconds of the processor", "mebibytes": "memory, MiB"}
    for axes, (key, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for (side, rows), color in zip(found.items(), style.SOURCES, strict=False):
            sizes = [int(size) for size in rows]
            # A logarithm wants more than nothing.
            values = [max(row[key], 1e-4) for row in rows.values()]
            label = side.replace("_", "-")
            axes.loglog(sizes, values, marker="o", color=color, label=label)
        axes.set(xlabel="scores", title=title)
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
