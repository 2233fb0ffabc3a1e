"""Scores any number of images with an exported model, in constant memory, resumably."""

import concurrent.futures
import contextlib
import os
import pathlib
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ood_keras import files, names
from ood_keras._version import __version__
from ood_keras.conventions import UNKNOWN, UNKNOWN_LABEL
from ood_keras.inference import answer_files, answers, inputs, partial_output
from ood_keras.types import Answer, Json, Path

if TYPE_CHECKING:
    from ood_keras.inference.edge_predictor import EdgePredictor
    from ood_keras.inference.predictor import Predictor

UNDECODABLE = "no PNG or JPEG image, or damaged, or larger than is read"
_NO_ANSWER = "the model gives no finite answer"

_BATCH_SIZE = 256
_BATCH_BYTES = 2**26


def score(
    predictor: "Predictor | EdgePredictor",
    paths: Iterable[Path],
    *,
    threshold: float | str | None = None,
    feature: str | None = None,
    raw_records: bool = False,
    left_out: dict[str, int] | None = None,
) -> Iterator[Json]:
    """Yields a row for every image, in constant memory.

    Args:
        predictor: What `export.load` returns: of a SavedModel, a TFLite or an ONNX
            file.
        paths: A list of image files (PNG, JPEG), IDX files of unsigned bytes, TFRecord
            files, the latter two packed by gzip or zlib or not, folders, which are
            searched at any depth, and globs. Files are recognised by their bytes.
        threshold: Largest accepted `ood_score`, a number or the name of an operating
            point of the model; `None` takes the model's own.
        feature: Of `tf.train.Example`s in TFRecord files, the bytes feature that holds
            the encoded image; `None` takes `image/encoded`, else `image`.
        raw_records: Whether records of TFRecord files are the encoded images
            themselves.
        left_out: A dict that receives how many files of folders and globs are of other
            kinds, before the first row: `{".heic (HEIC)": 5}`.

    Yields:
        A dict: `path`, `index` within an IDX or TFRecord file or `None`, `class_id`
        (-1 when rejected), `label`, `ood_score` (higher means more likely unknown;
        `None` where there is none), `accepted`, `valid` (whether there was an image to
        look at), `error` (why not, or `None`), `probabilities` (a list of N floats).

    Raises:
        FileNotFoundError: a path does not exist, or leads to no images.
        TypeError: `paths` is one path and no list, or `threshold` is no single number.
        ValueError: an IDX file among `paths` holds other images than the model takes,
            or there is no such operating point.

    Example:

    >>> predictor = export.load("mnist")
    >>> for row in export.score(predictor, ["pictures/", "more/*.png"]):
    ...     print(row["path"], row["label"], row["error"] or row["ood_score"])
    """
    options: Json = {"feature": feature, "raw_records": raw_records}
    paths = inputs.as_texts(paths)
    check_first(predictor, paths, threshold, options)
    with tempfile.TemporaryDirectory(prefix=files.TEMPORARY) as folder:
        listing = pathlib.Path(folder) / "listing.jsonl"
        inputs.write_listing(listing, paths)
        if left_out is not None:
            left_out.update(inputs.read_left_out(listing))
        for rows, _ in score_batches(predictor, listing, (0, 0), threshold, options):
            yield from rows


def score_to_file(
    predictor: "Predictor | EdgePredictor",
    paths: Iterable[Path],
    output: Path,
    *,
    threshold: float | str | None = None,
    feature: str | None = None,
    raw_records: bool = False,
    probabilities: bool = False,
    progress: bool = False,
) -> Json:
    """Writes a row for every image to a file; a killed run goes on where it was.

    Until it is done everything is in the folder `OUTPUT.partial`; the same call again
    continues there and ends with the same file as a run that was never stopped. What is
    to be read is listed at the beginning: images added later are not in the output.

    Args:
        predictor, paths, threshold, feature, raw_records: As for `score`.
        output: A file that does not exist, `*.csv`, `*.jsonl` or `*.parquet`.
        probabilities: Whether to write the probability of each class too.
        progress: Whether to show a progress bar, on a terminal.

    Returns:
        `{"images", "accepted", "rejected", "unreadable", "images_per_second"}`, the
        counts for the whole output, the speed of this call; and `"left_out"` as for
        `score`, if there is anything.

    Raises:
        BlockingIOError: another process is writing this output.
        FileExistsError: `output` exists.
        FileNotFoundError: a path does not exist, or leads to no images.
        ImportError: `pyarrow`, which writes Parquet, is not installed.
        TypeError: as for `score`.
        ValueError: as for `score`; or `output` is a URL or has no known extension; or
            the output was begun with another model or other arguments.

    Example:

    >>> predictor = export.load("mnist")
    >>> export.score_to_file(predictor, ["pictures/"], "answers.csv")
    {'images': 10000, 'accepted': 9512, 'rejected': 486, 'unreadable': 2, ...}
    """
    files.check_local(output)
    output, paths = pathlib.Path(output), inputs.as_texts(paths)
    options: Json = {"feature": feature, "raw_records": raw_records}
    _check_output(output)
    relative = not all(os.path.isabs(path) for path in paths)
    settings = {
        "model": predictor.manifest["manifest_sha256"],
        "paths": paths,
        "folder": os.getcwd() if relative else None,
        "threshold": as_json(threshold, predictor.operating_points),
        **options,
        "probabilities": probabilities,
        "ood_keras": __version__,
    }
    with partial_output.hold(output) as partial:
        state = partial.state(settings)
        if state is not None and os.path.lexists(output):
            partial.remove()
            return _counts(state, 0.0)
        if state is None:
            check_first(predictor, paths, threshold, options)
            total = inputs.write_listing(partial.listing, paths)
            head = answer_files.head(
                output.suffix, predictor.class_names, probabilities
            )
            state = partial.begin(settings, total, head)
        start, done = time.monotonic(), sum(state["counts"].values())
        position = tuple(state["position"])
        batches = score_batches(
            predictor, partial.listing, position, threshold, options
        )
        with (
            show_progress(progress, state["total"], done) as bar,
            partial.rows(state) as file,
        ):
            for rows, position in batches:
                file.write(answer_files.encode(output.suffix, rows, probabilities))
                for row in rows:
                    state["counts"][outcome(row)] += 1
                state["position"] = position
                partial.save_now_and_then(state, file)
                bar.update(len(rows))
            partial.save(state, file)
        seconds = max(time.monotonic() - start, 1e-9)
        state["left_out"] = inputs.read_left_out(partial.listing)
        partial.finish(state, probabilities)
    return _counts(state, (sum(state["counts"].values()) - done) / seconds)


def summary(counts: Json) -> str:
    """The counts that `score_to_file` returns, in a line or two."""
    lines = [
        f"{counts['images']:,} images: {counts['accepted']:,} accepted, "
        f"{counts['rejected']:,} rejected, {counts['unreadable']:,} unreadable"
    ]
    if "images_per_second" in counts:
        lines[0] += f"; {counts['images_per_second']:,.0f} images/s"
    if counts.get("left_out"):
        lines.append(names.printable(f"left out {inputs.describe(counts['left_out'])}"))
    return "\n".join(lines)


def count_rows(rows: Iterable[Json], counts: Json) -> Iterator[Json]:
    """Yields the rows on, and adds them up in the dict `counts` as they pass."""
    start = time.monotonic()
    counts |= {"images": 0, "accepted": 0, "rejected": 0, "unreadable": 0}
    for row in rows:
        counts["images"] += 1
        counts[outcome(row)] += 1
        yield row
    seconds = max(time.monotonic() - start, 1e-9)
    counts["images_per_second"] = counts["images"] / seconds


def _counts(state: Json, images_per_second: float) -> Json:
    counts = state["counts"]
    images = sum(counts.values())
    left_out = {"left_out": state["left_out"]} if state.get("left_out") else {}
    speed = {"images_per_second": images_per_second}
    return {"images": images, **counts, **speed, **left_out}


def as_json(
    threshold: float | str | None, points: Mapping[str, float]
) -> float | str | None:
    """The threshold as a number that two calls can be compared by."""
    if threshold is None:
        return None
    value = answers.threshold_value(threshold, points)
    return value if np.isfinite(value) else str(value)  # JSON has no infinity.


def outcome(row: Json) -> str:
    if row["valid"]:
        return "accepted" if row["accepted"] else "rejected"
    return "unreadable"


def check_first(
    predictor: "Predictor | EdgePredictor",
    paths: list[str],
    threshold: float | str | None,
    options: Json,
) -> None:
    """Raises now what would otherwise be found in the middle."""
    if threshold is not None:
        answers.threshold_value(threshold, predictor.operating_points)
    if options["feature"] is not None and options["raw_records"]:
        raise ValueError(
            "records are either tf.train.Examples with a feature or encoded images "
            f"themselves. Received: feature={options['feature']!r} and raw_records"
        )
    inputs.check(paths)
    inputs.check_shapes(paths, predictor.image_shape)


def score_batches(
    predictor: "Predictor | EdgePredictor",
    listing: pathlib.Path,
    position: tuple[int, int],
    threshold: float | str | None,
    options: Json,
) -> Iterator[tuple[list[Json], tuple[int, int]]]:
    """Yields `(rows, position after them)`, batch by batch."""
    image_bytes = 4 * int(np.prod(predictor.image_shape))
    size = max(1, min(_BATCH_SIZE, _BATCH_BYTES // image_bytes))
    stream = inputs.items(
        listing,
        position,
        predictor.image_shape,
        exif_orientation=getattr(predictor, "exif_orientation", True),
        **options,
    )
    prepared = (
        (batch, _prepare(predictor, batch)) for batch in inputs.group(stream, size)
    )
    for batch, contents in _ahead(prepared):
        rows = [_row_of_error(item, predictor) for item in batch]
        readable = [row for row, item in enumerate(batch) if item.error is None]
        if readable:
            if isinstance(contents, list):
                answer = predictor.predict_bytes(contents, threshold=threshold)
            else:
                answer = predictor.predict(contents, threshold=threshold)
            for row, found in zip(readable, _rows(answer), strict=True):
                rows[row] |= found
        yield rows, batch[-1].position


def _prepare(
    predictor: "Predictor | EdgePredictor", batch: list[inputs.Item]
) -> np.ndarray | list:
    """What the model is given for a batch: images, or a list of files to decode."""
    contents: list[Any] = [item.content for item in batch if item.error is None]
    if contents and isinstance(contents[0], np.ndarray):
        return np.stack(contents).astype(np.float32) / 255
    return predictor.decode(contents) if hasattr(predictor, "decode") else contents


def _ahead(iterator: Iterable[Any]) -> Iterator[Any]:
    """Yields from an iterator whose next value a thread makes meanwhile."""
    iterator = iter(iterator)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, iterator, None)
        while (value := coming.result()) is not None:
            coming = pool.submit(next, iterator, None)
            yield value


def _rows(answer: Answer) -> Iterator[Json]:
    """The answer for a batch as one dict for each image, without numpy's types."""
    # All digits, so that a reader in float64 too finds it above or below a threshold.
    scores = answer["ood_score"].tolist()
    # By way of the text, the shortest number that means this float32 is written.
    probabilities = answer["probabilities"].astype(str).astype(np.float64).tolist()
    usable: Any = answer["probabilities"].any(axis=1).tolist()
    for row, valid in enumerate(answer["valid"].tolist()):
        yield {
            "class_id": int(answer["class_id"][row]),
            "label": answer["label"][row],
            "ood_score": scores[row] if usable[row] else None,
            "accepted": bool(answer["accepted"][row]),
            "valid": valid,
            "error": None if usable[row] else _NO_ANSWER if valid else UNDECODABLE,
            "probabilities": probabilities[row],
        }


def _row_of_error(item: inputs.Item, predictor: "Predictor | EdgePredictor") -> Json:
    return {
        "path": item.path,
        "index": item.index,
        "class_id": UNKNOWN,
        "label": UNKNOWN_LABEL,
        "ood_score": None,
        "accepted": False,
        "valid": False,
        "error": item.error,
        "probabilities": [0.0] * len(predictor.class_names),
    }


def _check_output(output: pathlib.Path) -> None:
    if output.suffix not in answer_files.FORMATS:
        raise ValueError(
            "the extension of the output says its format: "
            f"{', '.join(answer_files.FORMATS)}. Received: {output}"
        )
    if os.path.lexists(output) and not partial_output.PartialOutput(output).is_begun():
        raise partial_output.exists(output)
    if output.suffix == ".parquet":
        answer_files.import_pyarrow()


def show_progress(
    progress: bool, total: int | None, done: int = 0, unit: str = "image"
) -> Any:
    """A bar with `update` and `write`, a context manager; none unless `progress`.

    The bar is shown on a terminal alone, what it writes in any case.
    """
    if not progress:
        return contextlib.nullcontext(_NoBar)
    from tqdm import tqdm

    # None: only on a terminal.
    return tqdm(total=total, initial=done, unit=unit, smoothing=0.1, disable=None)


class _NoBar:
    @staticmethod
    def update(count):
        pass

    @staticmethod
    def write(text, file=None):
        pass
