"""What the study of Table 1 set out to reach, and where ours stands."""

from ood_keras import metrics
from ood_keras.metrics.descriptions import METRICS
from ood_keras.tools import markdown, table1_misses

# Of known test images, in percent.
_ACCURACY = {"mnist": 99.5, "fashion_mnist": 94.0}
# Without a single real unknown image: letters look like digits.
_HARDEST = "mnist", "emnist/letters", "auroc", 96.0


def lines(study):
    """Returns the lines of the section, none before something was measured.

    Args:
        study: A `table1_page.Study`.
    """
    against_paper = study.summary["against_paper"]
    methods = [name for name in table1_misses.SCORED if name in against_paper]
    if not methods:
        return []
    known, unknown, metric, goal = _HARDEST
    header = [
        "method",
        "cells met, of all 70",
        "cells met in rows whose unknown the paper had not seen, of 60",
        *(f"accuracy, {name}: {least:g}" for name, least in _ACCURACY.items()),
        f"without real unknowns, {METRICS[metric][0]} of {unknown}: {goal:g}",
    ]
    rows = [
        [
            study.title(method),
            _met(against_paper[method], with_seen=True),
            _met(against_paper[method], with_seen=False),
            *(
                _reached(study.accuracy(name, method), least)
                for name, least in _ACCURACY.items()
            ),
            _reached(study.cell(known, method, unknown, metric), goal)
            if study.summary["trainings"][study.training(method)]["exposure"]
            == ["synthetic"]
            else "",
        ]
        for method in methods
    ]
    return [
        "## The goals",
        "",
        "What this study set out to reach, in percent where no count is given: ✓ "
        f"reached, ✗ not reached, {markdown.MISSING} not measured. Cells that are not "
        "measured count as not met.",
        "",
        *markdown.table(header, rows),
        "",
    ]


def _met(counted, *, with_seen):
    """How many cells are met, in the rows of seen unknowns too or only in others."""
    table = [r for r in metrics.paper_table() if r["detector"] == "modified_senet"]
    rows = {(r["known"], r["unknown"]) for r in table if with_seen or not r["seen"]}
    cells = counted["cells"] // len(table) * len(rows)
    missed = sum((miss["known"], miss["unknown"]) in rows for miss in counted["missed"])
    return f"{cells - missed} {_mark(not missed)}"


def _reached(cell, least):
    if cell is None:
        return markdown.MISSING
    # To the digits that are shown, or the mark would contradict them.
    value = markdown.percent(cell["mean"])
    return f"{value} {_mark(float(value) >= least)}"


def _mark(reached):
    return "✓" if reached else "✗"
