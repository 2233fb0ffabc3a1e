"""Pictures of what is strange about the images that a model rejects."""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ood_keras.files import atomic_directory
from ood_keras.inference import heat_map, inputs, pillow_decoder
from ood_keras.inference.nearest_known import NearestKnown
from ood_keras.types import Json, Path

# Each takes about two hundred runs of the model.
MOST_EXPLAINED = 100
# Pictures are enlarged to about as many pixels.
_SIDE = 224


def write(folder: Path, predictor: Any, rows: Sequence[Json], **options: Any) -> int:
    """Draws the heat maps of images into a new folder, one PNG file each.

    A file shows the image as the model saw it, beside it the same with what is strange
    in red, see `inference.heat_maps`, and, where known images travel with the model,
    the nearest of them.

    Args:
        folder: Where to; it is there in the end with all files, or not at all.
        predictor: What `export.load` returned.
        rows: What `export.score` yielded of the images, at most `MOST_EXPLAINED`.
        **options: As for `export.score`: `feature`, `raw_records`.

    Returns:
        How many could be drawn; the others are gone since they were scored.

    Raises:
        FileExistsError: the folder exists.
        ValueError: the model takes images that no picture shows.
    """
    check(folder, predictor)
    count, near = 0, _nearest_known(predictor)
    with atomic_directory(folder) as temporary:
        for row in rows:
            image = _pixels(row, predictor, options)
            if image is None:
                continue
            count += 1
            (heat,) = heat_map.heat_maps(
                lambda images: predictor.predict(images)["ood_score"], image[None]
            )
            sides = [image + np.zeros(3), heat_map.overlay(image, heat)]
            if near is not None:
                known = predictor.known_examples.images[near.find(image)[0]]
                sides.append(known / np.float32(255) + np.zeros(3))
            _save(temporary / f"{count:03d}_{_name(row)}.png", np.hstack(sides))
    return count


def check(folder: Path, predictor: Any) -> None:
    """Raises what `write` would raise before it begins."""
    if pathlib.Path(folder).exists():
        raise FileExistsError(
            f"{folder} exists and is never overwritten; name a new folder"
        )
    if predictor.image_shape[-1] not in (1, 3):
        raise ValueError(
            "pictures have 1 or 3 channels. This model takes images of "
            f"{predictor.image_shape[-1]}, whose heat maps inference.heat_maps gives"
        )


def _nearest_known(predictor: Any) -> NearestKnown | None:
    """Of a SavedModel that has known examples; other files give no features."""
    examples = getattr(predictor, "known_examples", None)
    if examples is None or not len(examples.images):
        return None
    return NearestKnown(
        lambda images: predictor.features(images)["features"], examples.images
    )


def _pixels(row, predictor, options):
    """The image of a row as the model sees it, float32, or `None` if it is gone."""
    shape = predictor.image_shape
    upright = getattr(predictor, "exif_orientation", True)
    try:
        content = inputs.read_again(
            row["path"], row["index"], shape, exif_orientation=upright, **options
        )
    except OSError:
        return None
    if isinstance(content, bytes):
        background = getattr(predictor, "background", None)
        content = pillow_decoder.decode(content, shape, background, upright)
    if content is None:
        return None
    return content.reshape(shape) / np.float32(255)


def _name(row: Json) -> str:
    """A name for files, of that of the image."""
    number = "" if row["index"] is None else f"_{row['index']}"
    stem = re.sub(r"[^A-Za-z0-9.-]+", "_", pathlib.PurePath(row["path"]).stem)
    return f"{stem[:60]}{number}"


def _save(path, image):
    from PIL import Image

    factor = max(1, round(_SIDE / image.shape[0]))
    pixels = np.rint(255 * image).astype(np.uint8)
    Image.fromarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1)).save(path)
