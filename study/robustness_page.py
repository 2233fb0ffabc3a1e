"""What the docs say about robustness, from the files of `ood-robustness`."""

import functools
import json
import pathlib
from collections.abc import Collection

from ood_keras.evaluation import figures, robustness, style
from ood_keras.study import markdown
from ood_keras.types import Json

# What Figures 2 and 3 of the paper show.
_PAPER = (
    ("gaussian_noise", 0.0, "without a perturbation"),
    ("gaussian_noise", 1.0, "under Gaussian noise of standard deviation 1"),
    ("fgsm", 0.1, "under FGSM at 0.1"),
)
# The paper names no number for "no drastic change in classification accuracy".
_HARDLY = 0.05
# Nor for "can differentiate".
_TOLD_APART = 0.9


def page(folder: pathlib.Path) -> str:
    """Returns the text of `docs/robustness.md`.

    Args:
        folder: `pathlib.Path` with a folder for each known source, as the page should
            name it from the repository's root.
    """
    return markdown.render(
        "robustness",
        folder=folder,
        results=[_describe(path) for path in sorted(folder.glob("*/robustness.json"))],
    )


def _describe(path: pathlib.Path) -> Json:
    """What the page says about one known source."""
    result = json.loads(path.read_text(encoding="utf-8"))
    detectors = next(iter(result["networks"].values()))["detectors"]
    return {
        "folder": path.parent,
        "known": result["known"],
        "target_acceptance": result["target_acceptance"],
        "versions": result["versions"],
        "detectors": list(detectors),
        "unknown": list(next(iter(detectors.values()))["unknown_rejected"]),
        "networks": [
            {"title": title, "run": network["run"], **_measure(network)}
            for title, network in result["networks"].items()
        ],
        "picture": functools.partial(markdown.show_result, path.parent),
    }


def _measure(network: Json) -> Json:
    """A network's table: the first detector whole, AUROC of the others."""
    detectors, seen = network["detectors"], network["seen"]
    first = next(iter(detectors))
    rows = []
    for name, points in detectors[first]["perturbations"].items():
        for index, point in enumerate(points):
            shares = point["known"]
            aurocs = [
                figures.mean_auroc(detector["perturbations"][name][index], seen)
                for detector in detectors.values()
            ]
            columns = ("accuracy", "rejected", "accepted_wrong")
            values = [*(shares[column] for column in columns), *aurocs]
            strength = f"{point['strength']:g}"
            rows.append(
                [style.title(name), strength, *map(markdown.format_percent, values)]
            )
    header = ["perturbation", "strength", "accuracy", "rejected"]
    header += ["accepted with a wrong class"]
    header += [f"AUROC, {detector}" for detector in detectors]
    rejected = detectors[first]["unknown_rejected"]
    return {
        "detector": first,
        "table": markdown.Table(header, rows),
        "rejected": rejected,
        "seen": seen,
        "has_unseen": any(source not in seen for source in rejected),
        "most_accepted_wrong": {
            name: robustness.find_most_accepted_wrong(measured)
            for name, measured in detectors.items()
        },
        "paper": _compare_with_paper(detectors[first]["perturbations"], seen),
    }


def _compare_with_paper(perturbations: Json, seen: Collection[str]) -> Json | None:
    """What section 3.4 speaks of; `None` where any of it was not measured."""
    found = []
    for name, strength, text in _PAPER:
        for point in perturbations.get(name, ()):
            if point["strength"] == strength:
                auroc = figures.mean_auroc(point, seen)
                found.append({"text": text, "auroc": auroc, **point["known"]})
    if len(found) < len(_PAPER):
        return None
    clean, noisy, attacked = found
    return {
        "points": found,
        "noise_is_harmless": noisy["accuracy"] > clean["accuracy"] - _HARDLY,
        "attacked_auroc": attacked["auroc"],
        "needed_auroc": _TOLD_APART,
        "told_apart": attacked["auroc"] > _TOLD_APART,
    }
