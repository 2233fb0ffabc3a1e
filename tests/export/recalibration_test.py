"""A new threshold in an exported model."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from small_export import Session

from ood_keras import calibration, export

pytestmark = pytest.mark.usefixtures("compared_in_this_process")


@pytest.fixture(scope="module")
def recalibrated(exported, tmp_path_factory):
    """`(old, new, threshold)`: a copy of the model, its next version, the threshold."""
    old = tmp_path_factory.mktemp("recalibrated") / "1"
    shutil.copytree(exported.path, old)
    (old.parent / "7").mkdir()
    scores = export.load(old).predict(exported.images)["ood_score"]
    threshold = calibration.quantile(scores, 0.9)
    assert threshold != exported.threshold
    return (
        old,
        export.recalibrate(old, threshold, sample_images=exported.images),
        threshold,
    )


def test_it_writes_the_next_version_and_leaves_the_old_one(exported, recalibrated):
    old, new, _ = recalibrated
    assert new == old.parent / "8"
    for path in exported.path.rglob("*"):
        if path.is_file():
            copy = old / path.relative_to(exported.path)
            assert copy.read_bytes() == path.read_bytes()


def test_only_the_threshold_decides_differently(exported, recalibrated):
    old, new, threshold = recalibrated
    before, after = (export.load(path).predict(exported.images) for path in (old, new))
    assert export.load(new).threshold == threshold.value
    np.testing.assert_array_equal(after["ood_score"], before["ood_score"])
    np.testing.assert_array_equal(after["probabilities"], before["probabilities"])
    np.testing.assert_array_equal(
        after["accepted"], threshold.accepts(before["ood_score"])
    )
    assert after["accepted"].sum() == 45 > before["accepted"].sum()
    in_session = Session(new)("serving_default", image=exported.images)
    np.testing.assert_array_equal(in_session["class_id"], after["class_id"])


def test_only_the_threshold_is_stored_differently(recalibrated):
    old, new, threshold = recalibrated
    name = "saved_model.pb"
    assert (new / name).read_bytes() == (old / name).read_bytes()
    before, after = (
        tf.train.load_checkpoint(str(path / "variables" / "variables"))
        for path in (old, new)
    )
    names = set(before.get_variable_to_shape_map())
    assert set(after.get_variable_to_shape_map()) == names
    changed = {
        name
        for name in names
        if not np.array_equal(before.get_tensor(name), after.get_tensor(name))
    }
    assert changed == {"threshold/.ATTRIBUTES/VARIABLE_VALUE"}
    manifests = [
        json.loads((path / "manifest.json").read_text()) for path in (old, new)
    ]
    differing = {
        key for key in manifests[1] if manifests[0].get(key) != manifests[1][key]
    }
    assert differing - {"created"} == {
        *("threshold", "operating_points", "recalibrated_from"),
        *("files", "manifest_sha256"),
    }
    assert calibration.Threshold.from_dict(manifests[1]["threshold"]) == threshold
    earlier = manifests[1]["recalibrated_from"]
    assert earlier["version"] == "1"
    assert earlier["threshold"] == manifests[0]["threshold"]


def test_the_fingerprint_is_right_again(recalibrated, tmp_path):
    _, new, _ = recalibrated
    loaded = tf.saved_model.load(str(new))
    tf.saved_model.save(loaded, str(tmp_path / "again"))
    right = {}
    for path in (new, tmp_path / "again"):
        index = (path / "variables" / "variables.index").read_bytes()
        digest = tf.fingerprint([index], method="farmhash64").numpy().tobytes()
        fingerprint = tf.saved_model.experimental.read_fingerprint(str(path))
        right[path] = int.from_bytes(digest, "little") == fingerprint.checkpoint_hash
    # The second shows that TensorFlow's own files are made so.
    assert all(right.values())


def test_a_recalibrated_model_can_be_recalibrated(exported, recalibrated):
    old, new, _ = recalibrated
    again = export.recalibrate(new, exported.threshold)
    assert again == old.parent / "9"
    np.testing.assert_array_equal(
        export.load(again).predict(exported.images)["class_id"],
        export.load(old).predict(exported.images)["class_id"],
    )


def test_what_does_not_fit_is_refused_and_leaves_nothing(exported, tmp_path):
    path = shutil.copytree(exported.path, tmp_path / "1")
    with pytest.raises(TypeError, match=r"calibration\.Threshold"):
        export.recalibrate(path, 0.5)
    with pytest.raises(ValueError, match="float images"):
        export.recalibrate(path, exported.threshold, sample_images=exported.pixels)
    with pytest.raises(FileNotFoundError, match="not an exported model"):
        export.recalibrate(tmp_path / "2", exported.threshold)
    (path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        export.recalibrate(path, exported.threshold)
    assert [child.name for child in tmp_path.iterdir()] == ["1"]


def test_the_folder_of_the_model_may_be_the_current_one(
    exported, tmp_path, monkeypatch
):
    path = shutil.copytree(exported.path, tmp_path / "3")
    before = sorted(path.rglob("*"))
    monkeypatch.chdir(path)
    new = export.recalibrate(".", exported.threshold)
    assert new == tmp_path / "4"
    assert export.load(new).manifest["recalibrated_from"]["version"] == "3"
    monkeypatch.chdir(path / "variables")
    assert export.recalibrate("..", exported.threshold) == tmp_path / "5"
    assert sorted(path.rglob("*")) == before
    export.load(path)
