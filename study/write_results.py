"""Writes what the README and the docs say about results, so that no number is typed.

  python -m ood_keras.study.write_results

Run it in the root of the repository after results/ has changed. It writes the lines
between <!-- results: FOLDER --> and <!-- end --> of README.md, docs/results.md,
docs/published_table.md and docs/reading_results.md from results/table1, and
docs/robustness.md from results/robustness, docs/renderings.md from
results/renderings, docs/what_table1_measures.md from results/scanner and
results/renderings, docs/two_readings.md from results/readings,
docs/colour.md from results/colour,
docs/test_sets.md from benchmarks/results/test_set_forms.json, and docs/adopted.md from
benchmarks/results/adopt.json; with --pictures, docs/images/results_*.png too. With
--check, it only fails if a page says something else than the results.
"""

import pathlib
import re

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_bool("check", "Only compare; fail on a difference.")
_FLAGS.add_bool("pictures", "Draw the pictures anew first.")
_TABLE1 = pathlib.Path("results/table1")
_ROBUSTNESS = pathlib.Path("results/robustness")
_RENDERINGS = pathlib.Path("results/renderings")
_CAPITALS = pathlib.Path("benchmarks/results/printed_capitals.json")
_DEMO_SHEET = pathlib.Path("benchmarks/results/demo_sheet.json")
_SCANNER = pathlib.Path("results/scanner")
_READINGS = pathlib.Path("results/readings")
_COLOUR = pathlib.Path("results/colour")
_TEST_SETS = pathlib.Path("benchmarks/results/test_set_forms.json")
_ADOPTED = pathlib.Path("benchmarks/results/adopt.json")
_IMAGES = pathlib.Path("docs/images")
_QUOTE = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> dict[pathlib.Path, str]:
    """Returns `{path: text}` of every page that is written from `results/`.

    Paths are relative to the repository's root, which is the working directory.
    """
    from ood_keras.study import (
        adoption_page,
        capitals_section,
        colour_page,
        readings_page,
        renderings_page,
        robustness_page,
        scanner_letters,
        scanner_page,
        summary,
        table1_page,
        test_sets_page,
    )

    readme = pathlib.Path("README.md")
    written = {readme: insert_results(readme.read_text())}
    if summary.is_written(_TABLE1):
        written |= {
            pathlib.Path("docs/results.md"): table1_page.results_page(_TABLE1, _IMAGES),
            pathlib.Path("docs/published_table.md"): table1_page.published_page(
                _TABLE1
            ),
            pathlib.Path("docs/reading_results.md"): table1_page.reading_page(_TABLE1),
        }
    if any(_ROBUSTNESS.glob("*/robustness.json")):
        written[pathlib.Path("docs/robustness.md")] = robustness_page.page(_ROBUSTNESS)
    if renderings_page.is_written(_RENDERINGS):
        capitals = capitals_section.compare(_CAPITALS)
        text = renderings_page.page(_RENDERINGS, _DEMO_SHEET, capitals)
        written[pathlib.Path("docs/renderings.md")] = text
    if scanner_page.is_written(_SCANNER):
        rendered = scanner_letters.compare(_RENDERINGS, _IMAGES)
        text = scanner_page.page(_SCANNER, rendered)
        written[pathlib.Path("docs/what_table1_measures.md")] = text
    if readings_page.is_written(_READINGS):
        text = readings_page.page(_READINGS)
        written[pathlib.Path("docs/two_readings.md")] = text
    if colour_page.is_written(_COLOUR):
        text = colour_page.page(_COLOUR, _IMAGES)
        written[pathlib.Path("docs/colour.md")] = text
    if _TEST_SETS.is_file():
        written[pathlib.Path("docs/test_sets.md")] = test_sets_page.page(_TEST_SETS)
    if _ADOPTED.is_file():
        written[pathlib.Path("docs/adopted.md")] = adoption_page.page(_ADOPTED)
    return written


def insert_results(page: str) -> str:
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


def _lines(folder: pathlib.Path) -> str:
    from ood_keras.study import renderings_page, summary, table1_page

    if summary.is_written(folder):
        return table1_page.quote(folder)
    if renderings_page.is_written(folder):
        return renderings_page.quote(folder)
    raise ValueError(
        f"{folder} holds no results: expected study.json of a study, or */"
        "renderings.json. Run this in the "
        "repository's root, or correct the page's marker"
    )


def _draw() -> None:
    from ood_keras.study import (
        colour_page,
        colour_pictures,
        scanner_letters,
        summary,
        table1_pictures,
    )

    paths = []
    if summary.is_written(_TABLE1):
        paths += table1_pictures.draw(_TABLE1, _IMAGES)
    if colour_page.is_written(_COLOUR):
        paths += colour_pictures.draw(_COLOUR, _IMAGES)
    paths += scanner_letters.draw(_RENDERINGS, _IMAGES)
    for path in paths:
        print(path)


def _write() -> None:
    from ood_keras.files import write_text

    if _FLAGS.pictures:
        _draw()
    changed = {
        path: text
        for path, text in pages().items()
        if not path.is_file() or path.read_text() != text
    }
    if _FLAGS.check and changed:
        raise ValueError(
            f"{', '.join(map(str, changed))} does not say what results/ says; run "
            "python -m ood_keras.study.write_results"
        )
    for path, text in changed.items():
        write_text(path, text)
        print(path)


def main() -> None:
    """Runs the command."""
    app.run("write_results", __doc__, _FLAGS, _write)


if __name__ == "__main__":
    main()
