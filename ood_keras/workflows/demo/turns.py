"""Taking turns at a model: one at a time, a few wait, the others are told so."""

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable
from typing import Any


class BusyError(RuntimeError):
    """The caller got no turn; the text says what to do."""


class Turns:
    """Calls functions one at a time, in a thread of their own, in the order they came.

    Args:
        most_waiting: How many may wait while one is called.
        patience: Seconds after which a caller is answered that it is too long. What
            has not begun by then never will; what has is left to end, and the next one
            waits for it.
    """

    def __init__(self, most_waiting: int = 16, patience: float = 30.0) -> None:
        self._most_waiting, self._patience = most_waiting, patience
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "model")
        self._unfinished = 0

    async def take(self, function: Callable[[], Any]) -> Any:
        """Returns `function()`.

        Raises:
            BusyError: too many wait already, or it took too long.
        """
        if self._unfinished > self._most_waiting:
            raise BusyError(
                f"Busy: {self._most_waiting} others are waiting. Try again in a moment"
            )
        call = self._thread.submit(function)
        self._unfinished += 1
        loop = asyncio.get_running_loop()

        def end(_):  # In the thread, or here if it was cancelled.
            with contextlib.suppress(RuntimeError):  # The server has stopped.
                loop.call_soon_threadsafe(self._end)

        call.add_done_callback(end)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(call), self._patience)
        except TimeoutError:
            raise BusyError(
                f"Busy: there was no answer within {self._patience:g} seconds. Try "
                "again in a moment"
            ) from None

    def _end(self) -> None:
        self._unfinished -= 1
