"""What the study of Table 1 set out to reach, and where ours stands."""

from ood_keras import metrics
from ood_keras.study import markdown, table1_misses
from ood_keras.study import summary as study_summary
from ood_keras.study.study_results import StudyResults

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
        ("not seen by the paper", lambda row: not row["seen"]),
        (
            "of these, without noise",
            lambda row: not row["seen"] and "noise" not in row["unknown"],
        ),
    )
}


def table(study: StudyResults) -> markdown.Table | None:
    """Returns the goals and how far each score of ours is, `None` before a result."""
    against_paper = study.summary["against_paper"]
    methods = [name for name in table1_misses.ours(study) if name in against_paper]
    if not methods:
        return None
    known, unknown, metric, goal = _HARDEST
    header = [
        "method",
        "seeds",
        *(f"cells met, {text}: {_num_cells(rows)}" for text, rows in _ROWS.items()),
        *(f"accuracy, {name}: {least:g}" for name, least in _ACCURACY.items()),
        f"without real unknowns, {metrics.get(metric).title} of {unknown} against "
        f"{known}: {goal:g}",
    ]
    rows = [
        [
            study.title(method),
            study.num_seeds(method),
            *(_count_met(against_paper[method], rows) for rows in _ROWS.values()),
            *(
                _compare(study.accuracy(name, method), least)
                for name, least in _ACCURACY.items()
            ),
            _compare(study.cell(known, method, unknown, metric), goal)
            if study.summary["trainings"][study.training(method)]["exposure"]
            == ["synthetic"]
            else "",
        ]
        for method in methods
    ]
    return markdown.Table(header, rows)


def _num_cells(rows):
    return len(rows) * len(study_summary.PAPER_METRICS)


def _count_met(counted, rows):
    missed = sum((miss["known"], miss["unknown"]) in rows for miss in counted["missed"])
    return f"{_num_cells(rows) - missed} {_mark(not missed)}"


def _compare(cell, least):
    if cell is None:
        return markdown.MISSING
    return f"{markdown.percent(cell['mean'])} {_mark(100 * cell['mean'] >= least)}"


def _mark(reached: bool) -> str:
    return "✓" if reached else "✗"
