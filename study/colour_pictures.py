"""The picture of the study `colour`: every method on near and far unknowns."""

import pathlib
from typing import TYPE_CHECKING

from ood_keras import files
from ood_keras.evaluation import figure_parts, style
from ood_keras.study import colour
from ood_keras.study.colour_page import PICTURE, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = {"near: CIFAR-100": (colour.NEAR,), "far: flowers, MNIST": colour.FAR}


def draw(folder: pathlib.Path, images: pathlib.Path) -> list[pathlib.Path]:
    """Draws the picture, if CIFAR-10 was measured.

    Args:
        folder: The study's folder.
        images: Receives the picture.

    Returns:
        The paths that were written.
    """
    results = Results.read(folder)
    if not results.list_methods(colour.CIFAR10):
        return []
    with files.atomic_file(images / PICTURE) as path:
        _draw_scores(results).savefig(path)
    return [images / PICTURE]


@style.use_style
def _draw_scores(results: Results) -> "Figure":
    """One line for each method: AUROC near and far, the mean and range of the seeds."""
    methods = results.list_methods(colour.CIFAR10)
    rows = range(len(methods))
    figure, axes = figure_parts.new_figure(
        1, len(_PANELS), (3.6, 0.6 + 0.17 * len(methods)), sharey="row"
    )
    groups = list(dict.fromkeys(_group(results, name) for name in methods))
    for panel, (title, unknown) in zip(axes.ravel(), _PANELS.items(), strict=True):
        for row, method in zip(rows, methods, strict=True):
            cell = results.mean_over(colour.CIFAR10, method, unknown, "auroc")
            color = style.source_color(groups.index(_group(results, method)))
            values = [100 * value for value in cell["values"]]
            panel.plot([min(values), max(values)], [row, row], color=color)
            panel.plot(100 * cell["mean"], row, "o", color=color, markersize=4)
        if colour.BASELINE in methods:
            cell = results.mean_over(colour.CIFAR10, colour.BASELINE, unknown, "auroc")
            panel.axvline(100 * cell["mean"], color=style.MUTED, linewidth=0.8)
        panel.set_title(title)
        panel.set_xlabel("AUROC, %")
        panel.grid(axis="x")
    first = axes.ravel()[0]
    first.set_yticks(list(rows), [results.study.title(name) for name in methods])
    first.set_ylim(len(methods) - 0.5, -0.5)
    return figure


def _group(results: Results, method: str) -> str:
    return results.study.summary["methods"][method]["group"]
