"""The page of `ood-demo`: NiceGUI serves it, all of it from this machine."""

import asyncio
import base64
import functools
import io
import pathlib
import socket
from collections.abc import Iterable
from typing import Any

import numpy as np

from ood_keras import image_files, transcoding
from ood_keras.evaluation import figures, style
from ood_keras.names import on_page
from ood_keras.types import Path
from ood_keras.workflows.demo import answers as demo_answers
from ood_keras.workflows.demo import guard as demo_guard
from ood_keras.workflows.demo import turns as demo_turns

_FOLDER = pathlib.Path(__file__).parent
_MAX_ROWS = 10
# One open page holds up to demo_guard.MAX_FILE_BYTES, the last file that it showed.
_MAX_VISITORS = 32
_MAX_CONNECTIONS = 256
# Files that are on their way at the same time.
_MAX_UPLOADS = 4


def serve(
    model: Path,
    *,
    host: str | Iterable[str] = "127.0.0.1",
    port: int = 8080,
    browser: bool = True,
) -> None:
    """Serves the page until it is interrupted.

    Args:
        model: What `export.load` takes, a SavedModel.
        host: The address to listen at; after commas, or as a list, other names that
            the page is reached by. Requests for any other name, and those that pages
            of other servers make, are refused: see `demo_guard.Guard`.
        port: The port to listen at.
        browser: Whether to open a browser.

    Raises:
        ImportError: NiceGUI is not installed.
        ValueError: `host` is no address, or the model is none that the page can show.
        OSError: the address cannot be listened at.
    """
    hosts = demo_guard.split_hosts(host)
    try:
        from nicegui import Client, app, ui
    except ImportError as error:
        raise ImportError(
            "the page is served by NiceGUI, which is not installed. Run "
            "pip install nicegui"
        ) from error
    from ood_keras.workflows.demo.connections import Connection

    _check_free(hosts[0], port)
    demo, turns = demo_answers.Demo(model), demo_turns.Turns()
    visitors: dict[str, _Visitor] = {}
    # Drawn before anybody comes: Matplotlib is for one thread at a time.
    first = _result(demo, demo_answers.DEFAULT_POINT, _nothing)
    app.add_middleware(
        demo_guard.Guard,
        hosts=hosts,
        is_full=lambda: len(Client.instances) >= _MAX_VISITORS,
    )
    app.add_route(
        demo_guard.FILES_AT + "{visitor}",
        functools.partial(_take_file, visitors, asyncio.Semaphore(_MAX_UPLOADS)),
        methods=["POST"],
    )

    # NiceGUI answers what it does not have with a page, and keeps that for a minute.
    app.add_exception_handler(404, _not_found)

    @ui.page("/")
    def build():
        for gone in visitors.keys() - Client.instances.keys():
            del visitors[gone]
        visitor = _Visitor(demo, turns)
        visitors[ui.context.client.id] = visitor
        _build(ui, visitor, first)

    shown = f"[{hosts[0]}]" if ":" in hosts[0] else hosts[0]
    app.on_startup(
        lambda: print(
            f"http://{shown}:{port} shows {model}. Stop with Ctrl+C.", flush=True
        )
    )
    ui.run(
        host=hosts[0],
        port=port,
        title="Known or unknown?",
        favicon="❔",
        dark=False,
        tailwind=False,
        reload=False,
        show=browser,
        show_welcome_message=False,
        # Of the server below, uvicorn: what a socket sends at once, unpacked.
        ws_max_size=demo_guard.MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        limit_concurrency=_MAX_CONNECTIONS,
        http=Connection,
    )


def _check_free(host: str, port: int) -> None:
    try:
        (family, kind, *_, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
        with socket.socket(family, kind) as probe:
            # As the server does: a port that was closed a moment ago is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise OSError(
            f"cannot listen at {host}:{port}: {error.strerror}. Give another --port, "
            "or an address of this machine as --host"
        ) from error


class _Visitor:
    """One open page: what it asks, and where the answer is shown.

    Of a visitor's questions at most one waits for its turn. What is asked meanwhile
    replaces it: only the last stroke of a drawing matters.
    """

    def __init__(self, demo: demo_answers.Demo, turns: demo_turns.Turns) -> None:
        self.demo = demo
        self.panel: Any = None
        self._turns = turns
        self._wanted = {"point": demo_answers.DEFAULT_POINT, "ask": _nothing}
        self._asking = False

    async def draw(self, content: str) -> None:
        """Shows what the model says about a drawing, as `demo_answers` takes it."""
        await self.show(ask=lambda point: self.demo.drawing(content, point))

    async def send_file(self, content: bytes) -> None:
        """Shows what the model says about an image file, `bytes`."""
        await self.show(ask=lambda point: self.demo.file(content, point))

    async def choose(self, point: object) -> None:
        """Shows the same image at another operating point."""
        if isinstance(point, str) and point in self.demo.points:
            await self.show(point=point)

    async def show(self, **changes: Any) -> None:
        self._wanted = {**self._wanted, **changes}
        if self._asking:  # Whoever asks now looks again after it.
            return
        self._asking, asked = True, None
        try:
            while asked is not self._wanted:
                asked = self._wanted
                self.panel.content = await self._answer(asked)
        finally:
            self._asking = False

    async def _answer(self, asked: dict[str, Any]) -> str:
        try:
            return await self._turns.take(
                lambda: _result(self.demo, asked["point"], asked["ask"])
            )
        except (demo_turns.BusyError, demo_answers.RefusedError) as error:
            message = str(error)
        except Exception:
            self._forget(asked)
            self.panel.content = _render(
                _NOTICE, message="The model failed on this image; the server says why."
            )
            raise
        self._forget(asked)
        return _render(_NOTICE, message=f"{message}.")

    def _forget(self, asked: dict[str, Any]) -> None:
        """Keeps nothing of an image that was not answered about."""
        if self._wanted is asked:
            asked["ask"] = _nothing


async def _take_file(visitors, uploads, request):
    """Answers the request that brings a visitor's file, its body as it is."""
    from starlette.responses import PlainTextResponse, Response

    visitor = visitors.get(request.path_params["visitor"])
    if visitor is None:
        return PlainTextResponse(
            "This page is not known here any more. Load it again.\n", 404
        )
    if uploads.locked():
        return PlainTextResponse(
            "Busy: others are sending files. Try again in a moment.\n", 503
        )
    async with uploads:
        content = await request.body()
    await visitor.send_file(content)
    return Response(status_code=204)


async def _not_found(request, error):
    from starlette.responses import PlainTextResponse

    return PlainTextResponse("There is one page here, /\n", 404)


def _build(ui, visitor, first):
    """Fills the page of one visitor; visitors take turns at the model."""
    ui.add_css((_FOLDER / "demo.css").read_text())
    ui.add_body_html(f"<script>{(_FOLDER / 'demo.js').read_text()}</script>")
    demo = visitor.demo
    is_colour = demo.model.image_shape[-1] == 3

    async def answer_drawing(event):
        await visitor.draw(event.args)

    async def choose_point(event):
        await visitor.choose(event.value)

    ui.on("drawn", answer_drawing)
    with ui.element("main"):
        ui.html(
            _render(_INTRODUCTION, model=demo.model, is_colour=is_colour),
            sanitize=False,
        )
        with ui.element("section").classes("columns"):
            with ui.element("div").classes("input"):
                ui.html(
                    _render(_INPUT, is_colour=is_colour, formats=_formats("or")),
                    sanitize=False,
                )
                if len(demo.points) > 1:
                    ui.select(
                        list(demo.points),
                        value=demo_answers.DEFAULT_POINT,
                        label="operating point",
                        on_change=choose_point,
                    ).props("outlined dense").classes("point")
            visitor.panel = ui.html(first, sanitize=False).classes("result")
    address = demo_guard.FILES_AT + ui.context.client.id
    ui.run_javascript(f"listenForFiles({address!r}, {demo_guard.MAX_FILE_BYTES})")


def _nothing(point: str) -> None:
    """The answer before there is an image."""


def _result(demo, point, ask):
    """The right side of the page, as HTML, with what `ask(point)` answers."""
    answer = ask(point)
    threshold, examples = demo.points[point], demo.examples
    score = answer.ood_score if answer and answer.valid else None
    chart = None
    if examples is not None:
        chart = _svg(
            figures.score_among(
                score,
                examples.known_scores,
                examples.unknown_scores,
                threshold=threshold.value,
            )
        )
    nearest = None
    if answer is not None and answer.nearest is not None:
        label = demo.model.class_names[examples.labels[answer.nearest]]
        nearest = _png(examples.images[answer.nearest]), label
    return _render(
        _RESULT,
        answer=answer,
        rows=_rows(demo.model.class_names, answer) if answer and answer.valid else [],
        seen=_png(np.rint(255 * answer.image)) if answer and answer.valid else None,
        nearest=nearest,
        strange=_png(np.rint(255 * answer.strange))
        if answer and answer.strange is not None
        else None,
        chart=chart,
        threshold=threshold,
        digits=None if score is None else _digits(score, threshold.value),
        known_color=style.KNOWN,
        rejected_color=style.THRESHOLD,
        formats=_formats("and"),
        most=f"{image_files.MAX_PIXELS / 1e6:.0f} million pixels, a JPEG file of "
        f"{image_files.MAX_REDUCED_PIXELS / 1e6:.0f} million",
    )


def _formats(last: str) -> str:
    """The formats that are read here, as words: "PNG, JPEG or TIFF"."""
    *others, final = transcoding.formats()
    return f"{', '.join(others)} {last} {final}"


def _digits(score: float, threshold: float) -> list[str]:
    """Both numbers as text, with as many digits as it takes to tell them apart."""
    for number in range(3, 10):
        texts = [f"{value:.{number}g}" for value in (score, threshold)]
        if texts[0] != texts[1]:
            break
    return texts


def _rows(class_names, answer):
    """Names and probabilities of the classes; only the likeliest ones of many."""
    best = np.argsort(-answer.probabilities, kind="stable")[:_MAX_ROWS]
    return [(class_names[index], answer.probabilities[index]) for index in sorted(best)]


def _png(pixels):
    from PIL import Image

    pixels = np.asarray(pixels, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
        buffer, "png"
    )
    return _data_uri("image/png", buffer.getvalue())


def _svg(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return _data_uri("image/svg+xml", buffer.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _render(template: str, **values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=on_page,
    )
    return environment.from_string(template).render(**values)


_INTRODUCTION = """\
<h1>Known or unknown?</h1>
<p>This model knows
{%- if model.class_names | length > 1 %} {{ model.class_names | length }} classes:
{%- else %} one class:{% endif %}
<b> {{ model.class_names[:20] | join(", ") }}
{%- if model.class_names | length > 20 %}, ...{% endif %}</b>.
To anything else it should answer <b>unknown</b>.
{% if is_colour %}Give it a picture.
{%- else %}Draw something, or drop an image.{% endif %}</p>
"""

_INPUT = """\
{% macro sheet() %}
<div id="frame" class="blank">
<canvas id="sheet" width="280" height="280"></canvas></div>
{% endmacro %}
{% macro chooser() %}
<button id="choose">Choose a file</button>
<button id="photograph">Take a photo</button>
<input type="file" id="file" accept="image/*,.heic,.heif,.avif,.tif,.tiff" hidden>
<input type="file" id="camera" accept="image/*" capture="environment" hidden>
{% endmacro %}
{% set problem = '<p class="problem" id="problem" role="alert"></p>' | safe %}
{% if is_colour %}
<div id="place"><p>Drop a picture here, or paste one</p>
<p class="tools">{{ chooser() }}</p></div>
{{ problem }}
<p class="note">{{ formats }}. It goes to the model as it is, whole, and is not
stored.</p>
<details><summary>Draw instead</summary>
{{ sheet() }}
<p class="tools"><button id="clear">Clear</button></p>
<p class="note">A drawing is cropped and centred as handwritten digits are; a model of
photographs should reject most.</p></details>
{% else %}
{{ sheet() }}
<p class="tools"><button id="clear">Clear</button>{{ chooser() }}</p>
{{ problem }}
<p class="note">A drawing is cropped and centred as handwritten digits are before the
model sees it; a file, {{ formats }}, chosen, pasted or dropped anywhere here, is
not.</p>
{% endif %}
"""

_NOTICE = """\
<div class="verdict notice" id="verdict">{{ message }}</div>
"""

_RESULT = """\
{% if answer is none %}
<div class="verdict waiting" id="verdict">Nothing to judge yet.</div>
{% elif not answer.valid %}
<div class="verdict" id="verdict" style="border-color: {{ rejected_color }}">
<div><p class="class unreadable">not a readable image</p>
<p><b>rejected</b>: {% if answer.reason %}it {{ answer.reason }}.{% else %}expected a
whole picture file. Read here are {{ formats }}, of at most {{ most }}.{% endif %}</p>
</div></div>
{% else %}
{% set color = known_color if answer.accepted else rejected_color %}
<div class="verdict" id="verdict" style="border-color: {{ color }}">
<div><p class="class" style="color: {{ color }}">
{{- answer.label if answer.accepted else "unknown" }}</p>
<p><b>{{ "accepted" if answer.accepted else "rejected" }}</b>: score
{{ digits[0] }} is
{{ "at or below" if answer.accepted else "above" }} the threshold
{{ digits[1] }}.</p>
{% if answer.hint %}<p>{{ answer.hint }}</p>{% endif %}</div>
<figure><img src="{{ seen }}" alt="the image"><figcaption>what the model saw
</figcaption></figure>
{% if strange %}<figure><img src="{{ strange }}" alt="what is strange in red">
<figcaption>strange: what, covered,<br>lowers the score</figcaption></figure>{% endif %}
{% if nearest %}<figure><img src="{{ nearest[0] }}" alt="a known image">
<figcaption>nearest known: <b>{{ nearest[1] }}</b><br>
cosine {{ "%.3f" | format(answer.similarity) }}</figcaption></figure>{% endif %}
</div>
{% endif %}
{% if chart %}
<div class="chart"><img src="{{ chart }}" alt="scores of known images"></div>
{% endif %}
<p class="note">{{ threshold.guarantee }}
{%- if chart %} Shown above are images held out from training; the unknown
ones are of the kinds that it saw.{% endif %}</p>
{% if rows %}
<h2>Probabilities {% if answer.accepted %}of the classes{% else %}if it had to be one of
the classes; it was rejected{% endif %}</h2>
<div class="bars{{ '' if answer.accepted else ' doubted' }}">
{% for name, share in rows %}
{% set percent = "%.1f" | format(100 * share) %}
<div><span>{{ name }}</span><i><b style="width: {{ percent }}%"></b></i>
<span>{{ percent }} %</span></div>
{% endfor %}
</div>
{% endif %}
"""
