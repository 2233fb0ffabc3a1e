"""The page of `ood-demo` for a model of colour pictures, on a phone."""

import base64
import io
import os
import pathlib

import demo_browser
import numpy as np
import pytest
from PIL import Image

from ood_keras import transcoding

pytest.importorskip("nicegui", reason="needs the extra `demo`")

STAND_IN = pathlib.Path(__file__).with_name("demo_stand_in.py")
WIDTH, HEIGHT = 390, 844


@pytest.fixture(scope="module")
def page():
    options = {"viewport": {"width": WIDTH, "height": HEIGHT}, "has_touch": True}
    with demo_browser.launch(**options) as page:
        for address in demo_browser.serve(
            lambda port: [STAND_IN, port, "127.0.0.1", 16, 30, 3]
        ):
            page.goto(address)
            page.wait_for_selector("#choose")
            demo_browser.wait_until_ready(page)
            yield page


def encode(format):
    pixels = np.full((60, 50, 3), (250, 120, 40), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def is_below(page, lower, upper):
    top = page.locator(lower).bounding_box()["y"]
    box = page.locator(upper).bounding_box()
    return top >= box["y"] + box["height"]


def test_the_picture_comes_first_and_the_sheet_is_folded_away(page):
    assert page.locator("#choose").is_visible()
    assert page.locator("#photograph").is_visible()  # A finger, so there is a camera.
    assert not page.locator("#sheet").is_visible()
    assert is_below(page, "summary", "#choose")
    note = page.locator("main main").inner_text()
    assert all(format in note for format in transcoding.formats())
    page.click("summary")
    assert page.locator("#sheet").is_visible()
    page.click("summary")


def test_every_way_to_give_a_picture_leads_to_an_answer(page):
    chosen = {"mimeType": "", "buffer": encode("PNG")}
    for way in ("#file", "#camera"):
        page.locator(way).set_input_files({"name": "a", **chosen})
        page.wait_for_selector("#verdict:has-text('accepted')")
        page.locator(way).set_input_files({"name": "b", **chosen, "buffer": b"none"})
        page.wait_for_selector("#verdict:has-text('none of PNG')")
    page.evaluate(
        """(text) => {
            const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([bytes], "pasted.tif"));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData}));
        }""",
        base64.b64encode(encode("TIFF")).decode(),
    )
    page.wait_for_selector("#verdict:has-text('accepted')")


def test_the_answer_is_on_the_screen_of_a_phone(page, tmp_path):
    page.locator("#file").set_input_files(
        {"name": "a.png", "mimeType": "", "buffer": encode("PNG")}
    )
    page.wait_for_selector("#verdict:has-text('accepted')")
    page.screenshot(path=os.environ.get("OOD_KERAS_PHONE", tmp_path / "phone.png"))
    assert page.evaluate("document.documentElement.scrollWidth") == WIDTH
    box = page.locator("#verdict .class").bounding_box()
    assert box["y"] + box["height"] < HEIGHT
    # One line, that no word is broken.
    assert box["height"] < 60
