"""Runs a study: each run in a process of its own, one after the other or on Ray."""

import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING

from ood_keras import engines, files
from ood_keras.study import summary as study_summary
from ood_keras.types import Json, Path

if TYPE_CHECKING:
    from ood_keras.study.grid import Run, Study

WORKER = (sys.executable, "-m", "ood_keras.study.worker")

# How long a run may still be held by a process that is ending.
_PATIENCE_SECONDS = 10


def run_study(
    study: "Study",
    *,
    data_dir: Path | None,
    output_dir: Path,
    runs_dir: Path,
    only: str | None = None,
    seeds: Sequence[int] | None = None,
    plugins: Sequence[str] = (),
    study_file: Path | None = None,
    worker: Sequence[str] = WORKER,
    engine: str | None = None,
    num_workers: int | None = None,
    say: Callable[[str], object] = print,
) -> list[str]:
    """Runs all that is not finished, and writes `summary.json` after each run.

    A run that fails leaves `failure.json`, and the next one begins; a run that another
    process holds is left to it. After a kill, the same call goes on where it was.
    With an engine, runs go side by side, and one whose process or machine is lost goes
    on elsewhere: all folders must be found under the same paths on every machine.

    Args:
        study: A `study.Study`.
        data_dir: The folder of the data sets.
        output_dir: Receives small results.
        runs_dir: Receives weights, checkpoints and logs.
        only: Patterns of the runs' names; see `Study.runs`.
        seeds: The seeds to run; `None` for all.
        plugins: Modules that the process of each run imports first, by name, see
            `plugins.load`.
        study_file: The file that the study comes from, run by each process first, so
            that what it imports or registers is known there.
        worker: The command that does one run.
        engine: "local" or "ray", see `engines.run`; `None` takes one run after the
            other.
        num_workers: How many runs at a time, with an engine.
        say: Where progress goes, a function of a line.

    Returns:
        The names of the runs that failed.

    Raises:
        ImportError: Ray is not installed.
        ValueError: the study names a detector or a source that is not known here, or
            there is no such engine.
    """
    check_names(study)
    if engine is not None:
        engines.check(engine)
    prepare = {
        "plugins": list(plugins),
        "study_file": None if study_file is None else str(study_file),
    }
    output_dir, runs_dir = pathlib.Path(output_dir), pathlib.Path(runs_dir)
    chosen = study.runs(only, seeds)
    waiting = [
        run for run in chosen if study_summary.status(run, output_dir) != "finished"
    ]
    say(
        f"{study.name}: {len(chosen)} runs, of which {len(chosen) - len(waiting)} were "
        f"finished before. Logs: {runs_dir}/KNOWN/TRAINING/seed_K.log"
    )
    study_summary.write(study, output_dir)
    failed, started, epochs_done = [], time.monotonic(), 0
    epochs_left = sum(run.recipe.epochs for run in waiting)
    absolute = None if data_dir is None else pathlib.Path(data_dir).absolute()
    pieces = [
        _Piece(
            run,
            absolute,
            output_dir.absolute(),
            runs_dir.absolute(),
            tuple(worker),
            prepare,
        )
        for run in waiting
    ]
    outcomes = _execute_all(pieces, engine, num_workers)
    for number, (run, error, seconds) in enumerate(outcomes, start=1):
        epochs_left -= run.recipe.epochs
        if error is None:
            outcome = "finished"
            epochs_done += run.recipe.epochs
        elif isinstance(error, BlockingIOError):
            outcome = "left to another process that is at it"
        elif isinstance(error, FileExistsError):
            outcome = "finished by another process"
        else:
            outcome = f"FAILED ({error})"
            failed.append(run.name)
        study_summary.write(study, output_dir)
        now = time.monotonic()
        line = f"[{number}/{len(waiting)}] {run.name}: {outcome}"
        line += f"; {_duration(seconds)}, {_duration(now - started)} in all"
        if epochs_done and epochs_left:
            rest = (now - started) / epochs_done * epochs_left
            line += f", about {_duration(rest)} to go"
        say(line)
    return failed


def check_names(study: "Study") -> None:
    """Raises a ValueError for a name that a run of the study would fail at."""
    from ood_keras import detectors
    from ood_keras.study import other_families

    study.check_names([*detectors.names(), *other_families.NAMES])


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A run and all that it takes, to be sent to another process."""

    run: "Run"
    data_dir: pathlib.Path | None
    output_dir: pathlib.Path
    runs_dir: pathlib.Path
    worker: tuple[str, ...]
    prepare: Json


_Error = str | Exception | None


def _execute_all(
    pieces: Sequence[_Piece], engine: str | None, num_workers: int | None
) -> "Iterator[tuple[Run, _Error, float]]":
    """Yields each run with what went wrong, and how many seconds it took."""
    if engine is None:
        for piece in pieces:
            yield (piece.run, *_execute(piece))
        return
    for piece, found, lost in engines.run(
        _execute, pieces, engine=engine, num_workers=num_workers
    ):
        yield (piece.run, *(found or (lost, 0.0)))


def _execute(piece: _Piece) -> tuple[_Error, float]:
    """Does a run; returns `None` or what went wrong, and how many seconds it took."""
    began = time.monotonic()
    error = _work(piece)
    return error, time.monotonic() - began


def _work(piece: _Piece) -> _Error:
    run, data_dir, output_dir = piece.run, piece.data_dir, piece.output_dir
    runs_dir = piece.runs_dir
    output = output_dir / run.name
    log = runs_dir / f"{run.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    request = {
        "job": run.job(),
        "data_dir": None if data_dir is None else str(data_dir),
        "run_dir": str(runs_dir / run.name),
        "output_dir": str(output),
        "prepare": piece.prepare,
    }
    with open(log, "a+", encoding="utf-8", errors="replace") as file:
        # The worker inherits the lock: a run is held as long as anyone is at it.
        if not _lock(file):
            return BlockingIOError(f"{run.name} is held by another process")
        if study_summary.status(run, output_dir) == "finished":
            return FileExistsError(f"{run.name} was finished by another process")
        # The log goes on from one attempt to the next.
        start = log.stat().st_size
        process = subprocess.Popen(
            piece.worker, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            process.wait()
        except BrokenPipeError:
            process.wait()
        finally:
            # Its end is what ends a worker that is still there.
            process.stdin.close()  # type: ignore[union-attr]
            process.wait()
        failure = output / "failure.json"
        if process.returncode == 0:
            failure.unlink(missing_ok=True)
            return None
        error = _error(log, start, process.returncode)
        files.write_json(failure, {"error": error})
        return error


def _lock(file: IO) -> bool:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        if files.lock(file.fileno()):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)


def _error(log: pathlib.Path, start: int, returncode: int) -> str:
    """What a worker said last in its log, from byte `start`, or how else it ended."""
    if returncode < 0:
        killer = -returncode
        hint = "; was there too little memory?" if killer == signal.SIGKILL else ""
        return f"ended by signal {killer} ({signal.strsignal(killer)}){hint}"
    text = log.read_bytes()[start:].decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {returncode}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
