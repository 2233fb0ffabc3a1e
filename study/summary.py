"""What a study found so far: a JSON file, and a text that counts against the paper."""

import contextlib
import dataclasses
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any, Literal

from ood_keras import files, metrics
from ood_keras.training import recipes
from ood_keras.types import Json, Path

if TYPE_CHECKING:
    from ood_keras.study.grid import Run, Study

# In the order of the paper's columns.
PAPER_METRICS = tuple(
    name for name in metrics.paper_table()[0] if name in metrics.names()
)
# The rows of its table that are its own method's.
PAPER_OURS = tuple(
    row for row in metrics.paper_table() if row["detector"] == "modified_senet"
)


def status(
    run: "Run", output_dir: Path
) -> Literal["finished", "changed", "partial", "failed", "missing"]:
    """Returns where a run stands.

    "finished", "changed" (made with other settings), "partial" (made before the grid
    had all of its methods), or, where nothing was measured, "failed" or "missing".

    Args:
        run: A `study_grid.Run`.
        output_dir: The study's folder of results.
    """
    return _look_up(run, output_dir)[0]


def _look_up(run: "Run", output_dir: Path) -> tuple[Any, Any, Any]:
    """A run's status, `run.json` and `metrics.json`; these `None` if not both there."""
    folder = pathlib.Path(output_dir) / run.name
    try:
        record, result = _read(folder / "run.json"), _read(folder / "metrics.json")
    except FileNotFoundError:
        # It may be being measured again.
        failed = (folder / "failure.json").is_file()
        return ("failed" if failed else "missing"), None, None
    return _compared(run, record), record, result


def _compared(run: "Run", record: Json) -> Literal["finished", "changed", "partial"]:
    """The status of a run that was measured, by its `run.json`."""
    found, wanted = dict(record), run.job()
    # A field that came later had its default before.
    defaults = {
        field.name: field.default for field in dataclasses.fields(recipes.Recipe)
    }
    found["recipe"] = {**_as_json(defaults), **found["recipe"]}
    found["methods"] = {
        name: method["detector"] for name, method in found["methods"].items()
    }
    methods = wanted.pop("methods")
    same = all(found.get(key) == value for key, value in wanted.items())
    if not same or not found["methods"].items() <= methods.items():
        return "changed"
    return "finished" if found["methods"] == methods else "partial"


def summarise(study: "Study", output_dir: Path) -> Json:
    """Returns the content of `summary.json`; see `results/table1/README.md`."""
    output_dir = pathlib.Path(output_dir)
    cells: dict[tuple[str, str], Json] = {}
    accuracies: dict[tuple[str, str], list[float]] = {}
    seen: dict[tuple[str, str], list[str]] = {}
    seeds: dict[tuple[str, str], list[int]] = {}
    runs: dict[str, Json] = {}
    measured: dict[str, Json] = {}
    versions: dict[str, list[str]] = {}
    machines: list[Json] = []
    for run in sorted(study.runs(), key=lambda run: run.seed):
        state, record, result = _look_up(run, output_dir)
        runs[run.name] = {"status": state}
        if state != "finished":
            with contextlib.suppress(FileNotFoundError):
                runs[run.name] |= _read(output_dir / run.name / "failure.json")
        if state not in ("finished", "partial"):
            continue
        runs[run.name]["minutes"] = record["minutes"]
        measured[run.name] = {**result, "data": None}
        if record["machine"] not in machines:
            machines.append(record["machine"])
        for name, version in record["run"]["versions"].items():
            if version not in versions.setdefault(name, []):
                versions[name].append(version)
        for method, rows in result["detectors"].items():
            key = run.known.spec, method
            seeds.setdefault(key, []).append(run.seed)
            if result["known"]["accuracy"] is not None:
                accuracies.setdefault(key, []).append(result["known"]["accuracy"])
            seen[key] = [name for name, row in rows["unknown"].items() if row["seen"]]
            for unknown, row in rows["unknown"].items():
                for metric, value in row.items():
                    if metric in metrics.names():
                        cell = cells.setdefault(key, {}).setdefault(unknown, {})
                        cell.setdefault(metric, []).append(value)
    results: Any = {
        key: {
            unknown: {metric: spread(values) for metric, values in row.items()}
            for unknown, row in rows.items()
        }
        for key, rows in cells.items()
    }
    results = _nested(study, results)
    return {
        "study": study.name,
        "results": results,
        "known_accuracy": _nested(
            study, {key: spread(values) for key, values in accuracies.items()}
        ),
        "seen": _nested(study, seen),
        "seeds": _nested(study, seeds),
        "methods": {
            name: {
                "title": method.title,
                "group": training.group,
                "training": training.name,
                "detector": method.detector,
                "description": method.description,
            }
            for name, (method, training) in study.methods.items()
        },
        "trainings": {
            training.name: {
                "description": training.description,
                "exposure": list(training.exposure),
                "changes": training.changes,
                "recipe": {
                    run.known.spec: run.job()["recipe"]
                    for run in study.runs()
                    if run.training == training
                },
            }
            for training in study.trainings
        },
        "against_paper": {
            method: against_paper(results, method)
            for method in study.methods
            if study.against_paper and any(method in rows for rows in results.values())
        },
        "inconsistencies": [str(each) for each in metrics.check_consistency(measured)],
        "runs": {run.name: runs[run.name] for run in study.runs()},
        "protocol": study.protocol,
        "versions": versions,
        "machines": machines,
    }


def write(study: "Study", output_dir: Path) -> Json:
    """Writes `summary.json`, whole or not at all, and returns its content."""
    output_dir = pathlib.Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    # Of two processes, the one that writes last is the one that looked last.
    with files.locked_folder(output_dir, wait=True):
        summary = summarise(study, output_dir)
        files.write_json(output_dir / "summary.json", summary)
    return summary


def against_paper(results: Json, method: str) -> Json:
    """Counts the cells of the paper's "Ours" that the mean of a method meets or beats.

    Args:
        results: "results" of a summary.
        method: The method to compare.

    Returns:
        Dict of `cells`, how many the paper has; `measured`; `met`, with the mean
        rounded to the digits that the paper prints, a half against the method;
        `met_unrounded`; and `missed`, a list of the others: `known`, `unknown`,
        `metric`, `value` in percent or `None`, `paper` as printed.
    """
    counts = {"cells": 0, "measured": 0, "met": 0, "met_unrounded": 0}
    missed = []
    for row in PAPER_OURS:
        unknowns = results.get(row["known"], {}).get(method, {})
        for metric in PAPER_METRICS:
            cell = unknowns.get(row["unknown"], {}).get(metric)
            value = None if cell is None else 100 * cell["mean"]
            counts["cells"] += 1
            counts["measured"] += value is not None
            met = value is not None and _meets(value, row[metric], metric, True)
            counts["met"] += met
            counts["met_unrounded"] += value is not None and _meets(
                value, row[metric], metric, False
            )
            if not met:
                missed.append(
                    {
                        "known": row["known"],
                        "unknown": row["unknown"],
                        "metric": metric,
                        "value": None if value is None else round(value, 4),
                        "paper": row[metric],
                    }
                )
    return {**counts, "missed": missed}


def format_summary(summary: Json) -> str:
    """Returns the text of `ood-study --summary`."""
    states = [run["status"] for run in summary["runs"].values()]
    counted = ", ".join(
        f"{states.count(state)} {state}" for state in dict.fromkeys(states)
    )
    lines = [f"Study {summary['study']}: {len(states)} runs, {counted}.", ""]
    lines += [
        f"  {name}: {run['status']}: {run['error']}"
        for name, run in summary["runs"].items()
        if "error" in run
    ]
    if summary["against_paper"]:
        lines.append(
            'Cells of the paper\'s Table 1 ("Ours") that the mean over the seeds meets '
            "or beats, at the printed digits (without rounding), of those measured; "
            "accuracy:"
        )
    else:
        lines += _result_lines(summary)
    for name, count in summary["against_paper"].items():
        method = summary["methods"][name]
        accuracies = ", ".join(
            f"{known} {100 * rows[name]['mean']:.2f} % "
            f"({len(rows[name]['values'])} seeds)"
            for known, rows in summary["known_accuracy"].items()
            if name in rows
        )
        lines.append(
            f"  {method['title']} [{name}]: {count['met']} ({count['met_unrounded']}) "
            f"of {count['measured']} of {count['cells']}; {accuracies}"
        )
    for name, count in summary["against_paper"].items():
        rows: dict[tuple[str, str], list[str]] = {}
        for cell in count["missed"]:
            if cell["value"] is not None:
                rows.setdefault((cell["known"], cell["unknown"]), []).append(
                    f"{cell['metric']} {cell['value']:.2f} ({cell['paper']})"
                )
        if rows and summary["methods"][name]["group"] == "main":
            lines += ["", f"{summary['methods'][name]['title']} misses (paper):"]
            lines += [
                f"  {known} / {unknown}: {', '.join(cells)}"
                for (known, unknown), cells in rows.items()
            ]
    found = summary["inconsistencies"]
    lines += ["", f"Inconsistent results: {len(found) or 'none'}"]
    lines += [f"  {text}" for text in found]
    return "\n".join(lines)


def _result_lines(summary: Json) -> list[str]:
    """AUROC and FPR95 of each method, the mean over its seeds, in percent."""
    shown = [metrics.get(name) for name in ("auroc", "fpr95_known_positive")]
    heading = " / ".join(f"{measure.title} {measure.arrow}" for measure in shown)
    lines = [f"{heading}, percent, mean over the seeds:"]
    for known, methods in summary["results"].items():
        for name, unknowns in methods.items():
            num_seeds = len(summary["seeds"][known][name])
            lines.append(
                f"  {known}: {summary['methods'][name]['title']} [{name}], "
                f"{num_seeds} {'seed' if num_seeds == 1 else 'seeds'}"
            )
            for unknown, row in unknowns.items():
                cells = " / ".join(
                    f"{100 * row[measure.name]['mean']:.2f}" for measure in shown
                )
                seen = " (seen)" if unknown in summary["seen"][known][name] else ""
                lines.append(f"    {unknown}{seen}: {cells}")
    return lines


def spread(values: Sequence[float]) -> Json:
    """Returns the cell of one number per seed: mean, sample deviation, the numbers."""
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
    }


def _meets(value, printed, metric, rounded):
    """Whether a percentage is at least as good as one that was printed."""
    # Nine digits leave out what only float arithmetic put there.
    value, paper = Decimal(repr(round(value, 9))), Decimal(printed)
    lower = not metrics.get(metric).higher_is_better
    if rounded:
        # A bare "100" stands in columns of two decimals.
        digits = -paper.as_tuple().exponent or 2
        # A half is never counted for the method.
        rounding = ROUND_HALF_UP if lower else ROUND_HALF_DOWN
        value = value.quantize(Decimal(1).scaleb(-digits), rounding)
    return value <= paper if lower else value >= paper


def _nested(study: "Study", by_key: Mapping[tuple[str, str], Any]) -> Json:
    """`{known: {method: value}}` in the order of the study."""
    return {
        known.spec: {
            method: by_key[known.spec, method]
            for method in study.methods
            if (known.spec, method) in by_key
        }
        for known in study.known
    }


def _as_json(value):
    # A field without a default is always recorded.
    return {
        name: json.loads(json.dumps(default))
        for name, default in value.items()
        if default is not dataclasses.MISSING
    }


def _read(path: pathlib.Path) -> Json:
    return json.loads(path.read_text(encoding="utf-8"))
