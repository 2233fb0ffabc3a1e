"""Answers in files: CSV, JSON lines and Parquet."""

import csv
import io
import itertools
import json
from collections.abc import Iterable
from typing import Any

from ood_keras import names
from ood_keras.types import Json, Path

FORMATS = (".csv", ".jsonl", ".parquet")
COLUMNS = (
    "path",
    "index",
    "class_id",
    "label",
    "ood_score",
    "accepted",
    "valid",
    "error",
)
# Of what a Parquet file says of the model that made it, JSON.
METADATA_KEY = b"ood_keras"
_ROW_GROUP = 2**16


def head(suffix: str, class_names: Iterable[str], probabilities: bool) -> bytes:
    """What a file begins with: of CSV, the names of its columns.

    Args:
        suffix: Of the file, one of `FORMATS`.
        class_names: The names of the classes.
        probabilities: Whether each class has a column.
    """
    if suffix != ".csv":
        return b""
    classes = class_names if probabilities else []
    columns = [names.printable(f"probability_{name}") for name in classes]
    return _csv_lines([[*COLUMNS, *columns]])


def as_written(row: Json, probabilities: bool, suffix: str = ".parquet") -> Json:
    """A row as files have it: text that any reader can read, and no more columns.

    Args:
        row: A row of `score`.
        probabilities: Whether to keep the probability of each class.
        suffix: Of the file, one of `FORMATS`.
    """
    written = {
        **row,
        "path": names.printable(row["path"]),
        "error": row["error"] and names.printable(row["error"]),
        "label": (names.printable if suffix == ".csv" else names.valid)(row["label"]),
    }
    keys = (*COLUMNS, "probabilities") if probabilities else COLUMNS
    return {key: written[key] for key in keys}


def encode(suffix: str, rows: Iterable[Json], probabilities: bool) -> bytes:
    """The rows as the bytes of CSV, or of JSON lines, of which Parquet is made too.

    Args:
        suffix: Of the file, one of `FORMATS`.
        rows: Rows of `score`.
        probabilities: Whether to keep the probability of each class.
    """
    rows = [as_written(row, probabilities, suffix) for row in rows]
    if suffix != ".csv":
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        return "".join(f"{line}\n" for line in lines).encode()
    for row in rows:
        for name in ("accepted", "valid"):
            row[name] = str(row[name]).lower()
    return _csv_lines(
        [
            *(row[name] for name in COLUMNS),
            *(row["probabilities"] if probabilities else ()),
        ]
        for row in rows
    )


def _csv_lines(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def parquet_schema(probabilities: bool) -> Any:
    """The columns of a Parquet file of answers, a `pyarrow.Schema`."""
    pyarrow = import_pyarrow()
    types = {
        "path": pyarrow.string(),
        "index": pyarrow.int64(),
        "class_id": pyarrow.int32(),
        "label": pyarrow.string(),
        "ood_score": pyarrow.float32(),
        "accepted": pyarrow.bool_(),
        "valid": pyarrow.bool_(),
        "error": pyarrow.string(),
    }
    if probabilities:
        types["probabilities"] = pyarrow.list_(pyarrow.float32())
    return pyarrow.schema(types)


def write_parquet(
    rows: Path, path: Path, probabilities: bool, model_sha256: str
) -> None:
    """Turns JSON lines into a Parquet file, a row group at a time.

    Args:
        rows: The file of JSON lines, as `encode` makes them.
        path: The file to write.
        probabilities: Whether the lines have the probability of each class.
        model_sha256: What the file says of the model.
    """
    pyarrow = import_pyarrow()
    about = json.dumps({"model_sha256": model_sha256}).encode()
    schema = parquet_schema(probabilities).with_metadata({METADATA_KEY: about})
    with (
        open(rows, encoding="utf-8") as file,
        pyarrow.parquet.ParquetWriter(path, schema) as writer,
    ):
        while lines := list(itertools.islice(file, _ROW_GROUP)):
            table = pyarrow.Table.from_pylist(list(map(json.loads, lines)), schema)
            writer.write_table(table)


def import_pyarrow() -> Any:
    """Returns the module `pyarrow`, with `pyarrow.parquet`.

    Raises:
        ImportError: it is not installed; the message says what to do.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Parquet files need pyarrow, which is not installed: pip install "
            "pyarrow; or write .csv or .jsonl"
        ) from error
    return pyarrow
