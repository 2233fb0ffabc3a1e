"""The page of `ood-demo`: its answers, and a real browser that draws and uploads."""

import base64
import dataclasses
import io
import os
import pathlib
import shutil
import socket
import struct
import time
import types
import zlib

import demo_browser
import numpy as np
import pytest
from demo_model import SHAPE, Model, known_examples
from PIL import Image

from ood_keras import calibration, export
from ood_keras.inference import known_examples as examples_file
from ood_keras.inference import manifest
from ood_keras.workflows.demo import answers as demo_answers
from ood_keras.workflows.demo import page as demo_page

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.setattr(export, "Predictor", Model)
    monkeypatch.setattr(export, "load", lambda path: Model(known_examples()))
    return demo_answers.Demo("a model")


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def test_a_file_goes_to_the_model_as_it_is(demo):
    content = png(demo.examples.images[1, ..., 0])
    answer = demo.file(content)
    np.testing.assert_array_equal(
        answer.image, demo.examples.images[1] / np.float32(255)
    )
    assert (answer.valid, answer.accepted) == (True, True)
    assert answer.label == "<b>bright</b>"
    assert answer.ood_score == pytest.approx(-200 / 255)
    assert answer.nearest == 1
    assert answer.similarity == pytest.approx(1)


def test_a_rejected_negative_of_the_known_images_is_said_to_be_one(demo, monkeypatch):
    dark = np.zeros((2, *SHAPE), np.uint8)
    dark[:, 3:6, 3:6] = 255
    demo.examples = dataclasses.replace(demo.examples, images=dark, labels=[0, 0])
    ask = demo.model.predict_bytes

    def reject(contents, threshold):
        return {**ask(contents, threshold), "accepted": np.array([False])}

    monkeypatch.setattr(demo.model, "predict_bytes", reject)
    assert "give their negatives" in demo.file(png(255 - dark[0, ..., 0])).hint
    assert demo.file(png(dark[0, ..., 0])).hint is None


def test_a_drawing_is_centred_and_its_ink_made_bright(demo):
    paper = np.full((280, 280), 255)
    paper[10:60, 200:220] = 0
    answer = demo.drawing(png(paper))
    assert answer.image.shape == SHAPE
    assert (answer.image[0, 0, 0], answer.image.max()) == (0, 1)
    assert answer.accepted
    assert demo.drawing(png(np.full((280, 280), 255))) is None


def test_a_drawing_may_come_as_base64_as_the_page_sends_it(demo):
    paper = np.full((280, 280), 255)
    paper[10:60, 200:220] = 0
    as_text = demo.drawing(base64.b64encode(png(paper)).decode())
    np.testing.assert_array_equal(as_text.image, demo.drawing(png(paper)).image)


def with_size(content, width, height):
    """A PNG whose header says another size, with a right checksum."""
    header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


SHEET = png(np.full((280, 280), 255))
NO_DRAWINGS = {
    "number": (17, "type int"),
    "nothing": (None, "type NoneType"),
    "list": (["a", 1], "type list"),
    "dict": ({"width": 280}, "type dict"),
    "empty": ("", "another kind"),
    "no base64": ("!" * 40, "not base64"),
    "data address": ("data:image/png;base64,AAAA", "not base64"),
    "not ascii": ("\u00e4" * 8, "not base64"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(90), "another kind"),
    "text": (b"garbage", "another kind"),
    "only a signature": (SHEET[:20], "cut off"),
    "cut off": (SHEET[:60], "damaged"),
    "large": (png(np.full((281, 280), 255)), "280 x 281 pixels"),
    "small": (png(np.full((28, 28), 255)), "28 x 28 pixels"),
    "bomb": (with_size(SHEET, 13_000, 13_000), "13000 x 13000 pixels"),
    "lies": (with_size(png(np.full((28, 28), 255)), 280, 280), "damaged"),
    "long": (SHEET + bytes(500_000), "500,"),
    "long text": ("A" * 900_000, "900,000 characters"),
}


@pytest.mark.parametrize(("content", "received"), NO_DRAWINGS.values(), ids=NO_DRAWINGS)
def test_what_is_no_drawing_is_refused(demo, content, received):
    with pytest.raises(
        demo_answers.RefusedError, match=f"280 x 280 .* Received: .*{received}"
    ):
        demo.drawing(content)


def test_a_large_drawing_costs_nothing(demo):
    """13,000 x 13,000 pixels took 35 s and 3 GB; they are not even unpacked."""
    buffer = io.BytesIO()
    Image.new("1", (13_000, 13_000)).save(buffer, "png")
    start = time.perf_counter()
    with pytest.raises(demo_answers.RefusedError, match="13000 x 13000"):
        demo.drawing(buffer.getvalue())
    assert time.perf_counter() - start < 0.5


def test_ink_is_dark_where_the_known_images_are(monkeypatch):
    monkeypatch.setattr(export, "Predictor", Model)
    monkeypatch.setattr(export, "load", lambda path: Model(known_examples(255)))
    assert demo_answers.Demo("a model").dark_ink


def test_an_operating_point_decides(demo):
    content = png(np.full((12, 10), 128))
    assert list(demo.points) == ["default", "strict"]
    assert demo.file(content).accepted
    assert not demo.file(content, "strict").accepted


def test_an_operating_point_never_replaces_the_models_own_threshold(monkeypatch):
    model = Model(known_examples())
    points = model.manifest["operating_points"]
    points["default"] = {**points["strict"], "value": -0.9375}
    monkeypatch.setattr(export, "Predictor", Model)
    monkeypatch.setattr(export, "load", lambda path: model)
    demo = demo_answers.Demo("a model")
    assert {name: point.value for name, point in demo.points.items()} == {
        "default": -0.25,
        "strict": -0.75,
        "operating point default": -0.9375,
    }
    del model.manifest["operating_points"]  # As in manifests of older models.
    assert list(demo_answers.Demo("a model").points) == ["default"]


def test_garbage_is_no_image(demo):
    answer = demo.file(b"garbage")
    assert (answer.valid, answer.accepted, answer.nearest) == (False, False, None)
    html = demo_page._result(demo, "default", lambda point: answer)
    assert "not a readable image" in html
    assert "none of PNG, JPEG" in html
    assert "Probabilities" not in html


def test_the_result_says_what_was_decided_and_escapes_names(demo):
    content = png(np.full((12, 10), 128))
    accepted, rejected = (
        demo_page._result(demo, point, lambda point: demo.file(content, point))
        for point in ("default", "strict")
    )
    assert "<b>accepted</b>: score" in accepted
    assert "&lt;b&gt;bright&lt;/b&gt;" in accepted
    assert "<b>bright" not in accepted
    assert "<b>rejected</b>: score" in rejected
    assert "strict: half." in rejected
    assert "nearest known" in rejected


def test_a_model_without_examples_or_with_odd_channels(monkeypatch):
    monkeypatch.setattr(export, "Predictor", Model)
    monkeypatch.setattr(export, "load", lambda path: Model(None))
    demo = demo_answers.Demo("a model")
    answer = demo.file(png(np.full((12, 10), 255)))
    assert (answer.accepted, answer.nearest) == (True, None)
    assert "chart" not in demo_page._result(demo, "default", lambda point: answer)
    monkeypatch.setattr(export, "load", lambda path: Model(None, (12, 10, 2)))
    with pytest.raises(ValueError, match=r"1 or 3 channels.* of 2"):
        demo_answers.Demo("a model")
    monkeypatch.setattr(export, "load", lambda path: object())
    with pytest.raises(ValueError, match="SavedModel"):
        demo_answers.Demo("model.tflite")


def test_a_taken_port_is_an_error_that_helps():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="another --port"):
            demo_page._check_free(*taken.getsockname())


# From here on: a real model, a real server, a real browser.


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The shipped digit model, with an operating point that rejects everything."""
    shipped = os.environ.get("OOD_KERAS_DEMO_MODEL", ROOT / "saved_models" / "mnist/1")
    if not pathlib.Path(shipped, "manifest.json").is_file():
        pytest.skip(f"no trained digit model in {shipped} (or OOD_KERAS_DEMO_MODEL)")
    copy = tmp_path_factory.mktemp("demo") / "mnist" / "1"
    shutil.copytree(shipped, copy)
    strict = calibration.Threshold(-1e6, "quantile", "Accepts nothing.", 1, 0.0)
    content = manifest.read(copy)
    content["operating_points"]["strict"] = strict.to_dict()
    manifest.write(copy, content)
    return copy


@pytest.fixture(scope="module")
def address(model):
    pytest.importorskip("nicegui", reason="needs the extra `demo`")
    command = ["-m", "ood_keras.tools.demo", f"--model={model}", "--nobrowser"]
    yield from demo_browser.serve(lambda port: [*command, f"--port={port}"])


@pytest.fixture(scope="module")
def page(address):
    with demo_browser.launch(viewport={"width": 1060, "height": 800}) as page:
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("#sheet")
        yield page


@pytest.fixture
def sheet(page):
    """`sheet(*strokes)` draws them with the mouse, each a list of (x, y)."""
    demo_browser.wait_until_ready(page)
    page.click("#clear")
    page.wait_for_selector("#verdict.waiting")
    box = page.locator("#sheet").bounding_box()

    def draw(*strokes):
        for stroke in strokes:
            for index, (x, y) in enumerate(stroke):
                page.mouse.move(box["x"] + x, box["y"] + y, steps=5)
                if index == 0:
                    page.mouse.down()
            page.mouse.up()

    return draw


ONE = [(150, 50), (135, 230)]
TURNS = np.linspace(0, 2 * np.pi, 40)
ZERO = [(140 + 55 * np.sin(turn), 140 - 85 * np.cos(turn)) for turn in TURNS]
SEVEN = [(80, 60), (200, 60), (130, 230)]
SCRIBBLE = [(40, 60), (240, 220), (40, 200), (230, 50), (140, 20), (60, 140)]
SCRIBBLE += [(250, 130), (120, 250), (150, 40)]


def verdict(page, expected):
    page.wait_for_selector(f"#verdict:has-text('{expected}')")
    return page.locator("#verdict .class").inner_text()


@pytest.mark.parametrize(("stroke", "label"), [(ONE, "1"), (ZERO, "0")])
def test_a_drawn_digit_is_accepted(page, sheet, stroke, label):
    sheet(stroke)
    assert verdict(page, "accepted") == label
    assert page.locator("#verdict figure").count() == 2
    assert f"nearest known: {label}" in page.locator("#verdict").inner_text()
    assert page.locator(".chart img").is_visible()


def test_a_scribble_is_rejected(page, sheet):
    sheet(SCRIBBLE)
    assert verdict(page, "rejected") == "unknown"
    assert "it was rejected" in page.locator("h2").inner_text()


def test_the_page_can_be_pictured(page, sheet, tmp_path):
    """docs/demo.md says how this makes its picture."""
    shots = []
    for strokes, expected in (([SEVEN], "accepted"), ([SCRIBBLE], "rejected")):
        page.click("#clear")
        page.wait_for_selector("#verdict.waiting")
        sheet(*strokes)
        verdict(page, expected)
        shots.append(Image.open(io.BytesIO(page.screenshot())))
    both = Image.new("RGB", (sum(shot.width for shot in shots), shots[0].height))
    for index, shot in enumerate(shots):
        both.paste(shot, (index * shot.width, 0))
    path = os.environ.get("OOD_KERAS_DEMO_PICTURE", tmp_path / "demo.png")
    both.quantize(128).save(path, optimize=True)
    assert both.getpixel((0, 0)) == (255, 255, 255)


def test_another_operating_point_can_be_chosen(page, sheet):
    sheet(ONE)
    verdict(page, "accepted")
    for point, expected in (("strict", "rejected"), ("default", "accepted")):
        page.locator(".point").click()
        page.get_by_role("option", name=point).click()
        verdict(page, expected)


def test_a_file_is_accepted_and_garbage_is_not_read(page, sheet, model):
    examples = examples_file.read(model)
    content = png(examples.images[0, ..., 0])
    upload = page.locator("#file")
    upload.set_input_files({"name": "a.png", "mimeType": "", "buffer": content})
    assert verdict(page, "score") in {str(examples.labels[0]), "unknown"}
    assert "cosine 1.000" in page.locator("#verdict").inner_text()
    upload.set_input_files({"name": "b.png", "mimeType": "", "buffer": b"garbage"})
    assert verdict(page, "readable") == "not a readable image"


def test_a_file_can_be_dropped(page, sheet, model):
    content = png(examples_file.read(model).images[0, ..., 0])
    page.evaluate(
        """async (text) => {
            const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], "dropped.png"));
            document.getElementById("sheet").dispatchEvent(
                new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true})
            );
        }""",
        base64.b64encode(content).decode(),
    )
    verdict(page, "score")
    assert "cosine 1.000" in page.locator("#verdict").inner_text()


def test_the_page_asks_nobody_else(page, address):
    here = address.removeprefix("http://")
    elsewhere = [url for url in page.asked if here not in url and url[:5] != "data:"]
    assert page.asked
    assert not elsewhere


def test_score_and_threshold_are_shown_apart():
    assert demo_page._digits(-2.5, 1.25) == ["-2.5", "1.25"]
    assert demo_page._digits(0.1234567, 0.1234) == ["0.1235", "0.1234"]
    close = np.nextafter(np.float32(-2.43), np.float32(0))
    above, below = demo_page._digits(float(close), float(np.float32(-2.43)))
    assert np.float32(above) == close and np.float32(below) == np.float32(-2.43)
    same = float(np.float32(0.1))
    assert np.float32(demo_page._digits(same, same)[0]) == np.float32(0.1)


def test_an_image_that_has_no_score_in_part_has_no_heat():
    demo = object.__new__(demo_answers.Demo)
    demo.model = types.SimpleNamespace(
        predict=lambda images, threshold: {"ood_score": np.full(len(images), np.inf)}
    )
    assert demo._explain(np.zeros((6, 4, 1), np.float32)) is None
