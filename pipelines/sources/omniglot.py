"""Omniglot: handwritten characters of 50 alphabets, 20 drawings of each."""

import dataclasses

import numpy as np

from ood_keras.pipelines.sources import base, pictures, tfds
from ood_keras.pipelines.sources.registry import register

_ZIPS = {"train": "images_background.zip", "test": "images_evaluation.zip"}


@register(name="omniglot", licence="MIT, copyright 2015 Brenden Lake")
def open_zips(request: base.Request) -> base.Source:
    """Opens `omniglot`: the evaluation set is test, the background set is training.

    The drawings are black on white and 105x105; here they are inverted, bright on dark
    like the other sets, and reduced to 28x28 (or to `image_shape`) by Pillow's bilinear
    filter, as is usual for this set; `docs/decisions/omniglot.md` says what the filter
    is worth.
    """
    request = dataclasses.replace(
        request, image_shape=request.image_shape or (28, 28, 1)
    )
    if request.data_dir is None:
        return tfds.open_dataset(request, "omniglot")
    paths = {part: request.data_dir / "omniglot" / name for part, name in _ZIPS.items()}
    zips = {part: pictures.Zip(path) for part, path in paths.items() if path.is_file()}
    if not zips:
        looked_for = [str(path) for path in paths.values()]
        return tfds.open_dataset(request, "omniglot", looked_for=looked_for)
    class_names = sorted(
        {_character(name) for zip in zips.values() for name in zip.names}
    )
    indices = {name: index for index, name in enumerate(class_names)}

    def reader(zip):
        def read():
            reduced = (
                pictures.reduced(255 - picture, request.image_shape)
                for picture in zip.read(request.background)
            )
            images = pictures.stack(reduced, zip.names, request.image_shape)
            labels = [indices[_character(name)] for name in zip.names]
            return images, np.array(labels, np.int32)

        return read

    readers = {part: reader(zip) for part, zip in zips.items()}
    return base.from_parts(request, class_names, readers)


def _character(name: str) -> str:
    """`"Angelic/character01"`; the publisher's zips have a folder more in front."""
    return "/".join(name.split("/")[-3:-1])
