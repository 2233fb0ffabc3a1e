"""Tables and numbers of the generated pages."""

import pathlib
from collections.abc import Iterable, Sequence

from ood_keras import conventions

MISSING = "–"  # noqa: RUF001


def percent(fraction: float | None) -> str:
    """Returns a fraction in percent, such as "99.52"; a dash for `None`."""
    if fraction is None:
        return MISSING
    return conventions.percent(fraction, ".2f", unit="")


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], num_texts: int = 1
) -> list[str]:
    """Returns the lines of a Markdown table.

    Args:
        header: The columns' names.
        rows: Lists of as many strings.
        num_texts: How many columns from the left hold text; numbers are set right.
    """
    rules = ["---"] * num_texts + ["---:"] * (len(header) - num_texts)
    return [f"| {' | '.join(cells)} |" for cells in (header, rules, *rows)]


def picture(folder: pathlib.Path, name: str, text: str) -> list[str]:
    """Returns the lines that show a picture, none if there is no such file yet.

    Args:
        folder: `pathlib.Path` of the pictures, beside the page.
        name: The file's name.
        text: What it shows.
    """
    if not (folder / name).is_file():
        return []
    return [f"![{text}]({folder.name}/{name})", "", f"*{text}*", ""]
