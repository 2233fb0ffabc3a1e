"""What a study measured, as tidy files: one observation a line.

`metrics.csv` has a line for every known set, method, unknown set and seed, `runs.csv`
one for every run, and `study.json` says what the names in them mean. A study that
measures other renderings has `renderings.csv` with a line for every known set, method
and seed, and `classes.csv` with one for every class of every unknown set as well.
"""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from ood_keras import files
from ood_keras.types import Json, Path

METRICS, RUNS, STUDY = "metrics.csv", "runs.csv", "study.json"
RENDERINGS, CLASSES = "renderings.csv", "classes.csv"
_MINUTES = "minutes_"


@dataclasses.dataclass(frozen=True)
class Records:
    """The observations of a study, which a summary combines over the seeds.

    Attributes:
        about: "study", "known" (names of the known sets), "methods", "trainings",
            "inconsistencies", "protocol", "versions" and "machines"; see
            `results/table1/README.md`.
        runs: A dict for each run: "run" (its name), "known", "training", "seed",
            "status", "accuracy" on known test images or `None`, "minutes" (a dict) and
            "error", these two only where there are any.
        measurements: A dict for each known set, method, unknown set and seed: these
            four, "seen", and the metrics by name; "auroc_low" and "auroc_high" are the
            ends of the interval of AUROC, where there is one; "auroc_mild" and
            "auroc_full_spectrum" are over renderings, where these were measured.
        renderings: A dict for each known set, method and seed: these three,
            "target_acceptance", and of the known images "accepted", "accepted_mild",
            "accepted_worst", "worst_step", "accuracy_mild" and "accuracy_worst"; of
            validation images, where a run wrote them, "validation_auroc" and
            "validation_fpr95_known_positive".
        classes: A dict for each known set, method, unknown set, class and seed: these
            five, "images", "accepted" and "auroc".
    """

    about: Json
    runs: list[Json]
    measurements: list[Json]
    renderings: list[Json] = dataclasses.field(default_factory=list)
    classes: list[Json] = dataclasses.field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Writes the files, each whole or not at all, `study.json` last."""
        folder = pathlib.Path(folder)
        runs = [
            {
                **{key: value for key, value in run.items() if key != "minutes"},
                **{
                    f"{_MINUTES}{name}": value
                    for name, value in run.get("minutes", {}).items()
                },
            }
            for run in self.runs
        ]
        files.write_text(folder / METRICS, _format_rows(self.measurements))
        files.write_text(folder / RUNS, _format_rows(runs))
        for name, rows in ((RENDERINGS, self.renderings), (CLASSES, self.classes)):
            if rows:
                files.write_text(folder / name, _format_rows(rows))
        files.write_text(folder / STUDY, _format_json(self.about))

    @classmethod
    def read(cls, folder: Path) -> "Records":
        """Returns what `write` wrote.

        Raises:
            FileNotFoundError: one of the files is missing.
            ValueError: a line of a table is not as `write` writes it.
        """
        folder = pathlib.Path(folder)
        about = json.loads((folder / STUDY).read_text(encoding="utf-8"))
        return cls(
            about,
            _read_rows(folder / RUNS, _parse_run),
            _read_rows(folder / METRICS, _parse_measurement),
            *(
                _read_rows(folder / name, _parse_other)
                if (folder / name).is_file()
                else []
                for name in (RENDERINGS, CLASSES)
            ),
        )


def is_written(folder: Path) -> bool:
    """Whether a folder holds records."""
    return (pathlib.Path(folder) / STUDY).is_file()


def _parse_run(row: dict[str, str]) -> Json:
    run: Json = {key: row[key] for key in ("run", "known", "training")}
    run["seed"] = int(row["seed"])
    run["status"] = row["status"]
    run["accuracy"] = float(row["accuracy"]) if row["accuracy"] else None
    minutes = {
        column.removeprefix(_MINUTES): float(text)
        for column, text in row.items()
        if column.startswith(_MINUTES) and text
    }
    if minutes:
        run["minutes"] = minutes
    if row.get("error"):
        run["error"] = row["error"]
    return run


def _parse_measurement(row: dict[str, str]) -> Json:
    parsed: Json = {key: row.pop(key) for key in ("known", "method", "unknown")}
    parsed["seed"] = int(row.pop("seed"))
    parsed["seen"] = {"yes": True, "no": False}[row.pop("seen")]
    return parsed | {name: float(text) for name, text in row.items() if text}


_TEXTS = ("known", "method", "unknown", "class", "worst_step")
_COUNTS = ("seed", "images")


def _parse_other(row: dict[str, str]) -> Json:
    return {
        name: text if name in _TEXTS else int(text) if name in _COUNTS else float(text)
        for name, text in row.items()
        if text
    }


def _read_rows(path: pathlib.Path, parse: Any) -> list[Json]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = []
        for row in reader:
            try:
                if None in row or None in row.values():
                    raise ValueError(
                        f"there are {len(reader.fieldnames or ())} columns"
                    )
                rows.append(parse(row))
            except (KeyError, ValueError) as error:
                raise ValueError(
                    f"{path}, line {reader.line_num}: expected a line as `ood-study "
                    f"--summary` writes it ({type(error).__name__}: {error}). Give "
                    "that command again to write the file anew from the runs"
                ) from error
    return rows


def _format_rows(rows: Sequence[Json]) -> str:
    """CSV with a column for every key; what a row lacks is empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_format_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def _format_cell(value: object) -> object:
    # A float as `repr` writes it, which reads as the same number again.
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _format_json(value: Json) -> str:
    """JSON with one line for each entry of each part."""
    parts = []
    for key, part in value.items():
        text = _dump(part)
        if isinstance(part, dict) and part:
            entries = [f"    {_dump(name)}: {_dump(one)}" for name, one in part.items()]
            text = "{\n" + ",\n".join(entries) + "\n  }"
        parts.append(f"  {_dump(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
