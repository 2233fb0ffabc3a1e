"""Models with several outputs, served models, and labels with an axis too many."""

import keras
import numpy as np
import pytest
from keras import ops

from ood_keras import detectors, export
from ood_keras.detectors.network import Network

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def parts(trained):
    """Input, features, logits and another output of the trained model."""
    model = trained[3]
    features = model.layers[-2].output
    other = keras.layers.Dense(2, name="other")(features)
    return model.input, features, model.output, other


def right(trained, data, name="knn"):
    return (
        detectors.get(name, num_classes=3).fit(trained[3], data.train).score(data.known)
    )


@pytest.mark.parametrize(
    ("outputs", "logits"),
    [
        (lambda f, z, o: {"logits": z, "other": o}, None),
        (lambda f, z, o: {"logits": keras.layers.Softmax()(z), "features": f}, None),
        (lambda f, z, o: {"scores": z}, None),
        (lambda f, z, o: {"scores": keras.layers.Softmax()(z)}, None),
        (lambda f, z, o: [z], None),
        (lambda f, z, o: {"scores": z, "other": o}, "end"),
        (lambda f, z, o: [z, o], "end"),
        (lambda f, z, o: {"a": {"scores": z}, "b": o}, "end"),
    ],
)
def test_several_outputs_are_read_right(outputs, logits, parts, trained, data):
    images, *rest = parts
    model = keras.Model(images, outputs(*rest))
    detector = detectors.get("knn", num_classes=3, logits=logits)
    detector.fit(model, data.train)
    np.testing.assert_allclose(
        detector.score(data.known), right(trained, data), rtol=1e-5
    )


@pytest.mark.parametrize(
    "outputs",
    [
        lambda f, z, o: {"scores": z, "other": o},
        lambda f, z, o: {"predictions": z, "features": f},
        lambda f, z, o: [z, o],
        lambda f, z, o: {"a": {"logits": z}, "b": o},
    ],
)
def test_outputs_that_leave_a_choice_are_an_error_that_lists_them(outputs, parts):
    images, *rest = parts
    with pytest.raises(ValueError, match=r"\(2, 3\).*logits=\.\.\."):
        Network(keras.Model(images, outputs(*rest)))


class Head(keras.layers.Layer):
    """A layer of a user's own that gives a dict."""

    def __init__(self, key="logits"):
        super().__init__()
        self.key, self.inner = key, keras.layers.Dense(3)

    def call(self, inputs):
        return {self.key: self.inner(inputs), "features": inputs}


@pytest.mark.parametrize("named", [True, False])
def test_a_layer_may_give_a_dict(named, parts):
    images, features, *_ = parts
    head = Head()
    model = keras.Model(images, head(features))
    found = Network(model, logits=head.name if named else None)
    batch = np.random.default_rng(0).uniform(size=(5, *SHAPE)).astype(np.float32)
    outputs, expected = found(batch), model(batch, training=False)
    for name in ("logits", "features"):
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-6)


def test_a_layer_whose_outputs_leave_a_choice_is_an_error(parts):
    images, features, *_ = parts
    head = Head("scores")
    model = keras.Model(images, head(features)["scores"])
    with pytest.raises(ValueError, match=r"has 2 outputs.*scores"):
        Network(model, logits=head.name)
    with pytest.raises(ValueError, match=r"has 2 outputs.*scores"):
        Network(model, features=head.name)
    # Which of them the logits are can be seen.
    assert Network(model).num_logits == 3


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    return export.shipped("mnist")


def layer(path, endpoint):
    return keras.layers.TFSMLayer(str(path), call_endpoint=endpoint)


@pytest.fixture(scope="module")
def opened(served):
    """`(layer, images, seen)`: a layer, and what the model says of some images."""
    shape = (40, 28, 28, 1)
    x = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    return layer(served, "features"), x, export.load(served).features(x)


@pytest.mark.tensorflow
@pytest.mark.parametrize("form", ["dict", "sequential", "logits", "softmax"])
@pytest.mark.parametrize("name", ["energy", "knn"])
def test_an_exported_model_is_read_as_a_layer(name, form, opened):
    sealed, x, seen = opened
    shape = x.shape[1:]
    images = keras.Input(shape)
    model = {
        "dict": lambda: keras.Model(images, sealed(images)),
        "sequential": lambda: keras.Sequential([keras.Input(shape), sealed]),
        "logits": lambda: keras.Model(images, sealed(images)["logits"]),
        "softmax": lambda: keras.Model(
            images, keras.layers.Softmax()(sealed(images)["logits"])
        ),
    }[form]()
    options = {"k": 3} if name == "knn" else {}
    # The digits' model has an eleventh logit, of the unknown.
    detector = detectors.get(name, num_classes=10, **options).fit(model, (x, None)[:1])
    outputs = detector.network(x)
    for key in ("logits", "features"):
        np.testing.assert_allclose(outputs[key], seen[key], rtol=1e-3, atol=1e-3)
    assert np.all(np.isfinite(detector.score(x)))


@pytest.mark.tensorflow
def test_the_answer_of_an_exported_model_is_an_error_that_teaches(served):
    images = keras.Input((28, 28, 1))
    model = keras.Model(images, layer(served, "serving_default")(images))
    with pytest.raises(ValueError, match=r'call_endpoint="features"'):
        detectors.get("energy", num_classes=10).fit(model)


@pytest.mark.tensorflow
def test_a_sealed_layer_without_features_is_a_warning(trained, tmp_path):
    trained[3].export(str(tmp_path / "plain"), verbose=False)
    images = keras.Input(SHAPE)
    model = keras.Model(images, layer(tmp_path / "plain", "serve")(images))
    with pytest.warns(UserWarning, match="shows nothing of its inside"):
        found = Network(model)
    batch = np.random.default_rng(0).uniform(size=(5, *SHAPE)).astype(np.float32)
    outputs = found(batch)
    np.testing.assert_allclose(outputs["logits"], trained[3](batch), rtol=1e-4)
    np.testing.assert_array_equal(outputs["features"], outputs["logits"])


@pytest.mark.parametrize("name", ["mahalanobis", "knn", "openmax", "kl_matching"])
def test_labels_may_have_an_axis_of_one(name, trained, data):
    images, labels = data.train
    column = labels[:, None]
    expected = detectors.get(name).fit(trained[3], (images, labels)).score(data.known)
    for known in (
        (images, column),
        [
            (images[start : start + 32], column[start : start + 32])
            for start in range(0, len(images), 32)
        ],
    ):
        detector = detectors.get(name).fit(trained[3], known)
        found = detector.score(data.known)
        # Sums in another order: as far as float32 goes with each kind of processor.
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
        assert len(detector.score(known)) == len(images)


@pytest.mark.tensorflow
def test_splits_take_labels_with_an_axis_of_one():
    from ood_keras import pipelines

    pixels = np.random.default_rng(0).integers(0, 256, (12, *SHAPE), np.uint8)
    labels = np.arange(12) % 3
    splits = [
        pipelines.Split("mine", "train", pixels, each, ("a", "b", "c"))
        for each in (labels, labels[:, None])
    ]
    assert splits[0].fingerprint() == splits[1].fingerprint()
    mixed = pipelines.interleave(splits[1], None, num_classes=3)
    assert sorted(np.concatenate([y for _, y in mixed])) == sorted(labels)
    with pytest.raises(ValueError, match="one label per image"):
        pipelines.Split("mine", "train", pixels, np.eye(12, dtype=int), ("a",) * 12)


@pytest.mark.parametrize("name", [3, [], ["end"], "", True])
@pytest.mark.parametrize("argument", ["logits", "features"])
def test_names_of_layers_are_text(argument, name):
    with pytest.raises(TypeError, match=f"`{argument}` must be the name of a layer"):
        detectors.get("energy", **{argument: name})


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_large_logits_round_in_half_precision(policy):
    """By more than their softmax says, if it is computed again in float32."""
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax", dtype=policy),
        ]
    )
    kernel = np.full((3, 3), 100.0, np.float32) + 20 * np.eye(3, dtype=np.float32)
    model.set_weights([kernel, np.zeros(3, np.float32)])
    images = np.random.default_rng(0).uniform(size=(8, 4, 4, 3)).astype(np.float32)
    network = Network(model)
    outputs = network(images)
    assert network.activation == "softmax"
    expected = images.mean(axis=(1, 2)) @ kernel
    # Of half-precision features, but not rounded themselves.
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-2)
    features = ops.convert_to_numpy(outputs["features"])
    np.testing.assert_allclose(outputs["logits"], features @ kernel, rtol=1e-5)
