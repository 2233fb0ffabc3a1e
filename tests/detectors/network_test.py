import keras
import numpy as np
import pytest
from keras import layers, ops

from ood_keras import detectors
from ood_keras.detectors import Network


def runs_of(network):
    """The network run as it is and, under TensorFlow, in a graph."""
    if keras.backend.backend() != "tensorflow":
        return [network]
    import tensorflow as tf

    return [network, tf.function(network)]


def of_tensorflow(name):
    """A function that Keras knows nothing of."""
    import tensorflow as tf

    return getattr(tf.nn, name)


FORMS = [
    "functional",
    "functional_softmax",
    "sequential",
    "sequential_softmax_layer",
    "sequential_activation_layer",
    "subclassed",
    "subclassed_softmax",
    "nested_softmax",
]


@pytest.fixture(scope="module")
def expected(trained, data):
    """Logits and features of the test images, from the layers of a plain model."""
    model = trained[3]
    hidden = keras.Model(model.inputs, model.layers[-2].output)
    features = hidden.predict(data.known, verbose=0)
    kernel, bias = model.layers[-1].get_weights()
    return {"logits": features @ kernel + bias, "features": features}


@pytest.mark.parametrize("form", FORMS)
def test_finds_logits_and_features(make_form, data, expected, form):
    network = Network(make_form(form, 3))
    assert (network.num_logits, network.feature_size) == (3, 12)
    for run in runs_of(network):
        outputs = run(ops.convert_to_tensor(data.known))
        for name in expected:
            np.testing.assert_allclose(
                outputs[name], expected[name], rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("form", FORMS)
def test_head_makes_the_logits(make_form, data, expected, form):
    kernel, bias = Network(make_form(form, 3)).head
    np.testing.assert_allclose(
        expected["features"] @ kernel + bias, expected["logits"], rtol=1e-4, atol=1e-4
    )


def test_logits_are_not_recovered_from_saturated_probabilities(make_form, data):
    model = make_form("functional_softmax", 3)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * 1000, bias])
    assert model.predict(data.known, verbose=0).max() == 1.0
    logits = Network(model)(ops.convert_to_tensor(data.known))["logits"]
    assert np.abs(ops.convert_to_numpy(logits)).max() > 1000


def test_an_unbuilt_model_needs_a_sample(data):
    class Unbuilt(keras.Model):
        def __init__(self):
            super().__init__()
            self.flatten = layers.Flatten()
            self.classify = layers.Dense(3)

        def call(self, inputs):
            return self.classify(self.flatten(inputs))

    with pytest.raises(ValueError, match="Give `fit` some data"):
        Network(Unbuilt())
    assert Network(Unbuilt(), sample=data.known).feature_size == 64


def test_names_of_logits_and_features(make_form, data):
    network = Network(
        make_form("functional", 3),
        logits="end",
        features="functional_convolution",
    )
    images = ops.convert_to_tensor(data.known)
    outputs = network(images, layers=["functional_convolution"])
    convolution = outputs["layers"]["functional_convolution"]
    assert convolution.shape == (60, 6, 6, 8)
    # Features with spatial axes are averaged over them.
    np.testing.assert_allclose(
        outputs["features"], ops.mean(convolution, axis=(1, 2)), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="ends in a Dense layer"):
        _ = network.head


def test_a_convolutional_head_with_reshape_and_softmax(data):
    # The form of keras.applications.MobileNet.
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(6, 3),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Dropout(0.1),
            layers.Conv2D(3, 1, name="predictor"),
            layers.Reshape((3,)),
            layers.Activation("softmax"),
        ]
    )
    network = Network(model)
    outputs = network(ops.convert_to_tensor(data.known))
    assert (network.num_logits, network.feature_size) == (3, 6)
    np.testing.assert_allclose(
        ops.softmax(outputs["logits"]), model(data.known), rtol=1e-5, atol=1e-6
    )
    # So its head serves those who need one.
    kernel, bias = network.head
    np.testing.assert_allclose(
        outputs["features"] @ kernel + bias, outputs["logits"], rtol=1e-5, atol=1e-5
    )
    scores = detectors.get("vim").fit(model, data.train).score(data.known)
    assert np.all(np.isfinite(scores))


@pytest.mark.parametrize("end", ["Dense", "Activation", "Lambda"])
@pytest.mark.parametrize(
    "softmax",
    [
        pytest.param("tf.nn.softmax", marks=pytest.mark.tensorflow),
        "ops.softmax",
        "Softmax()",
        "log_softmax",
        pytest.param("tf.nn.log_softmax", marks=pytest.mark.tensorflow),
    ],
)
def test_a_softmax_is_known_by_what_it_does(make_form, data, expected, end, softmax):
    function = {
        "ops.softmax": lambda logits: ops.softmax(logits, axis=-1),
        "Softmax()": layers.Softmax(),
        "log_softmax": keras.activations.log_softmax,
    }.get(softmax) or of_tensorflow(softmax.removeprefix("tf.nn."))
    trained = make_form("functional", 3)
    hidden, last = trained.layers[-2].output, trained.layers[-1]
    if end == "Dense":
        last_weights = last.get_weights()
        last = layers.Dense(3, activation=function, name="last")
        outputs = last(hidden)
        last.set_weights(last_weights)
    else:
        outputs = getattr(layers, end)(function, name="last")(last(hidden))
    model = keras.Model(trained.inputs, outputs)
    # As its own choice, and named by the user.
    for logits in (None, "last"):
        network = Network(model, logits=logits)
        outputs = network(ops.convert_to_tensor(data.known))
        assert (network.num_logits, network.feature_size) == (3, 12)
        for name in expected:
            np.testing.assert_allclose(
                outputs[name], expected[name], rtol=1e-4, atol=1e-4
            )
        assert network.head[0].shape == (12, 3)


ENDS = {
    "one activation": lambda units: [layers.Dense(units, "sigmoid", name="last")],
    "a layer of it": lambda units: [
        layers.Dense(units, name="last"),
        layers.Activation("sigmoid"),
    ],
    "TensorFlow's own": lambda units: [
        layers.Dense(units, activation=of_tensorflow("sigmoid"), name="last")
    ],
    "logits": lambda units: [layers.Dense(units, name="last")],
}


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(end, marks=[pytest.mark.tensorflow] * ("TensorFlow" in end))
        for end in ENDS
    ],
)
@pytest.mark.parametrize("units", [1, 3])
def test_sigmoids_are_undone(make_form, data, end, units):
    """Scores see what the sigmoid is of; one unit stands for two classes."""
    keras.utils.set_random_seed(0)
    base = make_form("functional", 3)
    before = keras.Model(base.inputs, base.layers[-2].output)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), *base.layers[1:-1], *ENDS[end](units)]
    )
    # Probabilities that are 1 in float32, whose log-odds no rounding brings back.
    kernel, bias = model.get_layer("last").get_weights()
    model.get_layer("last").set_weights([kernel * 30, bias + 1])
    kernel, bias = kernel * np.float32(30), bias + np.float32(1)
    network = Network(model)
    outputs = network(ops.convert_to_tensor(data.known))
    features = ops.convert_to_numpy(before(data.known))
    expected = features @ kernel + bias
    if units == 1:
        expected = np.concatenate([0 * expected, expected], axis=1)
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(outputs["features"], features, rtol=1e-4, atol=1e-4)
    assert network.activation == (None if end == "logits" else "sigmoid")
    assert network.num_logits == max(units, 2)
    np.testing.assert_allclose(
        network.classify(features), expected, rtol=1e-4, atol=1e-3
    )
    if units == 1 and end != "logits":
        known = ops.softmax(outputs["logits"])[:, 1]
        np.testing.assert_allclose(
            known, model.predict(data.known, verbose=0)[:, 0], atol=1e-5
        )


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.tensorflow
def test_what_is_1_and_0_is_told_apart(activation):
    """Of very large numbers a sigmoid and a softmax are the same."""
    last = layers.Dense(3, activation=of_tensorflow(activation))
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), last])
    bias = np.float32([100, -100, -100])
    last.set_weights([np.zeros((16, 3), np.float32), bias])
    network = Network(model)
    assert network.activation == activation


def test_sigmoids_that_sum_to_one_are_no_softmax():
    inputs = keras.Input((4, 4, 1))
    last = layers.Dense(2, "sigmoid")
    model = keras.Model(inputs, last(layers.Flatten()(inputs)))
    # Of opposite numbers, the sigmoids are p and 1 - p.
    kernel = np.random.default_rng(0).normal(size=(16, 1)).astype(np.float32)
    last.set_weights([np.concatenate([kernel, -kernel], axis=1), np.zeros(2)])
    images = np.random.default_rng(1).uniform(size=(5, 4, 4, 1)).astype(np.float32)
    network = Network(model)
    assert network.activation == "sigmoid"
    expected = images.reshape(5, 16) @ kernel
    np.testing.assert_allclose(
        network(images)["logits"], np.hstack([expected, -expected]), atol=1e-5
    )


@pytest.mark.parametrize("logits", [[0.25, 0.75], [-1.3862944, -0.2876821]])
def test_logits_that_sum_to_one_by_chance(logits):
    """What a layer without an activation gives are logits, whatever they look like."""
    last = layers.Dense(2)
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), last])
    last.set_weights([np.zeros((16, 2), np.float32), np.float32(logits)])
    network = Network(model)
    assert network.activation is None
    images = np.zeros((3, 4, 4, 1), np.float32)
    np.testing.assert_allclose(network(images)["logits"], [logits] * 3, rtol=1e-6)


def test_a_cosine_head(make_form, data):
    """The product with the scale is no layer, so the output itself is the logits."""
    hidden = make_form("functional", 3)
    features = hidden.layers[-2].output
    # Between layers, Keras' norm along one axis as an integer does not run on JAX.
    unit = features / ops.norm(features, axis=(-1,), keepdims=True)
    cosines = layers.Dense(3, use_bias=False, name="cosines")(unit)
    model = keras.Model(hidden.inputs, 10.0 * cosines)
    network = Network(model)
    for run in runs_of(network):
        outputs = run(ops.convert_to_tensor(data.known))
        np.testing.assert_allclose(
            outputs["logits"], model.predict(data.known, verbose=0), rtol=1e-4
        )
        norms = np.linalg.norm(outputs["features"], axis=1)
        np.testing.assert_allclose(norms, 1, rtol=1e-4)
    with pytest.raises(ValueError, match="ends in a Dense layer"):
        network.head  # noqa: B018 - the error is wanted


def test_a_layer_after_the_log_softmax_does_not_hide_it(make_form, data, expected):
    trained = make_form("functional", 3)
    outputs = trained.output
    for layer in (layers.Activation("log_softmax"), layers.Dropout(0.1)):
        outputs = layer(outputs)
    logits = Network(keras.Model(trained.inputs, outputs))(data.known)["logits"]
    np.testing.assert_allclose(logits, expected["logits"], rtol=1e-4, atol=1e-4)


def test_a_layer_of_ones_own_is_no_softmax_for_its_name(make_form):
    class Tempered(layers.Softmax):
        def call(self, inputs, mask=None):
            return super().call(inputs / 2.0)

    trained = make_form("functional", 3)
    model = keras.Model(trained.inputs, Tempered(name="own")(trained.output))
    with pytest.raises(ValueError, match="could not find the layer"):
        Network(model)
    with pytest.raises(ValueError, match="'own' gives probabilities"):
        Network(model, logits="own")


@pytest.mark.parametrize("activation", ["softmax", "log_softmax"])
@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_a_quantised_head(make_form, data, activation, mode):
    models = []
    for end in (None, activation):
        hidden = make_form("functional", 3).layers[:-1]
        model = keras.Sequential(
            [keras.Input((8, 8, 1)), *hidden[1:], layers.Dense(3, end, name="last")]
        )
        model.set_weights(make_form("functional", 3).get_weights())
        model.quantize(mode)
        models.append(model)
    linear, model = models
    before = model.predict(data.known, verbose=0)
    for logits in (None, "last"):
        network = Network(model, logits=logits)
        for run in runs_of(network):
            outputs = run(ops.convert_to_tensor(data.known))
            np.testing.assert_allclose(
                outputs["logits"], linear(data.known), rtol=1e-4, atol=1e-4
            )
        with pytest.raises(ValueError, match="not quantised"):
            _ = network.head
    np.testing.assert_array_equal(model.predict(data.known, verbose=0), before)


def test_weights_that_diverged_are_named(make_form):
    for form in ("functional", "functional_softmax"):
        model = make_form(form, 3)
        model.set_weights(
            [np.full_like(value, np.nan) for value in model.get_weights()]
        )
        for logits in (None, "end"):
            with pytest.raises(ValueError, match="weights that diverged"):
                Network(model, logits=logits)


@pytest.mark.parametrize("kind", [list, dict])
def test_one_of_several_outputs_is_named(make_form, data, expected, kind):
    trained = make_form("functional_softmax", 3)
    other = layers.Dense(2, name="other")(trained.layers[-2].output)
    outputs = kind(zip("ab", (trained.output, other), strict=True))
    if kind is list:
        outputs = [output for _, output in outputs]
    model = keras.Model(trained.inputs, outputs)
    with pytest.raises(ValueError, match=r"one output.*logits=\.\.\."):
        Network(model)
    outputs = Network(model, logits="end")(ops.convert_to_tensor(data.known))
    for name in expected:
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["functional", "subclassed"])
def test_images_with_other_channels_are_refused(make_form, data, form):
    model = make_form(form, 3)
    detector = detectors.get("msp", num_classes=3).fit(model)
    colour = np.repeat(data.known, 3, axis=-1)
    with pytest.raises(ValueError, match=r"width, 1\).*with 3 channels"):
        detector.score(colour)
    with pytest.raises(ValueError, match=r"width, 1\).*with 3 channels"):
        detectors.get("knn").fit(model, (colour, np.arange(60) % 3))


def test_a_model_of_keras_applications():
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNet(
        alpha=0.25, input_shape=(32, 32, 3), weights=None, classes=3
    )
    images = np.random.default_rng(0).random((20, 32, 32, 3), np.float32)
    before = model.to_json(), [value.tobytes() for value in model.get_weights()]
    predictions = model.predict(images, verbose=0)
    network = Network(model)
    outputs = network(images)
    np.testing.assert_allclose(
        ops.softmax(outputs["logits"]), predictions, rtol=1e-4, atol=1e-6
    )
    dropout = model.layers[-4]
    assert dropout.name == "dropout"
    hidden = keras.Model(model.inputs[0], dropout.output)
    np.testing.assert_allclose(
        outputs["features"], hidden(images)[:, 0, 0], rtol=1e-4, atol=1e-5
    )
    for name in ("mahalanobis", "vim"):
        detector = detectors.get(name).fit(model, (images, np.arange(20) % 3))
        assert np.all(np.isfinite(detector.score(images)))
    assert before == (
        model.to_json(),
        [value.tobytes() for value in model.get_weights()],
    )
    np.testing.assert_array_equal(model.predict(images, verbose=0), predictions)


def test_same_names_in_two_parts_are_told_apart_by_path():
    def part(size):
        return keras.Sequential([layers.Dense(size, name="same")])

    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), part(5), part(3)]
    )
    network = Network(model)
    paths = [name for name in network.layer_names if name.endswith("same")]
    assert len(paths) == 2
    assert network(np.zeros((2, 8, 8, 1), np.float32), layers=paths)
    with pytest.raises(ValueError, match="path"):
        network.layer("same")


def test_own_layers_keep_names_that_nested_layers_have_too():
    block = keras.Sequential([layers.Dense(4, name="hidden"), layers.ReLU(name="act")])
    model = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            layers.Flatten(),
            block,
            keras.Sequential([layers.Dense(4), layers.ReLU(name="act")]),
            layers.ReLU(name="hidden"),
            layers.Dense(3, name="logits"),
        ]
    )
    network = Network(model)
    # Every layer can be named, also those without a path.
    names = network.layer_names
    assert len(names) == len(model._flatten_layers(include_self=False))
    assert all(isinstance(name, str) for name in names)
    assert sum("act" in name for name in names) == 2
    assert network.layer("hidden") is model.layers[3]
    images = np.random.default_rng(0).normal(size=(2, 2, 2, 1)).astype(np.float32)
    wanted = [name for name in names if "act" in name or "hidden" in name]
    outputs = network(images, layers=wanted)
    assert len(outputs["layers"]) == 4


def test_a_dict_output_with_logits(trained, data, expected):
    model = trained[3]
    outputs = {"logits": model.output, "features": model.layers[-2].output}
    network = Network(keras.Model(model.inputs, outputs))
    logits = network(ops.convert_to_tensor(data.known))["logits"]
    np.testing.assert_allclose(logits, expected["logits"], rtol=1e-4, atol=1e-4)


def test_variables_are_those_of_the_model(trained):
    assert Network(trained[3]).variables == trained[3].variables


def test_follows_later_training(make_form, data):
    model = make_form("functional", 3)
    network = Network(model)
    before = next(iter(network.batches(data.known)))[0]["logits"]
    model.set_weights([2 * value for value in model.get_weights()])
    after = next(iter(network.batches(data.known)))[0]["logits"]
    assert not np.allclose(before, after)


def test_batches_walk_the_data_once(trained, data):
    seen = []

    def batches():
        for start in range(0, 300, 50):
            seen.append(start)
            yield tuple(part[start : start + 50] for part in data.train)

    labels = [labels for _, labels in Network(trained[3]).batches(batches())]
    np.testing.assert_array_equal(np.concatenate(labels), data.train[1])
    assert len(seen) == 6


def test_errors_say_what_to_do(trained, make_form):
    with pytest.raises(TypeError, match=r"keras\.Model"):
        Network(lambda images: images)
    with pytest.raises(ValueError, match="functional_convolution"):
        Network(trained[3], features="no_such_layer")
    inputs = keras.Input((8, 8, 1))
    flat = layers.Flatten()(inputs)
    with pytest.raises(ValueError, match="one output"):
        Network(keras.Model(inputs, [layers.Dense(3)(flat), layers.Dense(2)(flat)]))
    two = keras.Input((8, 8, 1))
    with pytest.raises(ValueError, match="one input, images of that shape"):
        two = keras.Model([inputs, two], layers.Dense(3)(layers.Flatten()(two)))
        Network(two, sample=np.zeros((2, 8, 8, 1)))
    # Not a softmax of anything that a layer makes.
    halved = layers.Dense(3, activation=lambda z: ops.softmax(z / 2), name="halved")
    with pytest.raises(ValueError, match="'halved' gives probabilities"):
        Network(keras.Model(inputs, halved(flat)), logits="halved")


@pytest.mark.tensorflow
def test_layers_inside_of_a_graph_are_not_seen(data):
    import tensorflow as tf

    class Graph(keras.Model):
        def __init__(self):
            super().__init__()
            self.classify = keras.Sequential([layers.Flatten(), layers.Dense(3)])

        @tf.function
        def call(self, inputs):
            return self.classify(inputs)

    with pytest.raises(ValueError, match=r"inside of a tf\.function are not seen"):
        Network(Graph(), sample=data.known)
