"""Some images of a run as PNG files, for predictions and exports."""

import hashlib
import pathlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ood_keras.files import atomic_file
from ood_keras.types import ImageShape, Path

if TYPE_CHECKING:
    from ood_keras.pipelines import Split

_NUM_SAMPLES = 64
# Grey, grey and RGB with transparency, RGB: no PNG has other channels.
_CHANNELS_OF_PNG = (1, 2, 3, 4)
# A file name may have 255, its temporary neighbour has more.
_MAX_STEM_BYTES = 180


def write_samples(folder: Path, splits: Iterable["Split"]) -> list[pathlib.Path]:
    """Writes the first images of each split as PNG files, for `predict` and `export`.

    Args:
        folder: Where to; files are named after their source and class.
        splits: `pipelines.Split`s.

    Returns:
        The files' paths; none for images of more channels than a PNG file can have.
    """
    from PIL import Image

    paths = []
    for split in splits:
        if split.image_shape[2] not in _CHANNELS_OF_PNG:
            continue
        for row in range(min(_NUM_SAMPLES, len(split))):
            label = split.labels[row]
            name = split.class_names[label] if label >= 0 else "unknown"
            stem = _stem(f"{split.source}_{row:02d}_{name}")
            if len(stem.encode()) > _MAX_STEM_BYTES:
                digest = hashlib.sha256(stem.encode()).hexdigest()
                stem = f"{digest[:12]}_{stem[-40:]}"
            path = pathlib.Path(folder) / f"{stem}.png"
            with atomic_file(path) as temporary:
                image = split.images[row]
                grey = image.shape[2] == 1
                Image.fromarray(image[..., 0] if grey else image).save(temporary)
            paths.append(path)
    return paths


def _stem(text: str) -> str:
    return re.sub(r"[^\w-]+", "_", text)


def read_samples(
    folder: pathlib.Path, image_shape: ImageShape, source: str | None = None
) -> np.ndarray | None:
    """Returns what `write_samples` wrote as float images in [0, 1].

    `source` takes those of one source only, as far as their names still tell it.
    """
    from PIL import Image

    # A killed process leaves its unfinished file under a hidden name.
    paths = sorted(path for path in folder.glob("*.png") if path.name[0] != ".")
    if source is not None:
        start = re.compile(re.escape(_stem(source)) + r"_\d\d_")
        paths = [path for path in paths if start.match(path.name)]
    if not paths:
        return None
    images = [np.asarray(Image.open(path)) for path in paths]
    return np.stack(images).reshape(-1, *image_shape).astype(np.float32) / 255
