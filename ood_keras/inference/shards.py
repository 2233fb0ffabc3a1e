"""Scores very many images in shards, each written once, by any engine.

A shard is a listing of files or spans of files. Its part is a Parquet file whose name
follows from the shard's number; it is written under a temporary name, renamed, and not
made again where it is there. So retries, speculative copies and the same command after
a kill are harmless, whoever runs the shards: this module's processes, Ray, or anything
else that can call a function.
"""

import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ood_keras import files
from ood_keras._version import __version__
from ood_keras.inference import batch_scoring, inputs, loading
from ood_keras.types import Json, Path

if TYPE_CHECKING:
    from ood_keras.inference.onnx_predictor import ONNXPredictor
    from ood_keras.inference.predictor import Predictor
    from ood_keras.inference.tflite_predictor import TFLitePredictor

MANIFEST = "MANIFEST.json"
PARTS, SHARDS = "parts", "shards"
_PLAN = "PLAN.json"
_COUNTS = ("images", "accepted", "rejected", "unreadable")
_MAX_ATTEMPTS = 3


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
        output: A folder; receives `shards/`, the listings, and `parts/`.
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
    if not (isinstance(num_shards, int) and num_shards > 0):
        raise ValueError(
            f"expected at least one shard. Received: num_shards={num_shards!r}"
        )
    batch_scoring.import_pyarrow()
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
    output = pathlib.Path(output).absolute()
    found = _find_plan(output, settings)
    if found is None:
        output.mkdir(parents=True, exist_ok=True)
        with files.lock_folder(output, wait=True):
            found = _find_plan(output, settings)
            if found is None:
                found = _make_plan(output, settings)
    # Where the model lies may differ from one machine to the next.
    path = str(pathlib.Path(model).absolute()) if os.path.exists(model) else str(model)
    return [
        Shard(
            model=path,
            model_sha256=digest,
            listing=str(output / SHARDS / name),
            output=str(output / PARTS / f"{name.removesuffix('.jsonl')}.parquet"),
            options=settings["options"],
        )
        for name in found["shards"]
    ]


def score_shard(
    shard: Shard,
    predictor: "Predictor | TFLitePredictor | ONNXPredictor | None" = None,
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
    pyarrow = batch_scoring.import_pyarrow()
    listing = pathlib.Path(shard.listing)
    about = {
        "model_sha256": shard.model_sha256,
        "listing_sha256": hashlib.sha256(listing.read_bytes()).hexdigest(),
        "options": shard.options,
    }
    output = pathlib.Path(shard.output)
    if output.exists():
        return _read_part(output, about)
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
    schema = batch_scoring.parquet_schema(probabilities)
    with (
        files.atomic_file(output) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, schema) as writer,
    ):
        for rows, _ in batch_scoring.score_batches(
            predictor, listing, (0, 0), threshold, options
        ):
            writer.write_table(
                pyarrow.Table.from_pylist(
                    [batch_scoring.as_written(row, probabilities) for row in rows],
                    schema,
                )
            )
            for row in rows:
                counts["images"] += 1
                counts[batch_scoring.outcome(row)] += 1
                if row["error"] is not None and counts["error"] is None:
                    counts["error"] = f"{row['path']}: {row['error']}"
        text = json.dumps({**about, "counts": counts})
        writer.add_key_value_metadata({batch_scoring.METADATA_KEY: text.encode()})
    return counts


def finish(shards: Iterable[Shard], output: Path) -> Json:
    """Writes `MANIFEST.json` where every part is there; returns its content.

    Raises:
        FileNotFoundError: a part is missing; the message names the first ones.
        ValueError: as `score_shard`.
    """
    shards, output = list(shards), pathlib.Path(output)
    missing = [shard.name for shard in shards if not os.path.exists(shard.output)]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(shards)} parts are missing in {output}: "
            f"{', '.join(missing[:5])}. Run the same command again"
        )
    parts = [score_shard(shard) for shard in shards]
    for unfinished in (output / PARTS).glob(".*.tmp*"):
        unfinished.unlink(missing_ok=True)  # Of processes that were killed.
    content = {
        "model_sha256": shards[0].model_sha256,
        "options": shards[0].options,
        **{name: sum(part[name] for part in parts) for name in _COUNTS},
        "left_out": inputs.read_left_out(output / SHARDS / "listing"),
        "parts": parts,
    }
    files.write_json(output / MANIFEST, content)
    return content


def score_shards(
    model: Path,
    paths: Iterable[Path],
    output: Path,
    *,
    num_shards: int,
    num_workers: int | None = None,
    engine: str = "local",
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
        progress: Whether to show a progress bar, on a terminal.
        **options: The other arguments of `plan`.

    Returns:
        The content of `MANIFEST.json`: counts over all and for each part.

    Raises:
        ImportError: Ray is not installed.
        RuntimeError: shards failed, after three attempts each where a process was
            killed; the message has the first errors. All other parts are there.
        ValueError: as for `plan`, or there is no such engine.
    """
    if engine not in _ENGINES:
        raise ValueError(
            f"`engine` must be one of {', '.join(_ENGINES)}. Received: {engine!r}"
        )
    shards = plan(model, paths, output, num_shards=num_shards, **options)
    waiting = [shard for shard in shards if not os.path.exists(shard.output)]
    failed: dict[str, str] = {}
    with batch_scoring.show_progress(progress, len(shards), unit="shard") as bar:
        bar.update(len(shards) - len(waiting))
        for shard, error in _ENGINES[engine](waiting, num_workers):
            if error is None:
                bar.update(1)
            else:
                failed[shard.name] = error
    if failed:
        first = "; ".join(f"{name}: {text}" for name, text in list(failed.items())[:3])
        raise RuntimeError(
            f"{len(failed)} of {len(shards)} shards failed ({first}). The others are "
            "written; give the same command again to try these once more"
        )
    return finish(shards, output)


Outcomes = Iterator[tuple[Shard, str | None]]


def _run_locally(shards: list[Shard], num_workers: int | None) -> Outcomes:
    """Yields `(shard, error or None)` as processes of this machine end them."""
    import concurrent.futures

    from ood_keras import machine

    num_workers = min(num_workers or machine.num_cores(), max(1, len(shards)))
    rounds_for_nothing = 0
    while shards:
        again = []
        with concurrent.futures.ProcessPoolExecutor(
            num_workers, multiprocessing.get_context("spawn"), _begin_worker
        ) as pool:
            running = {pool.submit(score_shard, shard): shard for shard in shards}
            for future in concurrent.futures.as_completed(running):
                shard = running[future]
                try:
                    future.result()
                except concurrent.futures.process.BrokenProcessPool:
                    # One that was killed takes the others' work with it.
                    again.append(shard)
                except Exception as error:
                    yield shard, f"{type(error).__name__}: {error}"
                else:
                    yield shard, None
        rounds_for_nothing += 1
        if len(again) < len(shards):
            rounds_for_nothing = 0
        shards = again
        if rounds_for_nothing == _MAX_ATTEMPTS:
            for shard in shards:
                yield shard, "its process was killed, for want of memory perhaps"
            return


def _run_on_ray(shards: list[Shard], num_workers: int | None) -> Outcomes:
    """Yields `(shard, error or None)` as tasks of a Ray cluster end them."""
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "engine='ray' needs Ray, which is not installed: pip install 'ray[default]'"
        ) from error
    if not ray.is_initialized():
        ray.init(num_cpus=num_workers, include_dashboard=False, log_to_driver=False)
    task = ray.remote(num_cpus=1, max_retries=_MAX_ATTEMPTS)(_work_on_ray)
    running = {task.remote(shard): shard for shard in shards}
    while running:
        (done, *_), _ = ray.wait(list(running), num_returns=1)
        shard = running.pop(done)
        try:
            ray.get(done)
        except Exception as error:
            yield (
                shard,
                f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}",
            )
        else:
            yield shard, None


_ENGINES: dict[str, Callable[[list[Shard], int | None], Outcomes]] = {
    "local": _run_locally,
    "ray": _run_on_ray,
}


def _work_on_ray(shard: Shard) -> Json:
    _use_one_thread()
    return score_shard(shard)


def _begin_worker() -> None:
    _use_one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Else the processes of a call that was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _use_one_thread() -> None:
    """Else the processes of a machine would each use all of its cores."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@functools.lru_cache(maxsize=1)
def _open(model: str) -> "Predictor | TFLitePredictor | ONNXPredictor":
    return loading.load(model)


def _find_plan(output: pathlib.Path, settings: Json) -> Json | None:
    """What an earlier call planned in this folder, or `None`."""
    path = output / _PLAN
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
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


def _make_plan(output: pathlib.Path, settings: Json) -> Json:
    folder = output / SHARDS
    folder.mkdir(exist_ok=True)
    listing = folder / "listing"
    inputs.write_listing(listing, settings["paths"])
    parts = inputs.split_listing(listing, folder, settings["num_shards"])
    listing.unlink()
    found = {"settings": settings, "shards": [part.name for part in parts]}
    files.write_json(output / _PLAN, found)
    return found


def _read_part(path: pathlib.Path, about: Json) -> Json:
    """The counts of a part that is there, after a look at what made it."""
    pyarrow = batch_scoring.import_pyarrow()
    metadata = pyarrow.parquet.read_metadata(path).metadata or {}
    found = json.loads(metadata.get(batch_scoring.METADATA_KEY, b"{}"))
    if {**found, "counts": None} != {**about, "counts": None}:
        raise ValueError(
            f"{path} is no part of this plan: it was written by another model, with "
            "other options, or of another shard. Move it away, or choose another folder"
        )
    return found["counts"]
