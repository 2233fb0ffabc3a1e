"""Exported models in Python, whole and damaged."""

import io
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ood_keras import calibration, export
from ood_keras.inference import manifest


@pytest.fixture(scope="module")
def predictor(exported):
    return export.load(exported.path)


def test_it_knows_what_it_is(predictor, exported):
    assert predictor.class_names == tuple(exported.class_names)
    assert predictor.threshold == exported.threshold.value
    assert predictor.image_shape == (12, 10, 1)
    assert predictor.manifest["metrics"] == exported.metrics


def test_it_predicts_as_the_live_model_in_batches_of_any_size(predictor, exported):
    whole = predictor.predict(exported.images)
    parts = predictor.predict(exported.images, batch_size=7)
    dataset = tf.data.Dataset.from_tensor_slices(exported.images).batch(16)
    streamed = predictor.predict(dataset)
    np.testing.assert_array_equal(
        whole["accepted"],
        exported.threshold.accepts(exported.detector.score(exported.images)),
    )
    for other in (parts, streamed):
        assert set(other) == set(whole)
        for name in ("class_id", "label", "accepted", "valid"):
            np.testing.assert_array_equal(other[name], whole[name])
        np.testing.assert_allclose(other["ood_score"], whole["ood_score"], atol=1e-5)
    names = np.array([*exported.class_names, "__unknown__"])
    np.testing.assert_array_equal(whole["label"], names[whole["class_id"]])


@pytest.mark.parametrize("method", calibration.names(of_known_scores=True))
def test_no_calibration_image_hangs_on_the_size_of_a_batch(predictor, exported, method):
    """At a score itself, some of them flip: rounding differs with the batch."""
    images = exported.images
    scores = exported.detector.score(images)
    whole = {size: predictor.predict(images, batch_size=size) for size in (1, 3, 50)}
    for accepted in range(5, 50, 3):
        threshold = calibration.choose(scores, accepted / 50, method)
        assert threshold.value not in scores
        expected = threshold.accepts(scores)
        assert accepted <= expected.sum() <= accepted + 1
        for size, answer in whole.items():
            np.testing.assert_array_equal(
                threshold.accepts(answer["ood_score"]), expected, f"batches of {size}"
            )
        at = predictor.predict(images, threshold=threshold.value, batch_size=7)
        np.testing.assert_array_equal(at["accepted"], expected)


def test_another_threshold_can_be_asked_for(predictor, exported):
    everything = predictor.predict(exported.images, threshold=np.inf)
    assert everything["accepted"].all()
    strict = predictor.predict(exported.images, threshold=exported.threshold.value)
    np.testing.assert_array_equal(
        strict["accepted"], predictor.predict(exported.images)["accepted"]
    )


def test_operating_points_go_by_name(predictor, exported):
    (point,) = exported.operating_points.values()
    assert predictor.operating_points == {"strict": point.value}
    answer = predictor.predict(exported.images, threshold="strict")
    np.testing.assert_array_equal(
        answer["accepted"], point.accepts(exported.detector.score(exported.images))
    )
    assert 0 < answer["accepted"].sum() < len(exported.images) / 2
    with pytest.raises(ValueError, match=r"unknown operating point 'lax'.*has: strict"):
        predictor.predict(exported.images, threshold="lax")


def test_it_reads_image_files(predictor, exported):
    files = [tf.io.encode_png(pixels).numpy() for pixels in exported.pixels[:5]]
    answer = predictor.predict_bytes([*files, b""], batch_size=4)
    direct = predictor.predict(exported.images[:5])
    for name in ("class_id", "label", "accepted", "valid"):
        np.testing.assert_array_equal(answer[name][:5], direct[name])
    assert not answer["valid"][5] and answer["label"][5] == "__unknown__"


def test_nothing_gives_nothing(predictor, exported):
    for answer in (
        predictor.predict(exported.images[:0]),
        predictor.predict(iter([])),
        predictor.predict_bytes([]),
        predictor.features(exported.images[:0]),
    ):
        assert all(len(value) == 0 for value in answer.values())


def test_features_are_those_of_the_live_model(predictor, exported):
    live = exported.detector.call(exported.images)
    answer = predictor.features(exported.images, batch_size=8)
    for name in ("features", "logits"):
        np.testing.assert_allclose(answer[name], live[name], atol=1e-6)


def test_wrong_arguments_are_explained(predictor, exported):
    with pytest.raises(TypeError, match="divide bytes by 255"):
        predictor.predict(exported.pixels)
    with pytest.raises(ValueError, match=r"expected images .* 12, 10, 1.*Received"):
        predictor.predict(exported.images[:, 1:])
    with pytest.raises(ValueError, match=r"expected images .* 12, 10, 1.*Received"):
        predictor.features(exported.images[:, :, 1:])
    for empty in (exported.images[:0, 1:], (exported.images[:0, 1:], []), np.zeros(0)):
        with pytest.raises(ValueError, match=r"expected images .* 12, 10, 1.*Received"):
            predictor.predict(empty)
    for size in (0, -1, 2.5, None):
        for ask, given in (
            (predictor.predict, exported.images),
            (predictor.features, exported.images),
            (predictor.predict_bytes, [b""]),
        ):
            with pytest.raises(
                ValueError, match="`batch_size` must be an integer >= 1"
            ):
                ask(given, batch_size=size)
    for threshold in ([0.5], np.zeros(1), True, np.True_, b"1", exported.threshold):
        with pytest.raises(TypeError, match="expected one number, or the name of an"):
            predictor.predict(exported.images, threshold=threshold)
    for threshold, accepted in ((10**400, True), (-(10**400), False)):
        answer = predictor.predict(exported.images, threshold=threshold)
        assert (answer["accepted"] == accepted).all()
    for wrong in (b"one file", "a.png", ["a.png"]):
        with pytest.raises(TypeError, match="list of bytes"):
            predictor.predict_bytes(wrong)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _edit(path):
    manifest = json.loads(path.read_text())
    manifest["threshold"]["value"] += 1
    path.write_text(json.dumps(manifest))


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def _write(path):
    path.write_bytes(b"")


def _remove(path):
    path.unlink()


def _replace(path):
    path.unlink()
    path.mkdir()


def _link(path):
    path.symlink_to("/etc/hostname")


def _nest(path):
    path.write_text("[" * 100_000)


def _unlist(path):
    manifest = json.loads(path.read_text())
    manifest["files"] = []
    path.write_text(json.dumps(manifest))


def _forget(path):
    manifest = json.loads(path.read_text())
    del manifest["files"]
    path.write_text(json.dumps(manifest))


def _garble(path):
    path.write_bytes(b"\xff" + path.read_bytes())


DATA = "variables/variables.data-00000-of-00001"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("saved_model.pb", _flip, "saved_model.pb was changed"),
        ("saved_model.pb", _truncate, r"saved_model.pb has \d+ bytes instead of \d+"),
        (DATA, _flip, f"{DATA} was changed"),
        (DATA, _truncate, f"{DATA} has"),
        (DATA, _remove, f"{DATA} is missing"),
        ("parity.json", _flip, "parity.json was changed"),
        ("saved_model.cpb", _write, "saved_model.cpb was added"),
        ("variables/variables.index", _remove, "variables/variables.index is missing"),
        ("fingerprint.pb", _replace, "fingerprint.pb is missing"),
        ("serving/models.config", _truncate, "serving/models.config has"),
        ("variables/variables.data-00001-of-00002", _write, "00001-of-00002 was added"),
        ("assets/labels.txt", _link, "assets/labels.txt was added"),
        ("model.tflite", _write, "model.tflite was added"),
        ("manifest.json", _unlist, "manifest.json was changed"),
        ("manifest.json", _forget, "manifest.json cannot be read"),
        ("manifest.json", _nest, "manifest.json cannot be read"),
        ("manifest.json", _garble, "manifest.json cannot be read"),
        ("manifest.json", _edit, "manifest.json was changed"),
        ("manifest.json", _truncate, "manifest.json cannot be read"),
        ("manifest.json", _write, "manifest.json cannot be read"),
    ],
)
def test_a_damaged_model_is_refused(exported, tmp_path, name, damage, message):
    path = shutil.copytree(exported.path, tmp_path / "1")
    (path / "assets").mkdir(exist_ok=True)
    damage(path / name)
    with pytest.raises(ValueError, match=rf"damaged or was changed.*{message}"):
        export.load(path)


def test_a_moved_model_loads_and_hidden_files_do_not_matter(exported, tmp_path):
    path = shutil.copytree(exported.path, tmp_path / "elsewhere" / "5")
    (path / ".DS_Store").write_bytes(b"")
    answer = export.load(path).predict(exported.images)
    expected = export.load(exported.path).predict(exported.images)
    np.testing.assert_array_equal(answer["class_id"], expected["class_id"])


def test_a_model_without_its_manifest_is_refused(exported, tmp_path):
    path = shutil.copytree(exported.path, tmp_path / "1")
    (path / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"it has no manifest\.json"):
        export.load(path)


def test_a_copy_in_another_format_is_refused(exported, tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    content = json.loads((exported.path / "manifest.json").read_text())
    manifest.write(tmp_path, {**content, "converted_to": "int8"})
    with pytest.raises(ValueError, match=r"converted to int8.*TFLitePredictor"):
        export.Predictor(tmp_path)


def test_what_is_no_exported_model_is_refused(exported, tmp_path):
    for path in (tmp_path, tmp_path / "missing", exported.path / "manifest.json"):
        with pytest.raises(FileNotFoundError, match="is not an exported model"):
            export.load(path)
    with pytest.raises(FileNotFoundError, match="versions found in it: 1"):
        export.load(exported.path.parent)


def test_a_newer_format_is_refused(exported, tmp_path):
    path = shutil.copytree(exported.path, tmp_path / "1")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["format"] += 1
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="newer ood_keras"):
        export.load(path)


def test_files_are_decided_at_another_threshold_too(predictor, exported):
    contents = [tf.io.encode_png(pixels).numpy() for pixels in exported.pixels]
    for threshold in ("strict", np.inf, -np.inf):
        answer = predictor.predict_bytes([*contents, b""], threshold=threshold)
        direct = predictor.predict(exported.images, threshold=threshold)
        for name in ("class_id", "label", "accepted", "valid"):
            np.testing.assert_array_equal(answer[name][:-1], direct[name])
        assert answer["class_id"][-1] == -1 and not answer["accepted"][-1]
    with pytest.raises(ValueError, match="unknown operating point 'lax'"):
        predictor.predict_bytes(contents, threshold="lax")
    with pytest.raises(ValueError, match="Received: NaN"):
        predictor.predict_bytes(contents, threshold=np.nan)


def test_a_model_without_operating_points_says_so(exported, tmp_path):
    path = shutil.copytree(exported.path, tmp_path / "1")
    content = manifest.read(path)
    for key in ("operating_points", "manifest_sha256"):
        del content[key]
    manifest.write(path, content)
    predictor = export.load(path)
    assert predictor.operating_points == {}
    with pytest.raises(ValueError, match=r"unknown operating point 'strict'.*: none"):
        predictor.predict(exported.images, threshold="strict")


def test_a_photograph_is_turned_as_its_camera_says(predictor):
    pixels = np.linspace(0, 255, 120).reshape(12, 10).astype(np.uint8)
    note = Image.Exif()
    note[0x0112] = 6
    # What a camera stores that was held so: the upright picture turned left.
    contents = []
    for image, options in (
        (pixels, {}),
        (np.rot90(pixels), {"exif": note}),
        (np.rot90(pixels), {}),
    ):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=100, **options)
        contents.append(file.getvalue())
    upright, turned, sideways = predictor.predict_bytes(contents)["ood_score"]
    assert predictor.manifest["input"]["image_bytes"]["exif_orientation"] is True
    assert predictor.exif_orientation
    # JPEG loses a level or two, in other places of a picture that lies on its side.
    assert abs(turned - upright) < 0.1 * abs(sideways - upright)


def test_a_model_of_before_there_was_a_note_does_not_turn():
    before = {"input": {"image_bytes": {"background": 255}}}
    assert not manifest.exif_orientation(before)
    assert not manifest.exif_orientation({"input": {}})
