"""Acceptance of conformal thresholds on a trained network's scores, against theory.

  python benchmarks/conformal_coverage.py --scores=RUN_DIR/scores.npz \\
      --output=benchmarks/results/conformal_coverage.json \\
      --picture=docs/images/conformal_coverage.png

The known test scores of an evaluated run are split at random, again and again: some
calibrate a `conformal` threshold, the rest are new images. How many of m new ones are
accepted then follows the beta-binomial law BetaBinomial(m, k, n + 1 - k), for n
calibration images and the k-th smallest score, whatever the detector; exactly so for
splits of a fixed set without ties. Checked, each at 99.9 %, are the mean over all
splits, and the largest distance between the two cumulative distributions
(Dvoretzky-Kiefer-Wolfowitz with Massart's constant). All detectors get the same splits.

The splits never touch the run's validation scores, so `validation_to_test` is another
check: the threshold of the run's validation images, on its test images. Epoch and
detector were chosen on those, and the test images are from another file; theory says
nothing about what that costs.
"""

import argparse
import json
import math
import pathlib

import numpy as np
from provenance import provenance
from scipy import stats

from ood_keras import calibration, files
from ood_keras.evaluation import style
from ood_keras.metrics.curve import smallest_count

CONFIDENCE = 0.999


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scores", type=pathlib.Path, required=True)
    parser.add_argument("--detectors", nargs="+", help="default: all in the file")
    parser.add_argument("--num_splits", type=int, default=1000)
    parser.add_argument("--num_calibration", type=int, default=1000)
    parser.add_argument("--targets", type=float, nargs="+", default=[0.9, 0.95, 0.99])
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--picture", type=pathlib.Path)
    arguments = parser.parse_args()
    with np.load(arguments.scores, allow_pickle=False) as file:
        arrays = dict(file)
    known = {
        name.removeprefix("known/"): scores
        for name, scores in arrays.items()
        if name.startswith("known/")
    }
    names = arguments.detectors or list(known)
    result = {
        "num_splits": arguments.num_splits,
        "num_calibration": arguments.num_calibration,
        "num_known": len(next(iter(known.values()))),
        "confidence": CONFIDENCE,
        "detectors": {},
        "validation_to_test": {},
        **provenance("numpy", "scipy"),
    }
    for name in names:
        result["detectors"][name] = rows = {}
        for target in arguments.targets:
            accepted = split_acceptance(
                known[name], target, arguments.num_calibration, arguments.num_splits
            )
            rows[str(target)] = against_theory(
                accepted, len(known[name]), arguments.num_calibration, target
            )
            rows[str(target)]["tied"] = len(known[name]) - len(np.unique(known[name]))
            validation = arrays.get(f"validation/known/{name}")
            if validation is not None:
                transfer = result["validation_to_test"].setdefault(name, {})
                transfer[str(target)] = acceptance(validation, known[name], target)
    result["inside"] = all(
        row["inside"] for rows in result["detectors"].values() for row in rows.values()
    )
    print(json.dumps(result, indent=2))
    if arguments.output:
        files.write_json(arguments.output, result)
    if arguments.picture:
        sizes = arguments.num_calibration, result["num_known"]
        accepted = {
            target: split_acceptance(
                known[names[0]], target, sizes[0], arguments.num_splits
            )
            for target in arguments.targets
        }
        figure = draw(accepted, *sizes, names[0])
        with files.atomic_file(arguments.picture) as path:
            figure.savefig(path, format="png")


def split_acceptance(scores, target, num_calibration, num_splits, seed=0):
    """How many new images each of many random splits accepts, integers."""
    generator = np.random.default_rng(seed)
    counts = np.empty(num_splits, np.int64)
    for index in range(num_splits):
        shuffled = generator.permutation(scores)
        threshold = calibration.conformal(shuffled[:num_calibration], target)
        counts[index] = np.sum(threshold.accepts(shuffled[num_calibration:]))
    return counts


def law(num_known, num_calibration, target):
    """The beta-binomial law of the number accepted, a frozen SciPy distribution."""
    k = smallest_count(num_calibration + 1, target)
    return stats.betabinom(num_known - num_calibration, k, num_calibration + 1 - k)


def against_theory(counts, num_known, num_calibration, target):
    """Mean and distribution of the numbers accepted, beside what theory allows.

    Args:
        counts: What `split_acceptance` returned.
        num_known: How many scores were split.
        num_calibration: How many of them calibrated.
        target: The target acceptance.

    Returns:
        A dict of fractions; `inside` says whether both stay within their bounds.
    """
    expected, num_new = law(num_known, num_calibration, target), num_known
    num_new -= num_calibration
    width = stats.norm.ppf((1 + CONFIDENCE) / 2) * expected.std()
    width /= math.sqrt(len(counts))
    distance = cumulative_distance(counts, expected)
    distance_bound = math.sqrt(math.log(2 / (1 - CONFIDENCE)) / (2 * len(counts)))
    band = [(expected.mean() + sign * width) / num_new for sign in (-1, 1)]
    mean = float(counts.mean()) / num_new
    return {
        "mean": mean,
        "band_of_mean": band,
        "quantiles": np.quantile(counts / num_new, QUANTILES).tolist(),
        "quantiles_in_theory": (expected.ppf(QUANTILES) / num_new).tolist(),
        "cumulative_distance": distance,
        "cumulative_distance_bound": distance_bound,
        "inside": bool(band[0] <= mean <= band[1] and distance <= distance_bound),
    }


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def cumulative_distance(counts, expected):
    """Largest distance between the share of `counts` up to a number and the law's."""
    values, repeats = np.unique(counts, return_counts=True)
    share = np.cumsum(repeats) / len(counts)
    above = np.abs(share - expected.cdf(values))
    # Just below a value; both are step functions on integers.
    below = np.abs(share - repeats / len(counts) - expected.cdf(values - 1))
    return float(max(above.max(), below.max()))


def acceptance(validation, test, target):
    """What the validation threshold accepts of test, and where theory expects it."""
    accepts = calibration.conformal(validation, target).accepts(test)
    expected = law(len(validation) + len(test), len(validation), target)
    return {
        "accepted": float(np.mean(accepts)),
        "interval": [value / len(test) for value in expected.interval(CONFIDENCE)],
    }


@style.use_style
def draw(accepted, num_calibration, num_known, detector):
    """Cumulative share of splits over the acceptance, with theory as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(accepted), 2.6))
    num_new = num_known - num_calibration
    for axes, (target, counts) in zip(
        np.atleast_1d(figure.subplots(1, len(accepted), sharey=True)),
        accepted.items(),
        strict=True,
    ):
        expected = law(num_known, num_calibration, target)
        grid = np.arange(counts.min(), counts.max() + 1)
        axes.step(
            np.sort(counts) / num_new,
            np.arange(1, len(counts) + 1) / len(counts),
            where="post",
            color=style.KNOWN,
            linewidth=3,
            label=f"{len(counts):,} splits",
        )
        axes.plot(
            grid / num_new, expected.cdf(grid), color="black", lw=1, label="theory"
        )
        axes.axvline(target, color=style.THRESHOLD, linestyle="--", label="promised")
        axes.set_title(f"target {100 * target:g} %")
        axes.set_xlabel("new known images accepted")
        axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.4g} %")
        axes.xaxis.set_major_locator(_locator())
    axes.legend(loc="upper left")
    figure.axes[0].set_ylabel(f"splits ({detector})")
    return figure


def _locator():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)


if __name__ == "__main__":
    main()
