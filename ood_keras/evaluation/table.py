"""The metrics as text, for a terminal."""

from ood_keras.names import one_line

_COLUMNS = {
    "AUROC": "auroc",
    "AUPR in": "aupr_in",
    "AUPR out": "aupr_out",
    "det. error": "detection_error",
    "FPR95 known+": "fpr95_known_positive",
    "FPR95 unknown+": "fpr95_unknown_positive",
}
_SEEN_NOTE = "* seen: training was exposed to other images of this source"


def format_table(metrics):
    """Returns the content of `metrics.json` as a table to print, in percent.

    The selected detector comes first with all six metrics; if there are others, AUROC
    and FPR95 (known-positive) of every detector follow. Seen sources have a star.

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
    lines = [
        f"known: {one_line(metrics['known']['source'])}, {_accuracy(metrics['known'])}",
        f"selected detector: {one_line(selected)} (all numbers in percent)",
        "",
        *_aligned(
            ["unknown", *_COLUMNS],
            [
                [
                    _starred(source, row),
                    *(_percent(row[key]) for key in _COLUMNS.values()),
                ]
                for source, row in unknown.items()
            ],
        ),
    ]
    if len(detectors) > 1:
        lines += [
            "",
            "AUROC / FPR95 known+ of every detector",
            "",
            *_aligned(
                ["unknown", *map(one_line, detectors)],
                [
                    [
                        _starred(source, row),
                        *(
                            _pair(detector["unknown"][source])
                            for detector in detectors.values()
                        ),
                    ]
                    for source, row in unknown.items()
                ],
            ),
        ]
    if any(row["seen"] for row in unknown.values()):
        lines += ["", _SEEN_NOTE]
    return "\n".join(lines)


def _accuracy(known):
    if known["accuracy"] is None:
        return "no classifier"
    return f"accuracy {_percent(known['accuracy'])} %"


def _starred(source, row):
    source = one_line(source)
    return f"{source} *" if row["seen"] else source


def _pair(row):
    return f"{_percent(row['auroc'])} / {_percent(row['fpr95_known_positive'])}"


def _percent(fraction):
    return f"{100 * fraction:.2f}"


def _aligned(header, rows):
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
