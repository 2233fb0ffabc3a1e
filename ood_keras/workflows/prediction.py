"""Classifies images with an exported model; it can do without TensorFlow."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ood_keras import export, image_files
from ood_keras.files import atomic_file
from ood_keras.inference import batch_scoring, ground, inputs, shards
from ood_keras.names import printable, shorten
from ood_keras.types import Json, Path
from ood_keras.workflows import explanation

# The table's first column is as wide as the longest of so many names needs.
_NUM_MEASURED = 1000
_MAX_DRAWN = 14


def predict(*, model: Path, paths: Iterable[Path], picture: Path | None = None) -> str:
    """Classifies images with an exported model.

    Args:
        model: The version folder of an exported model, or another that `export.load`
            opens.
        paths: Images in files, folders or globs, see `export.score`.
        picture: Where to draw the first images with their answers, or `None`.

    Returns:
        The predictions as a table to print: one line per image, and a summary.
    """
    return "\n".join(table(model=model, paths=paths, picture=picture))


def table(
    *,
    model: Path,
    paths: Iterable[Path],
    picture: Path | None = None,
    explain: Path | None = None,
    **options: Any,
) -> Iterator[str]:
    """Yields a table to print, line by line: a row for every image, and a summary.

    Args:
        model: What `export.load` opens.
        paths: Files, folders and globs, see `export.score`.
        picture: Where to draw the first images with their answers, or `None`.
        explain: A new folder for pictures of what is strange about the first rejected
            images, `explanation.MOST_EXPLAINED` at most, or `None`.
        options: Passed on to `export.score`.
    """
    predictor = export.load(model)
    if explain is not None:
        explanation.check(explain, predictor)
    counts: Json = {}
    left_out: dict[str, int] = {}
    drawn: dict[bool, list[Json]] = {True: [], False: []}
    rejected: list[Json] = []
    num_rejected = 0
    rows = export.score(predictor, paths, left_out=left_out, **options)
    rows = batch_scoring.count_rows(rows, counts)
    first = list(itertools.islice(rows, _NUM_MEASURED))
    width = max(5, *(len(_name(row)) for row in first))
    yield f"{'image':<{width}}  {'label':<12}  ood_score"
    for row in itertools.chain(first, rows):
        if row["valid"] and not row["accepted"]:
            num_rejected += 1
            if explain is not None and len(rejected) < explanation.MOST_EXPLAINED:
                rejected.append(row)
        same = drawn[row["accepted"]]
        if picture is not None and row["valid"] and len(same) < _MAX_DRAWN:
            same.append(row)
        label = printable(row["label"])
        yield f"{_name(row):<{width}}  {label:<12}  {_show(row)}"
    yield from batch_scoring.summary(counts | {"left_out": left_out}).splitlines()
    hint = _describe_negative(predictor, first, options)
    if hint is not None:
        yield hint
    if picture is not None:
        _draw(picture, drawn, predictor, options)
    if explain is not None:
        count = explanation.write(explain, predictor, rejected, **_to_read(options))
        yield (
            f"Explained: {count} of {num_rejected} rejected images (at most "
            f"{explanation.MOST_EXPLAINED}), in {printable(str(explain))}"
        )


def predict_to_file(
    *,
    model: Path,
    paths: Iterable[Path],
    output: Path,
    num_shards: int | None = None,
    num_workers: int | None = None,
    engine: str = "local",
    share: str | None = None,
    **options: Any,
) -> str:
    """Writes a row for every image to a file, or to a folder of parts.

    Args:
        model: What `export.load` opens.
        paths: Files, folders and globs, see `export.score`.
        output: The file, see `export.score_to_file`; with `num_shards` the folder.
        num_shards: Into how many shards to cut the images, or `None` for one file.
        num_workers, engine, share: As for `inference.shards.score_shards`.
        options: Passed on to `export.score_to_file` or `score_shards`.

    Returns:
        What was counted, and where it is, lines to print.
    """
    if num_shards is None:
        predictor = export.load(model)
        counts = export.score_to_file(predictor, paths, output, **options)
        written = str(output)
    else:
        counts = shards.score_shards(
            model,
            paths,
            output,
            num_shards=num_shards,
            num_workers=num_workers,
            engine=engine,
            share=share,
            **options,
        )
        if counts.get("missing"):
            return (
                f"{batch_scoring.summary(counts)}\nDone: share {share}. "
                f"{counts['missing']} parts of other shares are missing yet; the share "
                f"that ends last writes {printable(str(output))}/{shards.MANIFEST}"
            )
        written = f"{output}/{shards.MANIFEST}"
    return f"{batch_scoring.summary(counts)}\nDone: {printable(written)}"


def _describe_negative(predictor, rows, options):
    """Says so if some rejected pictures look like negatives of the known images."""
    examples = getattr(predictor, "known_examples", None)
    rejected = [row for row in rows if row["valid"] and not row["accepted"]]
    if examples is None or not rejected:
        return None
    try:
        small = [_image(row, predictor, options) for row in rejected[:_MAX_DRAWN]]
    except (OSError, ValueError):
        # It is gone, or changed, since it was scored; the answers stand all the same.
        return None
    return ground.describe_negative(examples.images, np.stack(small))


def _name(row: Json) -> str:
    number = "" if row["index"] is None else f"[{row['index']}]"
    return printable(row["path"]) + number


def _show(row: Json) -> str:
    if row["error"] == batch_scoring.UNDECODABLE:
        return "no readable image"
    if row["error"] is not None:
        return printable(row["error"])
    # The digits that read back as this very float32 number.
    return f"{np.float32(row['ood_score'])!s:>9}"


def _draw(path, drawn, predictor, options):
    """Draws some of the images, those accepted above those rejected."""
    from ood_keras.evaluation import figures

    parts = {}
    for accepted, title in ((True, "accepted"), (False, "rejected as unknown")):
        images, captions = [], []
        for row in drawn[accepted]:
            images.append(_image(row, predictor, options))
            label = row["label"] if accepted else "unknown"
            score = "none" if row["ood_score"] is None else f"{row['ood_score']:.1f}"
            (label,) = shorten([label], 18)
            captions.append(f"{label}\nscore {score}")
        parts[title] = images, captions
    with atomic_file(path) as temporary:
        figures.pictures(parts).savefig(temporary, dpi=150)


def _image(row: Json, predictor: Any, options: Json) -> np.ndarray:
    picture = _read(row, predictor, options)
    return np.asarray(picture.convert("L").resize((56, 56)))[..., None] / 255


def _read(row, predictor, options):
    """The Pillow image that a row is of, read again by the rules it was scored by."""
    from PIL import Image

    upright = getattr(predictor, "exif_orientation", True)
    content: Any = inputs.read_again(
        row["path"],
        row["index"],
        predictor.image_shape,
        exif_orientation=upright,
        **_to_read(options),
    )
    if isinstance(content, bytes):
        background = getattr(predictor, "background", image_files.BACKGROUND)
        content = image_files.read(content, background, upright)
    return Image.fromarray(content.squeeze())


def _to_read(options: Json) -> Json:
    """Those of the options that matter to what is read; the threshold does not."""
    return {name: options[name] for name in options if name != "threshold"}
