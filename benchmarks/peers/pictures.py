"""The pictures of the guides to detectors and thresholds, from peers.json and scores.

  python benchmarks/peers/pictures.py --data_dir=DATA

The one about detectors shows what compare.py wrote. Those about thresholds train its
network on Fashion-MNIST, score with one detector, calibrate on validation images and
count on test images; about a minute on two cores.
"""

import argparse
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import network
import numpy as np

from ood_keras import calibration, detectors, files, pipelines
from ood_keras.conventions import percent
from ood_keras.evaluation import style

HERE = pathlib.Path(__file__).parent
DETECTOR = "knn"
KNOWN = "fashion_mnist"
UNKNOWN = "kmnist"
# The unknown images that a user has; other than those that come.
UNKNOWN_AT_HAND = "emnist/letters"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", type=pathlib.Path)
    parser.add_argument(
        "--results", type=pathlib.Path, default=HERE.parent / "results" / "peers.json"
    )
    parser.add_argument(
        "--output", type=pathlib.Path, default=HERE.parents[1] / "docs" / "images"
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--num_fit", type=int, default=50_000)
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text())
    scores = score(arguments)
    figures = {
        "detectors": draw_detectors(results),
        "thresholds": draw_thresholds(scores),
        "threshold_images": draw_number_of_images(scores),
        "threshold_classes": draw_classes(scores),
        "threshold_discoveries": draw_discoveries(scores),
    }
    for name, figure in figures.items():
        with files.atomic_file(arguments.output / f"{name}.png") as path:
            figure.savefig(path, format="png")
        print(arguments.output / f"{name}.png")


def score(arguments):
    """Scores and predicted classes of `DETECTOR`, as a user would get them."""
    known = pipelines.load(KNOWN, data_dir=arguments.data_dir)
    unknown = pipelines.load(UNKNOWN, data_dir=arguments.data_dir)
    at_hand = pipelines.load(UNKNOWN_AT_HAND, data_dir=arguments.data_dir)
    fit = known.train.take(min(arguments.num_fit, len(known.train)))
    images = pipelines.preprocessing.to_float(fit.images)
    model = network.train(images, fit.labels, known.num_classes, arguments.epochs)
    detector = detectors.get(DETECTOR).fit(model, (images, fit.labels))
    splits = {
        "validation": known.validation,
        "test": known.test,
        "unknown": unknown.test,
        "unknown_at_hand": at_hand.validation,
    }
    scores = {name: detector.score(each.dataset()) for name, each in splits.items()}
    for name in ("validation", "test"):
        logits = model.predict(splits[name].dataset(), verbose=0)
        scores[f"{name}_predicted"] = logits.argmax(axis=1)
    return scores


@style.use_style
def draw_detectors(results):
    """AUROC of every detector against every unknown source, the best on top; cost."""
    columns = {
        (setting, unknown): cells
        for setting, unknowns in results["auroc"].items()
        for unknown, cells in unknowns.items()
    }
    names = [*next(iter(columns.values()))]
    values = np.array(
        [[cells[name]["ours"] for cells in columns.values()] for name in names]
    )
    values = np.column_stack([values, values.mean(axis=1)])
    order = np.argsort(-values[:, -1])
    names, values = [names[row] for row in order], values[order]
    figure = new_figure(0.95 * values.shape[1] + 2.6, 0.24 * len(names) + 1.3)
    axes = figure.subplots()
    axes.imshow(values, cmap="Blues", vmin=0.5, vmax=1.0, aspect="auto")
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        axes.text(
            column,
            row,
            f"{100 * value:.1f}",
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if value > 0.85 else "black",
        )
    for row, name in enumerate(names):
        speeds = results["per_second"].get(name)
        cost = f"{1e6 / speeds['ours']:,.0f}" if speeds else ""
        axes.text(values.shape[1], row, cost, ha="center", va="center")
    labels = [
        unknown if setting == "mnist" else f"{unknown}\n(known: {setting})"
        for setting, unknown in columns
    ]
    labels += ["mean", "µs per image,\nnetwork included"]
    axes.set_xlim(-0.5, values.shape[1] + 0.5)
    axes.set_xticks(range(len(labels)), labels, rotation=25, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_title("AUROC in %, networks that saw known images only")
    return figure


@style.use_style
def draw_thresholds(scores):
    """Where four thresholds lie between the known and the unknown images."""
    validation = scores["validation"]
    thresholds = {
        "conformal 95 %": calibration.conformal(validation, 0.95),
        "conformal 99 %": calibration.conformal(validation, 0.99),
        "lowest cost, 1 % unknown": calibration.lowest_cost(
            validation, scores["unknown_at_hand"], prior_unknown=0.01
        ),
        "lowest cost, 50 % unknown": calibration.lowest_cost(
            validation, scores["unknown_at_hand"], prior_unknown=0.5
        ),
    }
    both = np.concatenate([scores["test"], scores["unknown"]])
    bins = np.linspace(*np.quantile(both, [0.0, 0.999]), 90)
    figure = new_figure(7.2, 4.6)
    axes = figure.subplots()
    for name, label, color in (
        ("test", f"known ({KNOWN}, test)", style.KNOWN),
        ("unknown", f"unknown ({UNKNOWN}, test)", style.UNKNOWN),
    ):
        counts = np.histogram(scores[name], bins)[0] / len(scores[name])
        axes.stairs(counts, bins, fill=True, alpha=0.4, color=color, label=label)
    for index, (name, threshold) in enumerate(thresholds.items()):
        known, unknown = (
            percent(np.mean(threshold.accepts(scores[split])), ".2f")
            for split in ("test", "unknown")
        )
        axes.axvline(
            threshold.value,
            color=style.source_color(index),
            linestyle=("-", "--", "-.", ":")[index],
            label=f"{name}: accepts {known} of known, {unknown} of unknown",
        )
    axes.set_xlabel(f"ood_score ({DETECTOR})")
    axes.set_ylabel("share of images")
    axes.set_title("Thresholds chosen on validation images, counted on test images")
    figure.legend(loc="outside lower left")
    return figure


@style.use_style
def draw_number_of_images(scores):
    """What a conformal threshold at 95 % accepts, by the images it was chosen on."""
    random = np.random.default_rng(0)
    validation = scores["validation"]
    sizes = [n for n in (20, 50, 100, 200, 500, 1000, 2000) if n < len(validation)]
    intervals, drawn = [], []
    for size in sizes:
        for draw in range(40):
            sample = random.choice(validation, size, replace=False)
            threshold = calibration.conformal(sample, 0.95)
            drawn.append((size, np.mean(threshold.accepts(scores["test"]))))
            if not draw:
                intervals.append(threshold.acceptance_interval)
    low, high = np.transpose(intervals)
    figure = new_figure(7.2, 3.6)
    axes = figure.subplots()
    axes.fill_between(
        sizes, low, high, color=style.KNOWN, alpha=0.25, label="promised (90 %)"
    )
    jitter = random.uniform(0.94, 1.06, len(drawn))
    axes.plot(
        np.array(drawn)[:, 0] * jitter,
        np.array(drawn)[:, 1],
        ".",
        color=style.UNKNOWN,
        markersize=3,
        label="accepted of the test images, 40 draws each",
    )
    axes.axhline(0.95, color=style.THRESHOLD, linestyle="--", linewidth=1.0)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.grid(True)
    axes.set_xlabel("known images that the threshold was chosen on")
    axes.set_ylabel("share of known accepted")
    axes.set_title("conformal(scores, 0.95): how many images it takes")
    axes.legend(loc="lower right")
    return figure


@style.use_style
def draw_classes(scores):
    """Acceptance by predicted class, under one threshold and under one for each."""
    predicted = scores["test_predicted"]
    num_classes = int(predicted.max()) + 1
    one = calibration.conformal(scores["validation"], 0.95)
    each = calibration.conformal_per_class(
        scores["validation"], scores["validation_predicted"], num_classes, 0.95
    )
    accepted = {
        "one threshold": one.accepts(scores["test"]),
        "one for each class": each.accepts(scores["test"], predicted),
    }
    figure = new_figure(7.2, 3.2)
    axes = figure.subplots()
    for index, (name, each_accepted) in enumerate(accepted.items()):
        axes.plot(
            np.arange(num_classes) + 0.16 * (2 * index - 1),
            [each_accepted[predicted == label].mean() for label in range(num_classes)],
            "os"[index],
            color=(style.UNKNOWN, style.KNOWN)[index],
            label=name,
        )
    axes.axhline(0.95, color=style.THRESHOLD, linestyle="--", linewidth=1.0)
    axes.set_xticks(range(num_classes))
    axes.grid(True, axis="y")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("share of known accepted")
    axes.set_title("What each class keeps at 95 %: conformal, conformal_per_class")
    figure.legend(loc="outside lower left", ncols=2)
    return figure


@style.use_style
def draw_discoveries(scores):
    """How many images called unknown are known, and how many unknown ones are found."""
    random = np.random.default_rng(0)
    p_values = calibration.ConformalPValues(scores["validation"])
    num_known, num_unknown, num_batches = 190, 10, 300
    drawn = [
        np.concatenate(
            [
                random.choice(scores["test"], num_known, replace=False),
                random.choice(scores["unknown"], num_unknown, replace=False),
            ]
        )
        for _ in range(num_batches)
    ]
    rates = [0.02, 0.05, 0.1, 0.2, 0.3]
    false, found = [], []
    for rate in rates:
        called = np.array([p_values.unknown(batch, rate) for batch in drawn])
        num_called = np.maximum(called.sum(axis=1), 1)
        false.append(np.mean(called[:, :num_known].sum(axis=1) / num_called))
        found.append(called[:, num_known:].mean())
    figure = new_figure(7.2, 3.4)
    axes = figure.subplots()
    axes.plot(
        rates,
        rates,
        "--",
        color=style.THRESHOLD,
        linewidth=1.0,
        label="promised at most",
    )
    axes.plot(
        rates,
        false,
        "o-",
        color=style.UNKNOWN,
        label="known, of those called unknown",
    )
    axes.plot(
        rates, found, "s-", color=style.KNOWN, label="called unknown, of the unknown"
    )
    axes.grid(True)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("false_discovery_rate")
    axes.set_ylabel("share, mean over batches")
    axes.set_title(f"Batches of {num_known} known and {num_unknown} unknown images")
    axes.legend(loc="center right")
    return figure


def new_figure(width, height):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


if __name__ == "__main__":
    main()
