"""Table 1 with both readings of its Omniglot: the page of the study `readings`."""

import pathlib
import statistics
from collections.abc import Iterable

from ood_keras import metrics
from ood_keras.study import markdown, records, summary
from ood_keras.study.readings import AS_DISTRIBUTED, INVERTED
from ood_keras.types import Json

# What the study set out to reach: how many of the paper's cells, and which reading.
_READINGS = {
    "as distributed": (AS_DISTRIBUTED, 70),
    "inverted": (INVERTED, 62),
}
_SHARES = {
    "accepted": "untouched",
    "accepted_mild": "mild, mean",
    "accepted_worst": "mild, worst",
    "accuracy_mild": "classified right, mild",
}
_VALIDATION = {
    "validation_fpr95_known_positive": "FPR95 known+",
    "validation_auroc": "AUROC",
}
_KINDS = {"auroc": "untouched", "auroc_full_spectrum": "all"}


def page(folder: pathlib.Path) -> str:
    """Returns the text of `docs/two_readings.md`.

    Args:
        folder: What `ood-study --study=readings` wrote, as the page should name it from
            the repository's root.
    """
    found = records.Records.read(folder)
    combined = summary.combine(found)
    results = combined["results"]
    methods = [
        name
        for name in found.about["methods"]
        if any(name in rows for rows in results.values())
    ]
    return markdown.render(
        "readings",
        folder=folder,
        cells=_count_cells(found, combined, methods),
        goals={reading: goal for reading, (_, goal) in _READINGS.items()},
        best=_find_best(results, methods),
        num_cells=len(summary.PAPER_OURS) * len(summary.PAPER_METRICS),
        known={
            known: {
                "omniglot": _compare_omniglot(found, known, results),
                "auroc": _list_auroc(found, known),
                "acceptance": _list_acceptance(found, known),
                "validation": _list_validation(found, known),
            }
            for known in results
            if results[known]
        },
        protocol=found.about["protocol"],
        machines=found.about["machines"],
        missing=[run["run"] for run in found.runs if run["status"] != "finished"],
        num_runs=len(found.runs),
    )


def is_written(folder: pathlib.Path) -> bool:
    """Whether a folder holds results of the study."""
    return (folder / records.METRICS).is_file() and (
        folder / records.RENDERINGS
    ).is_file()


def count_met(results: Json, method: str, source: str) -> Json:
    """What `summary.against_paper` counts, with one reading of the Omniglot row.

    Args:
        results: "results" of a summary.
        method: The method to compare.
        source: The test set that stands for the paper's Omniglot.
    """
    read = {}
    for known, by_method in results.items():
        rows = dict(by_method.get(method, {}))
        row = rows.pop(source, None)
        rows.pop(INVERTED, None)
        read[known] = {method: rows if row is None else {**rows, INVERTED: row}}
    return summary.against_paper(read, method)


def _count_cells(found, combined, methods) -> markdown.Table:
    header = ["method", "seeds", *(f"Omniglot {reading}" for reading in _READINGS)]
    header += [f"accuracy, {known}" for known in found.about["known"]]
    rows = []
    for method in methods:
        row = [_title(found, method), _list_seeds(combined, method)]
        for source, goal in _READINGS.values():
            counted = count_met(combined["results"], method, source)
            text = f"{counted['met']} of {counted['measured']}"
            if counted["measured"] == counted["cells"]:
                text += " ✓" if counted["met"] >= goal else " ✗"
            row.append(text)
        for known in found.about["known"]:
            accuracy = combined["known_accuracy"].get(known, {}).get(method)
            row.append(markdown.format_cell(accuracy))
        rows.append(row)
    return markdown.Table(header, rows)


def _list_seeds(combined: Json, method: str) -> str:
    """How many seeds a method has on each known set."""
    return ", ".join(
        f"{known} {len(by_method[method])}"
        for known, by_method in combined["seeds"].items()
        if method in by_method
    )


def _find_best(results: Json, methods: list[str]) -> Json:
    """The most cells that any method meets in whole tables, by each reading."""
    best = {}
    for reading, (source, _) in _READINGS.items():
        counts = [count_met(results, method, source) for method in methods]
        whole = [one["met"] for one in counts if one["measured"] == one["cells"]]
        best[reading] = max(whole, default=None)
    return best


def _compare_omniglot(found, known: str, results: Json) -> markdown.Table:
    """The paper's Omniglot row beside each reading."""
    (paper,) = (
        row
        for row in summary.PAPER_OURS
        if (row["known"], row["unknown"]) == (known, INVERTED)
    )
    rows = [["the paper", "", *(paper[name] for name in summary.PAPER_METRICS)]]
    for method, by_unknown in results[known].items():
        for reading, (source, _) in _READINGS.items():
            cells = by_unknown.get(source, {})
            rows.append(
                [
                    _title(found, method),
                    reading,
                    *(
                        markdown.format_cell(cells.get(name))
                        for name in summary.PAPER_METRICS
                    ),
                ]
            )
    titles = [metrics.get(name).title for name in summary.PAPER_METRICS]
    return markdown.Table(["method", "Omniglot", *titles], rows, num_texts=2)


def _list_auroc(found: records.Records, known: str) -> markdown.Table:
    of_known = [row for row in found.measurements if row["known"] == known]
    unknown = list(dict.fromkeys(row["unknown"] for row in of_known))
    seen = {row["unknown"] for row in of_known if row["seen"]}
    shown = [f"{name}{markdown.SEEN if name in seen else ''}" for name in unknown]
    header = [
        "method",
        *(f"{name}: {kind}" for name in shown for kind in _KINDS.values()),
    ]
    rows = []
    for method in dict.fromkeys(row["method"] for row in of_known):
        cells = [
            _average(
                row.get(column)
                for row in of_known
                if (row["method"], row["unknown"]) == (method, name)
            )
            for name in unknown
            for column in _KINDS
        ]
        rows.append([_title(found, method), *cells])
    return markdown.Table(header, rows)


def _list_acceptance(found: records.Records, known: str) -> markdown.Table:
    of_known = [row for row in found.renderings if row["known"] == known]
    rows = [
        [
            _title(found, method),
            *(
                _average(row[share] for row in of_known if row["method"] == method)
                for share in _SHARES
            ),
        ]
        for method in dict.fromkeys(row["method"] for row in of_known)
    ]
    return markdown.Table(["method", *_SHARES.values()], rows)


def _list_validation(found: records.Records, known: str) -> markdown.Table | None:
    """What validation images choose of each training's scores, `None` before any."""
    measured: dict[str, list[Json]] = {}
    for row in found.renderings:
        # The first runs did not note it.
        if row["known"] == known and row.get("validation_auroc") is not None:
            measured.setdefault(row["method"], []).append(row)
    means = {
        method: [statistics.fmean(row[name] for row in rows) for name in _VALIDATION]
        for method, rows in measured.items()
    }
    about = found.about["methods"]
    best: dict[str, tuple[float, float, str]] = {}
    for method, (fpr95, auroc) in means.items():
        training = about[method]["training"]
        best[training] = min(
            best.get(training, (2.0, 0.0, "")), (fpr95, -auroc, method)
        )
    chosen = {method for *_, method in best.values()}
    rows = [
        [
            _title(found, method),
            str(len(measured[method])),
            *map(markdown.format_percent, of_method),
            "chosen" if method in chosen else "",
        ]
        for method, of_method in means.items()
    ]
    header = ["method", "seeds", *_VALIDATION.values(), "of its training"]
    return markdown.Table(header, rows) if rows else None


def _average(values: Iterable[float | None]) -> str:
    kept = [value for value in values if value is not None]
    return markdown.format_percent(statistics.fmean(kept) if kept else None)


def _title(found: records.Records, method: str) -> str:
    return found.about["methods"][method]["title"]
