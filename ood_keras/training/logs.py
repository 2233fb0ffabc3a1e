"""The history of a run as `history.csv` and as TensorBoard event files.

Both are functions of the list of epochs, and writing them again gives the same epochs
again: a resumed run has none twice and misses none. TensorBoard gets one small file per
epoch, because it follows new files as they come but not a file that is replaced.
"""

import csv
import errno
import io
import pathlib
import time
from collections.abc import Mapping, Sequence

import tensorflow as tf

from ood_keras import files


def write(folder: pathlib.Path, history: Sequence[Mapping[str, float]]) -> None:
    """Writes the epochs `history` to `folder/history.csv` and `folder/logs/`.

    Args:
        folder: `pathlib.Path` of the run directory.
        history: One dict of numbers per epoch, all with the same keys, `epoch` first.

    Raises:
        OSError: a file could not be written; the old ones are untouched.
    """
    if not history:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    files.write_text(folder / "history.csv", text.getvalue())
    for row in history:
        for part, scalars in _parts(row).items():
            name = f"events.out.tfevents.{row['epoch']:010d}"
            path = folder / "logs" / part / name
            if not path.exists():
                _write_events(path, row["epoch"], scalars)


def _parts(row: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """`{"train": scalars, "validation": scalars}`; one name is one chart."""
    prefix = "val_"
    validation = {
        name.removeprefix(prefix): value
        for name, value in row.items()
        if name.startswith(prefix)
    }
    train = {
        name: value
        for name, value in row.items()
        if name != "epoch" and not name.startswith(prefix)
    }
    return {"train": train, "validation": validation}


def _write_events(
    path: pathlib.Path, step: float, scalars: Mapping[str, float]
) -> None:
    # tf.summary.scalar needs the tensorboard package; the file format does not.
    proto = tf.compat.v1
    summary = proto.Summary(
        value=[
            proto.Summary.Value(tag=name, simple_value=value)
            for name, value in scalars.items()
        ]
    )
    wall_time = time.time()
    events = (
        proto.Event(wall_time=wall_time, file_version="brain.Event:2"),
        proto.Event(wall_time=wall_time, step=step, summary=summary),
    )
    with files.atomic_file(path) as temporary:
        try:
            with tf.io.TFRecordWriter(str(temporary)) as writer:
                for event in events:
                    writer.write(event.SerializeToString())
        except tf.errors.OpError as error:
            raise OSError(errno.EIO, error.message) from error
