"""Pictures of what is strange about the images that a model rejects."""

import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ood_keras import file_content, image_files, resizing
from ood_keras.files import atomic_directory
from ood_keras.inference import heat_map, inputs
from ood_keras.inference.nearest_known import NearestKnown
from ood_keras.types import Json, Path

# Each takes about two hundred runs of the model.
MOST_EXPLAINED = 100
# Pictures are enlarged to about as many pixels.
_SIDE = 224


def write(
    folder: Path, predictor: Any, rows: Sequence[Json], **options: Any
) -> tuple[int, int]:
    """Draws the heat maps of images into a new folder, one PNG file each.

    A file shows the image as the model saw it, beside it the same with what is strange
    in red, see `inference.heat_maps`, and, where known images travel with the model,
    the nearest of them. Where a score is missing, of the image or with a part of it
    covered, nothing can be said of its parts, and the file shows it alone.

    Args:
        folder: Where to; it is there in the end with all files, or not at all.
        predictor: What `export.load` returned.
        rows: What `export.score` yielded of the images, at most `MOST_EXPLAINED`.
        **options: As for `export.score`: `feature`, `raw_records`.

    Returns:
        `(drawn, without_heat)`: how many could be drawn, as the others are gone or
        changed since they were scored; and how many of these are alone.

    Raises:
        FileExistsError: the folder exists.
        ValueError: the model takes images that no picture shows.
    """
    check(folder, predictor)
    count, alone, near = 0, 0, _nearest_known(predictor)
    with atomic_directory(folder) as temporary:
        for row in rows:
            image = _pixels(row, predictor, options)
            if image is None:
                continue
            count += 1
            sides = [image + np.zeros(3)]
            heat = find_heat(
                lambda images: predictor.predict(images)["ood_score"], image
            )
            if heat is None:
                alone += 1
            else:
                sides.append(heat_map.overlay(image, heat))
                if near is not None:
                    known = predictor.known_examples.images[near.find(image)[0]]
                    sides.append(known / np.float32(255) + np.zeros(3))
            _save(temporary / f"{count:03d}_{_name(row)}.png", np.hstack(sides))
    return count, alone


def find_heat(
    score: Callable[[np.ndarray], np.ndarray], image: np.ndarray, **options: Any
) -> np.ndarray | None:
    """The heat map of an image in [0, 1], or `None` where a score of it is missing.

    Args:
        score: As for `inference.heat_maps`.
        image: `(height, width, channels)`.
        **options: Other arguments of `inference.heat_maps`.
    """
    try:
        return heat_map.heat_maps(score, image[None], **options)[0]
    except heat_map.NoHeatError:
        return None


def read_pixels(row: Json, predictor: Any, options: Json) -> np.ndarray | None:
    """The pixels of an image that was scored, read again by the rules of the model.

    Args:
        row: What `export.score` yielded of it.
        predictor: What `export.load` returned.
        options: As for `export.score`: `feature`, `raw_records`.

    Returns:
        uint8 `(height, width, channels)` as the file has them; `None` if it is gone, or
        changed, since it was scored.
    """
    shape = predictor.image_shape
    background = getattr(predictor, "background", image_files.BACKGROUND)
    upright = getattr(predictor, "exif_orientation", True)
    try:
        content = inputs.read_again(
            row["path"], row["index"], shape, exif_orientation=upright, **options
        )
        if isinstance(content, bytes):
            return image_files.read(content, background, upright)
    except file_content.UNREADABLE:
        return None
    return None if content is None else content.reshape(shape)


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
    pixels = read_pixels(row, predictor, options)
    if pixels is None:
        return None
    pixels = resizing.adapt(pixels[np.newaxis], predictor.image_shape)[0]
    return pixels / np.float32(255)


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
