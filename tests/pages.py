"""A real browser for the pages that the package writes, and what it sees of them."""

import contextlib
import io
import shutil

import numpy as np
import pytest
from PIL import Image

# Of a telephone.
WIDTH, HEIGHT = 390, 844


@contextlib.contextmanager
def launch(**options):
    """Yields a page of a headless browser; skips where there is no browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no browser is installed: looked for chromium and google-chrome")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=found,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(**options)
        page.set_default_timeout(30_000)
        yield page
        browser.close()


@contextlib.contextmanager
def on_phone(file):
    """Yields a page that shows a file on a telephone, all of it unfolded."""
    with launch(viewport={"width": WIDTH, "height": HEIGHT}) as page:
        page.goto(file.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = 1)")
        yield page


def width(page):
    """How wide the page is, with what hangs out of the window."""
    return page.evaluate("document.documentElement.scrollWidth")


def hidden(box):
    """How many pixels of a box, from left to right, can be scrolled to."""
    return box.evaluate("box => box.scrollWidth - box.clientWidth")


def shadows(box):
    """Whether there is a shadow at the left and at the right edge of a box."""
    with Image.open(io.BytesIO(box.screenshot())) as image:
        pixels = np.asarray(image.convert("L"), int)
    ground = box.evaluate("box => getComputedStyle(box).backgroundColor")
    red, green, blue = (int(each) for each in ground[4:-1].split(","))
    ground = 0.299 * red + 0.587 * green + 0.114 * blue
    # Beside a border, and the median since there are lines and letters.
    return tuple(abs(np.median(pixels[:, at]) - ground) > 15 for at in (3, -4))


def scroll_to_end(box):
    """Scrolls a box to its right end."""
    box.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
