"""What the docs say about the forms of test sets, from the file of a benchmark."""

import json
import pathlib

from ood_keras import metrics
from ood_keras.study import markdown, summary
from ood_keras.types import Json

_METRICS = (
    "auroc",
    "fpr95_known_positive",
    "fpr95_unknown_positive",
    "detection_error",
)
_OMNIGLOT = "omniglot"
# The two readings of the paper's "downsampled to 28 x 28".
_READINGS = {"as distributed": "omniglot@as_distributed", "inverted": "omniglot"}
_DESCRIPTIONS = {
    "emnist/letters": "upright",
    "emnist/letters@transposed": "on their side, as the publisher ships them and "
    "Vernekar et al. (2019) used them",
    "kannada_mnist": "Kannada digits, by native writers",
    "dig_mnist": "Kannada digits, mostly by others",
    "notmnist": "bright on dark",
    "notmnist@negative": "dark on bright, as the original Objectosphere code has it",
    "omniglot@as_distributed": "black on white, bilinear: the paper's words",
    "omniglot@as_distributed@area": "black on white, area average",
    "omniglot@as_distributed@nearest": "black on white, nearest pixel",
    "omniglot": "inverted, bilinear: as Hendrycks and Gimpel (2017) and Outlier "
    "Exposure have it, of other alphabets",
    "omniglot@area": "inverted, area average",
    "omniglot@nearest": "inverted, nearest pixel",
    "uniform_noise": "U(0, 1)",
    "gaussian_noise": "N(0.5, 1) clipped, as ODIN has it",
    "gaussian_noise@std_0.5": "N(0.5, 0.5) clipped, as Outlier Exposure has it",
    "gaussian_noise@mean_0": "N(0, 1), here clipped; Hendrycks and Gimpel (2017) "
    "did not clip",
}


def page(path: pathlib.Path) -> str:
    """Returns the text of `docs/test_sets.md`.

    Args:
        path: What `benchmarks/test_set_forms.py` wrote, as the page should name it
            from the repository's root.
    """
    result = json.loads(path.read_text(encoding="utf-8"))
    return markdown.render(
        "test_sets",
        folder=path,
        result=result,
        models={
            name: {**model, "table": _list_forms(model), "omniglot": _compare(model)}
            for name, model in result["models"].items()
        },
    )


def _list_forms(model: Json) -> markdown.Table:
    """A row for each test set in each of its forms."""
    rows = []
    for spec, values in model["unknown"].items():
        seen = markdown.SEEN if values["seen"] else ""
        rows.append(
            [
                f"`{spec}`{seen}",
                _DESCRIPTIONS.get(spec, ""),
                f"{values['images']:,}",
                *(markdown.format_percent(values[metric]) for metric in _METRICS),
                markdown.format_percent(values["accepted"]),
            ]
        )
    titles = [metrics.get(name).title for name in _METRICS]
    header = ["spec", "form", "images", *titles, "accepted"]
    return markdown.Table(header, rows, num_texts=2)


def _compare(model: Json) -> Json | None:
    """The paper's Omniglot row, and its cells met by each reading of its words."""
    known = model["known"]["source"]
    paper = [
        row
        for row in summary.PAPER_OURS
        if (row["known"], row["unknown"]) == (known, _OMNIGLOT)
    ]
    if not paper or not model["unknown"].keys() >= set(_READINGS.values()):
        return None
    rows = [["the paper", *(paper[0][name] for name in summary.PAPER_METRICS)]]
    met = {}
    for title, spec in _READINGS.items():
        values = model["unknown"][spec]
        shown = [values[name] for name in summary.PAPER_METRICS]
        rows.append([title, *map(markdown.format_percent, shown)])
        # The precision, AUPR, depends on how many images there are.
        met[title] = _count_met(known, values) if values["whole"] else None
    titles = [metrics.get(name).title for name in summary.PAPER_METRICS]
    return {
        "table": markdown.Table(["Omniglot", *titles], rows),
        "met": met,
        "cells": len(summary.PAPER_METRICS),
    }


def _count_met(known: str, values: Json) -> int:
    """How many cells of the paper's Omniglot row are met, rounded as it prints them."""
    row = {metric: {"mean": values[metric]} for metric in summary.PAPER_METRICS}
    counted = summary.against_paper({known: {"model": {_OMNIGLOT: row}}}, "model")
    return counted["met"]
