"""Public data sets of photographs that lie in a zip file, one folder for each class."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from ood_keras.pipelines import copies, grouping, likeness
from ood_keras.pipelines.sources import base, pictures, tfds
from ood_keras.pipelines.sources.registry import register
from ood_keras.types import PixelArray

_APART = "without_cifar10"
# `likeness.hash_pixels` of the two test images of CIFAR-100 that are images of CIFAR-10
# too: a bus that is one of its automobiles, and cattle that is one of its dogs.
_IN_CIFAR10 = (
    bytes.fromhex("2894647fe59d8e4540fb112693eb53c5"),
    bytes.fromhex("3d2317fcd4bfdf4cf1f0540b582176cd"),
)


@dataclasses.dataclass(frozen=True)
class _Pictures:
    """What is read of zip files, picture by picture.

    Attributes:
        images: The pictures, in the shape that is asked for.
        labels: Their classes.
        names: Their names within the zip files.
        hashes: `likeness.hash_pixels` of each as it lies there.
        looks: What `grouping.Looks.arrays` returns of them as they lie there.
    """

    images: PixelArray
    labels: np.ndarray
    names: list[str]
    hashes: list[bytes]
    looks: dict[str, np.ndarray]

    def choose(self, rows: np.ndarray) -> "_Pictures":
        return _Pictures(
            self.images[rows],
            self.labels[rows],
            [self.names[row] for row in rows],
            [self.hashes[row] for row in rows],
            {name: values[rows] for name, values in self.looks.items()},
        )


@register(
    name="cifar100",
    licence="none stated by the publisher (Alex Krizhevsky), who asks to cite "
    '"Learning Multiple Layers of Features from Tiny Images", 2009',
    forms={_APART: "without the two test images that are in CIFAR-10 too"},
)
def open_cifar100(request: base.Request) -> base.Source:
    """Opens `cifar100`: `train*.zip` and `test*.zip` of pictures `CLASS/NAME.png`."""
    folder, zips = _find(request, {"train": "train*.zip", "test": "test*.zip"})
    if not zips:
        looked_for = [f"train*.zip and test*.zip in {folder}"] if folder else []
        if _APART in request.forms:
            # Which images of another order are meant cannot be told from here.
            raise base.not_found(request, looked_for)
        return tfds.open_dataset(request, "cifar100", looked_for=looked_for)
    # Folders called like a split tell nothing here: "train" is one of the classes.
    class_names = _class_names(zips)

    def reader(part):
        def read():
            found = _read(zips[part], class_names, request)
            if _APART in request.forms:
                rows = [hash not in _IN_CIFAR10 for hash in found.hashes]
                found = found.choose(np.flatnonzero(rows))
            return found.images, found.labels, found.names

        return read

    return base.from_parts(request, class_names, {part: reader(part) for part in zips})


@register(
    name="flowers",
    licence='unknown: the pictures of the Kaggle set "Flowers Recognition" '
    "(alxmamaev/flowers-recognition), collected from the web; the licences of the "
    "single photographs are not recorded",
)
def open_flowers(request: base.Request) -> base.Source:
    """Opens `flowers`: `images.zip` of pictures `CLASS/NAME.jpg`, dealt out 60:20:20.

    A picture that lies in two classes is left out, and copies stay in one split.
    """
    folder, zips = _find(request, {"all": "images.zip"})
    if not zips:
        raise base.not_found(request, [f"images.zip in {folder}"] if folder else [])
    class_names = _class_names(zips)

    def read():
        found = _read(zips["all"], class_names, request, find_looks=True)
        alike = copies.equal_groups(found.hashes)
        under_two = [
            row for rows in alike if len(set(found.labels[rows])) > 1 for row in rows
        ]
        rows = np.setdiff1d(np.arange(len(found.labels)), under_two)
        found = found.choose(rows)
        groups = grouping.number(grouping.find_copies(found.looks), len(rows))
        return found.images, found.labels, found.names, groups

    return base.from_parts(request, class_names, {"all": read})


def _find(
    request: base.Request, patterns: Mapping[str, str]
) -> tuple[pathlib.Path | None, dict[str, list[pictures.Zip]]]:
    """Returns the folder of a data set and the zip files of each of its parts."""
    if request.data_dir is None:
        return None, {}
    folder = request.data_dir / request.spec
    zips = {
        part: [pictures.Zip(path) for path in sorted(folder.glob(pattern))]
        for part, pattern in patterns.items()
    }
    return folder, {part: found for part, found in zips.items() if found}


def _class_names(zips: Mapping[str, list[pictures.Zip]]) -> list[str]:
    return sorted(
        {
            _class_of(zip, name)
            for found in zips.values()
            for zip in found
            for name in zip.names
        }
    )


def _class_of(zip: pictures.Zip, name: str) -> str:
    folder = pathlib.PurePosixPath(name).parent.name
    if not folder:
        raise ValueError(
            f"{zip.path}: pictures must lie in folders, one for each class. Received: "
            f"{name}"
        )
    return folder


def _read(
    zips: list[pictures.Zip],
    class_names: list[str],
    request: base.Request,
    *,
    find_looks: bool = False,
) -> _Pictures:
    indices = {name: index for index, name in enumerate(class_names)}
    names = [name for zip in zips for name in zip.names]
    labels = [indices[_class_of(zip, name)] for zip in zips for name in zip.names]
    hashes: list[bytes] = []
    looks = grouping.Looks(len(names)) if find_looks else None

    def read_each():
        for zip in zips:
            for picture in zip.read(request.background):
                # Copies are told by the pixels as they lie there.
                hashes.append(likeness.hash_pixels(picture))
                if looks is not None:
                    looks.add(looks.measure(picture))
                yield picture

    images = pictures.stack(read_each(), names, request.image_shape)
    return _Pictures(
        images,
        np.array(labels, np.int32),
        names,
        hashes,
        {} if looks is None else looks.arrays(),
    )
