"""Fits a detector on pictures in shards, each walked over once, wherever it is."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from ood_keras import detectors as detector_room
from ood_keras import engines, files, image_files, resizing
from ood_keras import plugins as plugin_room
from ood_keras.detectors import collected_files, network
from ood_keras.inference import inputs, shards
from ood_keras.pipelines import DataWarning
from ood_keras.pipelines.sources import pictures
from ood_keras.types import Json, Path
from ood_keras.workflows import run_record
from ood_keras.workflows.run_data import read_settings

_BATCH_SIZE = 256


@dataclasses.dataclass(frozen=True)
class Shard:
    """A piece of a fit, plain data that can be sent to another process.

    Attributes:
        number: Which shard it is, from 0.
        listing: The path of the shard's listing.
        output: The path of the part to write, an `.npz` file.
        settings: What the fit is of, see `fit`.
        model: The path of the run or the model.
        plugins: Modules that register what the model or the detector needs.
    """

    number: int
    listing: str
    output: str
    settings: Json
    model: str
    plugins: tuple[str, ...]

    @property
    def name(self) -> str:
        return pathlib.Path(self.output).stem


def fit(
    *,
    model: Path,
    detector: str,
    paths: Iterable[Path],
    output: Path,
    num_shards: int,
    arguments: Mapping[str, Any] | None = None,
    validation: Path | None = None,
    skip_bad: bool = False,
    unknown_class: bool | None = None,
    engine: str = "local",
    num_workers: int | None = None,
    plugins: Sequence[str] = (),
    progress: bool = False,
) -> tuple[pathlib.Path, Json]:
    """Fits a detector on known pictures in shards; a killed run goes on where it was.

    Each shard is walked over once, and leaves what the detector collects of it in a
    file, whose name follows from the shard and which is not made again. These are
    merged and learnt from. The detector is that of `Detector.fit` on all pictures at
    once, up to rounding; a random sample, such as the bank of "knn", is another one of
    the same size where it does not hold all pictures (see `Detector.collect`).

    Args:
        model: A run of `ood-train`, whose classes and way of reading pictures are
            taken; or a `.keras` file, whose classes are the folders in the order of
            their names.
        detector: Name of a detector that learns, see `detectors.names`.
        paths: Folders that have a folder of known pictures for each class, or a link to
            one; in these, at any depth, PNG, JPEG and other pictures, IDX and TFRecord
            files. A class needs pictures in one of the folders.
        output: A folder; receives `NAME.json` and `NAME.npz`, as `detectors.save`
            writes them, and `NAME.parts/` with what was collected.
        num_shards: How many shards at most.
        arguments: Other arguments of the detector.
        validation: A folder like those of `paths` with other known pictures, for
            ensembles, which set the scale of their members on them.
        skip_bad: Whether to go on without pictures that cannot be read; they are
            counted. Else they are an error.
        unknown_class: Whether the last output of a `.keras` file is an unknown class,
            which has no folder. `None` goes by the numbers of outputs and folders, and
            warns where these may also mean that a folder is missing.
        engine, num_workers: As for `engines.run`.
        plugins: Names of modules to import in each process, see `plugins.load`.
        progress: Whether to show a progress bar, on a terminal.

    Returns:
        `(path, counts)`: the JSON file of the detector, which `detectors.load` reads,
        and `{"images", "unreadable", "shards"}`; also "left_out" as for `export.score`,
        if there is anything.

    Raises:
        FileNotFoundError: there is no model, or a path does not exist or leads to no
            pictures.
        ImportError: Ray is not installed.
        RuntimeError: shards failed; the message has the first errors.
        ValueError: the detector learns nothing from pictures, a folder is no class of
            the model, a class of the model has no folder or no pictures, the output was
            begun with another model or other arguments, or as `Detector.learn`.

    Example:

    >>> path, counts = workflows.fit(
    ...     model="runs/mnist", detector="mahalanobis", paths=["TRAIN/"],
    ...     output="fitted", num_shards=100,
    ... )
    >>> detectors.load(path, keras.models.load_model("runs/mnist/model.keras"))
    """
    engines.check(engine)
    files.check_local(output)
    output, model = pathlib.Path(output).absolute(), pathlib.Path(model).absolute()
    roots = [os.path.abspath(path) for path in inputs.as_texts(paths)]
    opened = _open_model(str(model))
    reading = _describe_reading(model, opened, roots)
    made = detector_room.get(
        detector, **{**(arguments or {}), "num_classes": len(reading["class_names"])}
    )
    if not made.learns:
        raise ValueError(
            f"{detector!r} learns nothing from pictures, so there is nothing to fit in "
            f"parts: detectors.get({detector!r}, num_classes=...).fit(model) is all"
        )
    checked = [*roots, *([] if validation is None else [os.path.abspath(validation)])]
    _check_folders(checked, reading["class_names"])
    _check_every_class(roots, reading["class_names"])
    if model.is_file():
        logits = network.Network(opened, logits=made.get_config()["logits"]).num_logits
        _check_unknown_class(model, logits, reading["class_names"], unknown_class)
    settings: Json = {
        "model_sha256": _hash_model(model),
        "paths": roots,
        "num_shards": num_shards,
        "detector": detector,
        "config": made.get_config(),
        "reading": {**reading, "skip_bad": skip_bad},
    }
    folder = output / f"{detector}.parts"
    planned = [
        Shard(
            number=number,
            listing=str(folder / shards.SHARDS / name),
            output=str(folder / f"{pathlib.PurePath(name).stem}.npz"),
            settings=settings,
            model=str(model),
            plugins=tuple(plugins),
        )
        for number, name in enumerate(
            shards.begin(
                folder,
                settings,
                image_shape=tuple(reading["image_shape"]),
                write_listing=functools.partial(
                    _list_every_class, roots=roots, class_names=reading["class_names"]
                ),
                needs_images=True,
            )
        )
    ]
    shards.run_all(fit_shard, planned, engine, num_workers, progress)
    found = [fit_shard(shard) for shard in planned]
    counts: Json = {
        name: sum(part[name] for part in found) for name in ("images", "unreadable")
    }
    counts["shards"] = len(planned)
    left_out = shards.read_left_out(folder)
    _check_learnt(folder, found, reading["class_names"], left_out)
    if left_out:
        counts["left_out"] = left_out
    # One after the other, since many samples together may be large.
    read = (collected_files.read_collected(shard.output) for shard in planned)
    merged = functools.reduce(lambda one, two: detector_room.merge([one, two]), read)
    judging: Any = None
    if validation is not None:
        judging = _list_validation(folder, validation, settings)
    made.learn(opened, merged, judging)
    for unfinished in folder.glob(".*.tmp*"):
        unfinished.unlink(missing_ok=True)  # Of processes that were killed.
    files.write_json(folder / shards.MANIFEST, {**settings, **counts})
    return detector_room.save(made, output), counts


def fit_shard(shard: Shard) -> Json:
    """Collects what a detector learns from, of a shard, and writes its part.

    This is the unit that any engine maps. A part that is there is left as it is.

    Returns:
        `{"images", "unreadable", "of_classes"}`: how many pictures were learnt from,
        how many could not be read, and how many of each class were learnt from.

    Raises:
        ValueError: a picture cannot be read, the model is another one, or the part that
            is there was made of another fit.
    """
    listing = pathlib.Path(shard.listing)
    about = {
        "settings": shard.settings,
        "listing_sha256": hashlib.sha256(listing.read_bytes()).hexdigest(),
    }
    path = pathlib.Path(shard.output)
    if path.exists():
        found = collected_files.read_about(path)
        if {**found, "counts": None} != {**about, "counts": None}:
            raise ValueError(
                f"{path} is no part of this fit: it was made with another model, with "
                "other arguments, or of another shard. Move it away, or choose another "
                "folder"
            )
        return found["counts"]
    plugin_room.load(shard.plugins)
    settings = shard.settings
    received = _hash_model(pathlib.Path(shard.model))
    if received != settings["model_sha256"]:
        raise ValueError(
            f"{shard.model} is not the model that the fit was begun with. Expected the "
            f"SHA-256 {settings['model_sha256'][:12]}, received {received[:12]}. Give "
            "the same model on every machine, or another folder"
        )
    known = KnownPictures(shard.listing, settings["paths"], **settings["reading"])
    detector = detector_room.get(settings["detector"], **settings["config"])
    collected = detector.collect(_open_model(shard.model), known, shard=shard.number)
    counts = {
        "images": known.num_images,
        "unreadable": known.num_unreadable,
        "of_classes": known.num_of_classes.tolist(),
    }
    detector_room.write_collected(collected, path, {**about, "counts": counts})
    return counts


class KnownPictures:
    """Batches `(images, labels)` of the pictures of a listing, read as they are needed.

    Args:
        listing: What `inputs.write_listing` wrote.
        roots: Folders of class folders, in one of which each picture lies.
        class_names: The names of the classes, in the order of the labels.
        image_shape: `(height, width, channels)` that pictures are brought to.
        background: Grey level on which transparent pixels are laid; `None` drops alpha.
        exif_orientation: Whether to turn pictures as their camera's note says.
        skip_bad: Whether to leave out what cannot be read.

    Attributes:
        num_images: How many pictures the last walk over all has read.
        num_unreadable: How many it has left out.
        num_of_classes: How many of each class it has read, an array.
    """

    def __init__(
        self,
        listing: Path,
        roots: Sequence[str],
        *,
        class_names: Sequence[str],
        image_shape: Sequence[int],
        background: int | None,
        exif_orientation: bool,
        skip_bad: bool,
    ) -> None:
        self._listing, self._roots = listing, list(roots)
        self._labels = {name: label for label, name in enumerate(class_names)}
        height, width, channels = image_shape
        self._shape = (height, width, channels)
        self._background, self._exif_orientation = background, exif_orientation
        self._skip_bad = skip_bad
        self._begin()

    def _begin(self) -> None:
        self.num_images = self.num_unreadable = 0
        self.num_of_classes = np.zeros(len(self._labels), np.int64)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        self._begin()
        images: list[np.ndarray] = []
        labels: list[int] = []
        stream = inputs.items(
            self._listing, (0, 0), self._shape, exif_orientation=self._exif_orientation
        )
        for item in stream:
            label = self._label_of(item.path)
            try:
                images.append(self._read(item))
            except ValueError:
                if not self._skip_bad:
                    raise
                self.num_unreadable += 1
                continue
            labels.append(label)
            if len(images) == _BATCH_SIZE:
                yield self._batch(images, labels)
                images, labels = [], []
        if images:
            yield self._batch(images, labels)

    def _read(self, item: inputs.Item) -> np.ndarray:
        if item.error is not None:
            raise ValueError(f"{item.path} cannot be read: {item.error}")
        if isinstance(item.content, np.ndarray):
            return item.content.reshape(self._shape)
        name = item.path if item.index is None else f"{item.path}[{item.index}]"
        pixels = pictures.decode(
            item.content or b"", name, self._background, self._exif_orientation
        )
        return resizing.adapt(pixels[np.newaxis], self._shape)[0]

    def _label_of(self, path: str) -> int:
        for root in self._roots:
            if path.startswith(os.path.join(root, "")):
                name, *rest = pathlib.PurePath(path).relative_to(root).parts
                if rest and name in self._labels:
                    return self._labels[name]
        raise ValueError(
            f"{path} lies in no folder of a class. Expected ROOT/CLASS/PICTURE with a "
            f"class of {', '.join(self._labels)}"
        )

    def _batch(self, images, labels):
        self.num_images += len(images)
        self.num_of_classes += np.bincount(labels, minlength=len(self._labels))
        return np.stack(images).astype(np.float32) / 255, np.array(labels, np.int64)


def _describe_reading(
    model: pathlib.Path, opened: keras.Model, roots: Sequence[str]
) -> Json:
    """The model's classes, and how its pictures are read."""
    settings = read_settings(model) if model.is_dir() else {}
    inputs.check(roots)
    names = {name for root in roots for name in _class_folders(root)}
    shape = network.image_shape(opened) or settings.get("image_shape")
    if shape is None:
        raise ValueError(
            f"{model} does not say the shape of its images. Build it on "
            "keras.Input((height, width, channels)), then save it again"
        )
    return {
        "class_names": settings.get("class_names") or sorted(names),
        "image_shape": list(shape),
        "background": settings.get("background", image_files.BACKGROUND),
        # Runs of earlier versions did not turn them, and do not say so.
        "exif_orientation": settings.get("exif_orientation", not settings),
    }


def _check_folders(roots: Sequence[str], class_names: Sequence[str]) -> None:
    for root in roots:
        if not os.path.isdir(root):
            raise FileNotFoundError(
                f"there is no folder {root}; expected one that has a folder of known "
                "pictures for each class"
            )
        others = sorted(set(_class_folders(root)) - set(class_names))
        if others:
            raise ValueError(
                f"{root} has folders that are no class of the model: "
                f"{', '.join(others[:5])}. Expected some of "
                f"{', '.join(class_names[:20])}"
            )


def _check_every_class(roots: Sequence[str], class_names: Sequence[str]) -> None:
    """Raises unless each class has a folder, in one of the roots at least."""
    there = {name for root in roots for name in _class_folders(root)}
    missing = [name for name in class_names if name not in there]
    if missing:
        raise ValueError(
            f"{', '.join(roots)}: no folder for {len(missing)} of the "
            f"{len(class_names)} classes of the model ({', '.join(missing[:5])}). "
            f"Expected one for each: {', '.join(class_names[:20])}. Without pictures "
            "of a class, a detector would take that class for unknown"
        )


def _list_every_class(
    listing: pathlib.Path, roots: Sequence[str], class_names: Sequence[str]
) -> None:
    """Lists what is to be read, or raises where the folders of a class hold nothing."""
    inputs.write_listing(listing, roots, linked=True)
    missing = dict.fromkeys(class_names)
    with open(listing, "rb") as file:
        for line in file:
            path, kind = json.loads(line)
            if kind == "folder":
                continue  # One that cannot be read.
            for root in roots:
                if path.startswith(os.path.join(root, "")):
                    missing.pop(pathlib.PurePath(path).relative_to(root).parts[0], None)
            if not missing:
                return
    _raise_without_pictures(missing, inputs.read_left_out(listing), "Put some there")


def _check_learnt(
    folder: pathlib.Path,
    found: Sequence[Json],
    class_names: Sequence[str],
    left_out: Mapping[str, int],
) -> None:
    """Raises where no picture of a class could be learnt from."""
    # Parts of earlier versions do not say of which class they learnt.
    if all("of_classes" in part for part in found):
        total = np.sum([part["of_classes"] for part in found], axis=0)
        missing = [
            name for name, count in zip(class_names, total, strict=True) if not count
        ]
        advice = f"Put some there, and remove {folder} to begin again"
        _raise_without_pictures(missing, left_out, advice)


def _raise_without_pictures(
    missing: Iterable[str], left_out: Mapping[str, int], advice: str
) -> None:
    missing = list(missing)
    if missing:
        besides = f" Left out: {inputs.describe(left_out)}." if left_out else ""
        have = "a class has" if len(missing) == 1 else f"{len(missing)} classes have"
        raise ValueError(
            f"{have} no picture that can be learnt from: "
            f"{', '.join(missing[:5])}.{besides} {advice}; without pictures of a "
            "class, a detector would take that class for unknown"
        )


def _check_unknown_class(
    model: pathlib.Path,
    num_logits: int,
    class_names: Sequence[str],
    unknown_class: bool | None,
) -> None:
    """Warns or raises where the last output may be a known class without a folder."""
    count = len(class_names)
    saw = (
        f"{model} has {num_logits} outputs, and there are folders of {count} classes "
        f"({', '.join(class_names[:20])})"
    )
    if unknown_class is None:
        if num_logits != count + 1:
            return  # One for each, or the detector says that they do not fit.
        trained = _trained_classes(model)
        if trained is None:
            warnings.warn(
                f"{saw}: the last output is taken for an unknown class. If it is a "
                "known one, a folder is missing, and classes behind it have wrong "
                "labels: give a folder for each class. If it is unknown pictures', say "
                "so: unknown_class=True, or --unknown_class",
                DataWarning,
                stacklevel=3,
            )
            return
        unknown_class = trained == count
    if num_logits != count + unknown_class:
        last = "the last one for unknown pictures" if unknown_class else "all known"
        raise ValueError(
            f"{saw}. Expected a folder for each of the classes that it tells apart, "
            f"{last}, in the order of their names: {num_logits - unknown_class}"
        )


def _trained_classes(model: pathlib.Path) -> int | None:
    """The number of known classes that the loss in a `.keras` file names, if any."""
    try:
        with zipfile.ZipFile(model) as archive:
            config = json.loads(archive.read("config.json"))
        return int(config["compile_config"]["loss"]["config"]["num_classes"])
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError):
        return None  # Saved without a loss, or with another one.


def _class_folders(root: str) -> list[str]:
    if not os.path.isdir(root):
        return []
    return [
        entry.name
        for entry in os.scandir(root)
        if entry.is_dir() and not entry.name.startswith(".")
    ]


def _list_validation(
    folder: pathlib.Path, validation: Path, settings: Json
) -> KnownPictures:
    root = os.path.abspath(validation)
    listing = folder / "validation.jsonl"
    inputs.write_listing(listing, [root], linked=True)
    return KnownPictures(listing, [root], **settings["reading"])


@functools.lru_cache(maxsize=1)
def _open_model(path: str) -> keras.Model:
    if os.path.isdir(path):
        return run_record.load_model(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"there is no model {path}: expected a run of ood-train, or a .keras file"
        )
    return keras.models.load_model(path, compile=False)


@functools.lru_cache(maxsize=1)
def _hash_model(path: pathlib.Path) -> str:
    path = path / "model.keras" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}, by which one model is told from another. A "
            "network that was adopted as a SavedModel cannot be fitted in shards"
        )
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
