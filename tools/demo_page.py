"""The page of `ood-demo`: NiceGUI serves it, all of it from this machine."""

import asyncio
import base64
import io
import pathlib
import socket

import numpy as np

from ood_keras.evaluation import figures, style
from ood_keras.tools import demo_answers

_FOLDER = pathlib.Path(__file__).parent
_MAX_BYTES = 20_000_000
_MAX_ROWS = 10


def serve(model, *, host="127.0.0.1", port=8080, browser=True):
    """Serves the page until it is interrupted.

    Args:
        model: What `export.load` takes, a SavedModel.
        host: The address to listen at.
        port: The port to listen at.
        browser: Whether to open a browser.

    Raises:
        ImportError: NiceGUI is not installed.
        OSError: the address cannot be listened at.
    """
    try:
        from nicegui import app, ui
    except ImportError as error:
        raise ImportError(
            "the page is served by NiceGUI, which is not installed. Run "
            "pip install 'ood_keras[demo]'"
        ) from error
    _check_free(host, port)
    demo, turns = demo_answers.Demo(model), asyncio.Lock()
    app.on_startup(
        lambda: print(f"http://{host}:{port} shows {model}. Stop with Ctrl+C.")
    )
    ui.run(
        lambda: _build(ui, demo, turns),
        host=host,
        port=port,
        title="Known or unknown?",
        favicon="❔",
        dark=False,
        tailwind=False,
        reload=False,
        show=browser,
        show_welcome_message=False,
    )


def _check_free(host, port):
    with socket.socket() as probe:
        # As the server does: a port that was closed a moment ago is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"cannot listen at {host}:{port}: {error.strerror}. Give another "
                "--port, or an address of this machine as --host"
            ) from error


def _build(ui, demo, turns):
    """Fills the page of one visitor; visitors take turns at the model."""
    ui.add_css((_FOLDER / "demo.css").read_text())
    ui.add_body_html(f"<script>{(_FOLDER / 'demo.js').read_text()}</script>")
    state = {"point": demo_answers.DEFAULT_POINT, "ask": _nothing}

    async def show(**changes):
        state.update(changes)
        wanted = dict(state)
        async with turns:
            if wanted == state:  # Else a later stroke waits already.
                result.content = await asyncio.to_thread(
                    lambda: _result(demo, wanted["point"], wanted["ask"])
                )

    async def drawn(event):
        content = base64.b64decode(event.args)
        await show(ask=lambda point: demo.drawing(content, point))

    async def uploaded(event):
        content = await event.file.read()
        upload.reset()
        ui.run_javascript("clearSheet()")
        await show(ask=lambda point: demo.file(content, point))

    async def chosen(event):
        await show(point=event.value)

    def too_large():
        ui.notify(f"A file may have {_MAX_BYTES // 1_000_000} MB at most.")

    ui.on("drawn", drawn)
    with ui.element("main"):
        ui.html(_rendered(_INTRODUCTION, model=demo.model), sanitize=False)
        with ui.element("section").classes("columns"):
            with ui.element("div").classes("input"):
                ui.html(_SHEET, sanitize=False)
                upload = ui.upload(
                    auto_upload=True,
                    max_file_size=_MAX_BYTES,
                    on_upload=uploaded,
                    on_rejected=too_large,
                ).style("display: none")
                if len(demo.points) > 1:
                    ui.select(
                        list(demo.points),
                        value=state["point"],
                        label="operating point",
                        on_change=chosen,
                    ).props("outlined dense").classes("point")
            result = ui.html(_result(demo, state["point"], _nothing), sanitize=False)
            result.classes("result")
    ui.run_javascript(f"listenForFiles({upload.id})")


def _nothing(point):
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
    return _rendered(
        _RESULT,
        answer=answer,
        rows=_rows(demo.model.class_names, answer) if answer and answer.valid else [],
        seen=_png(np.rint(255 * answer.image)) if answer and answer.valid else None,
        nearest=nearest,
        chart=chart,
        threshold=threshold,
        digits=None if score is None else _digits(score, threshold.value),
        known_color=style.KNOWN,
        rejected_color=style.THRESHOLD,
    )


def _digits(score, threshold):
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


def _data_uri(kind, content):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _rendered(template, **values):
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.from_string(template).render(**values)


_INTRODUCTION = """\
<h1>Known or unknown?</h1>
<p>This model knows {{ model.class_names | length }} classes:
<b>{{ model.class_names[:20] | join(", ") }}
{%- if model.class_names | length > 20 %}, ...{% endif %}</b>.
To anything else it should answer <b>unknown</b>. Draw something, or drop an image.</p>
"""

_SHEET = """\
<div id="frame" class="blank">
<canvas id="sheet" width="280" height="280"></canvas></div>
<p class="tools"><button id="clear">Clear</button>
<button id="choose">Choose a file</button></p>
<p class="note">A drawing is cropped and centred as handwritten digits are before the
model sees it; a PNG or JPEG file, chosen or dropped anywhere here, is not.</p>
"""

_RESULT = """\
{% if answer is none %}
<div class="verdict waiting" id="verdict">Nothing to judge yet.</div>
{% elif not answer.valid %}
<div class="verdict" id="verdict" style="border-color: {{ rejected_color }}">
<div><p class="class unreadable">not a readable image</p>
<p><b>rejected</b>: expected a whole PNG or JPEG file of at most 16 million pixels.</p>
</div></div>
{% else %}
{% set color = known_color if answer.accepted else rejected_color %}
<div class="verdict" id="verdict" style="border-color: {{ color }}">
<div><p class="class" style="color: {{ color }}">
{{- answer.label if answer.accepted else "unknown" }}</p>
<p><b>{{ "accepted" if answer.accepted else "rejected" }}</b>: score
{{ digits[0] }} is
{{ "at or below" if answer.accepted else "above" }} the threshold
{{ digits[1] }}.</p></div>
<figure><img src="{{ seen }}" alt="the image"><figcaption>what the model saw
</figcaption></figure>
{% if nearest %}<figure><img src="{{ nearest[0] }}" alt="a known image">
<figcaption>nearest known: <b>{{ nearest[1] }}</b><br>
cosine {{ "%.3f" | format(answer.similarity) }}</figcaption></figure>{% endif %}
</div>
{% endif %}
{% if chart %}
<img class="chart" src="{{ chart }}" alt="scores of known images">
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
