"""HTTP connections of the page of `ood-demo`: what a request begins with is bounded.

It needs the extra `demo`, so it is imported when the page is served.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# In which a browser sends a head that fits into one packet or two.
HEAD_SECONDS = 20.0


class Connection(H11Protocol):
    """A connection that is closed when the head of a request is long or does not come.

    The protocol that uvicorn chooses by itself keeps headers without end in memory, and
    either waits for them for ever, so that silent connections fill all places. That of
    h11 refuses heads of more than 64 KB, before an application hears of them.
    """

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _watch(self):
        # It is idle until a head is whole; between two requests uvicorn has a limit.
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._due is None:
            self._due = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop(self):
        if self._due is not None:
            self._due.cancel()
            self._due = None
