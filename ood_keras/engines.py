"""Runs pieces of work side by side: by processes of this machine, or by Ray.

Both may do a piece more than once, where a process is killed: what is done has to be
harmless when it is done again. Neither needs to know what a piece is.
"""

import collections
import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

from ood_keras import machine

Piece = TypeVar("Piece")
Outcomes = Iterator[tuple[Piece, Any, str | None]]

MAX_ATTEMPTS = 3
# After so many pieces, and two for each worker, whose process was killed each time, and
# none that was done, no other is tried.
_HOPELESS = 10


def run(
    work: Callable[[Piece], Any],
    pieces: Sequence[Piece],
    *,
    engine: str = "local",
    num_workers: int | None = None,
) -> Outcomes[Piece]:
    """Does all pieces of work, and yields what became of each as soon as it is done.

    Args:
        work: A function of a module, that other processes can import. It is called with
            one thread for the libraries that it loads.
        pieces: Its arguments, which can be pickled.
        engine: "local" for processes on this machine; "ray" for tasks of Ray, on the
            cluster that the environment variable RAY_ADDRESS names (`ray job submit`
            sets it), else on this machine.
        num_workers: How many pieces at a time; `None` takes the number of cores, and on
            a cluster what its cores take.

    Yields:
        `(piece, result, error)`: what `work` returned and `None`, or `None` and what
        went wrong. A piece whose process is killed is done again, three times in all:
        on this machine after the others, and alone.

    Raises:
        ImportError: Ray is not installed.
        ValueError: there is no such engine.
    """
    check(engine)
    return ENGINES[engine](work, pieces, num_workers)


def check(engine: str) -> None:
    """Raises a ValueError if there is no engine of this name."""
    if engine not in ENGINES:
        raise ValueError(
            f"`engine` must be one of {', '.join(ENGINES)}. Received: {engine!r}"
        )


def _run_locally(
    work: Callable[[Piece], Any], pieces: Sequence[Piece], num_workers: int | None
) -> Outcomes[Piece]:
    num_workers = min(num_workers or machine.num_cores(), max(1, len(pieces)))
    waiting = list(pieces)
    while waiting:
        # Where every process dies, as on a library that this processor cannot run,
        # thousands of pieces need not be tried.
        killed, waiting = yield from _run_each(
            work, waiting, num_workers, most_killed=max(_HOPELESS, 2 * num_workers)
        )
        num_killed = len(killed)
        for _ in range(MAX_ATTEMPTS - 1):
            # One at a time, with the memory of the whole machine.
            killed, _ = yield from _run_each(work, killed, 1)
        for piece in killed:
            yield piece, None, "its process was killed, for want of memory perhaps"
        if len(killed) == num_killed:
            for piece in waiting:
                yield piece, None, "not begun: all processes before it were killed"
            return


def _run_each(
    work: Callable[[Piece], Any],
    pieces: Sequence[Piece],
    num_workers: int,
    most_killed: int | None = None,
) -> Generator[tuple[Piece, Any, str | None], None, tuple[list[Piece], list[Piece]]]:
    """Tries each piece once, in pools of one process, which take no other with them.

    Args:
        work, pieces: As for `run`.
        num_workers: How many pieces at a time.
        most_killed: After so many killed pieces no other is begun, as long as none was
            done.

    Yields:
        As `run`, all that were not killed.

    Returns:
        `(killed, not_begun)`: the other pieces.
    """
    import concurrent.futures

    waiting = collections.deque(pieces)
    idle: list[Any] = []
    running: dict[Any, tuple[Piece, Any]] = {}
    killed: list[Piece] = []
    num_done = 0

    def begin() -> None:
        hopeless = not num_done and len(killed) >= (most_killed or len(pieces))
        while waiting and len(running) < num_workers and not hopeless:
            piece = waiting.popleft()
            future, pool = _submit(work, piece, idle)
            running[future] = piece, pool

    try:
        begin()
        while running:
            ended, _ = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            future = ended.pop()
            piece, pool = running.pop(future)
            error = future.exception()
            if isinstance(error, concurrent.futures.process.BrokenProcessPool):
                pool.shutdown()
                killed.append(piece)
                begin()
                continue
            num_done += 1
            idle.append(pool)
            begin()  # Before the caller, who may take long over the outcome.
            if error is None:
                yield piece, future.result(), None
            else:
                yield piece, None, _describe(error)
    finally:
        for pool in [*idle, *(pool for _, pool in running.values())]:
            pool.shutdown()
    return killed, list(waiting)


def _submit(
    work: Callable[[Piece], Any], piece: Piece, idle: list[Any]
) -> tuple[Any, Any]:
    """Begins a piece; returns `(future, pool)`, a pool of `idle` or a new one."""
    import concurrent.futures

    while idle:
        pool = idle.pop()
        try:
            return pool.submit(work, piece), pool
        except concurrent.futures.process.BrokenProcessPool:
            pool.shutdown()  # Its process was killed while it had nothing to do.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(1, context, _begin_worker)
    return pool.submit(work, piece), pool


def _run_on_ray(
    work: Callable[[Piece], Any], pieces: Sequence[Piece], num_workers: int | None
) -> Outcomes[Piece]:
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "engine='ray' needs Ray, which is not installed: pip install ray"
        ) from error
    began = not ray.is_initialized()
    if began:
        quiet: Any = {"include_dashboard": False, "log_to_driver": False}
        # A cluster has its own number of processors, and refuses another.
        if not os.environ.get("RAY_ADDRESS"):
            quiet |= {"address": "local", "num_cpus": num_workers}
        ray.init(**quiet)
    try:
        task = ray.remote(num_cpus=1, max_retries=MAX_ATTEMPTS - 1)(_work_on_ray)
        waiting = list(reversed(pieces))
        running: dict[Any, Piece] = {}
        while waiting or running:
            # Some wait in Ray too, so that a cluster which can grow sees a reason.
            most = num_workers or 2 * int(ray.cluster_resources().get("CPU", 1))
            while waiting and len(running) < most:
                piece = waiting.pop()
                running[task.remote(work, piece)] = piece
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            piece = running.pop(done)
            try:
                result = ray.get(done)
            except Exception as error:
                yield piece, None, _describe(getattr(error, "cause", None) or error)
            else:
                yield piece, result, None
    finally:
        if began:
            ray.shutdown()


ENGINES: dict[str, Callable[..., Outcomes]] = {
    "local": _run_locally,
    "ray": _run_on_ray,
}


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _work_on_ray(work: Callable[[Piece], Any], piece: Piece) -> Any:
    # TensorFlow looks for its number of threads when it computes for the first time.
    _use_one_thread()
    return work(piece)


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
