"""CIFAR-10: 32x32 colour photographs of animals and vehicles."""

import itertools

import numpy as np

from ood_keras.pipelines.sources import base, pictures, tfds
from ood_keras.pipelines.sources.registry import register

_CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_TRAINING_IMAGES = "training_images"


@register(
    name="cifar10",
    licence="none stated by the publisher (Alex Krizhevsky), who asks to cite "
    '"Learning Multiple Layers of Features from Tiny Images", 2009',
    forms={
        _TRAINING_IMAGES: "its training images alone, dealt out 60 : 20 : 20, so that "
        "something can be chosen without a look at its test images"
    },
)
def open_zips(request: base.Request) -> base.Source:
    """Opens `cifar10`: `train*.zip` and `test.zip` of pictures `LABEL/NAME.png`."""
    alone = _TRAINING_IMAGES in request.forms
    patterns = {"all" if alone else "train": "train*.zip"}
    if not alone:
        patterns["test"] = "test.zip"
    folder = request.data_dir and request.data_dir / "cifar10"
    zips = {
        part: [pictures.Zip(path) for path in sorted(folder.glob(pattern))]
        for part, pattern in patterns.items()
        if folder
    }
    zips = {part: found for part, found in zips.items() if found}
    if not zips:
        looked_for = (
            [f"{' and '.join(patterns.values())} in {folder}"] if folder else []
        )
        if alone:
            # TensorFlow Datasets has them in another order.
            raise base.not_found(request, looked_for)
        return tfds.open_dataset(request, "cifar10", looked_for=looked_for)

    for part, found in zips.items():
        for zip in found:
            zip.check_part("train" if part == "all" else part)

    def reader(zips):
        def read():
            labels = [_label(zip, name) for zip in zips for name in zip.names]
            images = pictures.stack(
                itertools.chain.from_iterable(
                    zip.read(request.background) for zip in zips
                ),
                [name for zip in zips for name in zip.names],
                request.image_shape,
            )
            return images, np.array(labels, np.int32)

        return read

    readers = {part: reader(found) for part, found in zips.items()}
    return base.from_parts(request, _CLASS_NAMES, readers)


def _label(zip: pictures.Zip, name: str) -> int:
    label = name.split("/")[-2] if "/" in name else ""
    if not label.isdigit() or int(label) >= len(_CLASS_NAMES):
        raise ValueError(
            f"{zip.path}: pictures must lie in folders 0 to 9, their label. Received: "
            f"{name}"
        )
    return int(label)
