"""Files written whole or not at all, and locks on them.

Everything this package leaves on disk goes through here: the content is written to
a temporary neighbour, flushed, and renamed over the target, so that a kill, a full disk
or an exception leaves either the old file or the new one.

All locks are taken here too, by the package `filelock` and so on any system. A lock is
the kernel's, on an open file: it ends with the process, however that ends, and a lock
file that was left behind holds nobody up.
"""

import contextlib
import errno
import json
import os
import pathlib
import re
import secrets
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import filelock

if TYPE_CHECKING:
    import numpy as np

    from ood_keras.types import Path

# What a killed process leaves is known by this, and by nobody's lock on it.
_UNFINISHED = ".ood_keras.tmp"


# How the names of folders in the system's folder for temporary files begin.
TEMPORARY = "ood_keras_"
_DISK_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS)

# Also of what `pathlib` made of a URL; a drive has one letter.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

# Folders cannot be opened everywhere.
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)


def check_local(path: "Path") -> None:
    """Raises unless a path to write to is one of this machine.

    Without it, a URL would become the folders `./s3:/BUCKET` here.

    Args:
        path: The path, before anything was made of it.

    Raises:
        ValueError: it is a URL.
    """
    if _URL.match(os.fsdecode(path)):
        raise ValueError(
            f"expected a file or folder of this machine to write to. Received: {path}. "
            "Only the parts of ood-predict --shards are written to a URL; write here, "
            "and copy it there when it is done"
        )


def lock(descriptor: int, *, wait: bool = False) -> bool:
    """Locks an open file, or folder where those can be opened, for this process alone.

    The lock ends when the descriptor is closed, in this process and in those that
    inherited it, or when they end.

    Args:
        descriptor: Of the open file.
        wait: Whether to wait while another process has the lock.

    Returns:
        Whether it is held; `False` if another process has it.

    Raises:
        OSError: files have no locks there, as on some network disks.
    """
    return filelock.lock_descriptor(descriptor, blocking=wait)


@contextlib.contextmanager
def lock_folder(path: "Path", *, wait: bool = False) -> Iterator[int | None]:
    """Locks a folder for this process alone, as far as folders can be locked there.

    Args:
        path: The folder.
        wait: Whether to wait while another process has the lock.

    Yields:
        The descriptor of the folder, or `None` where folders cannot be opened.

    Raises:
        BlockingIOError: another process has the lock.
    """
    try:
        descriptor = os.open(path, _FOLDER)
    except PermissionError:
        if os.name != "nt":
            raise
        yield None
        return
    try:
        held = True
        with contextlib.suppress(OSError):  # Some network disks have no locks.
            held = lock(descriptor, wait=wait)
        if not held:
            raise BlockingIOError(errno.EWOULDBLOCK, f"{path} is locked")
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(path: "Path") -> Iterator[pathlib.Path]:
    """Yields a temporary path; renames it to `path` if the block succeeds.

    Raises:
        OSError: what the file system said, with the target's name and what to do.
        ValueError: `path` is a URL.
    """
    check_local(path)
    path = pathlib.Path(path)
    # Neither another machine's process of the same number nor a thread meets it.
    own = f"{os.getpid()}_{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name}.{own}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except Exception as error:
        explained = _explain(error, path)
        if explained is None:
            raise
        raise explained from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: "Path") -> Iterator[pathlib.Path]:
    """Yields a temporary folder; renames it to `path` if the block succeeds.

    The temporary folder lies beside `path` and is locked by this process until it is
    done. Those that killed processes left there are removed first.

    Raises:
        FileExistsError: `path` exists already, or does by the end of the block; nothing
            is ever overwritten.
        BlockingIOError: another process is writing `path`.
        OSError: what the file system said, with the target's name and what to do.
        ValueError: `path` is a URL.
    """
    check_local(path)
    path = pathlib.Path(path)
    if path.exists():
        raise _exists_error(path)
    temporary = held = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(path)
        temporary, held = _make_locked_directory(path)
        temporary.chmod(0o755)
        yield temporary
        if path.exists():  # An empty folder would be replaced.
            raise _exists_error(path)
        try:
            os.replace(temporary, path)
        except OSError as error:
            raise (_exists_error(path) if path.exists() else error) from error
    except (FileExistsError, BlockingIOError):
        raise
    except Exception as error:
        explained = _explain(error, path)
        if explained is None:
            raise
        raise explained from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if held is not None:
            held.close()


def write_text(path: "Path", text: str) -> None:
    """Writes `text` to `path` as UTF-8, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: "Path", value: Any) -> None:
    """Writes `value` to `path` as indented JSON, whole or not at all.

    Raises:
        ValueError: `value` holds NaN or infinity, which JSON cannot say.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_arrays(
    file: "Path | BinaryIO",
    arrays: "Mapping[str, np.ndarray]",
    *,
    compressed: bool = False,
) -> None:
    """Writes arrays as an `.npz` file that `numpy.load` reads.

    In place of `numpy.savez`: it never pickles, the same arrays give the same bytes,
    and it works whatever this machine's clock says, which zip files hold from 1980 to
    2107 only.

    Args:
        file: A path, used as it is, or an open binary file.
        arrays: `{name: array}`.
        compressed: Whether to compress them.

    Raises:
        ValueError: an array holds Python objects.
    """
    import numpy as np

    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = method
            entry.external_attr = 0o600 << 16
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(
                    member, np.asanyarray(array), allow_pickle=False
                )


def check_clock() -> None:
    """Raises unless this machine's clock says a time that Keras' zip files can hold.

    Raises:
        ValueError: the year is not from 1980 to 2107.
    """
    now = time.localtime(time.time())
    if not 1980 <= now.tm_year <= 2107:
        raise ValueError(
            f"this machine's clock says {time.strftime('%Y-%m-%d', now)}, which a "
            ".keras file, a zip file, cannot hold: it knows 1980 to 2107. Set the "
            "clock, then run the same command again"
        )


def _make_locked_directory(
    path: pathlib.Path,
) -> tuple[pathlib.Path, contextlib.ExitStack]:
    """Makes a temporary folder beside `path`; returns it and what closes its lock."""
    while True:
        temporary = pathlib.Path(
            tempfile.mkdtemp(
                prefix=f".{path.name}.", suffix=_UNFINISHED, dir=path.parent
            )
        )
        # Until it is locked, another process may take it for a leftover.
        with contextlib.suppress(FileNotFoundError):
            held = contextlib.ExitStack()
            held.enter_context(lock_folder(temporary, wait=True))
            if temporary.exists():
                return temporary, held
            held.close()


def _remove_unfinished(path: pathlib.Path) -> None:
    """Removes what killed processes left beside `path`: the folders nobody has locked.

    Raises:
        BlockingIOError: a living process is writing `path`.
    """
    prefix = f".{path.name}."
    for leftover in path.parent.glob(f".*{_UNFINISHED}"):
        is_ours = (
            leftover.name.startswith(prefix)
            and "." not in leftover.name[len(prefix) : -len(_UNFINISHED)]
        )
        held = True
        with contextlib.suppress(OSError):
            descriptor = os.open(leftover, _FOLDER | getattr(os, "O_NOFOLLOW", 0))
            try:
                held = lock(descriptor)
                if held:
                    shutil.rmtree(leftover)
            finally:
                os.close(descriptor)
        if is_ours and not held:
            raise BlockingIOError(
                errno.EWOULDBLOCK,
                f"another process is writing {path}. Wait until it ends, or choose "
                "another folder (for an exported model: another version number)",
            )


def _exists_error(path: pathlib.Path) -> FileExistsError:
    return FileExistsError(
        f"{path} exists already and is never overwritten. Choose another folder "
        "(for an exported model: the next version number), or remove it first."
    )


def _flush(path: pathlib.Path) -> None:
    with open(path, "r+b") as file:  # Windows flushes only what may be written.
        os.fsync(file.fileno())


def _explain(error, path):
    """What to raise in place of an error if a disk is at fault, naming `path`.

    TensorFlow, for one, has errors of its own for a full disk.
    """
    code, reason = getattr(error, "errno", None), None
    if isinstance(error, OSError):
        # A folder is explained around the file in it that could not be written.
        reason = getattr(error, "reason", None) or error.strerror or str(error)
    else:
        text = str(error)
        code = next((code for code in _DISK_ERRORS if os.strerror(code) in text), None)
        if code is None:
            return None
        reason = os.strerror(code)
        ours = os.path.join(tempfile.gettempdir(), TEMPORARY)
        if ours in text:
            reason += (
                f", in the folder for temporary files, {tempfile.gettempdir()} (the "
                "environment variable TMPDIR names another)"
            )
    explained = OSError(
        code,
        f"could not write {path}: {reason}. Nothing was changed there; free space or "
        "choose a writable folder, then run the same command again",
    )
    explained.reason = reason
    return explained
