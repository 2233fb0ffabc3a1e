"""What the page of `ood-demo` answers at all: for whom, and how much of it."""

import asyncio
import ipaddress
import re
import socket
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, TypeAlias

# What an ASGI application is given to receive and to send messages.
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_FILE_BYTES = 20_000_000
# Everything else that a page sends is a drawing at most.
MAX_MESSAGE_BYTES = 1_000_000
FILES_AT = "/image/"

# A slower body would hold its connection, and one of the few places, for ever.
_BODY_SECONDS = 60
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\[\]]+)(:[0-9]{1,5})?", re.IGNORECASE)
_SHOWN = 80


def split_hosts(hosts: str | Iterable[str]) -> list[str]:
    """Returns the addresses in "0.0.0.0,demo.example.org", or in a list of them.

    Addresses in digits come back in their shortest form, which browsers send.

    Raises:
        ValueError: there is none, or one is no name or address of a host.
    """
    if isinstance(hosts, str):
        hosts = hosts.split(",")
    names = [str(host).strip().lower().strip("[]") for host in hosts]
    for name in names:
        bracketed = f"[{name}]" if ":" in name else name
        found = _HOST.fullmatch(bracketed)
        if not found or found[2] or (":" in name and not _is_address(name)):
            raise ValueError(
                "--host takes the address to listen at, and after commas other names "
                "that the page is reached by, as in 0.0.0.0,demo.example.org; the "
                f"port has a flag of its own. Received: {','.join(names)!r}"
            )
    return [_shortest(name) for name in names]


class Guard:
    """An ASGI middleware that refuses what the page was not started for.

    * Another `Host` than those it was started for. A page elsewhere whose name is made
      to lead here ("DNS rebinding") is stopped by that, since browsers send the name.
    * Another `Origin` than the host itself: a page elsewhere that talks to this server
      through the browser of somebody who may. WebSockets are included, for which
      browsers ask nobody.
    * Bodies that are too large or too slow, pages when there are too many, and paths
      that lead nowhere. The limits hold whatever a browser was told.

    Args:
        app: The ASGI application.
        hosts: What `split_hosts` returns: the address listened at, then other names.
            A loopback address goes by all of `LOOPBACK`. The addresses that stand for
            all of a machine's (0.0.0.0, ::) go by these, by the machine's own name and
            by any address in digits, to which no name can be made to lead.
        is_full: A function that says whether there are too many visitors for one more.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        hosts: Sequence[str],
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._app, self._is_full = app, is_full
        self._listening = hosts[0]
        self._names = set(hosts)
        self._any_address = _is_address(hosts[0], "is_unspecified")
        if self._any_address or _is_loopback(hosts[0]):
            self._names.update(LOOPBACK)
        if self._any_address:
            self._names.discard(hosts[0])
            self._names.add(socket.gethostname().lower())

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, send, _limit(scope["path"]))
        try:
            await self._app(scope, body.receive, body.send)
        except _BodyRefusedError as error:
            if body.answered:
                raise
            await _refuse(scope, receive, send, *error.args)

    def _refusal(self, scope: MutableMapping[str, Any]) -> tuple[int, str] | None:
        """`(status, text)` of what is refused from its headers; else `None`."""
        hosts = _values(scope, b"host")
        name = _name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not self._is_answered(name):
            asked = ", ".join(hosts)[:_SHOWN] or "nothing"
            return 400, (
                f"This page answers as {', '.join(sorted(self._names))} only"
                f"{' or by an address in digits' if self._any_address else ''}. It was "
                f"asked for as: {asked}. To be reached by another name, start it with "
                f"--host={self._listening},NAME"
            )
        for origin in _values(scope, b"origin"):
            if not _same(origin, hosts[0]):
                return 403, (
                    f"Only pages of {hosts[0]} itself may ask this server. Received "
                    f"the Origin: {origin[:_SHOWN]}"
                )
        if scope["type"] == "websocket":
            return None
        site, mode = (
            _values(scope, b"sec-fetch-site"),
            _values(scope, b"sec-fetch-mode"),
        )
        if site == ["cross-site"] and mode != ["navigate"]:
            return 403, "Only pages of this server itself may ask it"
        path = scope["path"]
        if path != "/" and not path.startswith(("/_nicegui", "/favicon", FILES_AT)):
            return 404, "There is one page here, /"
        if path == "/" and scope["method"] not in ("GET", "HEAD"):
            return 405, "The page can be read only"
        limit = _limit(path)
        for length in _values(scope, b"content-length"):
            if not (length.isascii() and length.isdigit()):
                return 400, "The length of what was sent must be a number"
            if len(length) > 15 or int(length) > limit:
                return _too_large(limit)
        if path == "/" and self._is_full():
            return 503, (
                "Busy: as many pages are open as this server holds. Try again in a "
                "minute, when those that were left are forgotten"
            )
        return None

    def _is_answered(self, name: str | None) -> bool:
        return name in self._names or (self._any_address and _is_address(name))


class _BodyRefusedError(Exception):
    """Its arguments are the status and the text of the answer."""


class _Body:
    """Receives a body of at most `limit` bytes within a time."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        limit: int,
    ) -> None:
        self._receive, self._send = receive, send
        self._limit, self._left = limit, limit
        self._deadline = asyncio.get_running_loop().time() + _BODY_SECONDS
        self._complete = False
        self.answered = False

    async def receive(self) -> MutableMapping[str, Any]:
        if self._complete:  # What comes now is the end of the connection.
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise _BodyRefusedError(
                408, f"What was sent did not arrive within {_BODY_SECONDS} seconds"
            ) from None
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise _BodyRefusedError(*_too_large(self._limit))
            self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.answered = True
        await self._send(message)


def _limit(path: str) -> int:
    return MAX_FILE_BYTES if path.startswith(FILES_AT) else MAX_MESSAGE_BYTES


def _too_large(limit: int) -> tuple[int, str]:
    return 413, f"A file may have {limit / 1e6:g} MB at most; this one has more"


def _values(scope: MutableMapping[str, Any], name: bytes) -> list[str]:
    return [
        value.decode("latin-1")
        for key, value in scope["headers"]
        if key.lower() == name
    ]


def _name(host: str) -> str | None:
    """The name in a `Host` header, in lower case and without the port, or `None`."""
    found = _HOST.fullmatch(host)
    return _shortest(found[1].lower().strip("[]")) if found else None


def _shortest(name: str) -> str:
    """An address in its shortest form, as `::1`; any other name as it is."""
    return str(ipaddress.ip_address(name)) if _is_address(name) else name


def _same(origin: str, host: str) -> bool:
    """Whether an `Origin` is the host itself, port included."""
    try:
        parts = urllib.parse.urlsplit(origin)
    except ValueError:
        return False
    default = {"http": ":80", "https": ":443"}.get(parts.scheme)
    if default is None or parts.path or parts.query or parts.fragment:
        return False
    return (
        parts.netloc.lower().removesuffix(default)
        == host.lower().removesuffix(default)
        != ""
    )


def _is_loopback(name: str) -> bool:
    return name == "localhost" or _is_address(name, "is_loopback")


def _is_address(name: str | None, kind: str | None = None) -> bool:
    try:
        address = ipaddress.ip_address(name)  # type: ignore[arg-type]
    except ValueError:
        return False
    return kind is None or getattr(address, kind)


async def _refuse(
    scope: MutableMapping[str, Any],
    receive: Receive,
    send: Send,
    status: int,
    text: str,
) -> None:
    # Not at the top: the command's help needs nothing of the extra `demo`.
    from starlette.responses import PlainTextResponse
    from starlette.websockets import WebSocket

    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).close(1008, text[:_SHOWN])
        return
    # What was not read of the body is not waited for.
    headers = {"connection": "close", "x-content-type-options": "nosniff"}
    response = PlainTextResponse(f"{text}.\n", status, headers)
    await response(scope, receive, send)
