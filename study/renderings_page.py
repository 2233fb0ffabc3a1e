"""What the docs say about renderings, from the files of `ood-robustness --model`."""

import json
import pathlib
import statistics

from ood_keras.inference import shipped_models
from ood_keras.study import markdown
from ood_keras.types import Json

# Letters that look like a digit by their shape. They are those that a trial with
# renderings accepted most, of test letters; they split a row and choose nothing.
LIKE_DIGITS = frozenset("BGILOQSYZ")
_LETTERS, _DIGITS = "emnist/letters", "mnist"


def page(
    folder: pathlib.Path,
    sheet: pathlib.Path | None = None,
    capitals: Json | None = None,
) -> str:
    """Returns the text of `docs/renderings.md`.

    Args:
        folder: `pathlib.Path` with a folder for each model, as the page should name it
            from the repository's root. In it, `seed_*` are the same training again.
        sheet: What `benchmarks/demo_sheet.py` wrote, if it is there.
        capitals: What `capitals_section.compare` returned.
    """
    results = [_describe(path) for path in sorted(folder.glob("*/renderings.json"))]
    drawn = _read_sheet(sheet) if sheet and sheet.is_file() else {}
    known: dict[str, list[Json]] = {}
    for result in results:
        known.setdefault(result["known"]["source"], []).append(result)
    return markdown.render(
        "renderings",
        folder=folder,
        known={source: _compare(models, drawn) for source, models in known.items()},
        num_images=results[0]["known"]["images"],
        seeds=_list_seeds(results),
        like_digits=sorted(LIKE_DIGITS),
        sheet=_describe_sheet(sheet) if sheet and sheet.is_file() else None,
        capitals=capitals,
    )


def quote(folder: pathlib.Path) -> str:
    """Returns what the README says: every model, untouched and in other renderings.

    Args:
        folder: As for `page`.
    """
    rows = []
    models = [_describe(path) for path in sorted(folder.glob("*/renderings.json"))]
    for model in models:
        measured = model["measured"]
        accepted = measured["summary"]["accepted"]
        aurocs = measured["summary"]["auroc"].values()
        values = (
            measured["steps"][0]["known"]["accepted"],
            accepted["mean"],
            accepted["worst"],
            *(min(row[kind] for row in aurocs) for kind in _COLUMNS),
        )
        rows.append([model["name"], *map(markdown.format_percent, values)])
    header = ["model", "known accepted, untouched", "mild, mean", "mild, worst"]
    header += ["lowest AUROC, untouched", "mild", "all renderings"]
    return markdown.render(
        "renderings_quote",
        table=markdown.Table(header, rows),
        example=_find_example(models),
        seeds=_list_seeds(models),
        again=[found for model in models if (found := _average_seeds(model))],
        shipped=_list_shipped(models),
        like_digits=sorted(LIKE_DIGITS),
    )


def _list_shipped(models: list[Json]) -> list[Json]:
    """What ships in each folder of versions, and the letters that its newest accepts.

    Measured models that do not ship are left out.
    """
    paths = {
        pathlib.PurePosixPath("saved_models", name, str(number)): number
        for name, numbers in shipped_models.VERSIONS.items()
        for number in numbers
    }
    folders: dict[pathlib.PurePosixPath, dict[int, Json]] = {}
    for model in models:
        path = pathlib.PurePosixPath(model["model"]["name"])
        if path in paths:
            folders.setdefault(path.parent, {})[paths[path]] = model
    shipped = []
    for folder, versions in folders.items():
        newest = max(shipped_models.VERSIONS[folder.name])
        opened = [versions[newest]] if newest in versions else []
        groups = _group_letters(opened) if opened else []
        shipped.append(
            {
                "name": folder.name,
                "folder": folder,
                "models": [versions[number]["name"] for number in sorted(versions)],
                "versions": sorted(versions),
                "newest": newest,
                "model": opened[0]["name"] if opened else None,
                "letters": [accepted for _, ((accepted, _),) in groups],
            }
        )
    return shipped


def _average_seeds(model: Json) -> Json | None:
    """How many known images a training with several seeds accepts, on average."""
    others = _read_other_seeds(model)
    if not others:
        return None
    accepted = [one["measured"]["summary"]["accepted"] for one in (model, *others)]
    return {
        "model": model,
        "seeds": _list_seeds([model, *others]),
        **{
            share: statistics.fmean(one[share] for one in accepted)
            for share in ("mean", "worst")
        },
    }


# What `benchmarks/demo_sheet.py` wrote of a training with another seed.
_SHEET = "demo_sheet.json"


def _read_sheet(file: pathlib.Path) -> Json:
    """`{model: what it made of drawings with the pen of the scan}`."""
    models = json.loads(file.read_text(encoding="utf-8"))["models"]
    return {name: model["pens"]["as scanned"] for name, model in models.items()}


def _describe_sheet(file: pathlib.Path) -> Json:
    """Drawings on the demo's sheet: a row for each model and pen."""
    result = json.loads(file.read_text(encoding="utf-8"))
    header = ["model", "pen", "to be accepted", "digits accepted", "classified right"]
    header += ["letters accepted", "like a digit", "no digit by shape"]
    rows = []
    for path, model in result["models"].items():
        name = "/".join(pathlib.PurePath(path).parts[-2:])
        for pen, measured in model["pens"].items():
            digits, letters = measured["digits"], measured["letters"]
            values = (
                model["target_acceptance"],
                *(digits[name] for name in ("accepted", "accuracy")),
                letters["accepted"],
                letters["accepted_like_digits"],
                letters["accepted_other"],
            )
            cells = map(markdown.format_percent, values)
            rows.append([f"{name}, recipe {model['recipe']}", pen, *cells])
    return {
        "path": file,
        "num_images": result["num_images"],
        "seed": result["seed"],
        "table": markdown.Table(header, rows, num_texts=2),
    }


def _find_example(models: list[Json]) -> Json:
    """The model that renderings do most to, and where it takes most letters."""
    model = min(models, key=lambda one: one["measured"]["summary"]["accepted"]["mean"])
    steps = [
        (1 - step["unknown"][_LETTERS]["rejected"], step["title"])
        for step in model["measured"]["steps"]
        if step["mild"] and _LETTERS in step["unknown"]
    ]
    share, title = max(steps, default=(None, None))
    return {"model": model, "letters_accepted": share, "step": title}


def _list_seeds(models: list[Json]) -> str:
    seeds = sorted({model["model"]["seed"] for model in models})
    return ", ".join(map(str, seeds))


def is_written(folder: pathlib.Path) -> bool:
    """Whether a folder holds such results."""
    return any(folder.glob("*/renderings.json"))


def _describe(path: pathlib.Path) -> Json:
    """One model: its file, with its only detector's numbers and its name."""
    result = json.loads(path.read_text(encoding="utf-8"))
    ((detector, measured),) = result["detectors"].items()
    return {
        **result,
        "name": path.parent.name,
        "folder": path.parent,
        "detector": detector,
        "measured": measured,
    }


def _compare(models: list[Json], drawn: Json) -> Json:
    """The tables of all models of one known source, side by side."""
    aurocs = [model["measured"]["summary"]["auroc"] for model in models]
    sources = list(dict.fromkeys(source for auroc in aurocs for source in auroc))
    return {
        "models": models,
        "shares": markdown.Table(
            ["model", *_SHARES],
            [[model["name"], *_list_shares(model)] for model in models],
        ),
        "auroc": markdown.Table(
            [
                "unknown",
                *(f"{model['name']}: {kind}" for model in models for kind in _KINDS),
            ],
            [
                [_mark(source, models), *_list_auroc(models, source)]
                for source in sources
            ],
        ),
        "passed": markdown.Table(
            [
                "unknown",
                *(f"{model['name']}: {kind}" for model in models for kind in _PASSED),
            ],
            [
                [
                    _mark(source, models),
                    *(cell for model in models for cell in _list_passed(model, source)),
                ]
                for source in sources
            ],
        ),
        "steps": markdown.Table(
            [
                "rendering",
                *(f"{model['name']}: {share}" for model in models for share in _STEP),
            ],
            [
                [rows[0]["title"], *(cell for row in rows for cell in _list_step(row))]
                for rows in zip(
                    *(model["measured"]["steps"] for model in models), strict=True
                )
            ],
        ),
        "letters": _compare_letters(models),
        "trainings": [
            found for model in models if (found := _compare_seeds(model, drawn))
        ],
        "pictures": [
            markdown.show_result(model["folder"], "renderings.png", _PICTURE)
            for model in models
        ],
    }


_SHARES = (
    "to be accepted",
    "accepted, untouched",
    "accepted, mild renderings",
    "in the worst",
    "classified right, mild renderings",
    "in the worst",
)
_KINDS = ("untouched", "mild", "all")
_COLUMNS = ("untouched", "mild", "full_spectrum")
_PASSED = ("untouched", "mild")
_STEP = ("accepted", "right")
_NOT_MEASURED = "-"
_PICTURE = "Shares accepted in each rendering; to the left, known images as they look"


def _list_shares(model: Json) -> list[str]:
    measured = model["measured"]
    accepted, accuracy = (
        measured["summary"][name] for name in ("accepted", "accuracy")
    )
    values = (
        measured["target_acceptance"],
        measured["steps"][0]["known"]["accepted"],
        accepted["mean"],
        accepted["worst"],
        accuracy["mean"],
        accuracy["worst"],
    )
    return list(map(markdown.format_percent, values))


def _list_auroc(models: list[Json], source: str) -> list[str]:
    cells = []
    for model in models:
        auroc = model["measured"]["summary"]["auroc"].get(source)
        cells += [
            markdown.format_percent(auroc[kind]) if auroc else _NOT_MEASURED
            for kind in _COLUMNS
        ]
    return cells


def _list_passed(model: Json, source: str) -> list[str]:
    """Shares of unknown images that are accepted: untouched, and mild on average."""
    untouched, *others = model["measured"]["steps"]
    if source not in untouched["unknown"]:
        return [_NOT_MEASURED] * len(_PASSED)
    mild = [1 - step["unknown"][source]["rejected"] for step in others if step["mild"]]
    shares = 1 - untouched["unknown"][source]["rejected"], sum(mild) / len(mild)
    return list(map(markdown.format_percent, shares))


def _list_step(row: Json) -> list[str]:
    return [
        markdown.format_percent(row["known"][share])
        for share in ("accepted", "accuracy")
    ]


# The unknown sources that the goals for digits are about, as one set.
_TOGETHER = ("emnist/letters", "kmnist", "omniglot@area")


def _compare_seeds(model: Json, drawn: Json) -> Json | None:
    """The same training with several seeds, and the mean; `None` if there is one."""
    others = _read_other_seeds(model)
    if not others:
        return None
    for sheet in model["folder"].glob(f"seed_*/{_SHEET}"):
        drawn = drawn | _read_sheet(sheet)
    rows = [
        _list_training(one, drawn[one["model"]["name"]]) for one in (model, *others)
    ]
    names = [str(one["model"]["seed"]) for one in (model, *others)]
    means = [statistics.fmean(column) for column in zip(*rows, strict=True)]
    lowest, highest = (
        [choose(column) for column in zip(*rows, strict=True)] for choose in (min, max)
    )
    names += ["mean", "lowest", "highest"]
    return {
        "model": model,
        "together": _TOGETHER,
        "table": markdown.Table(
            ["seed", *_TRAINING],
            [
                [name, *map(markdown.format_percent, row)]
                for name, row in zip(
                    names, (*rows, means, lowest, highest), strict=True
                )
            ],
        ),
    }


def _read_other_seeds(model: Json) -> list[Json]:
    files = model["folder"].glob("seed_*/renderings.json")
    return sorted(map(_describe, files), key=lambda one: one["model"]["seed"])


_TRAINING = (
    "known accepted, untouched",
    "mild",
    "in the worst",
    "classified right, untouched",
    "AUROC, untouched",
    "all renderings",
    *(f"{source} that pass" for source in (*_TOGETHER, "glyphs")),
    "on the sheet: digits accepted",
    "letters that are no digit by shape rejected",
)


def _list_training(model: Json, drawn: Json) -> list[float]:
    """The numbers of one training.

    Args:
        model: What `_describe` returned.
        drawn: What it made of drawings with the pen of the scan.
    """
    summary = model["measured"]["summary"]
    untouched = model["measured"]["steps"][0]
    # As many images of each source: the AUROC of all is the mean.
    auroc = [
        statistics.fmean(summary["auroc"][source][kind] for source in _TOGETHER)
        for kind in ("untouched", "full_spectrum")
    ]
    passed = [
        1 - untouched["unknown"][source]["rejected"]
        for source in (*_TOGETHER, "glyphs")
    ]
    known = untouched["known"]
    accepted = summary["accepted"]
    return [
        known["accepted"],
        accepted["mean"],
        accepted["worst"],
        known["accuracy"],
        *auroc,
        *passed,
        drawn["digits"]["accepted"],
        1 - drawn["letters"]["accepted_other"],
    ]


def _mark(source: str, models: list[Json]) -> str:
    is_seen = any(source in model["seen"] for model in models)
    return f"{source}{markdown.SEEN}" if is_seen else source


def _compare_letters(models: list[Json]) -> Json | None:
    """Letters that look like digits apart from those that do not."""
    groups = _group_letters(models)
    if not groups:
        return None
    measured = [model["classes"][_LETTERS] for model in models]
    rows = []
    for name in sorted(measured[0]):
        values = [classes[name]["accepted"] for classes in measured]
        rows.append([name, *map(markdown.format_percent, values)])
    return {
        "table": markdown.Table(["letter", *(model["name"] for model in models)], rows),
        "groups": markdown.Table(
            [
                "letters",
                *(
                    f"{model['name']}: {what}"
                    for model in models
                    for what in ("accepted", "AUROC")
                ),
            ],
            [
                [title, *(markdown.format_percent(v) for pair in pairs for v in pair)]
                for title, pairs in groups
            ],
        ),
    }


def _group_letters(models: list[Json]) -> list[tuple[str, list[tuple[float, float]]]]:
    """Of all letters, those like a digit and the others: the shares of each model.

    Returns:
        `(title, [(accepted, auroc) of each model])` for the three groups; none where
        digits are not known or letters were not measured.
    """
    measured = [model["classes"].get(_LETTERS) for model in models]
    if models[0]["known"]["source"] != _DIGITS or not all(measured):
        return []
    return [
        (title, [_pool(classes, chosen) for classes in measured])
        for title, chosen in (
            ("all", lambda name: True),
            ("like a digit by shape", lambda name: name in LIKE_DIGITS),
            ("no digit by shape", lambda name: name not in LIKE_DIGITS),
        )
    ]


def _pool(classes: Json, chosen) -> tuple[float, float]:
    """Acceptance and AUROC of some classes taken together.

    Both are means over unknown images, so those of all are the weighted mean.
    """
    kept = [row for name, row in classes.items() if chosen(name)]
    total = sum(row["images"] for row in kept)
    accepted, auroc = (
        sum(row["images"] * row[what] for row in kept) / total
        for what in ("accepted", "auroc")
    )
    return accepted, auroc
