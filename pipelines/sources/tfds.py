"""TensorFlow Datasets, without ever waiting minutes for a network that is not there."""

import dataclasses
import importlib.metadata
import pathlib
import string
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ood_keras import resizing
from ood_keras.conventions import UNKNOWN
from ood_keras.pipelines import pixel_cache
from ood_keras.pipelines.sources import base, pictures
from ood_keras.pipelines.sources.registry import register
from ood_keras.pipelines.split import ROLES

_TIMEOUT_SECONDS = 4
_BATCH_SIZE = 512


@dataclasses.dataclass(frozen=True)
class _Quirk:
    """How a TFDS data set differs from ours, and what its classes are."""

    namespace: str | None = None
    class_names: tuple[str, ...] | None = None
    class_prefix: str = ""
    first_label: int = 0
    transposed: bool = False
    inverted: bool = False
    resampling: str | None = None


_EMNIST_MERGED = _Quirk(
    namespace="digit",
    # Of the small letters, those that do not look like their capital.
    class_names=tuple(string.digits + string.ascii_uppercase + "abdefghnqrt"),
    transposed=True,
)
# What `keras.datasets` can fetch, without TFDS, in a form that is read.
_KERAS = ("mnist", "fashion_mnist")
# By name and config, without a version. A namespace is of classes called by digits
# alone; those called by letters count by their names, beside digits too.
_QUIRKS = {
    "mnist": _Quirk(namespace="digit"),
    "svhn_cropped": _Quirk(namespace="digit"),
    "emnist/digits": _Quirk(namespace="digit", transposed=True),
    "emnist/mnist": _Quirk(namespace="digit", transposed=True),
    "emnist/byclass": _Quirk(
        namespace="digit",
        class_names=tuple(
            string.digits + string.ascii_uppercase + string.ascii_lowercase
        ),
        transposed=True,
    ),
    "emnist/bymerge": _EMNIST_MERGED,
    "emnist/balanced": _EMNIST_MERGED,
    "emnist/letters": _Quirk(
        class_names=tuple(string.ascii_uppercase), first_label=1, transposed=True
    ),
    "kmnist": _Quirk(class_prefix="hiragana "),
    "omniglot": _Quirk(inverted=True, resampling="bilinear"),
}


def emnist_sets() -> dict[str, tuple[tuple[str, ...] | None, int, str | None]]:
    """Returns `{name: (class_names or None, first_label, namespace)}` of EMNIST."""
    return {
        name: (quirk.class_names, quirk.first_label, quirk.namespace)
        for name, quirk in _QUIRKS.items()
        if name.startswith("emnist/")
    }


@register(name="tfds", argument="NAME")
def open_name(request: base.Request) -> base.Source:
    """Opens `tfds:NAME`."""
    return open_dataset(request, request.argument)


def open_dataset(
    request: base.Request,
    name: str,
    looked_for: Iterable[str] = (),
    *,
    open_kept: Callable[[], base.Source | None] = lambda: None,
    **otherwise: Any,
) -> base.Source:
    """Opens a data set of TensorFlow Datasets for a request.

    It is read if it is prepared, in --data_dir or in TFDS's own folder. Else it is
    prepared from files in `DATA_DIR/downloads/manual`, or downloaded if its servers
    answer within seconds (TFDS alone would retry for minutes).

    Args:
        request: The `Request`.
        name: The TFDS name.
        looked_for: Where other files of the data were not found, for the message.
        open_kept: Opens another copy of the data, or returns `None`; called if TFDS has
            not prepared them. It may add to `looked_for`.
        **otherwise: Fields of `_Quirk` that are not as usual for this name.

    Raises:
        DataNotFoundError: TFDS is not installed, or the data set is neither on disk nor
            downloadable.
        ValueError: TFDS does not know the name, or what it has are no images.
    """
    looked_for = looked_for if isinstance(looked_for, list) else list(looked_for)
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        if kept := open_kept():
            return kept
        looked_for.append(
            "TensorFlow Datasets, which is not installed: "
            f"pip install tensorflow-datasets importlib_resources ({error})"
        )
        step = "install TensorFlow Datasets and run once with a network"
        raise base.not_found(request, looked_for, _otherwise(request, step)) from error
    folders = [request.data_dir] if request.data_dir is not None else []
    folders.append(pathlib.Path(tfds.core.constants.DATA_DIR).expanduser())
    builder = _find_prepared(request, tfds, name, folders, looked_for)
    if builder is None:
        if kept := open_kept():
            return kept
        builder = _prepare(request, tfds, name, folders[0], looked_for)
    info = builder.info
    image_key, label_key = info.supervised_keys or ("image", "label")
    features = dict(info.features)
    if not isinstance(features.get(image_key), tfds.features.Image):
        raise ValueError(
            f"{request.spec}: expected images. Received: a data set of "
            f"{', '.join(features)}"
        )
    # NAME/CONFIG/VERSION, whatever of it the request left to TFDS.
    quirk = _QUIRKS.get(info.full_name.rpartition("/")[0], _Quirk())
    quirk = dataclasses.replace(quirk, **otherwise)
    class_names = quirk.class_names or tuple(
        f"{quirk.class_prefix}{label}"
        for label in getattr(features.get(label_key), "names", None) or ()
    )
    keys = (image_key, label_key if class_names else None)

    def reader(part):
        return lambda: _read(builder, part, keys, quirk, request)

    parts = [role for role in ROLES if role in info.splits]
    if parts == ["train"]:
        readers = {"all": reader("train")}
    elif parts:
        readers = {part: reader(part) for part in parts}
    else:
        raise ValueError(
            f"{request.spec}: expected a train or a test split. Received: "
            f"{', '.join(info.splits)}"
        )
    return base.from_parts(request, class_names, readers, namespace=quirk.namespace)


def _find_prepared(request, tfds, name, folders, looked_for):
    """Returns a builder whose data is on disk, or `None`."""
    for folder in folders:
        try:
            builder = tfds.builder(name, data_dir=str(folder))
        except tfds.core.registered.DatasetNotFoundError as error:
            raise ValueError(
                f"{request.spec}: TensorFlow Datasets knows no {name!r}; see "
                "`tensorflow_datasets.list_builders()`"
            ) from error
        if builder.is_prepared():
            return builder
        looked_for.append(f"TensorFlow Datasets, prepared in {builder.data_dir}")
    return None


def _prepare(request, tfds, name, folder, looked_for):
    """Returns a builder after preparing its data in a folder."""
    builder = tfds.builder(name, data_dir=str(folder))
    urls = {
        url: getattr(info, "filename", info) for url, info in builder.url_infos.items()
    }
    manual = folder / "downloads" / "manual"
    missing = [file for file in urls.values() if not (manual / file).is_file()]
    config = tfds.download.DownloadConfig()
    if urls and not missing:
        config.manual_dir = manual
    else:
        one_per_server = {urllib.parse.urlsplit(url).netloc: url for url in urls}
        for url in one_per_server.values():
            problem = _problem_with(url)
            if problem:
                looked_for.append(f"its files in {manual}: {', '.join(missing)}")
                looked_for.append(f"a download from {url}: {problem}")
                raise base.not_found(request, looked_for, _otherwise(request))
    try:
        builder.download_and_prepare(download_config=config)
    # TFDS raises many types for a broken download; each means that there is no data.
    except Exception as error:
        looked_for.append(
            f"what TensorFlow Datasets could prepare in {builder.data_dir}, but it "
            f"failed ({type(error).__name__}: {error})"
        )
        raise base.not_found(request, looked_for, _otherwise(request)) from error
    return builder


def _otherwise(request, step="run once with a network"):
    """What else than a folder of one's own gives the data, for the message."""
    fetch = f" (keras.datasets.{request.spec}.load_data() fetches it too)"
    return f", or {step}{fetch if request.spec in _KERAS else ''}"


def _problem_with(url: str) -> str | None:
    """Returns why a server does not hand out `url`, or `None`, within seconds."""
    problem = [f"no answer within {_TIMEOUT_SECONDS} seconds"]

    def ask():
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS):
                problem[0] = None
        except (OSError, ValueError) as error:
            problem[0] = str(error)

    # Looking up a host name heeds no timeout, so the wait is limited from outside.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_TIMEOUT_SECONDS + 1)
    return problem[0]


def _read(builder, part, keys, quirk, request):
    import tensorflow_datasets as tfds

    image_key, label_key = keys
    dataset = builder.as_dataset(split=part)
    one_size = None not in builder.info.features[image_key].shape
    if one_size:
        dataset = dataset.batch(_BATCH_SIZE)

    def prepare(row):
        batch = row[image_key] if one_size else row[image_key][None]
        if batch.dtype != np.uint8:
            raise ValueError(
                f"{request.spec}: images must be uint8. Received: {batch.dtype}"
            )
        if quirk.transposed:
            batch = batch.transpose(0, 2, 1, 3)
        if quirk.inverted:
            batch = 255 - batch
        if quirk.resampling and request.image_shape is not None:
            reduced = (
                pictures.reduce(picture, request.image_shape, quirk.resampling)
                for picture in batch
            )
            batch = np.stack(list(reduced))
        if request.image_shape is not None:
            batch = resizing.adapt(batch, request.image_shape)
        return batch

    labels = []

    def read_batches():
        for row in tfds.as_numpy(dataset):
            batch = prepare(row)
            if batch.shape[1:] != shape:
                raise ValueError(
                    f"{request.spec}: images have different sizes, for example "
                    f"{shape} and {batch.shape[1:]}. Give image_shape=(height, width, "
                    "channels), --image_shape=H,W,C of ood-train, to convert them all"
                )
            if label_key is None:
                labels.append(np.full(len(batch), UNKNOWN))
            else:
                labels.append(np.atleast_1d(row[label_key]) - quirk.first_label)
            yield batch

    first = next(iter(tfds.as_numpy(dataset.take(1))), None)
    if first is None:
        raise ValueError(f"{request.spec}: the {part} split is empty")
    shape = prepare(first).shape[1:]
    images, notes = pixel_cache.read(
        _key(builder, part, quirk, request),
        (builder.info.splits[part].num_examples, *shape),
        read_batches,
        lambda: {"labels": np.concatenate(labels)},
        ("labels",),
    )
    return images, notes["labels"]


def _key(builder, part, quirk, request):
    """What the pixel cache knows a part by: the files of the data set as they are."""
    folder = pathlib.Path(builder.data_dir)

    def describe():
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            about = path.stat()
            yield path.name, about.st_size, about.st_mtime_ns

    making = {
        "tfds": builder.info.full_name,
        "folder": str(folder),
        "part": part,
        "image_shape": request.image_shape,
        "quirk": dataclasses.asdict(quirk),
        "tensorflow": importlib.metadata.version("tensorflow"),
    }
    return pixel_cache.Key(request.spec, making, describe())
