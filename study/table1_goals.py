"""What the study of Table 1 set out to reach, and where ours stands."""

from typing import Any

from ood_keras import metrics
from ood_keras.study import markdown, table1_misses
from ood_keras.study import summary as study_summary

# Of known test images, in percent.
_ACCURACY = {"mnist": 99.5, "fashion_mnist": 94.0}
# Without a single real unknown image: letters look like digits.
_HARDEST = "mnist", "emnist/letters", "auroc", 96.0
_ROWS = {
    text: {
        (row["known"], row["unknown"])
        for row in study_summary.PAPER_OURS
        if counts(row)
    }
    for text, counts in (
        ("all", lambda row: True),
        ("unknowns that the paper had not seen", lambda row: not row["seen"]),
        (
            "those without noise",
            lambda row: not row["seen"] and "noise" not in row["unknown"],
        ),
    )
}


def lines(study: Any) -> list[str]:
    """Returns the lines of the section, none before something was measured.

    Args:
        study: A `table1_page.Study`.
    """
    against_paper = study.summary["against_paper"]
    methods = [name for name in table1_misses.ours(study) if name in against_paper]
    if not methods:
        return []
    known, unknown, metric, goal = _HARDEST
    header = [
        "method",
        "seeds",
        *(f"cells met, {text}: {_num_cells(rows)}" for text, rows in _ROWS.items()),
        *(f"accuracy, {name}: {least:g}" for name, least in _ACCURACY.items()),
        f"without real unknowns, {metrics.get(metric).title} of {unknown} against "
        f"{known}: "
        f"{goal:g}",
    ]
    rows = [
        [
            study.title(method),
            study.num_seeds(method),
            *(_met(against_paper[method], rows) for rows in _ROWS.values()),
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
        f"reached, ✗ not reached, {markdown.MISSING} not measured. A cell counts as "
        "met at the digits that the paper prints, accuracy and AUROC as reached "
        "before rounding. Cells that are not measured count as not met. Where "
        "training was shown synthetic outliers, noise is among them, so that its rows "
        "count as seen; they are left out of the third count.",
        "",
        *markdown.table(header, rows),
        "",
    ]


def _num_cells(rows):
    return len(rows) * len(study_summary.PAPER_METRICS)


def _met(counted, rows):
    missed = sum((miss["known"], miss["unknown"]) in rows for miss in counted["missed"])
    return f"{_num_cells(rows) - missed} {_mark(not missed)}"


def _reached(cell, least):
    if cell is None:
        return markdown.MISSING
    return f"{markdown.percent(cell['mean'])} {_mark(100 * cell['mean'] >= least)}"


def _mark(reached: bool) -> str:
    return "✓" if reached else "✗"
