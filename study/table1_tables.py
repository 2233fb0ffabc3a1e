"""The tables of the study of Table 1."""

from collections.abc import Iterable, Sequence

from ood_keras import metrics
from ood_keras.study import summary as study_summary
from ood_keras.study.markdown import (
    MISSING,
    SEEN,
    SYNTHETIC,
    Table,
    format_cell,
    format_interval,
)
from ood_keras.study.study_results import StudyResults
from ood_keras.types import Json

_NOISE = ("uniform_noise", "gaussian_noise")


def main_methods(study: StudyResults) -> list[str]:
    """The main methods that are measured on any known set."""
    return [
        method
        for method in study.methods("main")
        if any(
            method in study.measured_methods(known, "main")
            for known in study.summary["results"]
        )
    ]


def overview(study: StudyResults, methods: Sequence[str]) -> Table:
    """A line for each method: cells met, accuracy and the lowest AUROC.

    Where any of them has an interval of AUROC, its columns stand beside the latter.
    """
    knowns = list(study.summary["results"])
    lowest = {
        (known, method): _find_lowest_auroc(study, known, method)
        for known in knowns
        for method in methods
    }
    has_interval = any(interval for _, interval in lowest.values())
    rows = []
    for method in methods:
        counted = study.summary["against_paper"].get(method)
        row = [
            study.title(method),
            f"{counted['met']} of {counted['cells']} ({counted['met_unrounded']})"
            if counted
            else MISSING,
        ]
        row += [format_cell(study.accuracy(known, method)) for known in knowns]
        for known in knowns:
            cell, interval = lowest[known, method]
            row.append(format_cell(cell))
            row += [format_interval(interval)] * has_interval
        rows.append(row)
    header = ["method", "cells met", *(f"accuracy, {known}" for known in knowns)]
    for known in knowns:
        header.append(f"lowest AUROC, {known}")
        header += ["seed 0 and its interval"] * has_interval
    return Table(header, rows)


def counts(study: StudyResults, methods: Iterable[str]) -> Table:
    """A line for each method: how many of the paper's cells it meets."""
    keys = ("cells", "measured", "met", "met_unrounded")
    against_paper = study.summary["against_paper"]
    rows = [
        [
            study.title(method),
            study.num_seeds(method),
            *(str(against_paper[method][key]) for key in keys),
        ]
        for method in methods
        if against_paper.get(method)
    ]
    header = ["method", "seeds", "cells", "measured", "met", "met without rounding"]
    return Table(header, rows)


def descriptions(study: StudyResults, methods: Iterable[str]) -> Table:
    """A line for each method: how it is trained, and how it scores."""
    rows = [[study.title(method), _describe(study, method)] for method in methods]
    return Table(["method", "what it is"], rows, num_texts=2)


def training_data(study: StudyResults, known: str, methods: Iterable[str]) -> Table:
    """What each method was shown beside one known set, and its accuracy on that."""
    rows = [
        [
            study.title(method),
            _format_exposure(study.exposure(known, method)),
            ", ".join(map(str, study.seeds(known, method))),
            format_cell(study.accuracy(known, method)),
        ]
        for method in methods
    ]
    header = ["method", "unknowns in training", "seeds", "known accuracy"]
    return Table(header, rows, num_texts=3)


def main_matrix(
    study: StudyResults, known: str, methods: Sequence[str], metric: str
) -> Table:
    """Methods in rows, unknown sets in columns, the paper's numbers below.

    The best mean of a column is bold.
    """
    unknowns = study.unknowns(known)
    rows = []
    for method in methods:
        row = [_label(study, known, method)]
        for unknown in unknowns:
            text = format_cell(study.cell(known, method, unknown, metric))
            if method in _find_best(study, known, methods, unknown, metric):
                text = f"**{text}**"
            row.append(text + _mark(study, known, method, unknown))
        rows.append(row)
    paper = {
        row["unknown"]: row for row in study_summary.PAPER_OURS if row["known"] == known
    }
    if paper:
        rows.append(
            [
                '*the paper\'s "Ours"*',
                *(
                    f"{paper[unknown][metric]}{SEEN * paper[unknown]['seen']}"
                    if unknown in paper
                    else MISSING
                    for unknown in unknowns
                ),
            ]
        )
    return Table(["method", *unknowns], rows)


def matrix_of_seeds(
    study: StudyResults,
    known: str,
    methods: Iterable[str],
    metric: str,
    seeds: Iterable[int],
) -> Table:
    """Methods in rows, accuracy and unknown sets in columns, of the given seeds alone.

    With one seed a row, the best of a column would say nothing.
    """
    unknowns = study.unknowns(known)
    rows = [
        [
            _label(study, known, method, seeds),
            format_cell(study.accuracy(known, method, seeds)),
            *(
                format_cell(study.cell(known, method, unknown, metric, seeds))
                + _mark(study, known, method, unknown)
                for unknown in unknowns
            ),
        ]
        for method in methods
    ]
    return Table(["method", "accuracy", *unknowns], rows)


def intervals(study: StudyResults, known: str, methods: Iterable[str]) -> Table | None:
    """The 95 % intervals of AUROC of seed 0; `None` where none was measured."""
    unknowns = study.unknowns(known)
    found = {
        method: [study.interval(known, method, unknown) for unknown in unknowns]
        for method in methods
    }
    rows = [
        [study.title(method), *map(format_interval, of_method)]
        for method, of_method in found.items()
        if any(of_method)
    ]
    return Table(["method", *unknowns], rows) if rows else None


def against_paper(study: StudyResults, known: str, methods: Sequence[str]) -> Table:
    """The paper's cells of one known set beside those of some methods."""
    rows = []
    for row in study_summary.PAPER_OURS:
        if row["known"] != known:
            continue
        for metric in study_summary.PAPER_METRICS:
            name = row["unknown"] + (SEEN if row["seen"] else "")
            rows.append(
                [
                    name,
                    metrics.get(metric).title,
                    row[metric],
                    *(_compare(study, method, row, metric) for method in methods),
                ]
            )
    header = ["unknown", "metric", "paper", *map(study.title, methods)]
    return Table(header, rows, num_texts=2)


def baselines(study: StudyResults, published: Iterable[Json]) -> Table:
    """The baselines as the paper has them and as they came out here.

    Args:
        study: The study.
        published: What `metrics.paper_table` returns.
    """
    rows = []
    for row in published:
        method = row["detector"]
        if row in study_summary.PAPER_OURS:
            continue
        name = [row["known"], row["unknown"], method.replace("_", " ")]
        values = [row[metric] or MISSING for metric in study_summary.PAPER_METRICS]
        rows.append([*name, "published", *values])
        cells = [
            study.cell(row["known"], method, row["unknown"], metric)
            for metric in study_summary.PAPER_METRICS
        ]
        if any(cells):
            rows.append([*name, "measured", *map(format_cell, cells)])
    titles = [metrics.get(metric).title for metric in study_summary.PAPER_METRICS]
    return Table(["known", "unknown", "baseline", "", *titles], rows, num_texts=4)


def _describe(study: StudyResults, method: str) -> str:
    training = study.summary["trainings"][study.training(method)]["description"]
    score = study.summary["methods"][method]["description"]
    return "; ".join(dict.fromkeys(text for text in (training, score) if text))


def _label(
    study: StudyResults, known: str, method: str, wanted: Iterable[int] | None = None
) -> str:
    """The title, with the seeds where some are missing of those wanted.

    Wanted are as many as any method has, unless they are given.
    """
    seeds = study.seeds(known, method)
    if wanted is None:
        main = study.measured_methods(known, "main")
        num_wanted = max(len(study.seeds(known, other)) for other in main)
    else:
        num_wanted = len(set(wanted))
        seeds = [seed for seed in seeds if seed in set(wanted)]
    title = study.title(method)
    if len(seeds) >= num_wanted:
        return title
    return f"{title} (seed {', '.join(map(str, seeds))} only)"


def _mark(study: StudyResults, known: str, method: str, unknown: str) -> str:
    """How far an unknown set is not new to a method."""
    measured = study.cell(known, method, unknown, "auroc")
    if measured and unknown in _NOISE and study.shows_synthetic(method):
        return SYNTHETIC
    return SEEN if study.is_seen(known, method, unknown) else ""


def _format_exposure(exposure: dict[str, int | None]) -> str:
    shown = [
        f"{number:,} {source}" if number else source
        for source, number in exposure.items()
    ]
    return ", ".join(shown) or "none"


def _find_best(
    study: StudyResults, known: str, methods: Iterable[str], unknown: str, metric: str
) -> list[str]:
    """The methods with the best mean as it is shown."""
    means = {
        method: round(100 * cell["mean"], 2)
        for method in methods
        if (cell := study.cell(known, method, unknown, metric))
    }
    choose = max if metrics.get(metric).higher_is_better else min
    best = choose(means.values(), default=None)
    return [method for method, mean in means.items() if mean == best]


def _find_lowest_auroc(
    study: StudyResults, known: str, method: str
) -> tuple[Json | None, Json | None]:
    """The cell with the lowest mean, and its interval; `None` for what there is not.

    Over the same sets for all methods, else their minima could not be compared.
    """
    main = study.methods("main")
    cells = {
        unknown: cell
        for unknown in study.unknowns(known)
        if unknown not in _NOISE
        and not any(study.is_seen(known, other, unknown) for other in main)
        and (cell := study.cell(known, method, unknown, "auroc"))
    }
    if not cells:
        return None, None
    lowest = min(cells, key=lambda unknown: cells[unknown]["mean"])
    return cells[lowest], study.interval(known, method, lowest)


def _compare(study: StudyResults, method: str, row: Json, metric: str) -> str:
    known, unknown = row["known"], row["unknown"]
    cell = study.cell(known, method, unknown, metric)
    if cell is None:
        return MISSING
    missed = {
        (miss["known"], miss["unknown"], miss["metric"])
        for miss in study.summary["against_paper"][method]["missed"]
    }
    mark = "✗" if (known, unknown, metric) in missed else "✓"
    if unknown in _NOISE and study.shows_synthetic(method):
        mark = SYNTHETIC + mark
    value = 100 * cell["mean"]
    return f"{value:.2f} ({value - float(row[metric]):+.2f}) {mark}"
