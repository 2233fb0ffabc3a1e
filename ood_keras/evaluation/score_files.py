"""Scores of any number of images, from the files that `ood-predict` wrote."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ood_keras.inference import batch_scoring
from ood_keras.metrics.score_sketch import ScoreSketch
from ood_keras.types import Path

_ROWS = 2**16


@dataclasses.dataclass(frozen=True)
class ScoreFiles:
    """Known and unknown scores, counted in a sketch of 1 MB.

    Attributes:
        sketch: A `metrics.ScoreSketch` of the scores.
        left_out: How many rows have no score, since there was no readable image or the
            model has no answer; they are in no count of the sketch.
        models: Digests of the manifests of the models that made the answers.
    """

    sketch: ScoreSketch
    left_out: dict[str, int]
    models: frozenset[str]


def read(known: Iterable[Path], unknown: Iterable[Path] = ()) -> ScoreFiles:
    """Reads answers of exported models, a part at a time.

    Args:
        known: Parquet files of answers on known images, or folders of such parts, as
            `ood-predict --output=FILE.parquet` or `--shards` write them.
        unknown: The same of unknown images.

    Returns:
        `ScoreFiles`; `left_out` is `{"known": ..., "unknown": ...}`.

    Raises:
        FileNotFoundError: there is no such file, or no part in a folder, or a folder
            of shards is not finished.
        ImportError: `pyarrow` is not installed.
        ValueError: a file holds no answers, or does not say which model made them.

    Example:

    >>> found = score_files.read(["answers/known"], ["answers/unknown"])
    >>> found.sketch.evaluate()["auroc"], found.sketch.intervals()["auroc"]
    >>> calibration.conformal(found.sketch, 0.99)
    """
    sketch, left_out, models = ScoreSketch(), {"known": 0, "unknown": 0}, set()
    for role, paths in (("known", known), ("unknown", unknown)):
        for path in paths:
            for part in _find_parts(pathlib.Path(path)):
                model, columns = _open(part)
                models.add(model)
                for scores, valid in columns:
                    usable = valid & ~np.isnan(scores)
                    left_out[role] += int(np.sum(~usable))
                    sketch.update(**{f"{role}_scores": scores[usable]})
    return ScoreFiles(sketch, left_out, frozenset(models))


def _find_parts(path: pathlib.Path) -> list[pathlib.Path]:
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"there is no file or folder of answers {path}")
        return [path]
    from ood_keras.inference import shards

    folder = path / shards.PARTS
    if folder.is_dir():
        if not (path / shards.MANIFEST).is_file():
            raise FileNotFoundError(
                f"{path} has no {shards.MANIFEST}, so not all of its shards are "
                "scored. Run the same ood-predict again, which ends it"
            )
        path = folder
    found = sorted(path.glob("[!.]*.parquet"))
    if not found:
        raise FileNotFoundError(
            f"{path} holds no Parquet file of answers; `ood-predict "
            "--output=FILE.parquet` writes them"
        )
    return found


def _open(path: pathlib.Path) -> tuple[str, Iterator[tuple[np.ndarray, np.ndarray]]]:
    """The digest of a file's model, and its `(ood_score, valid)` in pieces."""
    pyarrow = batch_scoring.import_pyarrow()
    try:
        file: Any = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file of answers: {error}") from error
    missing = {"ood_score", "valid"} - set(file.schema_arrow.names)
    if missing:
        raise ValueError(
            f"{path} has no column {' or '.join(sorted(missing))}: expected answers as "
            "ood-predict writes them"
        )
    metadata = file.schema_arrow.metadata or file.metadata.metadata or {}
    about = json.loads(metadata.get(batch_scoring.METADATA_KEY, b"{}"))
    if "model_sha256" not in about:
        raise ValueError(
            f"{path} does not say which model made its answers, as files of earlier "
            "versions do not. Score the images again with ood-predict"
        )
    return about["model_sha256"], _iterate(file)


def _iterate(file: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for batch in file.iter_batches(_ROWS, columns=["ood_score", "valid"]):
        scores = batch.column("ood_score").to_numpy(zero_copy_only=False)
        valid = batch.column("valid").to_numpy(zero_copy_only=False)
        yield scores.astype(np.float32), valid.astype(bool)
