"""Scores of any number of images, from the files that `ood-predict` wrote."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ood_keras import storage
from ood_keras.inference import answer_files
from ood_keras.metrics.score_sketch import ScoreSketch
from ood_keras.types import Path

_ROWS = 2**16
_COLUMNS = ("ood_score", "valid", "accepted")
_PROBABILITIES = "probabilities"


@dataclasses.dataclass(frozen=True)
class ScoreFiles:
    """Known and unknown scores, counted in a sketch of 1 MB.

    Attributes:
        sketch: A `metrics.ScoreSketch` of the scores.
        left_out: How many rows have no score, since there was no readable image or the
            model has no answer; they are in no count of the sketch.
        accepted: How many images the model accepted, by the threshold of its answers.
        models: Digests of the manifests of the models that made the answers.
        of_class: Sketches of the known scores by the class that the model predicts, 1
            MB each, if they were asked for; else none.
    """

    sketch: ScoreSketch
    left_out: dict[str, int]
    accepted: dict[str, int]
    models: frozenset[str]
    of_class: tuple[ScoreSketch, ...] = ()

    def __str__(self) -> str:
        left_out = sum(self.left_out.values())
        return (
            f"Read {self.sketch.num_known:,} known and {self.sketch.num_unknown:,} "
            f"unknown scores; {left_out:,} rows have none."
        )


def read(
    known: Iterable[Path],
    unknown: Iterable[Path] = (),
    num_classes: int | None = None,
) -> ScoreFiles:
    """Reads answers of exported models, a part at a time.

    Args:
        known: Parquet files of answers on known images, or folders of such parts, as
            `ood-predict --output=FILE.parquet` or `--shards` write them; or their URLs,
            see `storage`.
        unknown: The same of unknown images.
        num_classes: How many known classes the model has, for sketches of the known
            scores by predicted class too. Rejected images have no class in their
            answer, so it must have the probabilities.

    Returns:
        `ScoreFiles`; `left_out` and `accepted` are `{"known": ..., "unknown": ...}`.

    Raises:
        FileNotFoundError: there is no such file, or no part in a folder, or a folder
            of shards is not finished or lacks a part.
        ImportError: `pyarrow` is not installed.
        ValueError: a file is given twice, holds no answers, does not say which model
            made them, has NaN for a score, is not the part that the folder's manifest
            counts, or has no probabilities of so many classes where these are needed.

    Example:

    >>> found = score_files.read(["answers/known"], ["answers/unknown"])
    >>> found.sketch.evaluate()["auroc"], found.sketch.intervals()["auroc"]
    >>> calibration.conformal(found.sketch, 0.99)
    """
    sketch, models = ScoreSketch(), set()
    left_out, accepted = {"known": 0, "unknown": 0}, {"known": 0, "unknown": 0}
    of_class = tuple(ScoreSketch() for _ in range(num_classes or 0))
    for role, paths in (("known", known), ("unknown", unknown)):
        seen: set[str] = set()
        for path in paths:
            for part, num_rows in _find_parts(path):
                _check_once(part, seen)
                by_class = len(of_class) if role == "known" else 0
                model, columns = _open(part, num_rows, by_class)
                models.add(model)
                for scores, usable, taken, classes in columns:
                    left_out[role] += int(np.sum(~usable))
                    accepted[role] += int(np.sum(taken))
                    sketch.update(**{f"{role}_scores": scores[usable]})
                    for number in np.unique(classes[usable]) if by_class else ():
                        those = scores[usable & (classes == number)]
                        of_class[number].update(known_scores=those)
    return ScoreFiles(sketch, left_out, accepted, frozenset(models), of_class)


def _check_once(part: Path, seen: set[str]) -> None:
    """Raises if a file was read before, and notes that it is read now."""
    place = str(part) if storage.is_url(part) else os.path.realpath(part)
    if place in seen:
        raise ValueError(
            f"{part} is given twice, and each image counts once. Give each file, or "
            "its folder, once"
        )
    seen.add(place)


def _find_parts(path: Path) -> list[tuple[Path, int | None]]:
    """The files of answers, and how many rows each must have, where that is known."""
    if not storage.exists(path):
        raise FileNotFoundError(f"there is no file or folder of answers {path}")
    from ood_keras.inference import shards

    folder = storage.join(path, shards.PARTS)
    if storage.exists(folder):
        return _find_shards(path, folder, storage.join(path, shards.MANIFEST))
    if storage.is_url(path) or not os.path.isdir(path):
        return [(path, None)]
    found = sorted(pathlib.Path(path).glob("[!.]*.parquet"))
    if not found:
        raise FileNotFoundError(
            f"{path} holds no Parquet file of answers; `ood-predict "
            "--output=FILE.parquet` writes them"
        )
    return [(file, None) for file in found]


def _find_shards(
    path: Path, folder: str, manifest: str
) -> list[tuple[Path, int | None]]:
    """The parts of a finished `ood-predict --shards`, as its manifest counts them."""
    if not storage.exists(manifest):
        raise FileNotFoundError(
            f"{path} has no {pathlib.PurePath(manifest).name}, so not all of its "
            "shards are scored. Run the same ood-predict again, which ends it"
        )
    rows = {
        f"{part['name']}.parquet": part["images"]
        for part in storage.read_json(manifest)["parts"]
    }
    found = {
        name
        for name in storage.list_names(folder)
        if name.endswith(".parquet") and not name.startswith(".")
    }
    if missing := sorted(rows.keys() - found):
        raise FileNotFoundError(
            f"{len(missing)} of {len(rows)} parts are missing in {folder}: "
            f"{', '.join(missing[:5])}. Run the same ood-predict again, which makes "
            "them"
        )
    if others := sorted(found - rows.keys()):
        raise ValueError(
            f"{folder} holds {', '.join(others[:5])}, which {manifest} does not count. "
            "Move what was put there away"
        )
    return [(storage.join(folder, name), rows[name]) for name in sorted(rows)]


def _open(
    path: Path, num_rows: int | None, num_classes: int
) -> tuple[str, Iterator[tuple[np.ndarray, ...]]]:
    """The digest of a file's model, and what `_iterate` yields."""
    pyarrow = answer_files.import_pyarrow()
    opened = storage.open_file(path)
    try:
        file: Any = pyarrow.parquet.ParquetFile(opened)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is no Parquet file of answers: {error}") from error
    missing = set(_COLUMNS) - set(file.schema_arrow.names)
    if missing:
        raise ValueError(
            f"{path} has no column {' or '.join(sorted(missing))}: expected answers as "
            "ood-predict writes them"
        )
    if num_classes and _PROBABILITIES not in file.schema_arrow.names:
        raise ValueError(
            f"{path} does not say which class each rejected image would have. Score "
            "the images with ood-predict --probabilities"
        )
    if num_rows not in (None, file.metadata.num_rows):
        raise ValueError(
            f"{path} has {file.metadata.num_rows:,} rows, and the manifest of its "
            f"folder counts {num_rows:,}: it was changed since. Remove it, and run the "
            "same ood-predict again, which makes it anew"
        )
    metadata = file.schema_arrow.metadata or file.metadata.metadata or {}
    about = json.loads(metadata.get(answer_files.METADATA_KEY, b"{}"))
    if "model_sha256" not in about:
        raise ValueError(
            f"{path} does not say which model made its answers, as files of earlier "
            "versions do not. Score the images again with ood-predict"
        )
    return about["model_sha256"], _iterate(file, opened, path, num_classes)


def _iterate(
    file: Any, opened: Any, path: Path, num_classes: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields `(scores, whether there is one, whether it is accepted, its class)`.

    In pieces; of no classes, without these.
    """
    names = [*_COLUMNS, *([_PROBABILITIES] if num_classes else [])]
    with opened:
        for batch in file.iter_batches(_ROWS, columns=names):
            scores, valid, accepted = (
                batch.column(name).to_numpy(zero_copy_only=False) for name in _COLUMNS
            )
            empty = batch.column("ood_score").is_null().to_numpy(zero_copy_only=False)
            scores, usable = scores.astype(np.float32), valid.astype(bool) & ~empty
            _check_scores(scores[usable], path)
            classes = scores[:0]
            if num_classes:
                classes = _find_classes(batch.column(_PROBABILITIES), num_classes, path)
            yield scores, usable, accepted.astype(bool) & usable, classes


def _find_classes(column: Any, num_classes: int, path: Path) -> np.ndarray:
    """The class with the largest probability of each row."""
    values = column.flatten().to_numpy(zero_copy_only=False)
    if len(values) != num_classes * len(column):
        raise ValueError(
            f"{path} has probabilities of other classes: expected {num_classes} for "
            f"each image, received {len(values):,} for {len(column):,}"
        )
    return values.reshape(-1, num_classes).argmax(axis=1)


def _check_scores(scores: np.ndarray, path: Path) -> None:
    if broken := int(np.sum(np.isnan(scores))):
        raise ValueError(
            f"{path} has NaN for {broken:,} scores, which no ood-predict writes: an "
            "image without a score has none, and says in `error` why. Score the images "
            "again"
        )
