"""A fit that reads the batches of a walk which others lead."""

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ood_keras.types import Images, Names, Outputs

# What a guest wants of each batch: the names of inner layers, and a function of the
# outputs, as for `Network.batches`.
Wish = tuple[tuple[str, ...], Callable[[Outputs], Any] | None]

_guest: contextvars.ContextVar["Guest | None"] = contextvars.ContextVar(
    "guest", default=None
)
_DONE, _MORE, _END = object(), object(), object()


class Guest:
    """Work that iterates over `Network.batches`, and gets them from another's walk.

    Detectors ask for their batches. So that several can be given the same ones, each
    works in a thread of its own, which rests whenever the host, who leads the walk,
    works, and the other way round: never do two run at once.

    The first call of `Network.batches` for `data` in `work` joins the walk; a later one
    does not.

    Args:
        data: What the walk is over.
        work: What to do.
    """

    def __init__(self, data: Images, work: Callable[[], Any]) -> None:
        self._error: BaseException | None = None
        self._data = data
        self._has_joined = self._is_done = False
        self._to_guest: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._to_host: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # It does not keep a process that was interrupted from ending.
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)

    def start(self) -> Wish | None:
        """Lets the work begin; returns what it wants, or `None` if it came to its end.

        For the host, as the next two.
        """
        self._thread.start()
        return self._wait()

    def give(self, outputs: Any, labels: np.ndarray | None) -> None:
        """Lets the work go on with a batch, unless it has come to its end."""
        if not self._is_done:
            self._to_guest.put((outputs, labels))
            self._wait()

    def finish(self, error: BaseException | None = None) -> None:
        """Lets the work end: the walk is over, or there was an error in it."""
        if self._thread.ident is None:
            return
        if not self._is_done:
            self._to_guest.put(_END if error is None else error)
            self._wait()
        self._thread.join()

    def check(self) -> None:
        """Raises what the work raised, if it did; for the host, at the end."""
        if self._error is not None:
            raise self._error

    def batches(
        self, layers: Names, read: Callable[[Outputs], Any] | None
    ) -> Iterator[tuple[Any, np.ndarray | None]]:
        """Yields what `Network.batches` does; for the work."""
        self._has_joined = True
        self._to_host.put((tuple(layers), read))
        while (batch := self._to_guest.get()) is not _END:
            if isinstance(batch, BaseException):
                raise batch
            yield batch
            self._to_host.put(_MORE)

    def _wait(self):
        answer = self._to_host.get()
        self._is_done = answer is _DONE
        return None if self._is_done else answer

    def _run(self, work):
        _guest.set(self)
        try:
            work()
        except BaseException as error:
            self._error = error
        self._to_host.put(_DONE)


def find_guest(data: Images) -> Guest | None:
    """Who works in this thread, if it can still join a walk over `data`."""
    guest = _guest.get()
    if guest is None or guest._has_joined or guest._data is not data:
        return None
    return guest
