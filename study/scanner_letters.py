"""Letters against digits in each rendering: where the best row of Table 1 comes from.

Read from what `ood-robustness --model` wrote of models of digits.
"""

import json
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ood_keras import files
from ood_keras.evaluation import style
from ood_keras.study import markdown
from ood_keras.types import Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE = "results_letters_by_rendering.png"
_DIGITS, _LETTERS = "mnist", "emnist/letters"
_EXTREMES = (
    *("AUROC, untouched", "lowest, mild", "lowest of all"),
    *("letters accepted, untouched", "most, mild", "most of all"),
)
_CAPTION = (
    "Letters and digits, both in the same rendering; mild ones on a grey ground. Left: "
    "AUROC. Right: letters accepted (crosses), digits accepted (circles)"
)


def compare(folder: pathlib.Path, images: pathlib.Path) -> Json | None:
    """Returns what the page says of letters in each rendering.

    Args:
        folder: `pathlib.Path` with a folder of results for each model, as the page
            should name it. In it, `seed_*` are the same training again.
        images: The folder of pictures beside the page.

    Returns:
        Dict for the template: "folder"; "models", `{name: what it is}`; "num_images" of
        each source; "lowest", `{name: mild rendering with the lowest AUROC}`; "most",
        the same of letters accepted; "extremes" and "steps", tables; and "picture",
        Markdown. `None` if no model of digits was measured on letters.
    """
    models = _read_models(folder)
    if not models:
        return None
    first = {name: of_seeds[0] for name, of_seeds in models.items()}
    mild = {name: _choose_mild(one["steps"]) for name, one in first.items()}
    return {
        "folder": folder,
        "models": {name: one["model"] for name, one in first.items()},
        "num_images": next(iter(first.values()))["num_images"],
        "untouched": {name: _tell(one["steps"][0]) for name, one in first.items()},
        "lowest": {name: _tell(min(some, key=_auroc)) for name, some in mild.items()},
        "most": {
            name: _tell(max(some, key=_letters_accepted)) for name, some in mild.items()
        },
        "extremes": markdown.Table(
            ["model", "seed", *_EXTREMES],
            [
                [name, str(one["model"]["seed"]), *_list_extremes(one["steps"])]
                for name, of_seeds in models.items()
                for one in of_seeds
            ],
            num_texts=2,
        ),
        "steps": markdown.Table(
            ["rendering", *(f"{name}: {what}" for name in first for what in _SHOWN)],
            [
                [
                    f"*{steps[0]['title']}*" if steps[0]["mild"] else steps[0]["title"],
                    *(
                        markdown.format_percent(read(step))
                        for step in steps
                        for read in _SHOWN.values()
                    ),
                ]
                for steps in zip(*(one["steps"] for one in first.values()), strict=True)
            ],
        ),
        "picture": markdown.show_picture(images, PICTURE, _CAPTION),
    }


def draw(folder: pathlib.Path, images: pathlib.Path) -> list[pathlib.Path]:
    """Draws the picture, if there are such results.

    Args:
        folder: As for `compare`.
        images: Receives the picture.

    Returns:
        The paths that were written.
    """
    models = _read_models(folder)
    if not models:
        return []
    steps = {name: of_seeds[0]["steps"] for name, of_seeds in models.items()}
    with files.atomic_file(images / PICTURE) as path:
        _draw_steps(steps).savefig(path)
    return [images / PICTURE]


def _auroc(step: Json) -> float:
    return step["unknown"][_LETTERS]["auroc"]


def _letters_accepted(step: Json) -> float:
    return 1 - step["unknown"][_LETTERS]["rejected"]


def _digits_accepted(step: Json) -> float:
    return step["known"]["accepted"]


_SHOWN: dict[str, Callable[[Json], float]] = {
    "AUROC": _auroc,
    "letters accepted": _letters_accepted,
    "digits accepted": _digits_accepted,
}


def _read_models(folder: pathlib.Path) -> dict[str, list[Json]]:
    """`{name: [its results, those with other seeds]}` of models of digits."""
    models = {}
    for path in sorted(folder.glob("*/renderings.json")):
        others = [_read(other) for other in path.parent.glob("seed_*/renderings.json")]
        others.sort(key=lambda other: other["model"]["seed"])
        of_seeds = [one for one in (_read(path), *others) if one["is_measured"]]
        if of_seeds:
            models[path.parent.name] = of_seeds
    return models


def _read(path: pathlib.Path) -> Json:
    result = json.loads(path.read_text(encoding="utf-8"))
    (measured,) = result["detectors"].values()
    steps = measured["steps"]
    return {
        "model": result["model"],
        "steps": steps,
        "num_images": result["known"]["images"],
        "is_measured": result["known"]["source"] == _DIGITS
        and _LETTERS in steps[0]["unknown"],
    }


def _choose_mild(steps: list[Json]) -> list[Json]:
    return [step for step in steps if step["mild"]]


def _tell(step: Json) -> Json:
    """A rendering's title and numbers, by names that a template can use."""
    return {
        "title": step["title"],
        **{what.replace(" ", "_"): read(step) for what, read in _SHOWN.items()},
    }


def _list_extremes(steps: list[Json]) -> list[str]:
    """A model untouched, and where it tells letters worst and accepts most of them."""
    sets = (_choose_mild(steps), steps)
    values = (
        _auroc(steps[0]),
        *(min(map(_auroc, some)) for some in sets),
        _letters_accepted(steps[0]),
        *(max(map(_letters_accepted, some)) for some in sets),
    )
    return list(map(markdown.format_percent, values))


@style.use_style
def _draw_steps(models: dict[str, list[Json]]) -> "Figure":
    """A row for each rendering: AUROC, and beside it what is accepted."""
    from matplotlib.figure import Figure

    steps = next(iter(models.values()))
    places = list(range(len(steps)))
    figure = Figure(figsize=(7.2, 1.1 + 0.19 * len(steps)))
    left, right = figure.subplots(1, 2, sharey=True)
    for index, (name, of_model) in enumerate(models.items()):
        color = style.source_color(index)
        for panel, read, look in (
            (left, _auroc, {"marker": "o", "label": name}),
            (right, _letters_accepted, {"marker": "x"}),
            (right, _digits_accepted, {"marker": "o", "markerfacecolor": "none"}),
        ):
            shares = [100 * read(step) for step in of_model]
            panel.plot(
                shares, places, color=color, linestyle="none", markersize=4.5, **look
            )
    left.set_yticks(places, [style.literal(step["title"]) for step in steps])
    left.set_ylim(len(steps) - 0.4, -0.6)
    left.set_title("Letters against digits")
    left.set_xlabel("AUROC, %")
    right.set_title("Accepted")
    right.set_xlabel("letters (crosses), digits (circles), %")
    for panel in (left, right):
        panel.grid(True)
        panel.tick_params(axis="y", length=0)
        for place, step in zip(places, steps, strict=True):
            if step["mild"]:
                panel.axhspan(
                    place - 0.5, place + 0.5, color=style.GRID, alpha=0.4, linewidth=0
                )
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside upper center", ncols=3
    )
    return figure
