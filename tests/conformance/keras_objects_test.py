"""One check over every Keras object that the package registers.

A new layer, loss or metric is covered as soon as it is registered: its constructor
arguments are filled from `_VALUES`, and an argument missing there fails a test.
"""

import doctest
import inspect
import json
import sys
import types

import keras
import numpy as np
import pytest
from gradients import values_and_gradient

import ood_keras  # registers the objects

_PREFIX = "ood_keras>"
_NUM_CLASSES = 4
# A value other than the default for each constructor argument.
_VALUES = {
    "activation": "sigmoid",
    "loss": keras.saving.serialize_keras_object(
        ood_keras.losses.OpenSetLoss(_NUM_CLASSES, beta=0.7)
    ),
    "shape": [2, 3],
    "smoothing": 0.2,
    "temperature": 0.5,
    "beta": 0.7,
    "capacity": 64,
    "concentration": 50.0,
    "direction": "forward",
    "dtype": "float64",
    "filters": 3,
    "gamma": 0.6,
    "name": "another_name",
    "num_classes": _NUM_CLASSES,
    "objectosphere_weight": 0.3,
    "offset": -0.5,
    "on": "features",
    "prefix": "another_",
    "ratio": 2,
    "reduction": "sum",
    "reverse_channels": True,
    "scale": 255.0,
    "score": "msp",
    "unknown_weight": 0.7,
    "value": [[1.5], [-2.0]],
    "weight": 0.25,
}


def _registered(base):
    objects = keras.saving.get_custom_objects().items()
    classes = [c for name, c in objects if name.startswith(_PREFIX)]
    # Models train and hold others; their own tests cover them.
    classes = [c for c in classes if not issubclass(c, keras.Model)]
    return sorted((c for c in classes if issubclass(c, base)), key=lambda c: c.__name__)


_LAYERS = _registered(keras.layers.Layer)
_WITHOUT_WEIGHTS = (
    "ConstantInput",
    "LogitsOfProbabilities",
    "PixelScaling",
    "TrainTimeNorm",
)
_LAYERS_WITH_WEIGHTS = [c for c in _LAYERS if c.__name__ not in _WITHOUT_WEIGHTS]
_LOSSES = _registered(keras.losses.Loss)
_METRICS = _registered(keras.metrics.Metric)
_OBJECTS = _LAYERS + _LOSSES + _METRICS


def _arguments(cls):
    parameters = inspect.signature(cls.__init__).parameters.values()
    if cls.__init__.__module__.startswith("keras."):
        # A layer of Keras that computes otherwise: its arguments are tested there.
        return {name: _VALUES[name] for name in ("name", "dtype")}
    names = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        names += ["name", "dtype"]
    names.remove("self")
    missing = sorted(set(names) - set(_VALUES))
    if missing:
        pytest.fail(f"add a value to _VALUES for {missing} of {cls.__name__}")
    return {name: _VALUES[name] for name in names}


def _labels(count=24):
    return np.arange(count, dtype="int32") % (_NUM_CLASSES + 1) - 1


def _num_outputs(loss):
    """How many outputs a loss or metric takes: N + 1, or N without an unknown class."""
    try:
        loss([0], np.zeros((1, _NUM_CLASSES + 1), "float32"))
    except ValueError:
        return _NUM_CLASSES
    return _NUM_CLASSES + 1


def _default_loss(cls, **arguments):
    return cls(num_classes=_NUM_CLASSES, **arguments)


def _loss_variants():
    """Each loss with its defaults, and once more per choice of `on`."""
    for cls in _LOSSES:
        yield pytest.param(
            lambda cls=cls, **kw: _default_loss(cls, **kw), id=cls.__name__
        )
        if "on" in inspect.signature(cls.__init__).parameters:
            yield pytest.param(
                lambda cls=cls, **kw: _default_loss(cls, on="features", **kw),
                id=f"{cls.__name__}-features",
            )


_each_object = pytest.mark.parametrize("cls", _OBJECTS, ids=lambda c: c.__name__)
_each_layer = pytest.mark.parametrize("cls", _LAYERS, ids=lambda c: c.__name__)
_each_layer_with_weights = pytest.mark.parametrize(
    "cls", _LAYERS_WITH_WEIGHTS, ids=lambda c: c.__name__
)
_each_loss = pytest.mark.parametrize("make", list(_loss_variants()))
# Features are not masked, a masked logit has no length, smoothing asks for a masked
# class too, and a concentration of 0 is no Dirichlet distribution.
_each_loss_of_masked_logits = pytest.mark.parametrize(
    "make",
    [
        variant
        for variant in _loss_variants()
        if "features" not in variant.id
        and variant.id not in ("PriorNetwork", "LabelSmoothing", "LogitNorm")
    ],
)
_each_metric = pytest.mark.parametrize("cls", _METRICS, ids=lambda c: c.__name__)


def test_the_public_classes_are_the_registered_ones_and_their_bases():
    rooms = (ood_keras.layers, ood_keras.losses, ood_keras.metrics)
    public = {
        value
        for room in rooms
        for value in vars(room).values()
        if inspect.isclass(value)
        and issubclass(value, (keras.layers.Layer, keras.losses.Loss, keras.Metric))
    }
    assert _LAYERS and _LOSSES and _METRICS
    assert public >= set(_OBJECTS)
    for cls in public - set(_OBJECTS):
        assert any(issubclass(registered, cls) for registered in _OBJECTS), cls


@_each_object
def test_config_holds_every_argument_and_survives_json(cls):
    arguments = _arguments(cls)
    first = cls(**arguments)
    config = json.loads(json.dumps(first.get_config()))
    for name, value in arguments.items():
        if name == "dtype" and isinstance(config["dtype"], dict):
            assert config["dtype"]["config"]["name"] == value
        else:
            assert config[name] == value, name
    assert cls.from_config(config).get_config() == first.get_config()
    again = keras.saving.deserialize_keras_object(
        json.loads(json.dumps(keras.saving.serialize_keras_object(first)))
    )
    assert type(again) is cls
    assert again.get_config() == first.get_config()


@_each_object
def test_docstring_says_what_when_and_how(cls):
    documentation = inspect.getdoc(cls)
    for part in ("Args:", "Raises:", "Example:"):
        assert part in documentation, part
    module = sys.modules[cls.__module__]
    for example in doctest.DocTestFinder().find(cls, cls.__name__, globs=vars(module)):
        said: list[str] = []
        failed = doctest.DocTestRunner().run(example, out=said.append).failed
        assert failed == 0, "".join(said)


# Layers.


def _feature_maps(count=2):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 8, 6, 16)).astype("float32")


@_each_layer
def test_layer_saves_and_loads_in_a_model(cls, tmp_path):
    arguments = {**_arguments(cls), "dtype": "float32"}
    model = keras.Sequential([keras.Input((8, 6, 16)), cls(**arguments)])
    rng = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(rng.random(weight.shape))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = _feature_maps()
    np.testing.assert_array_equal(loaded(x), model(x))


@_each_layer_with_weights
def test_layer_stays_frozen_when_loaded_and_cloned(cls, tmp_path):
    model = keras.Sequential([keras.Input((8, 6, 16)), cls(trainable=False)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded, keras.models.clone_model(model)):
        assert each.weights
        assert not each.trainable_weights
    model.layers[0].trainable = True
    assert model.trainable_weights


@_each_layer
def test_layer_takes_any_image_size_and_tells_its_output_shape(cls):
    layer = cls()
    symbolic = layer(keras.Input((None, None, 16)))
    assert symbolic.shape == layer.compute_output_shape((None, None, None, 16))
    for shape in [(1, 8, 6, 16), (3, 5, 9, 16)]:
        output = layer(np.ones(shape, "float32"))
        assert tuple(output.shape) == layer.compute_output_shape(shape)


@_each_layer
def test_layer_rows_do_not_touch_each_other_at_inference(cls):
    x = _feature_maps(4)
    layer = cls()
    together = layer(x)
    apart = np.concatenate([layer(x[:1]), layer(x[1:])])
    np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-6)


@pytest.mark.tensorflow
@_each_layer_with_weights
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_layer_gradients_are_finite_in_every_precision(cls, dtype):
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    layer = cls(dtype=dtype)
    x = tf.constant(_feature_maps())
    with tf.GradientTape() as tape:
        output = layer(x, training=True) if "training" in _call(cls) else layer(x)
        loss = tf.reduce_sum(tf.square(tf.cast(output, tf.float32)))
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    gradients = tape.gradient(loss, [w.value for w in layer.trainable_weights])
    assert gradients
    for gradient, weight in zip(gradients, layer.trainable_weights, strict=True):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0, weight.path


def _call(cls):
    return inspect.signature(cls.call).parameters


# Losses.


def _outputs(loss, count=24, scale=2.0):
    rng = np.random.default_rng(0)
    shape = (count, _num_outputs(loss))
    return (scale * rng.normal(size=shape)).astype("float32")


@_each_loss
def test_loss_gives_one_value_per_image_and_reduces_them(make):
    labels, outputs = _labels(), _outputs(make())
    each = np.asarray(make(reduction=None)(labels, outputs))
    assert each.shape == (24,)
    assert each.dtype == np.float32
    assert (each >= 0).all() and each.std() > 0
    np.testing.assert_allclose(make(reduction="sum")(labels, outputs), each.sum(), 1e-5)
    np.testing.assert_allclose(make()(labels, outputs), each.mean(), 1e-5)
    parts = [
        make(reduction=None)(labels[i : i + 8], outputs[i : i + 8]) for i in (0, 8, 16)
    ]
    np.testing.assert_allclose(np.concatenate(parts), each, rtol=1e-6)


@_each_loss
def test_loss_honours_sample_weights(make):
    labels, outputs = _labels(), _outputs(make())
    weights = np.linspace(0, 3, 24, dtype="float32")
    each = np.asarray(make(reduction=None)(labels, outputs))
    for shaped in (weights, weights[:, None]):
        weighted = make(reduction=None)(labels, outputs, sample_weight=shaped)
        np.testing.assert_allclose(np.ravel(weighted), weights * each, rtol=1e-6)
        mean = make()(labels, outputs, sample_weight=shaped)
        np.testing.assert_allclose(mean, (weights * each).mean(), rtol=1e-5)


@_each_loss
def test_loss_reads_labels_of_any_number_type_and_shape(make):
    labels, outputs = _labels(), _outputs(make())
    loss = make(reduction=None)
    expected = loss(labels, outputs)
    for same in (labels[:, None], labels.astype("float32"), labels.astype("int8")):
        np.testing.assert_array_equal(loss(same, outputs), expected)


@_each_loss
def test_loss_takes_every_label_out_of_range_for_unknown(make):
    outputs = _outputs(make(), count=4)
    loss = make(reduction=None)
    wrong = loss([-7, _NUM_CLASSES, _NUM_CLASSES + 1, 255], outputs)
    np.testing.assert_array_equal(wrong, loss([-1] * 4, outputs))


@_each_loss
def test_loss_of_label_types_that_hold_more_than_classes(make):
    outputs = _outputs(make(), count=2)
    loss = make(reduction=None)
    unknown = loss([-1, -1], outputs)
    for wrong in (np.array([-0.9, 0.5]), np.array([2**32, 2**33 + 1])):
        np.testing.assert_array_equal(loss(wrong, outputs), unknown)


@_each_loss
def test_loss_of_no_images_is_empty(make):
    values = make(reduction=None)(np.zeros(0, "int32"), _outputs(make(), count=0))
    assert values.shape == (0,)


@_each_loss_of_masked_logits
def test_loss_of_a_masked_logit_is_finite(make):
    loss = make(reduction=None)
    outputs = _outputs(loss, count=2)
    large = outputs.copy()
    outputs[:, 1], large[:, 1] = -np.inf, -1e4
    values, gradient = values_and_gradient(lambda x: loss([0, 2], x), outputs)
    np.testing.assert_allclose(values, loss([0, 2], large), rtol=1e-6)
    assert np.isfinite(gradient).all()


@_each_loss
def test_loss_asks_for_no_index_beyond_a_one_hot_row(make, monkeypatch):
    one_hot = keras.ops.one_hot

    def strict(x, num_classes, **kwargs):
        assert keras.ops.max(x) < num_classes, "PyTorch raises"
        return one_hot(x, num_classes, **kwargs)

    monkeypatch.setattr(keras.ops, "one_hot", strict)
    make()(_labels(), _outputs(make()))


@pytest.mark.tensorflow
@_each_loss
@pytest.mark.parametrize(
    ("dtype", "jit_compile"),
    [("float32", False), ("float16", False), ("bfloat16", False), ("float32", True)],
)
def test_loss_and_gradients_are_finite_at_extremes(make, dtype, jit_compile):
    import tensorflow as tf

    loss = make(reduction=None)
    columns = _num_outputs(loss)
    rows = [np.zeros(columns), np.full(columns, 1e4), np.full(columns, -1e4)]
    for k in range(columns):
        rows += [np.where(np.arange(columns) == k, high, -high) for high in (1e4, -1e4)]
        rows += [np.where(np.arange(columns) == k, high, 0) for high in (1e-30, 17, 90)]
    outputs = tf.cast(np.repeat(rows, 2, axis=0), dtype)

    @tf.function(jit_compile=jit_compile)
    def values_and_gradient(labels, y_pred):
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            values = loss(labels, y_pred)
        return values, tape.gradient(values, y_pred)

    for label in (0, _NUM_CLASSES - 1, -1):
        labels = tf.fill([len(outputs)], label)
        values, gradient = values_and_gradient(labels, outputs)
        assert values.dtype == tf.float32
        assert np.isfinite(values).all()
        assert np.isfinite(tf.cast(gradient, tf.float32)).all()
        np.testing.assert_allclose(values, loss(labels, outputs), rtol=1e-4, atol=1e-6)


@pytest.mark.float64
@_each_loss
def test_loss_gradient_is_the_slope_of_its_values(make):
    loss = make(reduction="sum", dtype="float64")
    labels = _labels(10)
    outputs = _outputs(loss, count=10).astype("float64")
    _, gradient = values_and_gradient(lambda x: loss(labels, x), outputs)
    step = 1e-6 * np.random.default_rng(1).normal(size=outputs.shape)
    slope = float(loss(labels, outputs + step)) - float(loss(labels, outputs - step))
    np.testing.assert_allclose(slope, 2 * np.sum(gradient * step), rtol=1e-5)


@_each_loss
def test_loss_teaches_when_shapes_do_not_fit(make, request):
    loss = make()
    with pytest.raises(ValueError, match="labels must be integers of shape"):
        loss(np.eye(_NUM_CLASSES)[[0, 1]], _outputs(loss, count=2))
    with pytest.raises(ValueError, match="3 labels and outputs of 1 images"):
        loss([0, 1, -1], _outputs(loss, count=1))
    if "features" not in request.node.callspec.id:
        wrong = 2 * _NUM_CLASSES + 1 - _num_outputs(loss)
        with pytest.raises(ValueError, match=r"expected N.*received shape.*build the"):
            loss([0, -1], np.zeros((2, wrong), "float32"))


@_each_loss
def test_loss_in_float64_on_jax_needs_x64(make, monkeypatch):
    jax = types.SimpleNamespace(config=types.SimpleNamespace(jax_enable_x64=False))
    monkeypatch.setitem(sys.modules, "jax", jax)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="jax_enable_x64"):
        make(dtype="float64")
    jax.config.jax_enable_x64 = True
    make(dtype="float64")


@_each_loss
def test_loss_refuses_sixteen_bits(make):
    with pytest.raises(ValueError, match="computed in float32 or float64"):
        make(dtype="float16")


@pytest.mark.parametrize("cls", _LOSSES, ids=lambda c: c.__name__)
def test_loss_refuses_a_wrong_number_of_classes(cls):
    with pytest.raises(ValueError, match="at least"):
        cls(num_classes=0)


@pytest.mark.parametrize("cls", _LOSSES, ids=lambda c: c.__name__)
def test_loss_takes_one_class_only_beside_an_unknown_class(cls):
    """Of one logit the softmax is always 1, so that a loss over it learns nothing."""
    labels, two = np.array([0, -1]), np.array([[1.0, -1.0], [0.5, 2.0]], "float32")
    try:
        loss = cls(num_classes=1, reduction=None)
    except ValueError as error:
        assert "at least 2" in str(error)
        with pytest.raises(ValueError, match="expected N=2 logits"):
            cls(num_classes=2)(labels, np.zeros((2, 3), "float32"))
        return
    right = np.asarray(loss(labels, two))
    wrong = np.asarray(loss(labels, two[:, ::-1]))
    assert (right < wrong).all()


# Losses and metrics in a model.


def _model(outputs):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(outputs)])


def _images(count=24):
    return np.random.default_rng(2).normal(size=(count, 6)).astype("float32")


@pytest.mark.parametrize("cls", _LOSSES, ids=lambda c: c.__name__)
def test_loss_saves_and_loads_in_a_model(cls, tmp_path):
    loss = cls(**_arguments(cls))
    model = _model(_num_outputs(loss))
    model.compile("sgd", loss=loss, jit_compile=False)
    model.fit(_images(), _labels(), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == loss.get_config()
    expected = model.evaluate(_images(), _labels(), verbose=0)
    assert loaded.evaluate(_images(), _labels(), verbose=0) == expected


@_each_loss
def test_loss_trains_a_model_in_mixed_precision(make):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        loss = make()
        model = _model(_num_outputs(loss))
        assert model.outputs[0].dtype == "float16"
        model.compile("sgd", loss=loss, jit_compile=False)
        history = model.fit(_images(), _labels(), verbose=0, epochs=12).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]


@_each_metric
def test_metric_saves_and_loads_in_a_model(cls, tmp_path):
    model = _model(_NUM_CLASSES + 1)
    arguments = {**_arguments(cls), "dtype": "float32"}
    model.compile(
        "sgd",
        loss=ood_keras.losses.OpenSetLoss(_NUM_CLASSES),
        metrics=[cls(**arguments)],
        jit_compile=False,
    )
    model.fit(_images(), _labels(), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = model.evaluate(_images(), _labels(), verbose=0, return_dict=True)
    # A metric whose result is a dict logs each value by its own name.
    assert {"another_name", "another_auroc"} & set(expected)
    actual = loaded.evaluate(_images(), _labels(), verbose=0, return_dict=True)
    assert actual == expected


def _values(result):
    """The numbers of a metric's result, which is a scalar or a dict of scalars."""
    values = result.values() if isinstance(result, dict) else [result]
    return [float(value) for value in values]


@_each_metric
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_metric_of_batches_equals_all_at_once_and_forgets_on_reset(cls, dtype):
    metric = cls(num_classes=_NUM_CLASSES)
    rng = np.random.default_rng(0)
    labels = _labels(40)
    logits = rng.normal(size=(40, _NUM_CLASSES + 1)).astype(dtype)
    metric.update_state(labels, logits)
    at_once = _values(metric.result())
    metric.reset_state()
    metric.update_state(labels[:7], logits[:7])
    metric.update_state(labels[7:, None], logits[7:])
    assert _values(metric.result()) == pytest.approx(at_once, abs=1e-6)
    assert np.all((np.array(at_once) > 0) & (np.array(at_once) < 1))
