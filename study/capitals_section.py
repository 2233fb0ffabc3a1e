"""Printed capitals apart from small letters, for the page on renderings."""

import json
import pathlib
import string
from collections.abc import Callable

from ood_keras.study import markdown
from ood_keras.types import Json

# `{title: (set of the file, which of its characters)}`. The last list leaves out fewer
# capitals as digits by shape than `glyphs` does.
_FEWER = frozenset("CILOSZ")
_GROUPS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "capitals of `glyphs`": ("glyphs", str.isupper),
    "small letters of `glyphs`": ("glyphs", str.islower),
    "all of `glyphs`": ("glyphs", lambda character: True),
    f"capitals but {', '.join(sorted(_FEWER))}": (
        "capitals",
        lambda character: character not in _FEWER,
    ),
}


def compare(path: pathlib.Path) -> Json | None:
    """Returns what the page says of printed capitals.

    Args:
        path: What `benchmarks/printed_capitals.py` wrote, as the page should name it.

    Returns:
        Dict of "path", "machine", "left_out" (capitals that `glyphs` has not), "fewer"
        (those that the other list leaves out), "models" (`{name: what it is}`) and
        "table"; `None` if there is no such file.
    """
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    models = {
        "/".join(pathlib.PurePath(name).parts[-2:]): model
        for name, model in result["models"].items()
    }
    kept = next(iter(models.values()))["sets"]["glyphs"]
    return {
        "path": path,
        "machine": result["machine"],
        "fonts": len(result["fonts"]),
        "left_out": [one for one in string.ascii_uppercase if one not in kept],
        "fewer": sorted(_FEWER),
        "models": models,
        "table": markdown.Table(
            [
                "printed characters",
                "how many",
                *(f"{name}: {what}" for name in models for what in ("passed", "AUROC")),
            ],
            [[title, *_list_cells(models, *group)] for title, group in _GROUPS.items()],
        ),
    }


def _list_cells(models: Json, name: str, chosen: Callable[[str], bool]) -> list[str]:
    """The number of characters, and of each model the share that passes and AUROC."""
    cells = []
    for model in models.values():
        rows = [row for one, row in model["sets"][name].items() if chosen(one)]
        total = sum(row["images"] for row in rows)
        cells += [
            markdown.format_percent(
                sum(row["images"] * row[what] for row in rows) / total
            )
            for what in ("accepted", "auroc")
        ]
    return [str(len(rows)), *cells]
