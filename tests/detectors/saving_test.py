import json

import keras
import numpy as np
import pytest
from keras import layers

from ood_keras import detectors
from ood_keras.detectors import registry


def test_names_and_get():
    assert {
        "unknown_probability",
        "msp",
        "max_logit",
        "energy",
        "objectosphere",
    } <= set(detectors.names())
    for name in detectors.names():
        assert detectors.get(name).name == name
    with pytest.raises(ValueError, match=r"one of: .*energy, .*msp"):
        detectors.get("no_such_detector")
    with pytest.raises(ValueError, match=r"one of: .*energy, .*msp"):
        detectors.get(["msp"])


def test_bad_hyper_parameters_fail_at_once():
    with pytest.raises(ValueError, match="temperature"):
        detectors.get("energy", temperature=0.0)
    with pytest.raises(ValueError, match="on="):
        detectors.get("objectosphere", on="logits")
    with pytest.raises(ValueError, match="at least 1"):
        detectors.get("msp", num_classes=0)
    with pytest.raises(ValueError, match="at least 2, since one class alone"):
        detectors.get("gen", num_classes=1)


def test_num_classes_is_inferred_or_asked_for(trained, data):
    assert detectors.get("msp").fit(trained[4], data.train).num_classes == 3
    assert detectors.get("unknown_probability").fit(trained[4]).num_classes == 3
    assert detectors.get("msp", num_classes=4).fit(trained[4]).num_classes == 4
    with pytest.raises(ValueError, match="num_classes="):
        detectors.get("msp").fit(trained[4])
    with pytest.raises(ValueError, match="images only"):
        detectors.get("msp").fit(trained[4], data.known)
    with pytest.raises(ValueError, match="no known image"):
        detectors.get("msp").fit(trained[4], (data.known[:0], data.train[1][:0]))
    with pytest.raises(ValueError, match="unknown class"):
        detectors.get("unknown_probability").fit(trained[3], data.train)
    inputs = keras.Input((8, 8, 1))
    two = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(inputs)))
    assert detectors.get("unknown_probability").fit(two).num_classes == 1


def test_a_failed_fit_leaves_nothing_fitted(trained, data):
    detector = detectors.get("msp").fit(trained[3], data.train)
    with pytest.raises(ValueError, match="logits"):
        detector.fit(trained[3], (data.train[0], data.train[1] + 5))
    with pytest.raises(RuntimeError, match="call fit"):
        detector.score(data.known)


def test_the_unknown_logit_is_no_known_class(trained, data):
    outputs = detectors.Network(trained[4])(data.unknown)
    logits = keras.ops.convert_to_numpy(outputs["logits"])
    detector = detectors.get("max_logit").fit(trained[4], data.train)
    np.testing.assert_allclose(
        detector.score(data.unknown), -np.max(logits[:, :3], axis=1), rtol=1e-5
    )


def test_load_for_images_of_any_size(data, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            layers.Conv2D(6, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    knn = detectors.get("knn").fit(model, data.train)
    loaded = detectors.load(detectors.save(knn, tmp_path), model)
    np.testing.assert_array_equal(loaded.score(data.known), knn.score(data.known))
    assert loaded.score(data.known[:, :5]).shape == (60,)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("gram", {}), ("mahalanobis", {"layers": ["functional_convolution"]})],
)
def test_load_notices_other_inner_layers(trained, data, tmp_path, name, arguments):
    detector = detectors.get(name, **arguments).fit(trained[3], data.train)
    path = detectors.save(detector, tmp_path)
    other = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3),
            layers.Conv2D(8, 3),
            layers.Flatten(),
            layers.Dense(12),
            layers.Dense(3),
        ]
    )
    with pytest.raises(ValueError, match=f"{name}.json was fitted on another model"):
        detectors.load(path, other)


def test_load_notices_other_weights(make_form, data, tmp_path):
    model = make_form("functional", 3)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    knn = detectors.get("knn").fit(model, data.train)
    path = detectors.save(knn, tmp_path / "knn")
    msp = detectors.save(detectors.get("msp", num_classes=3).fit(model), tmp_path)
    np.testing.assert_array_equal(
        detectors.load(path, again).score(data.known), knn.score(data.known)
    )
    kernel, bias = again.layers[-1].get_weights()
    again.layers[-1].set_weights([kernel, np.nextafter(bias, np.float32(1))])
    with pytest.raises(ValueError, match="another model: the weights of this one"):
        detectors.load(path, again)
    # What has learnt nothing serves any weights.
    detectors.load(msp, again)
    # A file of an earlier version.
    saved = json.loads(path.read_text())
    del saved["weights_sha256"]
    path.write_text(json.dumps(saved))
    detectors.load(path, again)


def test_a_detector_that_is_not_registered_is_not_saved(trained, data, tmp_path):
    class Own(type(detectors.get("msp"))):
        pass

    class Named(Own):
        name = "own"

    for detector in (
        Own(),
        Named(),
        detectors.get("odin", detector=Own()),
        detectors.get("ensemble", detectors=["energy", Named()]),
    ):
        detector.fit(trained[3], data.train)
        with pytest.raises(TypeError, match=r"`detectors\.register`"):
            detectors.save(detector, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_registered_detector_of_ones_own_is_one_of_the_librarys(
    trained, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(registry, "_CLASSES", dict(registry._CLASSES))

    @detectors.register
    class LargestFeature(detectors.Detector):
        name = "largest_feature"

        def score_outputs(self, outputs):
            return -keras.ops.max(outputs["features"], axis=-1)

    assert "largest_feature" in detectors.names()
    for detector in (
        detectors.get("largest_feature"),
        detectors.get("odin", detector="largest_feature"),
        detectors.get("ensemble", detectors=["energy", "largest_feature"]),
    ):
        detector.fit(trained[3], data.train)
        folder = tmp_path / detector.name
        path = detectors.save(detector, folder)
        loaded = detectors.load(path, trained[3])
        np.testing.assert_array_equal(
            loaded.score(data.known), detector.score(data.known)
        )
    detectors.register(LargestFeature)
    with pytest.raises(ValueError, match=r"'msp' is .*MSP already"):
        detectors.register(type("Mine", (LargestFeature,), {"name": "msp"}))
    with pytest.raises(TypeError, match="needs a `name`"):
        detectors.register(type("Nameless", (LargestFeature,), {"name": ""}))
    with pytest.raises(TypeError, match="subclass"):
        detectors.register(dict)


def test_load_tells_what_is_wrong(trained, data, tmp_path):
    with pytest.raises(FileNotFoundError, match="no detector"):
        detectors.load(tmp_path, trained[3])
    energy = detectors.get("energy").fit(trained[3], data.train)
    path = detectors.save(energy, tmp_path)
    with pytest.raises(ValueError, match="another model"):
        detectors.load(path, trained[4])
    detectors.save(detectors.get("msp").fit(trained[3], data.train), tmp_path)
    with pytest.raises(ValueError, match="several"):
        detectors.load(tmp_path, trained[3])
    path.with_suffix(".npz").write_bytes(b"truncated")
    with pytest.raises(ValueError, match="save it again"):
        detectors.load(path, trained[3])
    with pytest.raises(RuntimeError, match="call fit"):
        detectors.save(detectors.get("msp"), tmp_path)
