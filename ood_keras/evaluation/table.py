"""The metrics as text, for a terminal."""

import functools
from collections.abc import Sequence

from ood_keras.conventions import percent
from ood_keras.metrics import measures
from ood_keras.names import one_line
from ood_keras.types import Json

_percent = functools.partial(percent, spec=".2f", unit="")
# More detectors become rows.
_MOST_COLUMNS = 6
_SEEN_NOTE = "* seen: training was exposed to other images of this source"


def format_table(metrics: Json) -> str:
    """Returns the content of `metrics.json` as a table to print, in percent.

    The selected detector comes first with all metrics. The interval beside AUROC is
    that of the test images: with others drawn alike, such intervals hold the true value
    in 95 % of the cases; another training is not allowed for. If there are other
    detectors, AUROC and FPR95 (known-positive) of each follow. Seen sources have a
    star.

    Args:
        metrics: `Report.metrics`, or what `metrics.json` holds.

    Returns:
        Several lines of text, without a final newline.

    Example:

    >>> print(evaluation.format_table(report.metrics))
    """
    selected = metrics["selected_detector"]
    detectors = metrics["detectors"]
    unknown = detectors[selected]["unknown"]
    columns = measures.in_rows(unknown.values())
    # Results of earlier versions have none, and there is none of a single image.
    has_interval = any(row.get("auroc_interval") for row in unknown.values())
    header, rows = ["unknown"], [[_star(*item)] for item in unknown.items()]
    for name, measure in columns.items():
        header.append(measure.heading)
        for cells, row in zip(rows, unknown.values(), strict=True):
            cells.append(_percent(row[name]))
        if name == "auroc" and has_interval:
            header.append("(95 % interval)")
            for cells, row in zip(rows, unknown.values(), strict=True):
                cells.append(_interval(row))
    lines = [
        f"known: {one_line(metrics['known']['source'])}, {_accuracy(metrics['known'])}",
        f"selected detector: {one_line(selected)} (all numbers in percent)",
        "",
        *_align(header, rows),
    ]
    if len(detectors) > 1:
        parts = [["unknown", *(_star(*item) for item in unknown.items())]]
        for name, detector in detectors.items():
            pairs = [_pair(detector["unknown"][source]) for source in unknown]
            parts.append([one_line(name), *pairs])
        table = list(zip(*parts, strict=True))
        if len(detectors) > _MOST_COLUMNS:
            table = [tuple(part) for part in parts]
        lines += [
            "",
            "AUROC / FPR95 known+ of every detector",
            "",
            *_align(table[0], table[1:]),
        ]
    if any(row["seen"] for row in unknown.values()):
        lines += ["", _SEEN_NOTE]
    return "\n".join(lines)


def _accuracy(known: Json) -> str:
    if known["accuracy"] is None:
        return "no classifier"
    return f"accuracy {_percent(known['accuracy'])} %"


def _star(source: str, row: Json) -> str:
    source = one_line(source)
    return f"{source} *" if row["seen"] else source


def _pair(row: Json) -> str:
    return f"{_percent(row['auroc'])} / {_percent(row['fpr95_known_positive'])}"


def _interval(row: Json) -> str:
    ends = row.get("auroc_interval")
    return " to ".join(map(_percent, ends)) if ends else "unknown"


def _align(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column to the left and the others to the right."""
    widths = [
        max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)
    ]

    def line(cells):
        first, *others = (
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    return [line(header), "  ".join("-" * width for width in widths), *map(line, rows)]
