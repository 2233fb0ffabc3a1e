"""Tables and numbers of the generated pages."""

from ood_keras import conventions

MISSING = "–"  # noqa: RUF001


def percent(fraction):
    """Returns a fraction in percent, such as "99.52"; a dash for `None`."""
    if fraction is None:
        return MISSING
    return conventions.percent(fraction, ".2f", unit="")


def table(header, rows, num_texts=1):
    """Returns the lines of a Markdown table.

    Args:
        header: The columns' names.
        rows: Lists of as many strings.
        num_texts: How many columns from the left hold text; numbers are set right.
    """
    rules = ["---"] * num_texts + ["---:"] * (len(header) - num_texts)
    return [f"| {' | '.join(cells)} |" for cells in (header, rules, *rows)]


def picture(folder, name, text):
    """Returns the lines that show a picture, none if there is no such file yet.

    Args:
        folder: `pathlib.Path` of the pictures, beside the page.
        name: The file's name.
        text: What it shows.
    """
    if not (folder / name).is_file():
        return []
    return [f"![{text}]({folder.name}/{name})", "", f"*{text}*", ""]
