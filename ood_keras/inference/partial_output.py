"""An output that is being written: what a killed run leaves, and goes on with."""

import contextlib
import errno
import json
import os
import pathlib
import time
from collections.abc import Iterator
from typing import IO, Any

from ood_keras import files
from ood_keras.inference import answer_files, inputs
from ood_keras.types import Json

_SAVE_EVERY = 2  # Seconds.


class PartialOutput:
    """The folder of an output that is being written.

    `rows` grows at its end; `state.json`, replaced as a whole, says how many bytes of
    it count, and where in `listing.jsonl` to read on after them; at last, how many
    bytes the output has that `rows`, or `rows.parquet` made of it, is renamed to.
    """

    def __init__(self, output: pathlib.Path) -> None:
        self.folder = output.with_name(f"{output.name}.partial")
        self.listing = self.folder / "listing.jsonl"
        self._output = output
        self._state, self._rows = self.folder / "state.json", self.folder / "rows"
        self._made = self._rows
        if output.suffix == ".parquet":
            self._made = self.folder / "rows.parquet"
        self._saved = time.monotonic()

    def is_begun(self) -> bool:
        """Whether an earlier run left something."""
        return self._state.is_file()

    def state(self, settings: Json) -> Json | None:
        """What an earlier run left; `None` if this is the first.

        If the output exists it is whole, and nothing but the folder is left to remove.
        """
        state: Any = json.loads(self._state.read_text()) if self.is_begun() else None
        # Through JSON, as the other went.
        settings = json.loads(json.dumps(settings))
        output_bytes = None
        if state is not None and not self._made.exists():
            output_bytes = state.get("output_bytes")
        if os.path.lexists(self._output):
            # A run with these settings was killed after it had renamed the output.
            if (
                output_bytes == self._output.lstat().st_size
                and settings == state["settings"]
            ):
                return state
            raise exists(self._output)
        if state is None or output_bytes is not None:
            return None
        if settings != state["settings"]:
            raise ValueError(
                f"{self.folder} was begun with other settings: "
                f"{_differences(state['settings'], settings)}. Run it with the same "
                "model and arguments, or remove that folder to begin again"
            )
        size = self._rows.stat().st_size if self._rows.is_file() else 0
        if size < state["bytes"]:
            raise ValueError(
                f"{self._rows} is shorter than it was: expected the {state['bytes']} "
                f"bytes that an earlier run wrote, received {size}. It was changed or "
                f"removed since; remove {self.folder} to begin again"
            )
        return state

    def begin(self, settings: Json, total: int | None, head: bytes) -> Json:
        """Writes what the rows begin with; returns the first state."""
        with open(self._rows, "wb") as file:
            file.write(head)
            state = {
                "settings": settings,
                "total": total,
                "counts": {"accepted": 0, "rejected": 0, "unreadable": 0},
                "position": (0, 0),
            }
            self.save(state, file)
        return state

    @contextlib.contextmanager
    def rows(self, state: Json) -> Iterator[IO[bytes]]:
        """Opens the rows behind the last one that counts."""
        try:
            with open(self._rows, "r+b") as file:
                file.truncate(state["bytes"])
                file.seek(state["bytes"])
                yield file
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise _explain(error, self._rows) from error

    def save_now_and_then(self, state: Json, file: IO[bytes]) -> None:
        """Saves the state unless that was done a moment ago."""
        if time.monotonic() - self._saved >= _SAVE_EVERY:
            self.save(state, file)

    def save(self, state: Json, file: IO[bytes]) -> None:
        """Saves the state, with the rows up to where the file is."""
        file.flush()
        os.fsync(file.fileno())
        state["bytes"] = file.tell()
        files.write_json(self._state, state)
        self._saved = time.monotonic()

    def finish(self, state: Json, probabilities: bool) -> None:
        """Makes the output of the rows."""
        if self._made != self._rows:
            with files.atomic_file(self._made) as temporary:
                answer_files.write_parquet(
                    self._rows, temporary, probabilities, state["settings"]["model"]
                )
        state["output_bytes"] = self._made.stat().st_size
        files.write_json(self._state, state)
        os.replace(self._made, self._output)
        self.remove()

    def remove(self) -> None:
        """Removes what is its own, the state last, and the folder if it is empty."""
        with contextlib.suppress(OSError):
            counts = inputs.left_out_path(self.listing)
            for path in (self.listing, counts, self._rows, self._made, self._state):
                for unfinished in self.folder.glob(f".{path.name}.*.tmp*"):
                    unfinished.unlink()
                path.unlink(missing_ok=True)
            self.folder.rmdir()


@contextlib.contextmanager
def hold(output: pathlib.Path) -> Iterator[PartialOutput]:
    """Yields the `PartialOutput` of an output, locked; removes one that stays empty."""
    partial = PartialOutput(output)
    try:
        partial.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _explain(error, partial.folder) from error
    with _lock(partial.folder, output):
        try:
            yield partial
        finally:
            if not partial.is_begun():
                partial.remove()


def exists(output: pathlib.Path) -> FileExistsError:
    """Returns the error for an output that is there already."""
    return FileExistsError(
        f"{output} exists already and is never overwritten. Choose another name, or "
        "remove it first"
    )


@contextlib.contextmanager
def _lock(folder: pathlib.Path, output: pathlib.Path) -> Iterator[None]:
    """Locks the folder, unless another process has or had it."""
    with contextlib.ExitStack() as held:
        try:
            descriptor = held.enter_context(files.lock_folder(folder))
            # Else the other one ended in this moment, and removed it.
            ours = descriptor is None or os.path.samestat(
                os.fstat(descriptor), os.stat(folder)
            )
        except (BlockingIOError, FileNotFoundError):
            ours = False
        except OSError as error:
            raise _explain(error, folder) from error
        if not ours:
            raise BlockingIOError(
                errno.EWOULDBLOCK,
                f"another process is writing {output}; wait until it ends",
            )
        yield


def _explain(error: OSError, path: pathlib.Path) -> OSError:
    return OSError(
        error.errno,
        f"could not write {path}: {error.strerror}. Free space or choose a writable "
        "folder, then run the same command again; it goes on where it was",
    )


def _differences(before: Json, now: Json) -> str:
    if before["model"] != now["model"]:
        return "the model was changed, or is another one"
    return "; ".join(
        f"{name} was {before.get(name)!r} and is {now[name]!r}"
        for name in now
        if before.get(name) != now[name]
    )
