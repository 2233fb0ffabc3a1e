"""Runs the folder that `export.browser` writes in a real, headless browser.

The npm packages are looked for in `build/browser/node_modules` (`make browser` installs
them), or where `OOD_KERAS_NODE_MODULES` says.
"""

import contextlib
import functools
import http.server
import io
import json
import os
import pathlib
import shutil
import threading

import numpy as np
from PIL import Image

_ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = {"onnx": "onnxruntime-web", "litert": "@litertjs/core"}

# Whole files go through what a visitor's go through; raw pixels through `predict`.
_ANSWER = """async ({ runtime, what, count, threshold }) => {
  const { load } = await import("/ood.js");
  const start = performance.now();
  const model = await load({ runtime });
  const loaded = performance.now() - start;
  const given = [];
  if (what === "files") {
    for (let i = 0; i < count; i++) {
      given.push(await (await fetch(`/pictures/${i}.png`)).blob());
    }
  } else {
    const all = new Float32Array(await (await fetch("/pictures.bin")).arrayBuffer());
    const size = all.length / count;
    for (let i = 0; i < count; i++) given.push(all.slice(i * size, (i + 1) * size));
  }
  const answers = [];
  const times = [];
  for (const one of given) {
    const before = performance.now();
    const answer = what === "files"
      ? await model.predictFile(one, threshold)
      : await model.predict(one, threshold);
    times.push(performance.now() - before);
    // JSON has no NaN; none is expected.
    answers.push({ ...answer, probabilities: Array.from(answer.probabilities) });
  }
  return { loaded, times, answers: JSON.stringify(answers) };
}"""


def find_packages():
    """The folder `node_modules`, or why there is none, `(folder, reason)`."""
    folder = pathlib.Path(
        os.environ.get("OOD_KERAS_NODE_MODULES", _ROOT / "build/browser/node_modules")
    )
    missing = [name for name in PACKAGES.values() if not (folder / name).is_dir()]
    reason = f"no {', '.join(missing)} in {folder}: make browser" if missing else None
    return folder, reason


def find_browser():
    """A Chromium, or `None`."""
    names = ("chromium", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


@contextlib.contextmanager
def serve(page, packages):
    """Serves a folder of `export.browser` with the packages; yields its address."""
    (page / "node_modules").symlink_to(packages)
    handler = functools.partial(_Quiet, directory=str(page))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
            (page / "node_modules").unlink()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def open_page(address):
    """Yields a page of a headless browser at `address`."""
    from playwright import sync_api

    with sync_api.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=find_browser(),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page()
        page.set_default_timeout(300_000)
        page.asked, page.errors = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(address)
        yield page
        browser.close()


def put_pictures(folder, pixels):
    """Lays uint8 images beside the page, as floats in [0, 1] and as PNG files."""
    (folder / "pictures.bin").write_bytes((pixels.astype(np.float32) / 255).tobytes())
    (folder / "pictures").mkdir(exist_ok=True)
    for number, image in enumerate(pixels):
        (folder / f"pictures/{number}.png").write_bytes(png(image))


def png(image):
    """A uint8 image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image = image.squeeze(-1) if image.shape[-1] == 1 else image
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def ask(page, runtime, what, count, threshold=None):
    """What a runtime answers in the page.

    Args:
        page: Of `open_page`.
        runtime: "onnx" or "litert".
        what: "files" or "pixels", of those that `put_pictures` laid there.
        count: How many there are.
        threshold: As for `predict` of `ood.js`.

    Returns:
        `(answer, seconds to load, seconds of each)`; the answer as a predictor gives
        it, a dict of arrays.
    """
    options = {"runtime": runtime, "what": what, "count": count}
    if threshold is not None:
        options["threshold"] = threshold
    done = page.evaluate(_ANSWER, options)
    rows = json.loads(done["answers"])
    answer = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    answer["ood_score"] = answer["ood_score"].astype(np.float32)
    return answer, done["loaded"] / 1000, np.array(done["times"]) / 1000
