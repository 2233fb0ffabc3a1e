"""TFLite and ONNX files: they decide as the SavedModel that they were made from."""

import contextlib
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from ood_keras import calibration, detectors, export
from ood_keras.export import edge, parity
from ood_keras.export.flatbuffer import Flatbuffer
from ood_keras.inference import manifest
from ood_keras.inference.tflite_predictor import interpreter_class, runner

IMAGE_SHAPE = (12, 10, 1)
NUM_CLASSES = 3
FORMATS = ("float32", "float16", "dynamic_range", "int8")


def images_of(num_images, seed):
    """Noise with a bright stripe, whose place is the class; the last is unknown."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_images) % (NUM_CLASSES + 1)
    images = generator.integers(0, 120, (num_images, *IMAGE_SHAPE))
    for image, label in zip(images, labels, strict=True):
        image[3 * label : 3 * label + 3] += generator.integers(40, 136)
    # Multiples of 1/255: what a uint8 file can be given.
    return (images / 255).astype(np.float32), labels


@pytest.fixture(scope="module")
def known_and_unknown():
    images, labels = images_of(240, seed=1)
    return images[labels < NUM_CLASSES], images[labels == NUM_CLASSES]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.BatchNormalization(momentum=0.8),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(NUM_CLASSES + 1),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(*images_of(400, seed=0), epochs=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def saved(model, known_and_unknown, tmp_path_factory):
    detector = detectors.get("unknown_probability", num_classes=NUM_CLASSES).fit(model)
    threshold = calibration.quantile(detector.score(known_and_unknown[0]), 0.9)
    with pytest.MonkeyPatch.context() as patch:
        # That it equals the live model is proved elsewhere, in a slow fresh process.
        patch.setattr(parity, "check", lambda *_: {})
        patch.setattr(parity, "FreshProcess", contextlib.nullcontext)
        return export.saved_model(
            model,
            detector,
            threshold,
            tmp_path_factory.mktemp("saved") / "1",
            class_names=["zero", "eins", "δύο"],
        )


@pytest.fixture(scope="module")
def expected(saved, known_and_unknown):
    """What the SavedModel answers, for known and for unknown images."""
    return [export.load(saved).predict(images) for images in known_and_unknown]


@pytest.fixture(scope="module")
def tflite(saved, known_and_unknown, tmp_path_factory):
    known, unknown = known_and_unknown
    folder = tmp_path_factory.mktemp("tflite") / "out"
    assert folder == export.tflite(
        saved, folder, known_images=known, unknown_images=unknown
    )
    return folder


@pytest.fixture(scope="module")
def onnx(saved, known_and_unknown, tmp_path_factory):
    known, unknown = known_and_unknown
    folder = tmp_path_factory.mktemp("onnx") / "out"
    return export.onnx(saved, folder, known_images=known, unknown_images=unknown)


@pytest.fixture(scope="module", params=[*FORMATS, "onnx"])
def predictor(request, tflite, onnx):
    if request.param == "onnx":
        return export.ONNXPredictor(onnx / "model.onnx")
    return export.TFLitePredictor(tflite / request.param / "model.tflite")


def file_of(tflite, name):
    return (tflite / name / "model.tflite").read_bytes()


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_float32_decides_as_the_saved_model(
    kind, tflite, onnx, known_and_unknown, expected
):
    predictor = (
        export.TFLitePredictor(tflite / "float32")
        if kind == "tflite"
        else export.ONNXPredictor(onnx)
    )
    for images, answer in zip(known_and_unknown, expected, strict=True):
        seen = predictor.predict(images)
        assert set(seen) == set(answer)
        # The threshold lies on the score of one image, which rounding decides.
        clear = np.abs(answer["ood_score"] - predictor.threshold) > 1e-6
        assert clear.sum() >= len(images) - 1
        for name in ("class_id", "label", "accepted", "valid"):
            np.testing.assert_array_equal(seen[name][clear], answer[name][clear])
        for name in ("ood_score", "probabilities"):
            assert seen[name].dtype == answer[name].dtype
            np.testing.assert_allclose(seen[name], answer[name], rtol=1e-4, atol=1e-5)
    decisions = {*expected[0]["label"], *expected[1]["label"]}
    assert decisions == {"zero", "eins", "δύο", "__unknown__"}


@pytest.mark.parametrize("name", FORMATS[1:])
def test_the_threshold_is_calibrated_on_the_files_own_scores(
    name, tflite, known_and_unknown, expected
):
    predictor = export.TFLitePredictor(tflite / name)
    answer = predictor.predict(known_and_unknown[0])
    assert np.any(answer["ood_score"] != expected[0]["ood_score"])
    threshold = calibration.quantile(answer["ood_score"], 0.9)
    stated = predictor.manifest["threshold"]
    assert calibration.Threshold.from_dict(stated) == threshold
    assert Flatbuffer(file_of(tflite, name)).threshold == threshold.value
    np.testing.assert_array_equal(
        answer["accepted"], threshold.accepts(answer["ood_score"])
    )
    for images, reference in zip(known_and_unknown, expected, strict=True):
        equal = predictor.predict(images)["class_id"] == reference["class_id"]
        assert equal.mean() >= 0.95


def test_the_report_says_what_the_files_do(tflite, known_and_unknown, expected):
    report = json.loads((tflite / "parity.json").read_text())
    assert (report["num_known"], report["num_unknown"]) == (180, 60)
    assert set(report["files"]) == set(FORMATS)
    reference = np.concatenate([answer["class_id"] for answer in expected])
    old = np.float32(report["saved_model"]["threshold"])
    for name, entry in report["files"].items():
        answers = [
            export.TFLitePredictor(tflite / name).predict(images)
            for images in known_and_unknown
        ]
        scores = [answer["ood_score"] for answer in answers]
        greater = np.greater.outer(scores[1], scores[0]).mean()
        ties = np.equal.outer(scores[1], scores[0]).mean()
        assert entry["auroc"] == pytest.approx(greater + ties / 2)
        decided = np.concatenate([answer["class_id"] for answer in answers])
        assert entry["equal_decisions_after"] == np.mean(decided == reference)
        best = np.concatenate([a["probabilities"].argmax(1) for a in answers])
        before = np.where(np.concatenate(scores) <= old, best, -1)
        assert entry["equal_decisions_before"] == np.mean(before == reference)
        listed = [
            one["index"] + 180 * (one["images"] == "unknown")
            for one in entry["differing"]
        ]
        assert listed == np.flatnonzero(decided != reference).tolist()
        assert entry["bytes"] == len(file_of(tflite, name))
        assert 0 < entry["latency_ms"] < 100
    sizes = {name: report["files"][name]["bytes"] for name in FORMATS}
    assert sizes["int8"] < sizes["float32"] * 0.3
    assert sizes["dynamic_range"] < sizes["float32"] * 0.3
    assert sizes["float16"] < sizes["float32"] * 0.6


@pytest.mark.parametrize("name", FORMATS)
def test_code_that_knows_no_signatures_finds_names(name, tflite, known_and_unknown):
    interpreter = interpreter_class()(model_content=file_of(tflite, name))
    interpreter.allocate_tensors()
    (image,) = interpreter.get_input_details()
    assert image["name"] == "image"
    pixels = known_and_unknown[0][:1]
    if name == "int8":
        pixels = np.rint(pixels * 255).astype(np.uint8)
    interpreter.set_tensor(image["index"], pixels)
    interpreter.invoke()
    outputs = interpreter.get_output_details()
    answer = runner(file_of(tflite, name))(image=pixels)
    assert sorted(each["name"] for each in outputs) == sorted(answer)
    for each in outputs:
        value = interpreter.get_tensor(each["index"])
        np.testing.assert_array_equal(value, answer[each["name"]])


@pytest.mark.parametrize("name", FORMATS)
def test_what_decides_stays_in_float32(name, tflite, known_and_unknown):
    content = file_of(tflite, name)
    flatbuffer = Flatbuffer(content)
    assert not flatbuffer.has_custom_operators()
    run = runner(content)
    image = known_and_unknown[0][:1]
    if name == "int8":
        image = np.rint(image * 255).astype(np.uint8)
    answer = {key: value.copy() for key, value in run(image=image).items()}
    # Nothing is rounded to one of 256 values, or to float16.
    assert answer["probabilities"].sum() == pytest.approx(1, abs=1e-6)
    assert (answer["probabilities"] * 256 % 1).any()
    # The graph decides exactly at its threshold, and not one step of float32 below.
    (score,) = answer["ood_score"]
    for limit, accepted in ((score, True), (np.nextafter(score, -np.inf), False)):
        flatbuffer.threshold = limit
        assert flatbuffer.threshold == limit
        again = runner(flatbuffer.to_bytes())(image=image)
        assert again["ood_score"] == score
        assert again["accepted"] == accepted
        assert (again["class_id"] == -1) == (not accepted)


@pytest.mark.parametrize("name", FORMATS[:3])
@pytest.mark.parametrize("kind", edge.bad_images(IMAGE_SHAPE))
def test_the_graph_itself_rejects_what_is_no_image(name, kind, tflite):
    bad = edge.bad_images(IMAGE_SHAPE)[kind]
    answer = runner(file_of(tflite, name))(image=bad[np.newaxis])
    assert not answer["valid"][0]
    assert not answer["accepted"][0]
    assert answer["class_id"][0] == -1
    assert answer["label"][0] == b"__unknown__"
    assert answer["ood_score"][0] == np.finfo(np.float32).max
    np.testing.assert_array_equal(answer["probabilities"], 0)


def test_one_bad_image_does_not_touch_its_neighbours(predictor, known_and_unknown):
    images = known_and_unknown[0][:7].copy()
    clean = predictor.predict(images)
    bad = edge.bad_images(IMAGE_SHAPE)
    images[2], images[5] = bad["nan"], bad["bytes_as_floats"]
    mixed = predictor.predict(images)
    np.testing.assert_array_equal(mixed["valid"], [1, 1, 0, 1, 1, 0, 1])
    assert set(mixed["class_id"][[2, 5]]) == {-1}
    assert set(mixed["label"][[2, 5]]) == {"__unknown__"}
    assert (mixed["ood_score"][[2, 5]] == np.finfo(np.float32).max).all()
    for name, values in clean.items():
        np.testing.assert_array_equal(
            mixed[name][[0, 1, 3, 4, 6]], values[[0, 1, 3, 4, 6]]
        )


def test_no_images_give_no_answers(predictor):
    answer = predictor.predict(np.zeros((0, *IMAGE_SHAPE), np.float32))
    assert answer["probabilities"].shape == (0, 3)
    assert answer["label"].shape == answer["valid"].shape == (0,)


def test_wrong_images_are_refused(predictor):
    with pytest.raises(ValueError, match=r"expected images of shape .*12, 10, 1"):
        predictor.predict(np.zeros((2, 12, 11, 1), np.float32))
    with pytest.raises(TypeError, match="divide bytes by 255"):
        predictor.predict(np.zeros((2, *IMAGE_SHAPE), np.int64))


def test_a_uint8_file_takes_bytes_and_floats_alike(tflite, known_and_unknown):
    predictor = export.TFLitePredictor(tflite / "int8")
    images = known_and_unknown[0][:9]
    pixels = np.rint(images * 255).astype(np.uint8)
    answer = predictor.predict(images)
    for name, values in predictor.predict(pixels).items():
        np.testing.assert_array_equal(values, answer[name])
    with pytest.raises(ValueError, match="expected images of shape"):
        predictor.predict(pixels[:, :5])


def test_predictors_need_neither_tensorflow_nor_keras(
    tflite, onnx, known_and_unknown, tmp_path
):
    np.save(tmp_path / "images.npy", known_and_unknown[0][:5])
    code = f"""
import sys

class Blocked:
    def find_spec(self, name, path, target=None):
        if name in ("tensorflow", "keras"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
import numpy as np
from ood_keras import export
images = np.load({str(tmp_path / "images.npy")!r})
for predictor in (
    export.load({str(tflite / "int8" / "model.tflite")!r}),
    export.load({str(onnx)!r}),
):
    print(*predictor.predict(images)["label"])
rooms = "calibration detectors evaluation layers losses metrics models training"
heavy = {{"tensorflow", "keras", *("ood_keras." + room for room in rooms.split())}}
assert not heavy & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    for line, here in zip(
        lines[-2:],
        (export.TFLitePredictor(tflite / "int8"), export.ONNXPredictor(onnx)),
        strict=True,
    ):
        assert line == list(here.predict(known_and_unknown[0][:5])["label"])


def test_onnx_takes_the_threshold_and_carries_the_labels(
    onnx, known_and_unknown, expected
):
    import onnx as package

    predictor = export.ONNXPredictor(onnx)
    limit = float(np.median(expected[0]["ood_score"])) + 1e-3
    seen = predictor.predict(known_and_unknown[0], threshold=limit)
    np.testing.assert_array_equal(
        seen["accepted"], expected[0]["ood_score"] <= np.float32(limit)
    )
    model = package.load(onnx / "model.onnx")
    package.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 18
    assert [value.name for value in model.graph.input] == ["image", "threshold"]
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(notes["class_names"]) == ["zero", "eins", "δύο"]
    assert notes["unknown_label"] == "__unknown__"
    assert float(notes["threshold"]) == predictor.threshold


def test_onnx_clips_with_one_operation_what_is_nearly_in_range(
    onnx, saved, known_and_unknown
):
    import onnx as package

    kinds = [node.op_type for node in package.load(onnx / "model.onnx").graph.node]
    assert "Clip" in kinds
    assert not {"Min", "Max"} & set(kinds)
    images = known_and_unknown[0][:20].copy()
    images[::2, 0, 0] = -5e-4
    images[1::2, 0, 0] = 1.0005
    seen = export.ONNXPredictor(onnx).predict(images)
    wanted = export.load(saved).predict(images)
    assert seen["valid"].all()
    np.testing.assert_allclose(seen["ood_score"], wanted["ood_score"], rtol=1e-5)
    np.testing.assert_array_equal(seen["accepted"], wanted["accepted"])


def test_another_target_calibrates_every_file(saved, known_and_unknown, tmp_path):
    known, _ = known_and_unknown
    folder = export.tflite(
        saved,
        tmp_path / "out",
        known_images=known,
        target_acceptance=0.5,
        formats=["float32"],
    )
    predictor = export.TFLitePredictor(folder / "float32")
    assert predictor.predict(known)["accepted"].sum() in (89, 90)
    reference = calibration.quantile(
        export.load(saved).predict(known)["ood_score"], 0.5
    )
    stated = predictor.manifest["threshold"]
    assert calibration.Threshold.from_dict(stated) == reference
    report = json.loads((folder / "parity.json").read_text())
    assert "auroc" not in report["files"]["float32"]
    entry = report["files"]["float32"]
    assert entry["equal_decisions_after"] == 1 - len(entry["differing"]) / 180
    assert all(one["near_threshold"] for one in entry["differing"])


@pytest.fixture
def changed(saved, tmp_path):
    """`changed(**entries)`: a copy of the model with other entries in its manifest."""

    def change(**entries):
        path = shutil.copytree(saved, tmp_path / "changed")
        content = manifest.read(path)
        kept = {key: content[key] for key in content if key != "manifest_sha256"}
        manifest.write(path, {**kept, **entries})
        return path

    return change


@pytest.mark.parametrize("name", ["tflite", "onnx"])
def test_a_detector_that_cannot_be_converted_fails_before_any_work(
    name, changed, known_and_unknown, tmp_path, monkeypatch
):
    detector = detectors.get("odin", num_classes=NUM_CLASSES)
    assert name not in detector.exports
    path = changed(detector={"name": "odin", "config": detector.get_config()})
    monkeypatch.setattr(edge, "Predictor", None)
    with pytest.raises(ValueError, match=rf"'odin' cannot be exported to {name}"):
        getattr(export, name)(path, tmp_path / "out", known_images=known_and_unknown[0])
    assert [child.name for child in tmp_path.iterdir()] == ["changed"]


@pytest.mark.parametrize("name", ["tflite", "onnx"])
def test_wrong_arguments_are_refused_and_leave_nothing(
    name, saved, changed, known_and_unknown, tmp_path
):
    convert, known = getattr(export, name), known_and_unknown[0]
    out = tmp_path / "out"
    bad = known.copy()
    bad[3, 0, 0] = np.nan
    for images, message in (
        (known[:0], "holds no image"),
        (known[:, :5], "must have the shape"),
        (bad, "1 images with NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(saved, out, known_images=images)
    with pytest.raises(FileNotFoundError, match="not an exported model"):
        convert(tmp_path / "nothing", out, known_images=known)
    threshold = {**manifest.read(saved)["threshold"], "method": "lowest_cost"}
    if name == "tflite":
        with pytest.raises(ValueError, match="Give target_acceptance"):
            convert(changed(threshold=threshold), out, known_images=known)
    assert {child.name for child in tmp_path.iterdir()} <= {"changed"}
    out.mkdir()
    with pytest.raises(FileExistsError, match="never overwritten"):
        convert(saved, out, known_images=known)


@pytest.mark.parametrize("name", ["tflite", "onnx"])
def test_float32_keeps_a_threshold_that_cannot_be_chosen_again(
    name, saved, changed, known_and_unknown, tmp_path
):
    convert, known = getattr(export, name), known_and_unknown[0]
    threshold = {**manifest.read(saved)["threshold"], "method": "lowest_cost"}
    options = {"formats": ["float32"]} if name == "tflite" else {}
    out = convert(
        changed(threshold=threshold), tmp_path / "out", known_images=known, **options
    )
    copy = out / "float32" if name == "tflite" else out
    assert manifest.read(copy)["threshold"] == threshold


def test_unknown_formats_are_refused(saved, known_and_unknown, tmp_path):
    for formats in (["int4"], [], "int16"):
        with pytest.raises(ValueError, match="must be some of float32, float16"):
            export.tflite(
                saved,
                tmp_path / "out",
                known_images=known_and_unknown[0],
                formats=formats,
            )


def test_a_file_that_decides_otherwise_is_not_written(
    saved, known_and_unknown, tmp_path, monkeypatch
):
    setter = Flatbuffer.threshold.fset
    monkeypatch.setattr(
        Flatbuffer,
        "threshold",
        Flatbuffer.threshold.setter(lambda self, value: setter(self, value + 1)),
    )
    with pytest.raises(export.ParityError, match="decided otherwise than by"):
        export.tflite(
            saved,
            tmp_path / "out",
            known_images=known_and_unknown[0],
            formats=["float32"],
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_damaged_files_are_refused(kind, tflite, onnx, tmp_path):
    make = {"tflite": export.TFLitePredictor, "onnx": export.ONNXPredictor}[kind]
    source = tflite / "float32" if kind == "tflite" else onnx
    folder = shutil.copytree(source, tmp_path / "copy")
    file = folder / f"model.{kind}"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="was changed"):
        make(file)
    file.write_bytes(content[:-10])
    with pytest.raises(ValueError, match="bytes instead of"):
        make(folder)
    with pytest.raises(FileNotFoundError, match="not an exported model"):
        make(tmp_path / f"model.{kind}")


@pytest.mark.parametrize(
    ("package", "make", "extra"),
    [
        ("ai_edge_litert.interpreter", "TFLitePredictor", "tflite"),
        ("onnxruntime", "ONNXPredictor", "onnx"),
    ],
)
def test_a_missing_runtime_is_named(package, make, extra, tflite, onnx, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    folder = {"tflite": tflite / "int8", "onnx": onnx}[extra]
    line = f"pip install {package.partition('.')[0].replace('_', '-')}"
    with pytest.raises(ImportError, match=rf"not installed: {line}$"):
        getattr(export, make)(folder)


def test_noise_is_decided_alike(predictor, saved):
    images = np.rint(parity.probes(IMAGE_SHAPE) * 255).astype(np.float32) / 255
    reference = export.load(saved).predict(images)
    equal = predictor.predict(images)["class_id"] == reference["class_id"]
    assert equal.mean() >= 0.9


def test_image_files_are_read_without_tensorflow(predictor, known_and_unknown):
    pixels = [
        np.rint(images[:6] * 255).astype(np.uint8) for images in known_and_unknown
    ]
    pixels = np.concatenate(pixels)
    contents = [tf.io.encode_png(image).numpy() for image in pixels]
    answer = predictor.predict_bytes([*contents, b"", contents[0][:50]])
    direct = predictor.predict((pixels / 255).astype(np.float32))
    for name in ("class_id", "label", "accepted", "valid", "ood_score"):
        np.testing.assert_array_equal(answer[name][:-2], direct[name])
    assert answer["valid"].tolist() == [True] * 12 + [False] * 2
    assert answer["class_id"][-2:].tolist() == [-1, -1]
    with pytest.raises(TypeError, match="list of bytes"):
        predictor.predict_bytes(contents[0])


def test_many_files_do_not_take_the_memory_of_all_their_images(
    onnx, tflite, monkeypatch
):
    for folder in (onnx, tflite / "float32"):
        predictor = export.load(folder)
        decode, counts = predictor.decode, []

        def counted(contents, decode=decode, counts=counts):
            counts.append(len(contents))
            return decode(contents)

        monkeypatch.setattr(predictor, "decode", counted)
        answer = predictor.predict_bytes([b""] * 600)
        assert counts == [256, 256, 88]
        assert len(answer["valid"]) == 600 and not answer["valid"].any()
        assert len(predictor.predict_bytes([])["valid"]) == 0


def test_transparent_files_are_read_as_by_the_savedmodel(
    predictor, saved, known_and_unknown
):
    drawing = np.rint(known_and_unknown[0][0, ..., 0] * 255).astype(np.uint8)
    nothing = np.zeros_like(drawing)
    # Once the drawing is in the alpha of black, once in the grey.
    seen = tf.io.encode_png(np.stack([nothing, 255 - drawing], axis=-1)).numpy()
    plain = tf.io.encode_png(drawing[..., None]).numpy()
    for one in (predictor, export.load(saved)):
        scores = one.predict_bytes([seen, plain])["ood_score"]
        assert scores[0] == scores[1]
    assert predictor.background == export.load(saved).background == 255


def test_a_model_of_before_there_was_a_background_drops_alpha(
    tflite, tmp_path, known_and_unknown
):
    folder = tmp_path / "old"
    shutil.copytree(tflite / "float32", folder)
    content = manifest.read(folder)
    del content["input"]["image_bytes"]
    for key in ("versions", "created", "files", "manifest_sha256"):
        del content[key]
    manifest.write(folder, content)
    old = export.TFLitePredictor(folder)
    assert old.background is None
    drawing = np.rint(known_and_unknown[0][0] * 255).astype(np.uint8)
    alpha = np.arange(drawing.size).reshape(drawing.shape) % 256
    transparent = np.concatenate([drawing, alpha.astype(np.uint8)], axis=-1)
    contents = [tf.io.encode_png(image).numpy() for image in (drawing, transparent)]
    images = old.decode(contents)
    np.testing.assert_array_equal(images[0], images[1])


def test_another_threshold_can_be_asked_for_in_any_format(predictor, known_and_unknown):
    images = known_and_unknown[0][:20]
    everything = predictor.predict(images, threshold=np.inf)
    assert everything["accepted"].all() and (everything["class_id"] >= 0).all()
    nothing = predictor.predict(images, threshold=-np.inf)
    assert (nothing["class_id"] == -1).all() and not nothing["accepted"].any()
    assert set(nothing["label"]) == {"__unknown__"}
    own = predictor.predict(images, threshold=predictor.threshold)
    np.testing.assert_array_equal(
        own["class_id"], predictor.predict(images)["class_id"]
    )
    assert not predictor.predict(np.full_like(images, np.nan), np.inf)["accepted"].any()
    with pytest.raises(ValueError, match="unknown operating point 'lax'"):
        predictor.predict(images, threshold="lax")


@pytest.mark.parametrize(
    ("share", "moved", "passes"),
    [
        (1.0, 5e-5, True),  # Of which a few decisions hang.
        (0.04, 5e-4, True),
        (0.5, 5e-4, False),
        (0.01, 5e-3, False),
        (0.01, np.nan, False),
    ],
)
def test_few_images_may_be_rounded_more(share, moved, passes, exported):
    source = edge.ConversionSource(exported.path, "tflite", exported.images, None, None)
    source.look()
    answer = {name: value.copy() for name, value in source.answers["known"].items()}
    scores = answer["ood_score"]
    count = int(np.ceil(share * len(scores)))
    scores[:count] += np.float32(moved) * np.maximum(1, np.abs(scores[:count]))
    answer["class_id"] = source._decide(answer, source.threshold)
    if passes:
        source.check_float32({"known": answer})
    else:
        with pytest.raises(parity.ParityError, match=r"0\.0001, and 0\.001 for a few"):
            source.check_float32({"known": answer})
