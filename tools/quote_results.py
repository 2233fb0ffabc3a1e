"""Writes the results of a run into a page, so that no number is typed by hand.

  python -m ood_keras.tools.quote_results --page=README.md --results=results/fast_mnist

Replaces what stands between the lines <!-- results: FOLDER --> and <!-- end --> by the
table of FOLDER/metrics.json. With --check, only fails if the page says something else.
"""

import json
import pathlib

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_RESULTS = flags.DEFINE_string(
    "results",
    None,
    "A folder with metrics.json, run.json and history.csv.",
    required=True,
    flag_values=_FLAGS,
)
_PAGE = flags.DEFINE_string(
    "page", None, "The Markdown page to change.", required=True, flag_values=_FLAGS
)
_CHECK = flags.DEFINE_bool(
    "check", False, "Only compare; fail on a difference.", flag_values=_FLAGS
)
_COLUMNS = {
    "AUROC": "auroc",
    "FPR95, known positive": "fpr95_known_positive",
    "FPR95, unknown positive": "fpr95_unknown_positive",
    "detection error": "detection_error",
}


def quoted(page, results):
    """Returns the text of a page with the results in their place.

    Args:
        page: The page's text, with the two marker lines.
        results: Folder of the results, as the opening marker names it.

    Raises:
        ValueError: the page has no such markers.
    """
    start, end = f"<!-- results: {results} -->\n", "<!-- end -->"
    before, found, rest = page.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(
            f"expected the lines {start.strip()} and {end} in the page; found "
            f"{'no end' if found else 'no start'}"
        )
    return before + start + _table(pathlib.Path(results)) + end + after


def _table(results):
    metrics = json.loads((results / "metrics.json").read_text())
    run = json.loads((results / "run.json").read_text())
    epochs = (results / "history.csv").read_text().splitlines()
    seconds = epochs[0].split(",").index("seconds")
    minutes = sum(float(epoch.split(",")[seconds]) for epoch in epochs[1:]) / 60
    detector = metrics["selected_detector"]
    lines = [
        f"Accuracy {_percent(metrics['known']['accuracy'])} % on the test images of "
        f"{metrics['known']['source']}. Detector `{detector}`, selected on validation "
        f"data; seed {run['seed']}; trained in {minutes:.1f} minutes "
        f"([machine, splits and commands]({results}/README.md)). In percent:",
        "",
        f"| unknown | seen in training | {' | '.join(_COLUMNS)} |",
        "| --- | --- |" + " ---: |" * len(_COLUMNS),
    ]
    for source, row in metrics["detectors"][detector]["unknown"].items():
        values = " | ".join(_percent(row[key]) for key in _COLUMNS.values())
        lines.append(f"| {source} | {'yes' if row['seen'] else 'no'} | {values} |")
    filters = results / "omniglot_filters.json"
    if filters.is_file():
        by_filter = json.loads(filters.read_text())["filters"]
        lines += [
            "",
            "How Omniglot's drawings are reduced to 28x28 decides its row: AUROC is "
            + ", ".join(
                f"{_percent(row['auroc'])} with {name}"
                for name, row in by_filter.items()
            )
            + ". The table's is bilinear; [the choice](docs/decisions/omniglot.md) was "
            "made after seeing test scores.",
        ]
    return "\n".join(lines) + "\n"


def _percent(fraction):
    return f"{100 * fraction:.2f}"


def _quote(positional):
    if positional:
        raise ValueError(f"quote_results takes flags only; received: {positional}")
    from ood_keras.files import write_text

    page = pathlib.Path(_PAGE.value)
    text = page.read_text()
    new = quoted(text, _RESULTS.value)
    if _CHECK.value and new != text:
        raise ValueError(f"{page} does not say what {_RESULTS.value} says")
    if not _CHECK.value:
        write_text(page, new)


def main():
    """Runs the command."""
    app.run("quote_results", __doc__, _FLAGS, _quote)


if __name__ == "__main__":
    main()
