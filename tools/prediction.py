"""The job behind `ood-predict`, apart from the others: it can do without TensorFlow."""

import io
import itertools

import numpy as np

from ood_keras import export
from ood_keras.export import batch_scoring, inputs
from ood_keras.files import atomic_file

# The table's first column is as wide as the longest of so many names needs.
_NUM_MEASURED = 1000
_MAX_DRAWN = 14


def table(*, model, paths, picture=None, **options):
    """Yields a table to print, line by line: a row for every image, and a summary.

    Args:
        model: What `export.load` opens.
        paths: Files, folders and globs, see `export.score`.
        picture: Where to draw the first images with their answers, or `None`.
        options: Passed on to `export.score`.
    """
    predictor = export.load(model)
    counts, drawn = {}, {True: [], False: []}
    rows = export.score(predictor, paths, **options)
    rows = batch_scoring.counted(rows, counts)
    first = list(itertools.islice(rows, _NUM_MEASURED))
    width = max(5, *(len(_name(row)) for row in first))
    yield f"{'image':<{width}}  {'label':<12}  ood_score"
    for row in itertools.chain(first, rows):
        same = drawn[row["accepted"]]
        if picture is not None and row["valid"] and len(same) < _MAX_DRAWN:
            same.append(row)
        label = batch_scoring.printable(row["label"])
        yield f"{_name(row):<{width}}  {label:<12}  {_shown(row)}"
    yield batch_scoring.summary(counts)
    if picture is not None:
        _draw(picture, drawn, predictor, options)


def _name(row):
    number = "" if row["index"] is None else f"[{row['index']}]"
    return batch_scoring.printable(row["path"]) + number


def _shown(row):
    if row["error"] == batch_scoring.UNDECODABLE:
        return "no readable image"
    if row["error"] is not None:
        return batch_scoring.printable(row["error"])
    # The digits that read back as this very float32 number.
    return f"{np.float32(row['ood_score'])!s:>9}"


def _draw(path, drawn, predictor, options):
    """Draws some of the images, those accepted above those rejected."""
    from ood_keras.evaluation import figures

    parts = {}
    for accepted, title in ((True, "accepted"), (False, "rejected as unknown")):
        images, captions = [], []
        for row in drawn[accepted]:
            images.append(_image(row, predictor.image_shape, options))
            label = row["label"] if accepted else "unknown"
            score = "none" if row["ood_score"] is None else f"{row['ood_score']:.1f}"
            captions.append(f"{label}\nscore {score}")
        parts[title] = images, captions
    with atomic_file(path) as temporary:
        figures.pictures(parts).savefig(temporary, dpi=150)


def _image(row, image_shape, options):
    from PIL import Image

    # The threshold does not matter to what is read.
    options = {name: options[name] for name in options if name != "threshold"}
    content = inputs.read_again(row["path"], row["index"], image_shape, **options)
    if isinstance(content, np.ndarray):
        image = Image.fromarray(content.squeeze())
    else:
        image = Image.open(io.BytesIO(content))
    return np.asarray(image.convert("L").resize((56, 56)))[..., None] / 255
