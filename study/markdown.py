"""The generated pages: Markdown from the templates in `templates/`.

Prose stands in a template; what a template is given are values, tables and texts that
were read from results.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from ood_keras import conventions, metrics
from ood_keras.types import Json

MISSING = "–"  # noqa: RUF001
# Marks beside numbers; `Markdown` would take a bare star for emphasis.
SEEN, SYNTHETIC = "\\*", "†"
_TEMPLATES = pathlib.Path(__file__).parent / "templates"


@dataclasses.dataclass(frozen=True)
class Table:
    """A Markdown table; a template shows it as `{{ table }}`.

    Attributes:
        header: The columns' names.
        rows: Sequences of as many strings.
        num_texts: How many columns from the left hold text; numbers are set right.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_texts: int = 1

    def __str__(self) -> str:
        num_numbers = len(self.header) - self.num_texts
        rules = ["---"] * self.num_texts + ["---:"] * num_numbers
        lines = (self.header, rules, *self.rows)
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def format_percent(fraction: float | None) -> str:
    """Returns a fraction in percent, such as "99.52"; a dash for `None`."""
    if fraction is None:
        return MISSING
    return conventions.percent(fraction, ".2f", unit="")


def format_cell(cell: Json | None) -> str:
    """Returns a cell of a summary in percent, such as "99.52 ± 0.03".

    Args:
        cell: `{"mean", "std"}`, or `None` for a dash.
    """
    if cell is None or cell["mean"] is None:
        return MISSING
    mean = format_percent(cell["mean"])
    return mean if cell["std"] is None else f"{mean} ± {format_percent(cell['std'])}"


def format_interval(interval: Json | None) -> str:
    """Returns a value with its interval in percent, such as "99.52 [99.41, 99.60]".

    Args:
        interval: `{"value", "low", "high"}`, or `None` for a dash.
    """
    if interval is None:
        return MISSING
    value, low, high = (
        format_percent(interval[key]) for key in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def describe_metric(name: str) -> str:
    """Returns what stands above a metric's table."""
    measure = metrics.get(name)
    return f"{measure.title} {measure.arrow} ({measure.description})"


def show_picture(folder: pathlib.Path, name: str, text: str) -> str:
    """Returns the Markdown of a picture, "" if there is no such file yet.

    Args:
        folder: The pictures' folder, beside the page.
        name: The file's name.
        text: What it shows.
    """
    if not (folder / name).is_file():
        return ""
    return f"![{text}]({folder.name}/{name})\n\n*{text}*"


def show_result(folder: pathlib.Path, name: str, text: str) -> str:
    """Returns the Markdown of a picture in `results/`, for a page in `docs/`.

    Args:
        folder: The picture's folder, from the repository's root.
        name: The file's name.
        text: What it shows.

    Returns:
        "" if there is no such file.
    """
    if not (folder / name).is_file():
        return ""
    return f"![{text}](../{folder}/{name})\n\n*{text}*"


def render(template: str, **values: Any) -> str:
    """Returns the text that a template makes of values.

    Blank lines in a row count as one, so that a template may have parts that are left
    out.

    Args:
        template: A file of `templates/` without `.md.jinja`.
        values: What the template names.

    Raises:
        jinja2.UndefinedError: the template names a value that it was not given.
    """
    text = _environment().get_template(f"{template}.md.jinja").render(**values)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


@functools.cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "MISSING": MISSING,
        "SEEN": SEEN,
        "SYNTHETIC": SYNTHETIC,
        "describe_metric": describe_metric,
    }
    environment.filters |= {"percent": format_percent}
    return environment
