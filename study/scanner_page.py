"""What Table 1 measures: the page of the study `scanner`."""

import math
import pathlib
import statistics
from collections.abc import Iterable, Sequence

from scipy import special

from ood_keras.study import markdown, records
from ood_keras.study.renderings_page import LIKE_DIGITS
from ood_keras.study.scanner import RENDERED
from ood_keras.types import Json

_LETTERS = "emnist/letters"
_KINDS = {"untouched": "auroc", "all": "auroc_full_spectrum"}
_BLOCK = {"with": f"ours{RENDERED}", "without": f"no_block{RENDERED}"}


def page(folder: pathlib.Path, rendered: Json | None = None) -> str:
    """Returns the text of `docs/what_table1_measures.md`.

    Args:
        folder: What `ood-study --study=scanner` wrote, as the page should name it from
            the repository's root.
        rendered: What `scanner_letters.compare` returned.
    """
    found = records.Records.read(folder)
    methods = [
        name
        for name in found.about["methods"]
        if any(row["method"] == name for row in found.renderings)
    ]
    unknown = list(dict.fromkeys(row["unknown"] for row in found.measurements))
    return markdown.render(
        "scanner",
        folder=folder,
        ranges=_find_ranges(found, methods),
        acceptance=_list_acceptance(found, methods),
        auroc=_list_auroc(found, methods, unknown),
        letters=_list_letters(found, methods),
        rendered=rendered,
        like_digits=sorted(LIKE_DIGITS),
        block=_compare_block(found, unknown),
        protocol=found.about["protocol"],
        machines=found.about["machines"],
        seeds={name: _seeds(found, name) for name in methods},
        missing=[run["run"] for run in found.runs if run["status"] != "finished"],
        num_runs=len(found.runs),
    )


def is_written(folder: pathlib.Path) -> bool:
    """Whether a folder holds results of the study."""
    return (folder / records.RENDERINGS).is_file()


def _find_ranges(found: records.Records, methods: Sequence[str]) -> Json:
    """Lowest and highest of all methods of a kind: AUROC on letters, and acceptance."""
    kinds = {
        "plain": [name for name in methods if not name.endswith(RENDERED)],
        "rendered": [name for name in methods if name.endswith(RENDERED)],
    }
    ranges = {}
    for kind, names in kinds.items():
        if not names:
            continue
        of_names = {
            **{
                what: [_mean(_auroc(found, name, _LETTERS, column)) for name in names]
                for what, column in _KINDS.items()
            },
            "accepted": [
                _mean(
                    row["accepted_mild"]
                    for row in found.renderings
                    if row["method"] == name
                )
                for name in names
            ],
        }
        ranges[kind] = {what: (min(v), max(v)) for what, v in of_names.items()}
    return ranges


def _title(found: records.Records, method: str) -> str:
    about = found.about["methods"][method]
    return about["title"]


def _seeds(found: records.Records, method: str) -> list[int]:
    return [row["seed"] for row in found.renderings if row["method"] == method]


def _list_acceptance(found: records.Records, methods: Sequence[str]) -> markdown.Table:
    shares = ("accepted", "accepted_mild", "accepted_worst", "accuracy_mild")
    header = ["method", "untouched", "mild, mean", "mild, worst", "read right, mild"]
    rows = []
    for name in methods:
        of_seeds = [row for row in found.renderings if row["method"] == name]
        means = [_mean(row[share] for row in of_seeds) for share in shares]
        rows.append([_title(found, name), *map(markdown.format_percent, means)])
    return markdown.Table(header, rows)


def _list_auroc(
    found: records.Records, methods: Sequence[str], unknown: Sequence[str]
) -> markdown.Table:
    header = ["method", *(f"{source}: {kind}" for source in unknown for kind in _KINDS)]
    rows = [
        [
            _title(found, name),
            *(
                markdown.format_percent(_mean(_auroc(found, name, source, column)))
                for source in unknown
                for column in _KINDS.values()
            ),
        ]
        for name in methods
    ]
    return markdown.Table(header, rows)


def _list_letters(found: records.Records, methods: Sequence[str]) -> markdown.Table:
    groups = {
        "like a digit": lambda letter: letter in LIKE_DIGITS,
        "no digit": lambda letter: letter not in LIKE_DIGITS,
    }
    header = [
        "method",
        *(f"{group}: {what}" for group in groups for what in ("accepted", "AUROC")),
    ]
    rows = []
    for name in methods:
        cells = []
        for chosen in groups.values():
            kept = [
                row
                for row in found.classes
                if row["method"] == name
                and row["unknown"] == _LETTERS
                and chosen(row["class"])
            ]
            total = sum(row["images"] for row in kept)
            cells += [
                markdown.format_percent(
                    sum(row["images"] * row[what] for row in kept) / total
                )
                for what in ("accepted", "auroc")
            ]
        rows.append([_title(found, name), *cells])
    return markdown.Table(header, rows)


def _compare_block(found: records.Records, unknown: Sequence[str]) -> Json | None:
    """The network with and without the block, in renderings; `None` before both."""
    seeds = {side: _seeds(found, name) for side, name in _BLOCK.items()}
    both = sorted(set(seeds["with"]) & set(seeds["without"]))
    if not both:
        return None
    differences = {
        f"AUROC, {source}": [
            _of_seed(found, _BLOCK["with"], source, seed)
            - _of_seed(found, _BLOCK["without"], source, seed)
            for seed in both
        ]
        for source in unknown
    }
    differences["known accepted, worst mild rendering"] = [
        _accepted(found, _BLOCK["with"], seed)
        - _accepted(found, _BLOCK["without"], seed)
        for seed in both
    ]
    intervals = {name: _interval(values) for name, values in differences.items()}
    header = ["with the block less without", *(f"seed {seed}" for seed in both)]
    rows = [
        [name, *map(_format_points, values), _format_range(intervals[name])]
        for name, values in differences.items()
    ]
    return {
        "seeds": both,
        "better": [name for name, ends in intervals.items() if ends and ends[0] > 0],
        "worse": [name for name, ends in intervals.items() if ends and ends[1] < 0],
        "table": markdown.Table([*header, "95 % interval of the mean"], rows),
    }


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Where the mean lies with 95 %, by Student's t; `None` of one number."""
    if len(values) < 2:
        return None
    quantile = special.stdtrit(len(values) - 1, 0.975)
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    middle = statistics.fmean(values)
    return middle - half, middle + half


def _format_points(value: float) -> str:
    return f"{100 * value:+.2f}"


def _format_range(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return markdown.MISSING
    return f"{_format_points(ends[0])} to {_format_points(ends[1])}"


def _auroc(
    found: records.Records, method: str, source: str, column: str
) -> list[float]:
    return [
        row[column]
        for row in found.measurements
        if row["method"] == method and row["unknown"] == source
    ]


def _of_seed(found: records.Records, method: str, source: str, seed: int) -> float:
    (value,) = (
        row["auroc_full_spectrum"]
        for row in found.measurements
        if (row["method"], row["unknown"], row["seed"]) == (method, source, seed)
    )
    return value


def _accepted(found: records.Records, method: str, seed: int) -> float:
    (value,) = (
        row["accepted_worst"]
        for row in found.renderings
        if (row["method"], row["seed"]) == (method, seed)
    )
    return value


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)
