"""Files written whole or not at all.

Everything this package leaves on disk goes through here: the content is written to
a temporary neighbour, flushed, and renamed over the target, so that a kill, a full disk
or an exception leaves either the old file or the new one.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import tempfile

# What a killed process leaves is known by this, and by nobody's lock on it.
_UNFINISHED = ".ood_keras.tmp"


@contextlib.contextmanager
def atomic_file(path):
    """Yields a temporary path; renames it to `path` if the block succeeds.

    Raises:
        OSError: what the file system said, with the target's name and what to do.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path):
    """Yields a temporary folder; renames it to `path` if the block succeeds.

    The temporary folder lies beside `path` and is locked by this process until it is
    done. Those that killed processes left there are removed first.

    Raises:
        FileExistsError: `path` exists already; nothing is ever overwritten.
        OSError: what the file system said, with the target's name and what to do.
    """
    path = pathlib.Path(path)
    if path.exists():
        raise FileExistsError(
            f"{path} exists already and is never overwritten. Choose another folder "
            "(for an exported model: the next version number), or remove it first."
        )
    temporary = lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(path.parent)
        temporary, lock = _locked_directory(path)
        temporary.chmod(0o755)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def write_text(path, text):
    """Writes `text` to `path` as UTF-8, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Writes `value` to `path` as indented JSON, whole or not at all.

    Raises:
        ValueError: `value` holds NaN or infinity, which JSON cannot say.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _locked_directory(path):
    """Makes a temporary folder beside `path`; returns it and the lock's descriptor.

    The lock is the kernel's and ends with the process, however that ends.
    """
    while True:
        temporary = pathlib.Path(
            tempfile.mkdtemp(
                prefix=f".{path.name}.", suffix=_UNFINISHED, dir=path.parent
            )
        )
        # Until it is locked, another process may take it for a leftover.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(temporary, os.O_RDONLY)
            with contextlib.suppress(OSError):  # Some network disks have no locks.
                fcntl.flock(lock, fcntl.LOCK_EX)
            if temporary.exists():
                return temporary, lock
            os.close(lock)


def _remove_unfinished(folder):
    """Removes the temporary folders in `folder` that no living process has locked."""
    for leftover in folder.glob(f".*{_UNFINISHED}"):
        with contextlib.suppress(OSError):
            lock = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(leftover)
            finally:
                os.close(lock)


def _flush(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _explained(error, path):
    reason = error.strerror or str(error)
    return OSError(
        error.errno,
        f"could not write {path}: {reason}. Nothing was changed there; free space or "
        "choose a writable folder, then run the same command again",
    )
