"""The state of a run on disk: one file, whole and verified, the last two kept.

A checkpoint is an uncompressed `.npz` of plain arrays and one JSON text, never a
pickle. Its name is its place in the run, `EPOCHS-STEP.npz`: epochs completed, and steps
into the next one.
"""

import dataclasses
import json
import pathlib
import warnings
import zipfile

import numpy as np

from ood_keras import files
from ood_keras.types import Json, Path

_KEPT = 2
_DETAILS = "details"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One moment of a run.

    Attributes:
        epoch: Completed epochs.
        step: Steps taken in the epoch after them.
        arrays: `{name: np.ndarray}`, everything the run computes with.
        details: Plain JSON values, the run's bookkeeping.
    """

    epoch: int
    step: int
    arrays: dict[str, np.ndarray]
    details: Json


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes `checkpoint` into `folder`, then removes all but the last two there.

    Raises:
        OSError: the file could not be written; the earlier ones are untouched.
    """
    path = path_of(folder, checkpoint.epoch, checkpoint.step)
    text = json.dumps(
        {
            "epoch": checkpoint.epoch,
            "step": checkpoint.step,
            "details": checkpoint.details,
        }
    )
    with files.atomic_file(path) as temporary:
        details = np.frombuffer(text.encode(), np.uint8)
        files.write_arrays(temporary, {**checkpoint.arrays, _DETAILS: details})
    for old in _paths(folder)[:-_KEPT]:
        old.unlink()


def path_of(folder: Path, epoch: int, step: int) -> pathlib.Path:
    """The path of the checkpoint of one moment."""
    return pathlib.Path(folder) / f"{epoch:05d}-{step:08d}.npz"


def read_newest(folder: Path) -> Checkpoint | None:
    """Returns the newest checkpoint in `folder` that is intact, or `None`.

    Every byte is verified against the CRC-32 stored with it. A damaged file is removed
    with a warning and the one before it is taken.
    """
    for path in reversed(_paths(folder)):
        try:
            return _read(path)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # A damaged zip raises nearly anything.
            warnings.warn(
                f"the checkpoint {path} is damaged ({error}) and was removed; "
                "continuing from the one before it, or from the start",
                stacklevel=2,
            )
            path.unlink()
    return None


def _read(path):
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"bad CRC-32 in {damaged}")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return Checkpoint(arrays=arrays, **json.loads(arrays.pop(_DETAILS).tobytes()))


def _paths(folder: Path) -> list[pathlib.Path]:
    return sorted(pathlib.Path(folder).glob("[0-9]*-[0-9]*.npz"))
