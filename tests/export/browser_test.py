"""The folder for browsers: numbers out, thresholds in, and two real runtimes."""

import json
import pathlib
import shutil

import browser_runs
import keras
import numpy as np
import pages
import pytest

import ood_keras
from ood_keras import calibration, export, pipelines
from ood_keras.inference import onnx_predictor, pillow_decoder, tflite_predictor

NUM_PICTURES = 1000


@pytest.fixture(scope="module")
def converted(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    options = {"known_images": exported.images}
    export.tflite(
        exported.path, folder / "tflite", formats=["float32", "int8"], **options
    )
    export.onnx(exported.path, folder / "onnx", **options)
    return folder


@pytest.fixture(scope="module")
def page(converted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "page"
    assert folder == export.browser(
        folder, tflite=converted / "tflite/float32", onnx=converted / "onnx"
    )
    return folder


@pytest.mark.parametrize("name", ["float32", "int8"])
def test_litert_gets_numbers_and_nothing_else(
    name, page, converted, exported, tmp_path
):
    if name == "int8":
        page = export.browser(tmp_path / "int8", tflite=converted / "tflite/int8")
    content = (page / "model.tflite").read_bytes()
    interpreter = tflite_predictor.interpreter_class()(model_content=content)
    outputs = interpreter.get_output_details()
    types = {each["name"]: each["dtype"] for each in outputs}
    assert types == {
        "accepted": np.int32,
        "class_id": np.int32,
        "ood_score": np.float32,
        "probabilities": np.float32,
        "valid": np.int32,
    }
    run = tflite_predictor.runner(content)
    predictor = export.TFLitePredictor(converted / "tflite" / name)
    seen = set()
    for pixels in exported.pixels:
        image = pixels[None] if name == "int8" else pixels[None] / np.float32(255)
        expected, answer = predictor.predict(image), run(image=image)
        assert set(answer) == set(types)
        for key in types:
            np.testing.assert_array_equal(answer[key], expected[key])
        seen.add(bool(expected["accepted"][0]))
    assert seen == {True, False}


def test_onnx_has_a_threshold_unless_one_is_given(page, converted, exported):
    session = onnx_predictor.session((page / "model.onnx").read_bytes())
    assert [each.name for each in session.get_inputs()] == ["image"]
    predictor = export.ONNXPredictor(converted / "onnx")
    expected = predictor.predict(exported.images)
    names = [each.name for each in session.get_outputs()]
    answer = dict(
        zip(names, session.run(None, {"image": exported.images}), strict=True)
    )
    for name in names:
        np.testing.assert_array_equal(answer[name], expected[name])
    assert 0 < answer["accepted"].mean() < 1
    limit = np.array(np.inf, np.float32)
    inputs = {"image": exported.images, "threshold": limit}
    assert session.run(["accepted"], inputs)[0].all()


def test_labels_lie_beside_it(page, converted, exported):
    labels = json.loads((page / "labels.json").read_text())
    assert labels["class_names"] == exported.class_names
    assert labels["unknown_label"] == "__unknown__"
    assert labels["image"] == {
        "shape": [12, 10, 1],
        "background": 255,
        "exif_orientation": True,
    }
    assert list(labels["runtimes"]) == ["onnx", "litert"]
    for file in labels["runtimes"].values():
        assert (page / file["file"]).is_file()
        assert file["dtype"] == "float32"
        assert file["threshold"] == exported.threshold.value
        strict = exported.operating_points["strict"].value
        assert file["operating_points"] == {"strict": strict}
    assert {"index.html", "ood.js", "package.json", "README.md"} <= {
        path.name for path in page.iterdir()
    }


def test_what_does_not_belong_together_is_refused(converted, tmp_path, exported):
    with pytest.raises(ValueError, match="Received neither"):
        export.browser(tmp_path / "page")
    shutil.copytree(exported.path, tmp_path / "model/1")
    limit = calibration.quantile(np.linspace(0, 1, 200), 0.9)
    again = export.recalibrate(tmp_path / "model/1", limit)
    other = export.onnx(again, tmp_path / "other", known_images=exported.images)
    with pytest.raises(ValueError, match="different models"):
        export.browser(
            tmp_path / "page", tflite=converted / "tflite/float32", onnx=other
        )
    assert not (tmp_path / "page").exists()


@pytest.fixture(scope="module")
def packages():
    folder, reason = browser_runs.find_packages()
    if reason:
        pytest.skip(reason)
    if browser_runs.find_browser() is None:
        pytest.skip("no browser is installed: looked for chromium and google-chrome")
    pytest.importorskip("playwright.sync_api", reason="needs playwright")
    return folder


@pytest.fixture(scope="module")
def pictures():
    """Digits, which the shipped model knows, and letters, which it does not."""
    halves = [pipelines.load(name).test.images for name in ("digits", "glyphs")]
    pixels = np.concatenate([half[: NUM_PICTURES // 2] for half in halves])
    assert len(pixels) > 800
    return pixels


@pytest.fixture(scope="module")
def shipped_page(pictures, tmp_path_factory):
    """The shipped model of digits in a browser, with pictures beside it."""
    folder = tmp_path_factory.mktemp("shipped")
    known = pipelines.load("digits").validation.images / np.float32(255)
    options = {"known_images": known}
    export.tflite("mnist", folder / "tflite", formats="float32", **options)
    export.onnx("mnist", folder / "onnx", **options)
    page = export.browser(
        folder / "page", tflite=folder / "tflite/float32", onnx=folder / "onnx"
    )
    browser_runs.put_pictures(page, pictures)
    return page


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "litert"])
def test_a_browser_decides_as_the_saved_model(
    runtime, packages, shipped_page, pictures
):
    predictor = export.load("mnist")
    expected = predictor.predict(pictures / np.float32(255))
    assert 0.2 < expected["accepted"].mean() < 0.8
    with (
        browser_runs.serve(shipped_page, packages) as address,
        browser_runs.open_page(address) as page,
    ):
        for what in ("pixels", "files"):
            answer, _, _ = browser_runs.ask(page, runtime, what, len(pictures))
            for name in ("class_id", "label", "accepted", "valid"):
                np.testing.assert_array_equal(answer[name], expected[name])
            scale = np.maximum(1, np.abs(expected["ood_score"]))
            differences = np.abs(answer["ood_score"] - expected["ood_score"]) / scale
            assert differences.max() < 1e-3
        strict, _, _ = browser_runs.ask(page, runtime, "files", 100, "strict")
        assert page.errors == []
        # Nothing but the page's own server was asked.
        assert all(url.startswith((address, "data:", "blob:")) for url in page.asked)
    reference = predictor.predict(pictures[:100] / np.float32(255), threshold="strict")
    np.testing.assert_array_equal(strict["class_id"], reference["class_id"])
    assert strict["accepted"].sum() < expected["accepted"][:100].sum()


_COLOURS = ("blue", "red", "green")


def draw_colours(names, count, seed):
    """Noise with more of one colour, uint8 `(count, 20, 20, 3)`, by turns."""
    random = np.random.default_rng(seed)
    pixels = random.uniform(0, 120, (count, 20, 20, 3))
    for number, picture in enumerate(pixels):
        channel = {"red": 0, "green": 1, "blue": 2}[names[number % len(names)]]
        picture[..., channel] += random.uniform(80, 130)
    return pixels.astype(np.uint8)


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    """A colour network on pixels from 0 to 255, with a page, by one call."""
    folder, known = tmp_path_factory.mktemp("colours"), _COLOURS[:2]
    for part, names, count in (("known", known, 200), ("other", _COLOURS[2:], 60)):
        for number, picture in enumerate(draw_colours(names, count, seed=count)):
            path = folder / part / names[number % len(names)] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(browser_runs.png(picture))
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((20, 20, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(0.02), loss)
    labels = np.arange(200) % 2
    network.fit(draw_colours(known, 200, seed=1), labels, epochs=20, verbose=0)
    return ood_keras.adopt(
        network,
        folder / "known",
        folder / "other",
        output=folder / "adopted",
        detectors=["knn"],
        formats=["browser"],
        renderings="none",
        progress=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "litert"])
def test_the_page_of_an_adopted_network_decides_as_it(
    runtime, packages, adopted, tmp_path
):
    folder = shutil.copytree(adopted.run_dir / "browser", tmp_path / "page")
    pictures = draw_colours(_COLOURS, 300, seed=2)
    browser_runs.put_pictures(folder, pictures)
    expected = export.load(adopted.saved_model).predict(pictures / np.float32(255))
    assert {*_COLOURS[:2], "__unknown__"} == set(expected["label"])
    with (
        browser_runs.serve(folder, packages) as address,
        browser_runs.open_page(address) as page,
    ):
        for what in ("pixels", "files"):
            answer, _, _ = browser_runs.ask(page, runtime, what, len(pictures))
            np.testing.assert_array_equal(answer["label"], expected["label"])
        assert page.errors == []


_BAD = """async (runtime) => {
  const { load } = await import("/ood.js");
  const model = await load({ runtime });
  const nan = new Float32Array(28 * 28).fill(0.5);
  nan[3] = NaN;
  const large = new Float32Array(28 * 28).fill(0.5);
  large[3] = 255;
  const seen = [];
  for (const pixels of [nan, large]) seen.push(await model.predict(pixels));
  seen.push(await model.predictFile(new Blob(["no picture"])));
  // A picture, but no canvas is as wide.
  globalThis.OffscreenCanvas = class {
    getContext() { throw new Error("too large"); }
  };
  const drawn = await (await fetch("/pictures/0.png")).blob();
  seen.push(await model.predictFile(drawn));
  let error = null;
  try { await model.predict(new Float32Array(5)); } catch (e) { error = e.message; }
  const fine = await model.predict(new Uint8Array(28 * 28));
  return { seen: seen.map((s) => [s.class_id, s.accepted, s.valid, s.label]), error,
           fine: fine.valid };
}"""


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "litert"])
def test_a_browser_rejects_what_is_no_image(runtime, packages, shipped_page):
    with (
        browser_runs.serve(shipped_page, packages) as address,
        browser_runs.open_page(address) as page,
    ):
        done = page.evaluate(_BAD, runtime)
    assert done["seen"] == [[-1, False, False, "__unknown__"]] * 4
    assert "expected 784 pixels (28 x 28 x 1)" in done["error"]
    assert done["fine"]


@pytest.mark.slow
def test_the_page_shows_what_it_says(packages, shipped_page, pictures):
    expected = export.load("mnist").predict(pictures / np.float32(255))
    rows = [expected["accepted"].argmax(), (~expected["accepted"]).argmax()]
    with (
        browser_runs.serve(shipped_page, packages) as address,
        browser_runs.open_page(address) as page,
    ):
        for runtime in ("onnx", "litert"):
            page.select_option("#runtime", runtime)
            page.wait_for_function(
                "document.getElementById('state').textContent.startsWith('Knows 0')"
            )
            page.set_input_files(
                "#files",
                [
                    {
                        "name": f"{row}.png",
                        "mimeType": "image/png",
                        "buffer": browser_runs.png(pictures[row]),
                    }
                    for row in rows
                ],
            )
            page.wait_for_function(
                "n => document.querySelectorAll('figure').length === n",
                arg=2 * (1 + (runtime == "litert")),
            )
            labels = page.locator(".label").all_inner_texts()[:2]
            assert labels == ["unknown", expected["label"][rows[0]]]


_PIXELS = """async ([count, shape, background]) => {
  const { Model } = await import("/ood.js");
  const labels = { class_names: [], unknown_label: "", image: {
    shape, background, exif_orientation: true } };
  const model = new Model(labels, { dtype: "float32" }, null);
  const found = [];
  for (let i = 0; i < count; i++) {
    const file = await (await fetch(`/pictures/${i}.png`)).blob();
    found.push(Array.from(await model.pixelsOf(file)));
  }
  return found;
}"""


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(28, 28, 1), (40, 23, 3), (90, 120, 3)])
def test_files_become_the_pixels_that_training_reads(shape, packages, shipped_page):
    generator = np.random.default_rng(3)
    sizes = [(28, 28), (57, 31), (20, 90), (90, 120)]
    images = [
        generator.integers(0, 256, (*size, channels)).astype(np.uint8)
        for size in sizes
        for channels in (1, 3, 4)
    ]
    for number, image in enumerate(images):
        if image.shape[-1] == 4:
            # Fully or not at all: what lies between is rounded by the canvas.
            image[..., 3] = np.where(image[..., 3] > 100, 255, 0)
        file = shipped_page / f"pictures/{number}.png"
        file.write_bytes(browser_runs.png(image))
    with (
        browser_runs.serve(shipped_page, packages) as address,
        browser_runs.open_page(address) as page,
    ):
        found = page.evaluate(_PIXELS, [len(images), list(shape), 255])
    for number, pixels in enumerate(found):
        content = (shipped_page / f"pictures/{number}.png").read_bytes()
        expected = pillow_decoder.decode(content, shape).astype(int)
        off = np.abs(np.reshape(pixels, shape) - expected)
        # Half way between two levels, sums of another order round to the other.
        assert off.max() <= 1
        assert off.mean() < 0.01


def test_no_name_widens_the_page_on_a_phone():
    file = pathlib.Path(export.__file__).with_name("browser_page") / "index.html"
    with pages.on_phone(file) as page:
        page.locator("#state").evaluate("(place) => place.append('x'.repeat(99))")
        assert pages.width(page) == pages.WIDTH
