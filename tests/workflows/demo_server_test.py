"""The page of `ood-demo` as a server: what it refuses, and that it never piles up."""

import asyncio
import base64
import concurrent.futures
import contextlib
import html
import http.client
import io
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from ood_keras.workflows.demo import guard as demo_guard
from ood_keras.workflows.demo import turns as demo_turns

pytest.importorskip("nicegui", reason="needs the extra `demo`")
socketio = pytest.importorskip("socketio", reason="comes with the extra `demo`")
testclient = pytest.importorskip("starlette.testclient", reason="needs httpx")

STAND_IN = pathlib.Path(__file__).with_name("demo_stand_in.py")
MOST_WAITING = 2
PATIENCE = 6


async def answer(scope, receive, send):
    """An application that reads all that comes and says how much that was."""
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.websockets import WebSocket

    if scope["type"] == "websocket":
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()
        return
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


def ask(host="127.0.0.1", path="/", hosts=("127.0.0.1",), headers=(), **arguments):
    """The response to one request that arrives for `host`."""
    guard = demo_guard.Guard(answer, list(hosts))
    client = testclient.TestClient(guard, base_url="http://127.0.0.1")
    method = "POST" if "content" in arguments else "GET"
    return client.request(
        method, path, headers={"host": host, **dict(headers)}, **arguments
    )


@pytest.mark.parametrize(
    ("hosts", "host"),
    [
        (["127.0.0.1"], "127.0.0.1:8080"),
        (["127.0.0.1"], "LocalHost:9999"),  # Through a tunnel, from another port.
        (["127.0.0.1"], "[::1]:8080"),
        (["localhost"], "127.0.0.1"),
        (["::1"], "localhost"),
        (["127.0.0.7"], "127.0.0.7"),
        (["192.168.1.5"], "192.168.1.5:8080"),
        (["box.local"], "BOX.local"),
        (["0.0.0.0"], "192.168.1.5:8080"),
        (["0.0.0.0"], "localhost:8080"),
        (["0.0.0.0"], socket.gethostname()),
        (["::"], "[2001:db8::1]:8080"),
        (["0.0.0.0", "demo.example.org"], "demo.example.org"),
        (["127.0.0.1", "demo.example.org"], "demo.example.org:80"),
        (demo_guard.split_hosts("2001:DB8:0:0::1"), "[2001:db8::1]:8080"),
        (demo_guard.split_hosts("::,2001:db8::1"), "[2001:0db8:0:0:0:0:0:1]"),
        (["::1"], "[0:0:0:0:0:0:0:1]:8080"),
    ],
)
def test_the_hosts_it_was_started_for_are_answered(hosts, host):
    assert ask(host, hosts=hosts).status_code == 200


@pytest.mark.parametrize(
    ("hosts", "host"),
    [
        (["127.0.0.1"], "evil.example"),  # DNS rebinding.
        (["127.0.0.1"], "evil.example:8080"),
        (["127.0.0.1"], "127.0.0.1.evil.example"),
        (["127.0.0.1"], "localhost.evil.example"),
        (["127.0.0.1"], "evil.example@127.0.0.1"),
        (["127.0.0.1"], "127.0.0.1/evil.example"),
        (["127.0.0.1"], "127.0.0.1, evil.example"),
        (["127.0.0.1"], "127.0.0.1:evil"),
        (["127.0.0.1"], "192.168.1.5"),
        (["127.0.0.1"], "0.0.0.0"),
        (["127.0.0.1"], ""),
        (["192.168.1.5"], "localhost"),
        (["192.168.1.5"], "192.168.1.6"),
        (["0.0.0.0"], "evil.example"),
        (["::"], "evil.example"),
        (["0.0.0.0", "demo.example.org"], "other.example.org"),
        (["::1"], "[::2]"),
        (["::1"], "[::ffff:192.168.1.5]"),
        (["0.0.0.0"], "0x7f.1"),
        (["0.0.0.0"], "2130706433"),
        (["0.0.0.0"], "0177.0.0.1"),
        (["0.0.0.0"], "127.0.0.1.nip.io"),
    ],
)
def test_other_hosts_are_refused_with_what_to_do(hosts, host):
    response = ask(host, hosts=hosts)
    assert response.status_code == 400
    assert f"start it with --host={hosts[0]},NAME" in response.text
    websocket = testclient.TestClient(demo_guard.Guard(answer, hosts))
    with (
        pytest.raises(testclient.WebSocketDisconnect),
        websocket.websocket_connect("/", headers={"host": host}),
    ):
        pass


def test_a_host_that_comes_twice_or_never_is_refused():
    async def status(headers):
        sent = []

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
        await demo_guard.Guard(answer, ["127.0.0.1"])(scope, receive, send)
        return sent[0]["status"]

    host = (b"host", b"127.0.0.1")
    assert asyncio.run(status([host])) == 200
    assert asyncio.run(status([host, host])) == 400
    assert asyncio.run(status([host, (b"Host", b"evil.example")])) == 400
    assert asyncio.run(status([])) == 400


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8080", 200),
        ("https://127.0.0.1:8080", 200),  # Behind a server that speaks TLS.
        ("http://127.0.0.1:9090", 403),  # Another server of this machine.
        ("http://127.0.0.1", 403),
        ("http://localhost:8080", 403),
        ("http://evil.example", 403),
        ("http://127.0.0.1:8080.evil.example", 403),
        ("http://evil.example/http://127.0.0.1:8080", 403),
        ("file://", 403),
        ("null", 403),
        ("", 403),
        ("http://[", 403),
    ],
)
def test_only_its_own_pages_may_ask(origin, status):
    headers = {"origin": origin}
    assert ask("127.0.0.1:8080", headers=headers).status_code == status
    posted = ask("127.0.0.1:8080", path="/image/x", headers=headers, content=b"x")
    assert posted.status_code == status
    websocket = testclient.TestClient(demo_guard.Guard(answer, ["127.0.0.1"]))
    expected = (
        contextlib.nullcontext()
        if status == 200
        else pytest.raises(testclient.WebSocketDisconnect)
    )
    with (
        expected,
        websocket.websocket_connect(
            "/", headers={"host": "127.0.0.1:8080", **headers}
        ) as session,
    ):
        assert session.receive_text() == "hello"


def test_the_default_port_may_be_left_out_of_an_origin():
    headers = {"origin": "http://demo.example.org"}
    hosts = ["0.0.0.0", "demo.example.org"]
    for host in ("demo.example.org", "demo.example.org:80"):
        assert ask(host, hosts=hosts, headers=headers).status_code == 200


def test_pictures_and_scripts_of_other_pages_are_refused():
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert ask(headers=headers).status_code == 403
    headers["sec-fetch-mode"] = "navigate"  # Somebody followed a link.
    assert ask(headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/image/x", demo_guard.MAX_FILE_BYTES),
        ("/_nicegui_ws/socket.io/", demo_guard.MAX_MESSAGE_BYTES),
        ("/_nicegui/x", demo_guard.MAX_MESSAGE_BYTES),
    ],
)
def test_the_size_of_a_body_is_limited(path, limit):
    assert ask(path=path, content=bytes(limit)).text == str(limit)
    refused = ask(path=path, content=bytes(limit + 1))
    assert refused.status_code == 413
    assert f"{limit // 1_000_000} MB at most" in refused.text
    pieces = (bytes(100_000) for _ in range(limit // 100_000 + 1))
    assert ask(path=path, content=pieces).status_code == 413  # No length was said.
    for length in ("1" * 5000, "-5", "1e3", "\u00b2"):
        headers = {"content-length": length.encode("latin-1")}
        assert ask(path=path, content=b"x", headers=headers).status_code in (400, 413)


def test_what_is_too_large_is_not_received():
    received = 0

    async def receive():
        nonlocal received
        received += 1
        return {"type": "http.request", "body": bytes(300_000), "more_body": True}

    async def main():
        sent = []

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"127.0.0.1")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/_nicegui_ws/",
            "headers": headers,
        }
        await demo_guard.Guard(answer, ["127.0.0.1"])(scope, receive, send)
        return sent[0]["status"]

    assert asyncio.run(main()) == 413
    assert received == 4


def test_what_never_comes_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(demo_guard, "_BODY_SECONDS", 0.05)

    async def receive():
        await asyncio.sleep(60)

    async def main():
        sent = []

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"127.0.0.1")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/_nicegui_ws/",
            "headers": headers,
        }
        await demo_guard.Guard(answer, ["127.0.0.1"])(scope, receive, send)
        return sent[0]["status"]

    assert asyncio.run(main()) == 408


def test_one_visitor_too_many_is_told_so():
    guard = demo_guard.Guard(answer, ["127.0.0.1"], is_full=lambda: True)
    client = testclient.TestClient(guard, base_url="http://127.0.0.1")
    assert client.get("/").status_code == 503
    # Those who are there already go on.
    assert client.post("/image/x", content=b"x").status_code == 200
    assert client.get("/_nicegui_ws/socket.io/").status_code == 200


def test_there_is_one_page():
    assert ask(path="/").status_code == 200
    refused = ask(path="/any/other")
    assert (refused.status_code, "one page" in refused.text) == (404, True)
    assert ask(path="/", content=b"x").status_code == 405


@pytest.mark.parametrize(
    "hosts", ["", "a b", "http://x", "x:80", "a,,b", "x/y", "1:2", "[::1]:80", "ab::gg"]
)
def test_a_host_that_is_none_is_an_error_that_helps(hosts):
    with pytest.raises(ValueError, match=r"--host takes the address .*0\.0\.0\.0,"):
        demo_guard.split_hosts(hosts)


def test_hosts_are_split():
    assert demo_guard.split_hosts("0.0.0.0, Demo.Example.org") == [
        "0.0.0.0",
        "demo.example.org",
    ]
    assert demo_guard.split_hosts(["[::1]", "::"]) == ["::1", "::"]
    assert demo_guard.split_hosts("[0:0:0:0:0:0:0:1]") == ["::1"]


# Turns.


def test_turns_are_taken_one_at_a_time_in_order():
    running, most, order = 0, 0, []

    def work(number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.01)
        running -= 1
        order.append(number)
        return number

    async def main():
        turns = demo_turns.Turns(most_waiting=9)
        return await asyncio.gather(
            *(turns.take(lambda number=n: work(number)) for n in range(10))
        )

    assert asyncio.run(main()) == order == list(range(10))
    assert most == 1


def test_too_many_are_told_so_at_once_and_later_ones_are_served():
    gate = threading.Event()

    async def main():
        turns = demo_turns.Turns(most_waiting=3)
        calls = [asyncio.create_task(turns.take(gate.wait)) for _ in range(4)]
        await asyncio.sleep(0)
        for _ in range(50):
            with pytest.raises(demo_turns.BusyError, match="3 others are waiting"):
                await turns.take(gate.wait)
        gate.set()
        await asyncio.gather(*calls)
        await asyncio.sleep(0.05)
        return await turns.take(lambda: "served")

    assert asyncio.run(main()) == "served"


def test_who_waited_too_long_is_told_so_and_never_begun():
    gate, begun = threading.Event(), []

    async def main():
        turns = demo_turns.Turns(patience=0.1)
        for function in (gate.wait, lambda: begun.append(1)):
            with pytest.raises(demo_turns.BusyError, match=r"within 0\.1 seconds"):
                await turns.take(function)
        gate.set()
        return await demo_turns.Turns.take(turns, lambda: "served")

    assert asyncio.run(main()) == "served"
    assert not begun


def test_an_error_is_the_askers_own_and_the_next_is_served():
    async def main():
        turns = demo_turns.Turns(most_waiting=0)
        with pytest.raises(ZeroDivisionError):
            await turns.take(lambda: 1 / 0)
        await asyncio.sleep(0.05)
        return await turns.take(lambda: "served")

    assert asyncio.run(main()) == "served"


# A real server; its model is made up, and as slow as a file says.


class Server:
    """A running page; asks it as a browser does, and as none does."""

    def __init__(self, port):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def request(self, method, path, body=None, headers=()):
        """Returns `(status, text)`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")

    @contextlib.asynccontextmanager
    async def visitor(self):
        """A page that is open, without a browser."""
        _, page = await asyncio.to_thread(self.request, "GET", "/")
        client = socketio.AsyncClient()
        visitor = Visitor(self, client, page)
        client.on("update", visitor.updated)
        query = f"client_id={visitor.id}&next_message_id=0&implicit_handshake=true"
        query += "&tab_id=tab&document_id=document"
        await client.connect(
            f"{self.url}?{query}", socketio_path="/_nicegui_ws/socket.io"
        )
        try:
            yield visitor
        finally:
            await client.disconnect()


class Visitor:
    """What one page of the server shows, and what it can send."""

    def __init__(self, server, client, page):
        self.server, self.client = server, client
        self.id = re.search(r"'client_id': '([0-9a-f-]{36})'", page)
        self.id = (self.id or re.search(r"client_id[^0-9a-f]+([0-9a-f-]{36})", page))[1]
        text = html.unescape(re.search(r"parseElements\(String.raw`(.*?)`\)", page)[1])
        self.elements = json.loads(text)
        self.shown = []

    def updated(self, elements):
        for element in elements.values():
            text = (element or {}).get("props", {}).get("innerHTML", "")
            if "verdict" in text:
                self.shown.append(text)

    async def emit(self, kind, *arguments, **changes):
        """Sends an event as the page does, with what is wrong in `changes`."""
        number, listener = next(
            (number, event["listener_id"])
            for number, element in self.elements.items()
            for event in element.get("events", [])
            if event["type"].startswith(kind)
        )
        message = {
            "id": int(number),
            "client_id": self.id,
            "listener_id": listener,
            "args": [json.dumps(argument) for argument in arguments],
        }
        await self.client.emit("event", {**message, **changes})

    async def upload(self, content):
        return await asyncio.to_thread(
            self.server.request, "POST", f"/image/{self.id}", content
        )

    async def until(self, text, seconds=30):
        """Waits until the page shows a text."""
        async with asyncio.timeout(seconds):
            while not (self.shown and text in self.shown[-1]):
                await asyncio.sleep(0.02)
        return self.shown[-1]


@pytest.fixture(scope="module")
def server():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, STAND_IN, port, "127.0.0.1", MOST_WAITING, PATIENCE]
    # NiceGUI serves otherwise where it believes to be part of a test.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    with subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert "shows a model" in process.stdout.readline()
            server = Server(port)
            for _ in range(300):
                with contextlib.suppress(OSError):
                    server.request("GET", "/favicon.ico")
                    break
                time.sleep(0.1)
            yield server
            assert process.poll() is None, "the server ended"
        finally:
            process.terminate()


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


BRIGHT = png(np.full((12, 10), 255))


def drawing():
    paper = np.full((280, 280), 255)
    paper[100:180, 130:150] = 0
    return base64.b64encode(png(paper)).decode()


def test_a_file_and_a_drawing_are_judged_without_a_browser(server):
    async def main():
        async with server.visitor() as visitor:
            assert await visitor.upload(BRIGHT) == (204, "")
            await visitor.until("<b>accepted</b>")
            await visitor.upload(b"garbage")
            await visitor.until("not a readable image")
            await visitor.emit("drawn", drawing())
            await visitor.until("<b>accepted</b>")

    asyncio.run(main())


WRONG = {
    "no argument": (),
    "two arguments": ("a", "b"),
    "number": (1,),
    "null": (None,),
    "list": ([[]],),
    "dict": ({"a": {"b": []}},),
    "not base64": ("\u2603" * 100,),
    "large": (base64.b64encode(png(np.zeros((1300, 1300)))).decode(),),
}


def test_malformed_drawings_are_refused_and_the_page_goes_on(server):
    async def main():
        async with server.visitor() as visitor:
            for arguments in WRONG.values():
                await visitor.emit("drawn", *arguments)
                shown = await visitor.until("A drawing is a PNG file of 280 x 280")
                assert "Traceback" not in shown
                await visitor.emit("drawn", drawing())
                await visitor.until("<b>accepted</b>")

    asyncio.run(main())


def test_malformed_events_leave_the_server_as_it_was(server):
    async def main():
        async with server.visitor() as visitor, server.visitor() as other:
            for changes in (
                {"id": "x"},
                {"id": 10**9},
                {"id": None},
                {"client_id": other.id},
                {"client_id": "../../etc/passwd"},
                {"client_id": 7},
                {"listener_id": "none"},
                {"listener_id": ["none"]},
                {"args": "x"},
                {"args": 5},
                {"args": ["{"]},
                {"args": [None, None]},
                {"args": ["[" * 5000]},
            ):
                await visitor.emit("drawn", "x", **changes)
            for message in (None, 1, "x", [], ["event"], {}, b"bytes"):
                await visitor.client.emit("event", message)
                await visitor.client.emit("javascript_response", message)
                await visitor.client.emit("ack", message)
                await visitor.client.emit("log", message)
                await visitor.client.emit("handshake", message)
                await visitor.client.emit("no such event", message)
            for value in (None, 5, "no such point", {}, {"value": 99}, {"value": []}):
                await visitor.emit("update:", value)
            await visitor.emit("drawn", drawing())
            await visitor.until("<b>accepted</b>")
            await other.upload(BRIGHT)
            await other.until("<b>accepted</b>")

    asyncio.run(main())


def test_a_message_that_is_too_long_ends_only_its_own_page(server):
    async def main():
        async with server.visitor() as other:
            async with server.visitor() as visitor:
                await visitor.emit("drawn", "A" * 3_000_000)
                await asyncio.sleep(0.5)
                assert not visitor.shown
            await other.upload(BRIGHT)
            await other.until("<b>accepted</b>")

    asyncio.run(main())


def test_an_operating_point_is_one_of_the_models(server):
    async def main():
        async with server.visitor() as visitor:
            await visitor.upload(png(np.full((12, 10), 128)))
            await visitor.until("<b>accepted</b>")
            await visitor.emit("update:", {"value": 1, "label": "strict"})
            await visitor.until("<b>rejected</b>")

    asyncio.run(main())


def test_a_huge_file_is_refused_by_the_server(server):
    async def main():
        async with server.visitor() as visitor:
            path = f"/image/{visitor.id}"
            length = {"Content-Length": str(10**12)}
            status, text = await asyncio.to_thread(
                server.request, "POST", path, b"", length
            )
            assert (status, "20 MB at most" in text) == (413, True)
            assert not visitor.shown

            def pieces():
                for _ in range(300):
                    yield bytes(100_000)

            # Sent in pieces, without saying how many.
            with contextlib.suppress(ConnectionError):
                status, text = await asyncio.to_thread(
                    server.request, "POST", path, pieces()
                )
                assert status == 413
            await visitor.upload(BRIGHT)
            await visitor.until("<b>accepted</b>")

    asyncio.run(main())


def test_headers_without_end_are_refused(server):
    line = b"x-more: " + b"y" * 60_000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 30_000_000:
                connection.sendall(line)
                sent += len(line)
    # The rest is in the buffers of the system.
    assert sent < 30_000_000
    assert server.request("GET", "/favicon.ico")[0] == 200


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nx: "])
def test_a_head_that_never_ends_is_not_waited_for(server, head):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head)
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE - 2:
            if head:
                connection.sendall(b"y")
            time.sleep(0.5)
        assert connection.recv(100) == b""
    assert PATIENCE - 1 < time.monotonic() - begun < PATIENCE + 20


def test_many_files_at_once_are_one_question(server):
    """What comes while one waits replaces it; all are answered, none piles up."""

    async def main():
        async with server.visitor() as visitor:
            begun = time.monotonic()
            slow = asyncio.create_task(visitor.upload(b"sleep1.5"))
            await asyncio.sleep(0.5)
            statuses = await asyncio.gather(
                *(visitor.upload(b"sleep1.4") for _ in range(20)),
                return_exceptions=True,
            )
            # Those that came while others were still being sent were told so.
            assert {status for status, _ in statuses} <= {204, 503}
            await visitor.upload(BRIGHT)
            await slow
            await visitor.until("<b>accepted</b>")
            # Two sleep at most: the first, and one that was begun before the last.
            assert time.monotonic() - begun < 5

    asyncio.run(main())


def test_many_visitors_wait_or_are_told_that_it_is_busy(server):
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            visitors = [
                await stack.enter_async_context(server.visitor())
                for _ in range(MOST_WAITING + 3)
            ]
            tasks = []
            for visitor in visitors:
                tasks.append(asyncio.create_task(visitor.upload(b"sleep0.8")))
                await asyncio.sleep(0.1)
            for visitor in visitors[MOST_WAITING + 1 :]:
                await visitor.until(f"Busy: {MOST_WAITING} others are waiting", 1)
            for visitor in visitors[: MOST_WAITING + 1]:
                await visitor.until("not a readable image")
            await asyncio.gather(*tasks)
            await visitors[-1].upload(BRIGHT)
            await visitors[-1].until("<b>accepted</b>")

    asyncio.run(main())


def test_who_waits_too_long_is_told_so(server):
    async def main():
        async with server.visitor() as slow, server.visitor() as visitor:
            task = asyncio.create_task(slow.upload(f"sleep{PATIENCE + 2}".encode()))
            await asyncio.sleep(0.3)
            await visitor.upload(BRIGHT)
            message = f"no answer within {PATIENCE} seconds"
            await visitor.until(message, 2)
            await task
            await slow.until(message)
            await asyncio.sleep(2)
            await visitor.upload(BRIGHT)
            await visitor.until("<b>accepted</b>")

    asyncio.run(main())


def test_no_path_leads_to_a_file_of_the_machine(server):
    for path in (
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/image/../../etc/passwd",
        "/image/..%2f..%2fetc%2fpasswd",
        "/_nicegui/../../etc/passwd",
        "/_nicegui/3/static/../../../../../../etc/passwd",
        "/_nicegui/3/resources/x/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/\\..\\..\\etc\\passwd",
        f"/{STAND_IN}",
    ):
        for method in ("GET", "POST", "PUT", "DELETE"):
            status, text = server.request(method, path)
            assert "root:" not in text and "demo_model" not in text, path
            assert status in (400, 403, 404, 405), path


def test_a_file_for_a_page_that_is_not_open_is_refused(server):
    for visitor in ("x", "00000000-0000-0000-0000-000000000000", "%00", "a" * 3000):
        status, text = server.request("POST", f"/image/{visitor}", BRIGHT)
        assert (status, "Load it again" in text) == (404, True)
    assert server.request("GET", "/image/x")[0] == 405


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Host": "localhost"}, 200),
    ],
)
def test_the_server_is_guarded(server, headers, status):
    path = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
    assert server.request("GET", "/", headers=headers)[0] == status
    assert server.request("GET", path, headers=headers)[0] == status


def test_a_websocket_of_another_page_is_refused(server):
    async def main(headers):
        client = socketio.AsyncClient()
        await client.connect(
            server.url,
            headers=headers,
            transports=["websocket"],
            socketio_path="/_nicegui_ws/socket.io",
        )
        await client.disconnect()

    asyncio.run(main({}))
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(socketio.exceptions.ConnectionError):
            asyncio.run(main(headers))


def test_pages_without_end_are_refused_and_those_open_go_on(server):
    """The last one: NiceGUI forgets pages that nobody connected to after a minute."""

    async def main():
        async with server.visitor() as visitor:
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                statuses = list(
                    pool.map(lambda _: server.request("GET", "/")[0], range(60))
                )
            assert {*statuses} == {200, 503}
            await visitor.upload(BRIGHT)
            await visitor.until("<b>accepted</b>")

    asyncio.run(main())
    assert "as many pages are open" in server.request("GET", "/")[1]
    assert server.request("GET", "/_nicegui/none")[0] == 404
