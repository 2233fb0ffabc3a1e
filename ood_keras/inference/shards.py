"""Scores very many images in shards, each written once, by any engine.

A shard is a listing of files or spans of files. Its part is a Parquet file whose name
follows from the shard's number; it is written under a temporary name, renamed, and not
made again where it is there. So retries, speculative copies and the same command after
a kill are harmless, whoever runs the shards: `engines`, or anything else that can call
a function.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ood_keras import engines, files, machine, storage
from ood_keras._version import __version__
from ood_keras.inference import answer_files, batch_scoring, inputs, loading
from ood_keras.types import ImageShape, Json, Path

if TYPE_CHECKING:
    from ood_keras.inference.edge_predictor import EdgePredictor
    from ood_keras.inference.predictor import Predictor

MANIFEST = "MANIFEST.json"
PARTS, SHARDS = "parts", "shards"
_PLAN = "PLAN.json"
_LEFT_OUT = "listing.left_out"
_COUNTS = ("images", "accepted", "rejected", "unreadable")


@dataclasses.dataclass(frozen=True)
class Shard:
    """A piece of work, plain data that can be sent to another process.

    Attributes:
        model: The path of the exported model.
        model_sha256: The digest of its manifest; another model is refused.
        listing: The path of the shard's listing.
        output: The path of the part to write, a Parquet file.
        options: The keywords `threshold`, `feature` and `raw_records` of
            `batch_scoring.score`, and `probabilities`.
    """

    model: str
    model_sha256: str
    listing: str
    output: str
    options: Json

    @property
    def name(self) -> str:
        return pathlib.Path(self.output).stem


def plan(
    model: Path,
    paths: Iterable[Path],
    output: Path,
    *,
    num_shards: int,
    threshold: float | str | None = None,
    feature: str | None = None,
    raw_records: bool = False,
    probabilities: bool = False,
) -> list[Shard]:
    """Lists the images once and cuts the listing into shards.

    Args:
        model: What `export.load` opens.
        paths: As for `batch_scoring.score`.
        output: A folder, or a URL of one, see `storage`; receives `shards/`, the
            listings, and `parts/`.
        num_shards: How many shards at most.
        threshold, feature, raw_records: As for `batch_scoring.score`.
        probabilities: Whether to write the probability of each class too.

    Returns:
        The shards, in the order of the images. The same call again returns those of
        the first: images added since are not among them.

    Raises:
        FileNotFoundError: a path does not exist, or leads to no images.
        ImportError: `pyarrow`, which writes Parquet, is not installed.
        ValueError: the folder was begun with another model or other arguments, or
            `num_shards` is not positive.
    """
    answer_files.import_pyarrow()
    predictor = loading.load(model)
    absolute = [os.path.abspath(path) for path in inputs.as_texts(paths)]
    options: Json = {"feature": feature, "raw_records": raw_records}
    batch_scoring.check_first(predictor, absolute, threshold, options)
    digest = predictor.manifest["manifest_sha256"]
    settings = {
        "model_sha256": digest,
        "paths": absolute,
        "num_shards": num_shards,
        "options": {
            "threshold": batch_scoring.as_json(threshold, predictor.operating_points),
            **options,
            "probabilities": probabilities,
        },
        "ood_keras": __version__,
    }
    output = storage.absolute(output)
    names = begin(output, settings, image_shape=predictor.image_shape)
    # Where the model lies may differ from one machine to the next.
    path = str(pathlib.Path(model).absolute()) if os.path.exists(model) else str(model)
    return [
        Shard(
            model=path,
            model_sha256=digest,
            listing=storage.join(output, SHARDS, name),
            output=storage.join(
                output, PARTS, f"{name.removesuffix('.jsonl')}.parquet"
            ),
            options=settings["options"],
        )
        for name in names
    ]


def begin(
    output: Path,
    settings: Json,
    *,
    image_shape: ImageShape | None = None,
    write_listing: Callable[[pathlib.Path], object] | None = None,
    needs_images: bool = False,
) -> list[str]:
    """Cuts the listing of a folder's plan into shards, once, and returns their names.

    Args:
        output: The folder, or its URL.
        settings: What the plan is of, plain JSON values; `paths` and `num_shards` say
            what is listed and how many shards at most.
        image_shape: `(height, width, channels)` that images of IDX files must have, if
            that is known.
        write_listing: Called with a path, lists there what is to be read, or raises
            what is wrong with it, and nothing is planned; default:
            `inputs.write_listing` of the paths.
        needs_images: Whether files that hold no image are an error; else there is one
            shard of nothing.

    Returns:
        The names of the listings in `output/shards`, in order.

    Raises:
        FileNotFoundError: a path does not exist, or leads to no images.
        ValueError: the folder was begun with other settings, or `num_shards` is not
            positive; or there is no image, and one is needed.
    """
    paths = settings["paths"]
    planning = _Planning(
        settings,
        image_shape,
        write_listing or (lambda listing: inputs.write_listing(listing, paths)),
        needs_images,
    )
    num_shards = settings["num_shards"]
    if not (isinstance(num_shards, int) and num_shards > 0):
        raise ValueError(
            f"expected at least one shard. Received: num_shards={num_shards!r}"
        )
    found = _find_plan(output, settings)
    if found is not None:
        return found["shards"]
    if storage.is_url(output):
        return _make_plan_at(output, planning)["shards"]
    folder = pathlib.Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    with files.lock_folder(folder, wait=True):
        found = _find_plan(folder, settings) or _make_plan(folder, planning)
    return found["shards"]


def read_left_out(output: Path) -> dict[str, int]:
    """What was left out of the listing of a planned folder; see `inputs`."""
    return storage.read_json(storage.join(output, SHARDS, _LEFT_OUT))


def score_shard(
    shard: Shard,
    predictor: "Predictor | EdgePredictor | None" = None,
) -> Json:
    """Scores a shard and writes its part, whole or not at all.

    This is the unit that any engine maps over `plan`. A part that is there already is
    left as it is.

    Args:
        shard: One of those of `plan`.
        predictor: The model, where it is open already; `None` opens it, once in a
            process.

    Returns:
        `{"name", "images", "accepted", "rejected", "unreadable", "error"}`: counts, and
        the first error of an image, or `None`.

    Raises:
        ValueError: the model is not the one that the plan was made for, or the part
            that is there was written by another model or of another shard.
    """
    pyarrow = answer_files.import_pyarrow()
    about = {
        "model_sha256": shard.model_sha256,
        "listing_sha256": hashlib.sha256(storage.read(shard.listing)).hexdigest(),
        "options": shard.options,
    }
    if storage.exists(shard.output):
        return _read_part(shard.output, about)
    if predictor is None:
        predictor = _open(shard.model)
    found = predictor.manifest["manifest_sha256"]
    if found != shard.model_sha256:
        raise ValueError(
            f"{shard.model} is not the model that the shards were planned for. "
            f"Expected a manifest with the SHA-256 {shard.model_sha256[:12]}, received "
            f"{found[:12]}. Give the same model on every machine, or another folder"
        )
    options = dict(shard.options)
    probabilities = options.pop("probabilities")
    threshold = options.pop("threshold")
    threshold = float(threshold) if isinstance(threshold, str) else threshold
    counts: Json = {"name": shard.name, **dict.fromkeys(_COUNTS, 0), "error": None}
    schema = answer_files.parquet_schema(probabilities)
    with (
        storage.local_copy(shard.listing) as listing,
        storage.writing(shard.output) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, schema) as writer,
    ):
        for rows, _ in batch_scoring.score_batches(
            predictor, listing, (0, 0), threshold, options
        ):
            writer.write_table(
                pyarrow.Table.from_pylist(
                    [answer_files.as_written(row, probabilities) for row in rows],
                    schema,
                )
            )
            for row in rows:
                counts["images"] += 1
                counts[batch_scoring.outcome(row)] += 1
                if row["error"] is not None and counts["error"] is None:
                    counts["error"] = f"{row['path']}: {row['error']}"
        text = json.dumps({**about, "counts": counts})
        writer.add_key_value_metadata({answer_files.METADATA_KEY: text.encode()})
    return counts


def finish(shards: Iterable[Shard], output: Path) -> Json:
    """Writes `MANIFEST.json` where every part is there; returns its content.

    Raises:
        FileNotFoundError: a part is missing; the message names the first ones.
        ValueError: as `score_shard`.
    """
    shards = list(shards)
    missing = [shard.name for shard in shards if not storage.exists(shard.output)]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(shards)} parts are missing in {output}: "
            f"{', '.join(missing[:5])}. Run the same command again"
        )
    parts = [score_shard(shard) for shard in shards]
    if not storage.is_url(output):
        for unfinished in (pathlib.Path(output) / PARTS).glob(".*.tmp*"):
            unfinished.unlink(missing_ok=True)  # Of processes that were killed.
    content = {
        "model_sha256": shards[0].model_sha256,
        "options": shards[0].options,
        **_add_counts(parts),
        "left_out": read_left_out(output),
        "parts": parts,
    }
    storage.write_json(storage.join(output, MANIFEST), content)
    return content


def score_shards(
    model: Path,
    paths: Iterable[Path],
    output: Path,
    *,
    num_shards: int,
    num_workers: int | None = None,
    engine: str = "local",
    share: str | None = None,
    progress: bool = False,
    **options: Any,
) -> Json:
    """Scores images in shards, side by side; a killed run goes on where it was.

    Args:
        model, paths, output, num_shards: As for `plan`.
        num_workers: How many processes, each with one thread; `None` takes the number
            of cores. With Ray, the cluster's.
        engine: "local" for processes on this machine; "ray" for tasks on a Ray cluster,
            which has to see `output`, the model and the images under the same paths.
        share: "K/N" for every Nth shard from shard K on, with K from 0 to N - 1: for N
            machines, each of which makes this call with a K of its own, and none of
            which waits for the others. `None` for all shards.
        progress: Whether to show a progress bar, on a terminal, and to say what all
            will take once the first shard is done.
        **options: The other arguments of `plan`.

    Returns:
        The content of `MANIFEST.json`: counts over all and for each part. Where parts
        of other shares are missing yet, that file is not written, and what is returned
        counts those of this share; `missing` says how many others there are.

    Raises:
        ImportError: Ray is not installed.
        RuntimeError: shards failed, after three attempts each where a process was
            killed; the message has the first errors. All other parts are there.
        ValueError: as for `plan`, or there is no such engine or share.
    """
    engines.check(engine)
    number, count = (0, 1) if share is None else _read_share(share)
    shards = plan(model, paths, output, num_shards=num_shards, **options)
    own = shards[number::count]
    run_all(_score_timed, own, engine, num_workers, progress, _describe_cost)
    missing = sum(not storage.exists(shard.output) for shard in shards)
    if missing and share is not None:
        parts = [score_shard(shard) for shard in own]
        return {**_add_counts(parts), "parts": parts, "missing": missing}
    return finish(shards, output)


def run_all(
    work: Callable[[Any], Any],
    shards: Sequence[Any],
    engine: str,
    num_workers: int | None,
    progress: bool,
    describe_cost: Callable[[Any, int, int | None], str] | None = None,
) -> None:
    """Does the work of all shards whose part is not there.

    Args:
        work: A function of a shard that writes its part.
        shards: Have a `name` and, in `output`, the path of their part.
        engine, num_workers: As for `engines.run`.
        progress: Whether to show a progress bar, on a terminal, and the cost.
        describe_cost: A function of what `work` returned of the first shard, of how
            many shards wait and of how many workers there are (`None` for what a
            cluster takes), that returns a line about what all will take.

    Raises:
        RuntimeError: shards failed; the message has the first errors.
    """
    waiting = [shard for shard in shards if not storage.exists(shard.output)]
    failed: dict[str, str] = {}
    if engine == "local":
        num_workers = min(num_workers or machine.num_cores(), max(1, len(waiting)))
    with batch_scoring.show_progress(progress, len(shards), unit="shard") as bar:
        bar.update(len(shards) - len(waiting))
        for shard, result, error in engines.run(
            work, waiting, engine=engine, num_workers=num_workers
        ):
            if error is not None:
                failed[shard.name] = error
                continue
            if progress and describe_cost is not None and len(waiting) > 1:
                text = describe_cost(result, len(waiting), num_workers)
                bar.write(text, file=sys.stderr)
                describe_cost = None
            bar.update(1)
    if failed:
        first = "; ".join(f"{name}: {text}" for name, text in list(failed.items())[:3])
        raise RuntimeError(
            f"{len(failed)} of {len(shards)} shards failed ({first}). The others are "
            "written; give the same command again to try these once more"
        )


def _read_share(share: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", share)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not number < count:
        raise ValueError(
            "a share is K/N, with K from 0 to N - 1, such as 0/8 on the first of eight "
            f"machines and 7/8 on the last. Received: {share!r}"
        )
    return number, count


def _score_timed(shard: Shard) -> Json:
    """What `score_shard` returns, and the seconds that it took of a model in use."""
    if not storage.exists(shard.output):
        _warm_up(shard.model)
    start = time.monotonic()
    counts = score_shard(shard)
    return {**counts, "seconds": max(time.monotonic() - start, 1e-9)}


def _describe_cost(first: Json, num_shards: int, num_workers: int | None) -> str:
    """What all shards will take, by the first one; all have about as many images."""
    images = first["images"] * num_shards
    seconds = first["seconds"] * num_shards
    text = (
        f"about {images:,} images; the first shard took "
        f"{first['images'] / first['seconds']:,.1f} a second, so all take about "
        f"{_as_time(seconds)} of one worker"
    )
    if num_workers and num_workers > 1:
        text += f", {_as_time(seconds / num_workers)} with {num_workers}"
    return text


def _as_time(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:,.1f} hours"


def _add_counts(parts: Sequence[Json]) -> Json:
    return {name: sum(part[name] for part in parts) for name in _COUNTS}


@functools.lru_cache(maxsize=1)
def _open(model: str) -> "Predictor | EdgePredictor":
    return loading.load(model)


@functools.lru_cache(maxsize=1)
def _warm_up(model: str) -> None:
    """The first call prepares what all others use, which no image costs again."""
    predictor = _open(model)
    predictor.predict(np.zeros((1, *predictor.image_shape), np.float32))
    if hasattr(predictor, "predict_bytes"):
        predictor.predict_bytes([b""])


def _find_plan(output: Path, settings: Json) -> Json | None:
    """What an earlier call planned in this folder, or `None`."""
    path = storage.join(output, _PLAN)
    if not storage.exists(path):
        return None
    found = storage.read_json(path)
    if not found["shards"]:
        return None  # Earlier versions planned nothing where there was no image.
    wanted = json.loads(json.dumps(settings))
    if found["settings"] != wanted:
        changed = [
            name for name in wanted if found["settings"].get(name) != wanted[name]
        ]
        raise ValueError(
            f"{output} was begun with other settings: {', '.join(changed)}. Give the "
            "same arguments to go on, or another folder"
        )
    return found


@dataclasses.dataclass(frozen=True)
class _Planning:
    """How to plan, as `begin` is told."""

    settings: Json
    image_shape: ImageShape | None
    write_listing: Callable[[pathlib.Path], object]
    needs_images: bool


def _make_plan(output: pathlib.Path, planning: _Planning) -> Json:
    settings = planning.settings
    folder = output / SHARDS
    folder.mkdir(exist_ok=True)
    listing = folder / "listing"
    planning.write_listing(listing)
    parts = inputs.split_listing(
        listing, folder, settings["num_shards"], planning.image_shape
    )
    listing.unlink()
    if not parts:
        if planning.needs_images:
            raise ValueError(
                f"the files in {', '.join(settings['paths'])} hold no image. Expected "
                "some; an IDX or TFRecord file may be empty"
            )
        parts = [folder / "shard-00000.jsonl"]
        files.write_text(parts[0], "")
    found = {"settings": settings, "shards": [part.name for part in parts]}
    files.write_json(output / _PLAN, found)
    return found


def _make_plan_at(url: Path, planning: _Planning) -> Json:
    """Makes the plan here and puts it to a URL, last of all what says that it is there.

    Two that begin at once, which nothing prevents there, put the same.
    """
    with tempfile.TemporaryDirectory(prefix=files.TEMPORARY) as folder:
        found = _make_plan(pathlib.Path(folder), planning)
        for path in sorted((pathlib.Path(folder) / SHARDS).iterdir()):
            with storage.writing(storage.join(url, SHARDS, path.name)) as made:
                shutil.copyfile(path, made)
        storage.write_json(storage.join(url, _PLAN), found)
    return found


def _read_part(path: str, about: Json) -> Json:
    """The counts of a part that is there, after a look at what made it."""
    pyarrow = answer_files.import_pyarrow()
    with storage.open_file(path) as file:
        metadata = pyarrow.parquet.read_metadata(file).metadata or {}
    found = json.loads(metadata.get(answer_files.METADATA_KEY, b"{}"))
    if {**found, "counts": None} != {**about, "counts": None}:
        raise ValueError(
            f"{path} is no part of this plan: it was written by another model, with "
            "other options, or of another shard. Move it away, or choose another folder"
        )
    return found["counts"]
