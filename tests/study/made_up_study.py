"""A study with invented numbers, in the form of results/table1/README.md."""

import json

import numpy as np

from ood_keras.metrics.measures import BUILT_IN

# Those that are better when they are higher stand first.
METRICS = tuple(sorted(BUILT_IN, key=lambda name: not BUILT_IN[name].higher_is_better))
_METHODS = {
    "softmax_threshold": ("Softmax threshold", "main", "plain"),
    "odin": ("ODIN", "main", "plain"),
    "ours": ("Ours", "main", "ours"),
    "ours_synthetic": ("Ours + synthetic", "main", "ours_synthetic"),
    "without_block": ("Without the block", "ablation", "without_block"),
    "two": ("2-D bottleneck", "ablation", "two"),
    "longer": ("Longer", "longer", "ours_synthetic"),
    "entropy": ("Entropy", "other families", "plain"),
    "paper": ("Paper recipe", "paper", "paper"),
}
_CHANGES = {"without_block": {"block": "none"}, "two": {"feature_size": 2}}
_UNKNOWN = ["emnist/letters", "kmnist", "uniform_noise"]


def cell(*values):
    """The numbers of some seeds, as a summary holds them."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": std, "values": list(values)}


def unknown_cells(auroc):
    """Numbers that no linter objects to."""
    return {
        metric: cell(*(auroc if metric[0] == "a" else [1 - v for v in auroc]))
        for metric in METRICS
    }


def write(folder):
    """Writes the study into a folder.

    MNIST: ours with seeds 0 and 1, all others with seed 0; ODIN has no kmnist, the
    softmax threshold failed on everything but emnist/letters. Fashion-MNIST: only ours,
    seed 0, one unknown.
    """
    mnist = {
        "ours": {
            "emnist/letters": unknown_cells([0.9990, 0.9992]),
            "kmnist": unknown_cells([0.9970, 0.9980]),
            "uniform_noise": unknown_cells([1.0, 1.0]),
        },
        "ours_synthetic": {name: unknown_cells([0.9985]) for name in _UNKNOWN},
        "softmax_threshold": {"emnist/letters": unknown_cells([0.9012])},
        "odin": {
            "emnist/letters": unknown_cells([0.92]),
            "uniform_noise": unknown_cells([0.97]),
        },
        "without_block": {name: unknown_cells([0.98]) for name in _UNKNOWN},
        "two": {name: unknown_cells([0.97]) for name in _UNKNOWN},
        "longer": {name: unknown_cells([0.9987]) for name in _UNKNOWN},
        "paper": {name: unknown_cells([0.96]) for name in _UNKNOWN},
    }
    fashion = {"ours": {"mnist": unknown_cells([0.5])}}
    summary = {
        "study": "table1",
        "results": {"mnist": mnist, "fashion_mnist": fashion},
        "known_accuracy": {
            "mnist": {name: cell(0.995) for name in mnist}
            | {"ours": cell(0.9960, 0.9970)},
            "fashion_mnist": {"ours": cell(0.94)},
        },
        "seen": {
            "mnist": {
                name: [] if name in ("odin", "softmax_threshold") else _UNKNOWN[:1]
                for name in mnist
            },
            "fashion_mnist": {"ours": ["mnist"]},
        },
        "seeds": {
            "mnist": {name: [0] for name in mnist} | {"ours": [0, 1]},
            "fashion_mnist": {"ours": [0]},
        },
        "methods": {
            name: {
                "title": title,
                "group": group,
                "training": training,
                "detector": "msp",
                "description": f"what {name} is",
            }
            for name, (title, group, training) in _METHODS.items()
        },
        "trainings": {
            training: {
                "description": f"how {training} is trained",
                "exposure": ["real", "synthetic"]
                if "synthetic" in training
                else ["real"],
                "recipe": {
                    "mnist": {
                        "block": "none" if "without" in training else "modified_se",
                        "feature_size": 2 if training == "two" else 128,
                        "filters": [8, 16],
                        "hidden_size": 32,
                        "augment": None,
                        "weight_decay": 0.0,
                    }
                },
                "changes": _CHANGES.get(training, {}),
            }
            for _, _, training in _METHODS.values()
        },
        "against_paper": {
            name: {
                "cells": 70,
                "measured": 20 if name == "ours" else 15,
                "met": 19 if name == "ours" else 15,
                "met_unrounded": 18,
                "missed": [
                    {
                        "known": "mnist",
                        "unknown": "kmnist",
                        "metric": "auroc",
                        "value": 99.75,
                        "paper": "99.83",
                    }
                ],
            }
            for name in _METHODS
        },
        "inconsistencies": [],
        "runs": {
            "mnist/ours/seed_0": {"status": "finished", "minutes": {"training": 8}},
            "mnist/ours/seed_1": {"status": "finished", "minutes": {"training": 8}},
            "mnist/ours/seed_2": {"status": "missing"},
            "mnist/vae/seed_0": {"status": "failed", "error": "no disk"},
        },
        "protocol": {"splits": "fit on train, select on validation, report on test"},
        "versions": {"ood_keras": ["0.1.0", "0.2.0"]},
        "machines": [{"processor": "made up", "cores": 2}],
    }
    run_dir = folder / "mnist" / "ours_synthetic" / "seed_0"
    run_dir.mkdir(parents=True)
    run = {
        "unknown": ["emnist/letters", "synthetic"],
        "run": {"settings": {"data": {"emnist/letters/train": {"images": 6000}}}},
    }
    (run_dir / "run.json").write_text(json.dumps(run))
    write_summary(folder, summary)
    return summary


def write_summary(folder, summary):
    """Writes `summary.json`."""
    (folder / "summary.json").write_text(json.dumps(summary))


def write_scores(folder, known="mnist", method="ours", training="ours"):
    """Writes scores, examples and history of one run of seed 0."""
    generator = np.random.default_rng(0)
    run_dir = folder / known / training / "seed_0"
    run_dir.mkdir(parents=True, exist_ok=True)
    scores = {f"known/{method}": generator.normal(-2, 1, 300)}
    examples = {
        "plane": np.array("the 2-D feature layer itself"),
        "threshold": np.array(-0.5),
        "known/features": generator.normal(0, 9, (90, 2)).astype(np.float16),
        "known/feature_labels": (np.arange(90) % 10).astype(np.int16),
        "known/labels": np.arange(10),
        "class_names": np.array(list("0123456789")),
    }
    for source in _UNKNOWN:
        scores[f"unknown/{source}/{method}"] = generator.normal(2, 1, 200)
        examples[f"unknown/{source}/features"] = generator.normal(0, 1, (90, 2)).astype(
            np.float16
        )
    for name in ("known", *(f"unknown/{source}" for source in _UNKNOWN)):
        examples |= {
            f"{name}/confidence": generator.random(90).astype(np.float16),
            f"{name}/images": generator.integers(0, 256, (10, 8, 8, 1), np.uint8),
            f"{name}/scores": np.linspace(-1, 1, 10),
            f"{name}/predictions": np.arange(10),
            f"{name}/accepted": np.array(0.5),
            f"{name}/total": np.array(200),
        }
    np.savez(run_dir / "scores.npz", **scores)
    np.savez(run_dir / "examples.npz", **examples)
    (run_dir / "history.csv").write_text(
        "epoch,val_fpr95_known_positive,val_known_accuracy\n1,0.5,0.9\n2,0.25,0.95\n"
    )
