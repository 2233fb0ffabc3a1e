"""What a study found so far: its runs combined, and counted against the paper."""

import contextlib
import dataclasses
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any, Literal

from ood_keras import files, metrics
from ood_keras.study import records
from ood_keras.study.records import Records
from ood_keras.training import recipes
from ood_keras.types import Json, Path

if TYPE_CHECKING:
    from ood_keras.study.grid import Run, Study

NAME = "summary.json"
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
    return _judge(run, record), record, result


def _judge(run: "Run", record: Json) -> Literal["finished", "changed", "partial"]:
    """The status of a run that was measured, by its `run.json`."""
    found, wanted = dict(record), run.job()
    # A field that came later had its default before.
    defaults = {
        field.name: field.default for field in dataclasses.fields(recipes.Recipe)
    }
    for job in (found, wanted):
        job["recipe"] = {**_as_json(defaults), **job["recipe"]}
    found["methods"] = {
        name: method["detector"] for name, method in found["methods"].items()
    }
    methods = wanted.pop("methods")
    same = all(found.get(key) == value for key, value in wanted.items())
    if not same or not found["methods"].items() <= methods.items():
        return "changed"
    return "finished" if found["methods"] == methods else "partial"


def collect(study: "Study", output_dir: Path) -> Records:
    """Returns what the runs of a study left in a folder."""
    output_dir = pathlib.Path(output_dir)
    runs: dict[str, Json] = {}
    rows: list[Json] = []
    renderings: list[Json] = []
    classes: list[Json] = []
    measured: dict[str, Json] = {}
    versions: dict[str, list[str]] = {}
    machines: list[Json] = []
    for run in sorted(study.runs(), key=lambda run: run.seed):
        state, record, result = _look_up(run, output_dir)
        runs[run.name] = entry = {
            "run": run.name,
            "known": run.known.name,
            "training": run.training.name,
            "seed": run.seed,
            "status": state,
            "accuracy": None,
        }
        if state != "finished":
            with contextlib.suppress(FileNotFoundError):
                entry |= _read(output_dir / run.name / "failure.json")
        if state not in ("finished", "partial"):
            continue
        entry["accuracy"] = result["known"]["accuracy"]
        entry["minutes"] = record["minutes"]
        measured[run.name] = {name: result[name] for name in ("known", "detectors")}
        if record["machine"] not in machines:
            machines.append(record["machine"])
        for name, version in record["run"]["versions"].items():
            if version not in versions.setdefault(name, []):
                versions[name].append(version)
        rows += _measurements(run, result)
        renderings += _acceptance(run, result)
        classes += _unknown_classes(run, result)
    methods, knowns = list(study.methods), [known.name for known in study.known]
    unknowns: dict[str, list[str]] = {name: [] for name in knowns}
    for row in rows:
        if row["unknown"] not in unknowns[row["known"]]:
            unknowns[row["known"]].append(row["unknown"])
    # Known sets and methods as in the study; of each, the seeds one below the other.
    for table in (rows, renderings, classes):
        table.sort(
            key=lambda row: (
                knowns.index(row["known"]),
                methods.index(row["method"]),
                unknowns[row["known"]].index(row["unknown"]) if "unknown" in row else 0,
            )
        )
    about = {
        "study": study.name,
        "known": knowns,
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
                    run.known.name: run.job()["recipe"]
                    for run in study.runs()
                    if run.training == training
                },
            }
            for training in study.trainings
        },
        # Not where it is as usual, so that older files are the same again.
        **({} if study.against_paper else {"against_paper": False}),
        "inconsistencies": [str(each) for each in metrics.check_consistency(measured)],
        "protocol": study.protocol,
        "versions": versions,
        "machines": machines,
    }
    # Tuples and the like become what JSON has.
    about = json.loads(json.dumps(about))
    listed = [runs[run.name] for run in study.runs()]
    return Records(about, listed, rows, renderings, classes)


def _measurements(run: "Run", result: Json) -> list[Json]:
    """The lines of one run in the table of measurements."""
    rows = []
    for method, by_unknown in result["detectors"].items():
        rendered = result.get("renderings", {}).get("methods", {}).get(method)
        for unknown, row in by_unknown["unknown"].items():
            low, high = row.get("auroc_interval") or (None, None)
            over = rendered["auroc"][unknown] if rendered else {}
            rows.append(
                {
                    "known": run.known.name,
                    "method": method,
                    "unknown": unknown,
                    "seed": run.seed,
                    "seen": row["seen"],
                    **{name: row[name] for name in row if name in metrics.names()},
                    "auroc_low": low,
                    "auroc_high": high,
                    **{
                        f"auroc_{name}": over[name]
                        for name in ("mild", "full_spectrum")
                        if over
                    },
                }
            )
    return rows


def _acceptance(run: "Run", result: Json) -> list[Json]:
    """The lines of one run in the table of what renderings do to known images."""
    rendered = result.get("renderings", {})
    return [
        {
            "known": run.known.name,
            "method": method,
            "seed": run.seed,
            "target_acceptance": rendered["target_acceptance"],
            "accepted": row["untouched"]["accepted"],
            "accepted_mild": row["accepted"]["mean"],
            "accepted_worst": row["accepted"]["worst"],
            "worst_step": row["accepted"]["worst_step"],
            "accuracy_mild": row["accuracy"]["mean"],
            "accuracy_worst": row["accuracy"]["worst"],
            **{
                f"validation_{name}": value
                for name, value in result.get("validation", {}).get(method, {}).items()
            },
        }
        for method, row in rendered.get("methods", {}).items()
    ]


def _unknown_classes(run: "Run", result: Json) -> list[Json]:
    """The lines of one run in the table of unknown classes."""
    return [
        {
            "known": run.known.name,
            "method": method,
            "unknown": unknown,
            "class": name,
            "seed": run.seed,
            **row,
        }
        for method, by_unknown in result.get("classes", {}).items()
        for unknown, by_class in by_unknown.items()
        for name, row in by_class.items()
    ]


def combine(records: Records) -> Json:
    """Returns the summary of records: what `read` returns, and `summary.json` holds."""
    about = records.about
    accuracies = {
        (run["known"], run["training"], run["seed"]): run["accuracy"]
        for run in records.runs
    }
    cells: dict[tuple[str, str], Json] = {}
    intervals: dict[tuple[str, str], Json] = {}
    seen: dict[tuple[str, str], list[str]] = {}
    seeds: dict[tuple[str, str], list[int]] = {}
    for row in records.measurements:
        key, unknown, seed = (row["known"], row["method"]), row["unknown"], row["seed"]
        cell = cells.setdefault(key, {}).setdefault(unknown, {})
        for metric in metrics.names():
            if row.get(metric) is not None:
                cell.setdefault(metric, []).append(row[metric])
        if row.get("auroc_low") is not None:
            of_seeds = intervals.setdefault(key, {}).setdefault(unknown, {})
            of_seeds[str(seed)] = [row["auroc_low"], row["auroc_high"]]
        if seed not in seeds.setdefault(key, []):
            seeds[key].append(seed)
        if row["seen"] and unknown not in seen.setdefault(key, []):
            seen[key].append(unknown)
    accuracy = {}
    for known, method in seeds:
        training = about["methods"][method]["training"]
        found = [
            accuracies.get((known, training, seed)) for seed in seeds[known, method]
        ]
        if known_ones := [value for value in found if value is not None]:
            accuracy[known, method] = spread(known_ones)

    def nest(by_key: Mapping[tuple[str, str], Any]) -> Json:
        """`{known: {method: value}}` in the order of the study."""
        return {
            known: {
                method: by_key[known, method]
                for method in about["methods"]
                if (known, method) in by_key
            }
            for known in about["known"]
        }

    results = nest(
        {
            key: {
                unknown: {metric: spread(values) for metric, values in cell.items()}
                for unknown, cell in by_unknown.items()
            }
            for key, by_unknown in cells.items()
        }
    )
    return {
        "study": about["study"],
        "results": results,
        "auroc_intervals": nest(intervals),
        "known_accuracy": nest(accuracy),
        "seen": nest({key: seen.get(key, []) for key in seeds}),
        "seeds": nest(seeds),
        "methods": about["methods"],
        "trainings": about["trainings"],
        "against_paper": {
            method: against_paper(results, method)
            for method in about["methods"]
            if about.get("against_paper", True)
            and any(method in rows for rows in results.values())
        },
        "inconsistencies": about["inconsistencies"],
        "runs": {
            run["run"]: {
                key: run[key] for key in ("status", "minutes", "error") if key in run
            }
            for run in records.runs
        },
        "protocol": about["protocol"],
        "versions": about["versions"],
        "machines": about["machines"],
    }


def summarise(study: "Study", output_dir: Path) -> Json:
    """Returns the summary of a study; see `results/table1/README.md`."""
    return combine(collect(study, output_dir))


def write(study: "Study", output_dir: Path) -> Json:
    """Writes the records and, for programs, `summary.json`; returns what that holds.

    Each file is written whole or not at all, `summary.json` last.
    """
    output_dir = pathlib.Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    # Of two processes, the one that writes last is the one that looked last.
    with files.lock_folder(output_dir, wait=True):
        found = collect(study, output_dir)
        summary = combine(found)
        found.write(output_dir)
        files.write_json(output_dir / NAME, summary)
    return summary


def read(output_dir: Path) -> Json:
    """Returns the summary that a folder holds.

    Of its records or, where an earlier version wrote it, of its `summary.json`.

    Raises:
        FileNotFoundError: the folder holds neither.
    """
    output_dir = pathlib.Path(output_dir)
    if records.is_written(output_dir):
        return combine(Records.read(output_dir))
    if (output_dir / NAME).is_file():
        return _read(output_dir / NAME)
    raise FileNotFoundError(
        f"{output_dir} holds no results of a study: expected {records.STUDY}, or the "
        f"{NAME} of an earlier version. `ood-study --summary` writes them"
    )


def is_written(output_dir: Path) -> bool:
    """Whether a folder holds what `read` reads."""
    output_dir = pathlib.Path(output_dir)
    return records.is_written(output_dir) or (output_dir / NAME).is_file()


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


def _as_json(value):
    # A field without a default is always recorded.
    return {
        name: json.loads(json.dumps(default))
        for name, default in value.items()
        if default is not dataclasses.MISSING
    }


def _read(path: pathlib.Path) -> Json:
    return json.loads(path.read_text(encoding="utf-8"))
