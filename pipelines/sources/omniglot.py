"""Omniglot: handwritten characters of 50 alphabets, 20 drawings of each."""

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np

from ood_keras.pipelines.sources import base, pictures, tfds
from ood_keras.pipelines.sources.registry import register

_ZIPS = {"train": "images_background.zip", "test": "images_evaluation.zip"}


_AS_DISTRIBUTED = "as_distributed"
_FILTERS = ("area", "nearest")


@register(
    name="omniglot",
    licence="MIT, copyright 2015 Brenden Lake",
    forms={
        _AS_DISTRIBUTED: "black on white, as the publisher's files are",
        "area": "reduced by averaging the covered area, not bilinear",
        "nearest": "reduced by taking the nearest pixel, not bilinear",
    },
)
def open_zips(request: base.Request) -> base.Source:
    """Opens `omniglot`: the evaluation set is test, the background set is training.

    The drawings are black on white and 105x105; here they are inverted, bright on dark
    like the other sets, and reduced to 28x28 (or to `image_shape`) by Pillow's bilinear
    filter, as is usual for this set; `docs/decisions/omniglot.md` says what the filter
    is worth. Its forms are the drawings as they are, and other filters.

    Raises:
        ValueError: two filters are named.
    """
    inverted = _AS_DISTRIBUTED not in request.forms
    resampling = _choose_filter(request.forms)
    request = dataclasses.replace(
        request, image_shape=request.image_shape or (28, 28, 1)
    )
    open_tfds = functools.partial(
        tfds.open_dataset,
        request,
        "omniglot",
        inverted=inverted,
        resampling=resampling,
    )
    if request.data_dir is None:
        return open_tfds()
    paths = {part: request.data_dir / "omniglot" / name for part, name in _ZIPS.items()}
    zips = {part: pictures.Zip(path) for part, path in paths.items() if path.is_file()}
    if not zips:
        return open_tfds(looked_for=[str(path) for path in paths.values()])
    class_names = sorted(
        {_character(name) for zip in zips.values() for name in zip.names}
    )
    indices = {name: index for index, name in enumerate(class_names)}

    def reader(zip):
        def read():
            reduced = (
                pictures.reduce(
                    255 - picture if inverted else picture,
                    request.image_shape,
                    resampling,
                )
                for picture in zip.read(request.background)
            )
            images = pictures.stack(reduced, zip.names, request.image_shape)
            labels = [indices[_character(name)] for name in zip.names]
            return images, np.array(labels, np.int32)

        return read

    readers = {part: reader(zip) for part, zip in zips.items()}
    return base.from_parts(request, class_names, readers)


def _choose_filter(forms: Iterable[str]) -> str:
    named = [form for form in forms if form in _FILTERS]
    if len(named) > 1:
        raise ValueError(
            f"omniglot is reduced by one filter; name {' or '.join(_FILTERS)}, or none "
            f"for bilinear. Received: {' and '.join(named)}"
        )
    return named[0] if named else "bilinear"


def _character(name: str) -> str:
    """`"Angelic/character01"`; the publisher's zips have a folder more in front."""
    return "/".join(name.split("/")[-3:-1])
