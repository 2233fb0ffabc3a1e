"""Ratio of time and memory: all exact metrics against scikit-learn on the same scores.

  python benchmarks/metrics_speed.py --output=benchmarks/results/metrics_speed.json

`ood_keras.metrics.evaluate_scores` (AUROC, both AUPR, detection error, FPR95 both ways)
against `roc_auc_score` and `average_precision_score`, one of each, on float32 scores of
which half are unknown. They take turns, each in a fresh process, so that whatever else
the machine does hits both and the peak of memory is that of one side; the ratio is that
of the medians. Both sides get two arrays, and scikit-learn's labels and joint array are
made before its clock starts.
"""

import argparse
import json
import multiprocessing
import pathlib
import platform
import resource
import statistics
import time

import numpy as np

SIDES = ("ood_keras", "scikit_learn")


def scores(kind, size):
    rng = np.random.default_rng(0)
    known = rng.standard_normal(size // 2, np.float32)
    unknown = rng.standard_normal(size - size // 2, np.float32) + np.float32(2)
    if kind == "ties":
        # About a thousand distinct values.
        known, unknown = np.round(known, 2), np.round(unknown, 2)
    return known, unknown


def peak_mebibytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(side, kind, size):
    """`(seconds, peak memory beyond the inputs in MiB, AUROC)` in this process."""
    if side == "ood_keras":
        from ood_keras.metrics import evaluate_scores

        evaluate_scores([0.0], [1.0])
        known, unknown = scores(kind, size)
        before, start = peak_mebibytes(), time.perf_counter()
        auroc = evaluate_scores(known, unknown)["auroc"]
    else:
        from sklearn.metrics import average_precision_score, roc_auc_score

        roc_auc_score([0, 1], [0.0, 1.0])
        pair = scores(kind, size)
        joint = np.concatenate(pair)
        is_unknown = np.repeat(np.array([0, 1], np.int8), [len(each) for each in pair])
        del pair
        before, start = peak_mebibytes(), time.perf_counter()
        auroc = roc_auc_score(is_unknown, joint)
        average_precision_score(is_unknown, joint)
    return time.perf_counter() - start, peak_mebibytes() - before, float(auroc)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    fresh = multiprocessing.get_context("spawn")
    result = {
        "num_scores": arguments.size,
        "rounds": arguments.rounds,
        "machine": platform.processor() or platform.machine(),
    }
    for kind in ("continuous", "ties"):
        runs = {side: [] for side in SIDES}
        for _ in range(arguments.rounds):
            for side in SIDES:
                with fresh.Pool(1) as pool:
                    run = pool.apply(measure, (side, kind, arguments.size))
                runs[side].append(run)
        medians = {
            side: [statistics.median(column) for column in zip(*each, strict=True)]
            for side, each in runs.items()
        }
        ours, theirs = (medians[side] for side in SIDES)
        result[kind] = {
            "seconds": {side: round(medians[side][0], 3) for side in SIDES},
            "times_faster": round(theirs[0] / ours[0], 1),
            "peak_mebibytes": {side: round(medians[side][1]) for side in SIDES},
            "times_less_memory": round(theirs[1] / ours[1], 2),
            "auroc_difference": abs(theirs[2] - ours[2]),
        }
    print(json.dumps(result, indent=2))
    if arguments.output:
        from ood_keras.files import write_json

        write_json(arguments.output, result)


if __name__ == "__main__":
    main()
