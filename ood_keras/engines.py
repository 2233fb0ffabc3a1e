"""Runs pieces of work side by side: by processes of this machine, or by Ray.

Both may do a piece more than once, where a process is killed: what is done has to be
harmless when it is done again. Neither needs to know what a piece is.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ood_keras import machine

Piece = TypeVar("Piece")
Outcomes = Iterator[tuple[Piece, Any, str | None]]

MAX_ATTEMPTS = 3


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
        went wrong. A piece whose process is killed is done again, three times in all.

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
    import concurrent.futures

    num_workers = min(num_workers or machine.num_cores(), max(1, len(pieces)))
    rounds_for_nothing = 0
    while pieces:
        again = []
        with concurrent.futures.ProcessPoolExecutor(
            num_workers, multiprocessing.get_context("spawn"), _begin_worker
        ) as pool:
            running = {pool.submit(work, piece): piece for piece in pieces}
            for future in concurrent.futures.as_completed(running):
                piece = running[future]
                try:
                    result = future.result()
                except concurrent.futures.process.BrokenProcessPool:
                    # One that was killed takes the others' work with it.
                    again.append(piece)
                except Exception as error:
                    yield piece, None, _describe(error)
                else:
                    yield piece, result, None
        rounds_for_nothing += 1
        if len(again) < len(pieces):
            rounds_for_nothing = 0
        pieces = again
        if rounds_for_nothing == MAX_ATTEMPTS:
            for piece in pieces:
                yield piece, None, "its process was killed, for want of memory perhaps"
            return


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
