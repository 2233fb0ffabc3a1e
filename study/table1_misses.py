"""Which of the paper's cells ours misses, and what the remaining errors look like."""

import pathlib
from typing import Any

from ood_keras import metrics
from ood_keras.study import markdown

# The ways to train ours: with real unknowns, with synthetic ones too, with these alone.
METHODS = ("ours", "ours_synthetic", "synthetic_only")
# Every score of theirs.
SCORED = tuple(name for method in METHODS for name in (method, f"{method}_distances"))
_TRIED = (
    "What was tried: other depths, widths and augmentations, harder synthetic outliers "
    "and other scores, of which distances are shown beside the first "
    "([decisions/recipes.md](decisions/recipes.md)); for Omniglot, other ways to "
    "reduce the drawings, and strokes drawn anew as an augmentation "
    "([decisions/omniglot.md](decisions/omniglot.md)). Recipes and scores are judged "
    "on validation images and stand-ins that are no test set here."
)


def ours(study: Any) -> list[str]:
    """Every score of ours in a study, those of the longer training last."""
    main = [name for name in study.methods("main") if name in SCORED]
    return [*main, *study.methods("longer")]


def lines(study: Any, images: pathlib.Path) -> list[str]:
    """Returns the lines of the section, none before something was measured.

    Args:
        study: A `table1_page.Study`.
        images: Folder of the pictures; those that are there are shown.
    """
    section = []
    for known in study.summary["results"]:
        measured = study.measured(known, "main", "longer")
        for method in (method for method in ours(study) if method in measured):
            section += _of_method(study, known, method, images)
    if not section:
        return []
    return [
        "## Cells that are not met",
        "",
        "Percent, the paper's in brackets; where they were kept, with the images of "
        "seed 0 that are furthest on the wrong side of the threshold that accepts 95 % "
        "of the known validation images.",
        "",
        _TRIED,
        "",
        *section,
    ]


def _of_method(study: Any, known: str, method: str, images: pathlib.Path) -> list[str]:
    rows: dict[str, list[str]] = {}
    for miss in study.summary["against_paper"][method]["missed"]:
        unknown, metric = miss["unknown"], miss["metric"]
        cell = study.cell(known, method, unknown, metric)
        if miss["known"] == known and cell is not None:
            value = markdown.percent(cell["mean"])
            rows.setdefault(unknown, []).append(
                f"{metrics.get(metric).title} {value} ({miss['paper']})"
            )
    title = study.title(method)
    return [
        f"### {known}: {title}",
        "",
        *(f"* {unknown}: {', '.join(cells)}" for unknown, cells in rows.items()),
        *([] if rows else ["Every cell that was measured is met."]),
        "",
        *markdown.picture(
            images,
            f"results_{known.replace('/', '_')}_{method}_mistakes.png",
            f"{known}. {title}: worst rejected knowns and accepted unknowns",
        ),
    ]
