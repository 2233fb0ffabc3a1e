"""What `export.saved_model` writes, and what it refuses to write."""

import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_export import Python, Session, classifier

from ood_keras import calibration, detectors, export
from ood_keras.detectors.base import Detector
from ood_keras.export import serving

SHAPE = (12, 10, 1)


def stored(path):
    """Name and shape of all variables in a SavedModel."""
    checkpoint = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    shapes = checkpoint.get_variable_to_shape_map()
    shapes.pop("_CHECKPOINTABLE_OBJECT_GRAPH")
    shapes.pop("save_counter/.ATTRIBUTES/VARIABLE_VALUE", None)
    return shapes


def threshold_at(value):
    return calibration.quantile([value], 0.5)


def test_every_weight_is_stored_once(exported):
    shapes = stored(exported.path)
    assert shapes.pop("threshold/.ATTRIBUTES/VARIABLE_VALUE") == []
    weights = [tuple(weight.shape) for weight in exported.weights]
    assert sorted(map(tuple, shapes.values())) == sorted(weights)
    data = exported.path / "variables" / "variables.data-00000-of-00001"
    numbers = sum(weight.nbytes for weight in exported.weights)
    assert data.stat().st_size < numbers + 5000


def test_the_model_is_not_changed(exported):
    assert exported.model.get_config() == exported.config
    for before, after in zip(
        exported.weights, exported.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_the_manifest_says_what_the_model_is(exported):
    manifest = json.loads((exported.path / "manifest.json").read_text())
    assert manifest["class_names"] == exported.class_names
    assert manifest["unknown_label"] == "__unknown__"
    assert manifest["detector"] == {
        "name": "unknown_probability",
        "config": exported.detector.get_config(),
    }
    threshold = manifest["threshold"]
    assert calibration.Threshold.from_dict(threshold) == exported.threshold
    assert set(threshold) >= {"value", "method", "target_acceptance", "guarantee"}
    (point,) = exported.operating_points.values()
    described = manifest["operating_points"].pop("strict")
    assert calibration.Threshold.from_dict(described) == point
    assert not manifest["operating_points"]
    assert manifest["metrics"] == exported.metrics
    assert manifest["input"]["image"]["shape"] == [None, *SHAPE]
    assert manifest["input"]["image_bytes"]["background"] == 255
    assert manifest["versions"]["tensorflow"] == tf.__version__
    answered = {"serving_default", "features"}
    signatures = Session(exported.path).signatures
    names = {name for key in answered for name in signatures[key].outputs}
    assert names == set(manifest["output"])
    files = {
        path.relative_to(exported.path).as_posix()
        for path in exported.path.rglob("*")
        if path.is_file()
    }
    assert set(manifest["files"]) == files - {"manifest.json"}


def test_the_folder_holds_nothing_else(exported):
    assert [path.name for path in exported.path.parent.iterdir()] == ["1"]
    assert {path.name for path in exported.path.iterdir()} <= {
        *("saved_model.pb", "variables", "assets", "fingerprint.pb"),
        *("manifest.json", "MODEL_CARD.md", "parity.json", "assets.extra", "serving"),
    }


def test_the_threshold_is_a_variable(exported):
    loaded = tf.saved_model.load(str(exported.path))
    assert loaded.threshold.numpy() == exported.threshold.value
    predict = loaded.signatures["serving_default"]
    loaded.threshold.assign(-np.inf)
    assert not predict(image=exported.images)["accepted"].numpy().any()
    loaded.threshold.assign(np.inf)
    assert predict(image=exported.images)["accepted"].numpy().all()
    loaded.threshold.assign(np.nan)
    assert not predict(image=exported.images)["accepted"].numpy().any()
    assert "set_threshold" not in loaded.signatures


class Own(keras.Model):
    """A user's subclassed model with probabilities as output."""

    def __init__(self):
        super().__init__()
        self.flatten = keras.layers.Flatten()
        self.hidden = keras.layers.Dense(5, activation="tanh")
        self.drop = keras.layers.Dropout(0.5)
        self.out = keras.layers.Dense(3, activation="softmax")

    def call(self, images, training=False):
        hidden = self.drop(self.hidden(self.flatten(images)), training=training)
        return self.out(hidden)


def _functional():
    image = keras.Input(SHAPE)
    left = keras.layers.Conv2D(4, 3, padding="same", activation="gelu")(image)
    joined = keras.layers.Concatenate()([image, left])
    pooled = keras.layers.GlobalAveragePooling2D()(joined)
    return keras.Model(image, keras.layers.Dense(3)(pooled))


def _sequential():
    layers = [keras.layers.Flatten(), keras.layers.Dense(3), keras.layers.Softmax()]
    return keras.Sequential([keras.Input(SHAPE), *layers])


def _mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return _functional()
    finally:
        keras.config.set_dtype_policy("float32")


def _of_any_size():
    image = keras.Input((None, None, 1))
    hidden = keras.layers.Conv2D(4, 3)(image)
    pooled = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(image, keras.layers.Dense(3)(pooled))


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (Own, "energy"),
        (_functional, "max_logit"),
        (_sequential, "msp"),
        (_mixed_precision, "msp"),
        (_of_any_size, "objectosphere"),
    ],
)
def test_any_keras_model_can_be_exported(exported, build, name, tmp_path):
    model = build()
    labels = np.arange(len(exported.images)) % 3
    before = model.predict(exported.images, verbose=0)
    detector = detectors.get(name).fit(model, (exported.images, labels))
    serving.save(tmp_path, detector, np.inf, list("abc"), SHAPE)
    tolerance = 2e-3 if build is _mixed_precision else 1e-5
    for loader in (Session, Python):
        answer = loader(tmp_path)("serving_default", image=exported.images)
        np.testing.assert_array_equal(
            answer["class_id"],
            detector.call(exported.images)["logits"].numpy().argmax(-1),
        )
        np.testing.assert_allclose(
            answer["ood_score"], detector.score(exported.images), atol=tolerance
        )
    np.testing.assert_array_equal(model.predict(exported.images, verbose=0), before)


def test_a_users_model_passes_the_whole_export(exported, tmp_path):
    model = Own()
    detector = detectors.get("msp", num_classes=3).fit(
        model, (exported.images, np.zeros(len(exported.images)))
    )
    path = export.saved_model(model, detector, threshold_at(-0.5), tmp_path / "m" / "7")
    assert path == tmp_path / "m" / "7"
    predictor = export.load(path)
    assert predictor.class_names == ("0", "1", "2")
    answer = predictor.predict(exported.images)
    probabilities = model.predict(exported.images, verbose=0)
    np.testing.assert_allclose(answer["probabilities"], probabilities, atol=1e-6)


class _Learned(Detector):
    """Scores by fitted arrays, large enough to be seen in the file."""

    name = "learned"

    def score_outputs(self, outputs):
        similarity = keras.ops.matmul(outputs["features"], self.arrays["bank"])
        return -keras.ops.max(similarity, axis=-1)


def test_fitted_arrays_are_stored_once(exported, tmp_path):
    detector = _Learned(num_classes=3).fit(exported.model)
    bank = np.random.default_rng(0).normal(size=(6, 50_000)).astype(np.float32)
    detector.arrays = {"bank": bank}
    serving.save(tmp_path, detector, 0.0, list("abc"), SHAPE)
    graph = (tmp_path / "saved_model.pb").stat().st_size
    assert bank.nbytes < graph < 1.5 * bank.nbytes
    answer = Session(tmp_path)("serving_default", image=exported.images)
    np.testing.assert_allclose(
        answer["ood_score"], detector.call(exported.images)["ood_score"], rtol=1e-5
    )


class _Broken(Detector):
    """Gives what `value` says for bright images, and -1 for others."""

    name = "broken"
    value = None
    spoils_logits = False

    def call(self, images):
        outputs = self.network(images)
        bright = keras.ops.mean(images, axis=(1, 2, 3)) > 0.5
        score = -keras.ops.ones_like(outputs["logits"][:, 0])
        if self.spoils_logits:
            outputs["logits"] = keras.ops.where(
                bright[:, None], self.value, outputs["logits"]
            )
        else:
            score = keras.ops.where(bright, self.value, score)
        return {**outputs, "ood_score": score}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("spoils_logits", [False, True])
def test_numbers_that_are_none_are_never_accepted(
    exported, value, spoils_logits, tmp_path
):
    detector = _Broken(num_classes=3).fit(exported.model)
    detector.value, detector.spoils_logits = value, spoils_logits
    serving.save(tmp_path, detector, np.inf, list("abc"), SHAPE)
    images = np.zeros((4, *SHAPE), np.float32)
    images[[1, 2]] = 0.9
    run = Session(tmp_path)
    limits = np.full(4, np.inf, np.float32)
    for answer in (
        run("serving_default", image=images),
        run("predict_at", image=images, threshold=limits),
    ):
        expected = [True, False, False, True]
        np.testing.assert_array_equal(answer["accepted"], expected)
        np.testing.assert_array_equal(answer["class_id"] >= 0, expected)
        assert answer["valid"].all()
        assert np.isfinite(answer["ood_score"]).all()
        assert not answer["probabilities"][[1, 2]].any()
        assert np.isfinite(answer["probabilities"]).all()


def test_a_model_of_five_channels_has_no_predict_bytes(tmp_path):
    model = classifier((12, 10, 5), 3)
    detector = detectors.get("msp", num_classes=3).fit(model)
    serving.save(tmp_path, detector, 0.0, list("abc"), (12, 10, 5))
    assert set(Session(tmp_path).signatures) == {
        *("serving_default", "predict_at", "features"),
        "__saved_model_init_op",
    }


def test_a_model_of_five_channels_is_exported_whole(tmp_path):
    model = classifier((12, 10, 5), 3)
    images = np.random.default_rng(0).uniform(size=(60, 12, 10, 5)).astype(np.float32)
    detector = detectors.get("msp", num_classes=3).fit(model)
    threshold = calibration.conformal(detector.score(images), 0.9)
    path = export.saved_model(
        model, detector, threshold, tmp_path / "m" / "1", class_names=list("abc")
    )
    report = json.loads((path / "parity.json").read_text())
    promised = report["promise"]
    assert promised["accepted_pixels"] == promised["accepted_live"]
    assert "accepted_files" not in promised
    predictor = export.load(path)
    assert predictor.predict(images)["accepted"].mean() >= 0.9
    with pytest.raises(ValueError, match="it takes 5"):
        predictor.predict_bytes([b""])


def attempt(exported, path, **changes):
    arguments = {
        "model": exported.model,
        "detector": exported.detector,
        "threshold": exported.threshold,
        **changes,
    }
    return export.saved_model(
        *(arguments.pop(name) for name in ("model", "detector", "threshold")),
        path,
        **arguments,
    )


@pytest.mark.parametrize("name", ["mnist", "v1", "01", "-1", "1.0", "²"])
def test_the_path_must_end_in_a_version_number(exported, tmp_path, name):
    with pytest.raises(ValueError, match=r"DIR/VERSION.*Try .*1"):
        attempt(exported, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_existing_version_is_never_overwritten(exported, tmp_path):
    for version in ("2", "10", "other"):
        (tmp_path / version).mkdir()
    with pytest.raises(FileExistsError, match=r"next free version is .*11$"):
        attempt(exported, tmp_path / "2")
    assert not list((tmp_path / "2").iterdir())
    assert export.next_version(tmp_path) == 11
    assert export.next_version(tmp_path / "new") == 1


@pytest.mark.parametrize(
    ("class_names", "message"),
    [
        (["a", "b"], "expected 3 class names"),
        (["a", "b", "c", "unknown"], "expected 3 class names"),
        (["a", "b", "a"], r"more than once: \['a'\]"),
        (["a", "__unknown__", "c"], "reserved"),
        (["a", "", "c"], "non-empty"),
        (
            ["caf\u00e9", "cafe\u0301", "c"],
            r"'caf\\xe9' and 'cafe\\u0301' look the same",
        ),
        (["a ", "a", "c"], "'a ' and 'a' look the same"),
        ([0, 1, 2], "non-empty strings"),
    ],
)
def test_class_names_must_be_n_different_names(
    exported, tmp_path, class_names, message
):
    with pytest.raises(ValueError, match=message):
        attempt(exported, tmp_path / "1", class_names=class_names)


def test_the_parts_must_fit_together(exported, tmp_path):
    with pytest.raises(TypeError, match=r"calibration\.Threshold"):
        attempt(exported, tmp_path / "1", threshold=0.5)
    with pytest.raises(TypeError, match=r"'lax' must be a calibration\.Threshold"):
        attempt(exported, tmp_path / "1", operating_points={"lax": 0.5})
    unfitted = detectors.get("msp", num_classes=3)
    with pytest.raises(RuntimeError, match="not fitted"):
        attempt(exported, tmp_path / "1", detector=unfitted)
    with pytest.raises(ValueError, match="another model"):
        attempt(exported, tmp_path / "1", model=classifier())
    with pytest.raises(ValueError, match="plain JSON"):
        attempt(exported, tmp_path / "1", metrics={"auroc": float("nan")})


def test_sample_images_must_be_images_of_the_model(exported, tmp_path):
    for images, message in [
        (exported.pixels, "float images"),
        (exported.images[:, 1:], "float images"),
        (exported.images * 255, "divide bytes by 255"),
        (exported.images * np.nan, r"\[0, 1\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            attempt(exported, tmp_path / "1", sample_images=images)


def test_another_backend_is_refused(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=tensorflow"):
        attempt(exported, tmp_path / "1")


def test_a_full_disk_leaves_nothing(exported, tmp_path, monkeypatch):
    def save(module, folder, signatures):
        pathlib.Path(folder, "saved_model.pb").write_bytes(b"half")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", save)
    with pytest.raises(
        OSError, match=r"could not write .*1: No space left.*free space"
    ):
        attempt(exported, tmp_path / "m" / "1")
    assert not list((tmp_path / "m").iterdir())
