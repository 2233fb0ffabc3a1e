"""The folder of one run: who may write in it, and which run it holds."""

import contextlib
import errno
import json
import os
import pathlib
import platform
import reprlib
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ood_keras import files
from ood_keras._version import __version__
from ood_keras.types import Json, Path

_LOCK = ".lock"
_RUN = "run.json"
# The folder of a first part of the training, a run of its own.
FIRST_PART = "frozen"
# What every version wrote down of what `training.fit` was given.
_ALWAYS = ("settings", "seed", "epochs", "model")

_short = reprlib.Repr()
_short.maxstring = 80


@contextlib.contextmanager
def open_run(run_dir: Path, run: Json) -> Iterator[pathlib.Path]:
    """Holds `run_dir` for this process alone, as the folder of the run `run`.

    A new or empty folder gets `run.json`; a folder that has one must hold the same run.
    The lock is the kernel's, so it ends with the process however that ends.

    Args:
        run_dir: Path of the folder.
        run: Plain JSON values: everything that decides what the run computes.

    Yields:
        The folder, a `pathlib.Path`.

    Raises:
        ValueError: the folder holds another run, or files that are no run, or is a URL.
        BlockingIOError: another process is training in the folder.
        OSError: the folder cannot be written.
        TypeError: `run` holds something that JSON cannot say.
    """
    files.check_local(run_dir)
    folder = pathlib.Path(run_dir)
    run = _as_json(run)
    check_folder(folder)
    with hold(folder):
        if (folder / _RUN).exists():
            _check_same(folder, run)
        else:
            files.write_json(folder / _RUN, {**run, "versions": _versions()})
        yield folder


def check_folder(folder: pathlib.Path) -> None:
    """Raises a ValueError if a folder holds files that are no run."""
    if (folder / _RUN).exists():
        return
    strangers = _entries(folder) - {_LOCK, FIRST_PART}
    if strangers:
        raise ValueError(
            f"{folder} is not empty and is no run: it has no {_RUN}, but "
            f"{sorted(strangers)[:3]}. Choose a new or empty folder as run_dir"
        )


@contextlib.contextmanager
def hold(run_dir: Path, doing: str = "training") -> Iterator[pathlib.Path]:
    """Holds `run_dir` for this process alone, and removes what killed ones left there.

    Args:
        run_dir: Path of the folder; made if it is not there.
        doing: What for, as others are told.

    Yields:
        The folder, a `pathlib.Path`.

    Raises:
        BlockingIOError: another process is at work in the folder.
        OSError: the folder cannot be written, or its disk has no locks.
    """
    folder = pathlib.Path(run_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / _LOCK, "a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write in the run directory {folder}: "
            f"{error.strerror}. Choose a writable folder as run_dir",
        ) from error
    with lock:
        try:
            held = files.lock(lock.fileno())
        except OSError as error:
            raise OSError(
                error.errno,
                f"{folder / _LOCK} cannot be locked ({error.strerror}), and two "
                "processes in one folder would spoil the run. Choose a run_dir on a "
                "disk that has locks, as local ones have",
            ) from error
        if not held:
            others, holder = _holder(folder)
            raise BlockingIOError(
                errno.EWOULDBLOCK,
                f"another process is {others} in {folder}{holder}. Wait until it ends, "
                "or choose another run_dir",
            )
        with contextlib.suppress(OSError):  # Only said to others.
            lock.truncate(0)
            lock.write(f"{doing}: process {os.getpid()} on {platform.node()}\n")
            lock.flush()
        _remove_leftovers(folder)
        yield folder


def _holder(folder: pathlib.Path) -> tuple[str, str]:
    """What the process that holds the lock is doing, and which one it is if it says."""
    try:
        text = (folder / _LOCK).read_text("utf-8").strip()
    except (OSError, ValueError):
        text = ""
    # An earlier version left it empty, and only trained.
    doing, colon, holder = text[:120].partition(": ")
    return (doing, f" ({holder})") if colon else ("training", "")


def _entries(folder: pathlib.Path) -> set[str]:
    if not folder.exists():
        return set()
    return {path.name for path in folder.iterdir() if not _is_leftover(path)}


def _is_leftover(path: pathlib.Path) -> bool:
    """Whether `path` is what `files.atomic_file` leaves when it is killed."""
    return path.name.startswith(".") and ".tmp" in path.suffixes


def _remove_leftovers(folder: pathlib.Path) -> None:
    """Removes what killed processes left of the files that runs have."""
    ours = (
        ".*.json.*",
        ".*.npz.*",
        ".history.csv.*",
        ".model.keras.*",
        ".report.html.*",
        "checkpoints/.*",
        "detectors/.*",
        "features/.*",
        "figures/.*",
        "logs/*/.*",
        "samples/.*",
    )
    for pattern in ours:
        for path in folder.glob(pattern):
            if _is_leftover(path):
                path.unlink()


def _as_json(run: Json) -> Json:
    try:
        return json.loads(json.dumps(run, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(
            "`settings`, and what `data.get_config()` returns, must be plain JSON "
            "values (text, finite numbers, true, false, null, lists, dicts with text "
            f"keys): {error}"
        ) from error


def read(run_dir: Path) -> Json:
    """Returns what `run.json` of a folder says, a dict.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not what `open_run` wrote, as after an edit by hand.
    """
    path = pathlib.Path(run_dir) / _RUN
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(run, dict):
            raise ValueError(f"it holds a {type(run).__name__} and no object")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not the {_RUN} of a run ({error}). Put it back as it was, or "
            "choose another run_dir"
        ) from error
    return run


def _check_same(folder: pathlib.Path, run: Json) -> None:
    there = read(folder)
    versions = there.pop("versions", None)
    if not isinstance(versions, dict):
        raise ValueError(
            f"{folder / _RUN} is not the {_RUN} of a run (it has no versions). Put it "
            "back as it was, or choose another run_dir"
        )
    # An earlier version wrote less down, and its runs go on.
    compared = {
        name: value for name, value in run.items() if name in there or name in _ALWAYS
    }
    differences = list(_differences(there, compared))
    if differences:
        shown = "; ".join(differences[:3])
        more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ValueError(
            f"{folder} holds another run: {shown}{more}. Choose another run_dir, give "
            "the old settings again to resume that run, or delete the folder to "
            "start afresh"
        )
    changed = list(_differences(versions, _versions()))
    if changed:
        warnings.warn(
            f"{folder} was started with other versions ({'; '.join(changed)}): the "
            "result may differ in the last bits from that of an uninterrupted run",
            stacklevel=2,
        )


def _differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Yields a text for each place where two JSON values differ."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*there, *(key for key in here if key not in there)]:
            path = f"{name}.{key}" if name else key
            if key not in here:
                yield f"{path} is {_short.repr(there[key])} there and missing here"
            elif key not in there:
                yield f"{path} is missing there and {_short.repr(here[key])} here"
            else:
                yield from _differences(there[key], here[key], path)
    elif there != here:
        yield f"{name} is {_short.repr(there)} there and {_short.repr(here)} here"


def _versions() -> dict[str, str]:
    backend = keras.backend.backend()
    others = {} if backend == "tensorflow" else {"backend": backend}
    return {
        **others,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "ood_keras": __version__,
    }
