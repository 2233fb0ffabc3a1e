"""Writes what the README and the docs say about results, so that no number is typed.

  python -m ood_keras.tools.write_results

Run it in the root of the repository after results/ has changed. It writes the lines
between <!-- results: FOLDER --> and <!-- end --> of README.md, docs/results.md and
docs/published_table.md from results/table1, and docs/robustness.md from
results/robustness; with --pictures, docs/images/results_*.png too. With --check, it
only fails if a page says something else than the results.
"""

import json
import pathlib
import re

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_CHECK = flags.DEFINE_bool(
    "check", False, "Only compare; fail on a difference.", flag_values=_FLAGS
)
_PICTURES = flags.DEFINE_bool(
    "pictures", False, "Draw the pictures anew first.", flag_values=_FLAGS
)
_TABLE1 = pathlib.Path("results/table1")
_ROBUSTNESS = pathlib.Path("results/robustness")
_IMAGES = pathlib.Path("docs/images")
_QUOTE = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_COLUMNS = {
    "AUROC": "auroc",
    "FPR95, known positive": "fpr95_known_positive",
    "FPR95, unknown positive": "fpr95_unknown_positive",
    "detection error": "detection_error",
}


def pages():
    """Returns `{path: text}` of every page that is written from `results/`.

    Paths are relative to the repository's root, which is the working directory.
    """
    from ood_keras.tools import robustness_page, table1_page

    readme = pathlib.Path("README.md")
    written = {readme: quoted(readme.read_text())}
    if (_TABLE1 / "summary.json").is_file():
        written |= {
            pathlib.Path("docs/results.md"): table1_page.results_page(_TABLE1, _IMAGES),
            pathlib.Path("docs/published_table.md"): table1_page.published_page(
                _TABLE1
            ),
        }
    if any(_ROBUSTNESS.glob("*/robustness.json")):
        written[pathlib.Path("docs/robustness.md")] = robustness_page.page(_ROBUSTNESS)
    return written


def quoted(page):
    """Returns the text of a page with the results in their places.

    Args:
        page: The page's text, with lines `<!-- results: FOLDER -->` and `<!-- end -->`.

    Raises:
        ValueError: the page has no such lines, or FOLDER holds no results.
    """
    if page.count("<!-- results: ") != len(_QUOTE.findall(page)) or not _QUOTE.search(
        page
    ):
        raise ValueError(
            "expected pairs of lines <!-- results: FOLDER --> and <!-- end --> in the "
            f"page; found {page.count('<!-- results: ')} of the first kind and "
            f"{page.count('<!-- end -->')} of the second"
        )
    return _QUOTE.sub(
        lambda match: match[1] + _lines(pathlib.Path(match[2])) + match[3], page
    )


def _lines(folder):
    from ood_keras.tools import table1_page

    if (folder / "summary.json").is_file():
        return table1_page.quote(folder)
    if (folder / "metrics.json").is_file():
        return _run(folder)
    raise ValueError(
        f"{folder} holds no results: expected summary.json of a study or metrics.json "
        "of a run. Run this in the repository's root, or correct the page's marker"
    )


def _run(folder):
    """The table of one run."""
    from ood_keras.tools import markdown

    metrics = json.loads((folder / "metrics.json").read_text())
    run = json.loads((folder / "run.json").read_text())
    epochs = (folder / "history.csv").read_text().splitlines()
    seconds = epochs[0].split(",").index("seconds")
    minutes = sum(float(epoch.split(",")[seconds]) for epoch in epochs[1:]) / 60
    detector = metrics["selected_detector"]
    rows = [
        [
            source,
            "yes" if row["seen"] else "no",
            *(markdown.percent(row[key]) for key in _COLUMNS.values()),
        ]
        for source, row in metrics["detectors"][detector]["unknown"].items()
    ]
    lines = [
        f"Accuracy {markdown.percent(metrics['known']['accuracy'])} % on the test "
        f"images of {metrics['known']['source']}. Detector `{detector}`, selected on "
        f"validation data; seed {run['seed']}; trained in {minutes:.1f} minutes "
        f"([machine, splits and commands]({folder}/README.md)). In percent:",
        "",
        *markdown.table(["unknown", "seen in training", *_COLUMNS], rows, num_texts=2),
    ]
    filters = folder / "omniglot_filters.json"
    if filters.is_file():
        by_filter = json.loads(filters.read_text())["filters"]
        lines += [
            "",
            "How Omniglot's drawings are reduced to 28x28 decides its row: AUROC is "
            + ", ".join(
                f"{markdown.percent(row['auroc'])} with {name}"
                for name, row in by_filter.items()
            )
            + ". The table's is bilinear; [the choice](docs/decisions/omniglot.md) was "
            "made after seeing test scores.",
        ]
    return "\n".join(lines) + "\n"


def _write(positional):
    if positional:
        raise ValueError(f"write_results takes flags only; received: {positional}")
    from ood_keras.files import write_text

    if _PICTURES.value and (_TABLE1 / "summary.json").is_file():
        from ood_keras.tools import table1_pictures

        for path in table1_pictures.draw(_TABLE1, _IMAGES):
            print(path)
    changed = {
        path: text
        for path, text in pages().items()
        if not path.is_file() or path.read_text() != text
    }
    if _CHECK.value and changed:
        raise ValueError(
            f"{', '.join(map(str, changed))} does not say what results/ says; run "
            "python -m ood_keras.tools.write_results"
        )
    for path, text in changed.items():
        write_text(path, text)
        print(path)


def main():
    """Runs the command."""
    app.run("write_results", __doc__, _FLAGS, _write)


if __name__ == "__main__":
    main()
