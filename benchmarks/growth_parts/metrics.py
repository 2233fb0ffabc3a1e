"""Metrics and thresholds, from 10^4 to 10^9 scores.

Half of the scores are known, normal float32 numbers. Three sides: `sketch`, a
`metrics.ScoreSketch` that is handed blocks of 10^6 scores and then asked for its
metrics, their bounds and a conformal threshold; `exact`, `metrics.evaluate_scores` and
`calibration.conformal` of two arrays; and scikit-learn's `roc_auc_score` and
`average_precision_score`, one of each, of one array with labels. The latter two hold
all scores in memory and stop at --most_held. Making the scores is not counted; of up
to 10^6, the median of three rounds is taken.
"""

import time

import numpy as np
from growth_parts import sides

BLOCK = 1_000_000
TARGET = 0.95
FIRST, MOST, MOST_HELD = 10**4, 10**9, 10**7
PACKAGES = ("numpy", "scikit-learn")


def measure_side(side, most, most_held):
    """The rows of one side."""
    last = most if side == "sketch" else min(most, most_held)
    return sides.measure(SIDES[side](), sides.powers(FIRST, last))


def compare(found):
    """Adds to the rows what the sketch differs by from the exact values."""
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
    return {"target_acceptance": TARGET, "sides": found}


def make_scores(size, seed=0):
    """`(known, unknown)` scores, float32, half of each."""
    rng = np.random.default_rng(seed)
    known = rng.standard_normal(size // 2, np.float32)
    return known + 5, rng.standard_normal(size - size // 2, np.float32) + 7


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
    titles = {"seconds": "seconds of the processor", "mebibytes": "memory, MiB"}
    return sides.draw(found["sides"], titles, "scores")
