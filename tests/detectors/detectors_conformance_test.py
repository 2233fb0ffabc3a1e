"""What every registered detector must do, whatever it computes."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from ood_keras import detectors

# Every form is read right by `Network`, as its own test shows.
FORMS = ["sequential_softmax_layer", "subclassed_softmax"]
# Hyper-parameters beside the defaults that are worth the same checks.
VARIANTS = [
    *((name, {}) for name in detectors.names() if name != "ensemble"),
    ("msp", {"temperature": 10.0}),
    ("energy", {"temperature": 0.5}),
    ("objectosphere", {"on": "features"}),
    ("objectosphere", {"on": "product"}),
    ("mahalanobis", {"perturbation": 0.002, "shrinkage": 0.1}),
    ("mahalanobis", {"normalize": True, "projection": 6}),
    ("relative_mahalanobis", {"normalize": True}),
    ("knn", {"normalize": False, "projection": 5}),
    ("core", {"orthogonal_to": "all"}),
    ("odin", {"epsilon": 0.0, "detector": {"name": "mahalanobis"}}),
    ("react", {"detector": {"name": "msp", "temperature": 2.0}}),
    ("ash", {"treatment": "prune", "percentile": 0.5}),
    ("ash", {"treatment": "binarize", "percentile": 0.8}),
    ("ensemble", {"detectors": ["energy", "mahalanobis"]}),
    ("ensemble", {"detectors": ["odin", "knn"]}),
    ("ensemble", {"detectors": ["energy", "mahalanobis"], "light_tails": True}),
]


def variant_id(variant):
    name, hyper_parameters = variant
    return "-".join([name, *(f"{k}={v}" for k, v in hyper_parameters.items())])


def num_logits_of(name):
    return 4 if name == "unknown_probability" else 3


@pytest.fixture(scope="module", params=VARIANTS, ids=variant_id)
def case(request, trained, data):
    """`(detector, model)`: a fitted variant and the model that it was fitted on."""
    name, hyper_parameters = request.param
    model = trained[num_logits_of(name)]
    return detectors.get(name, **hyper_parameters).fit(model, data.train), model


def auroc(known_scores, unknown_scores):
    """The share of pairs in the right order, ties counted half; quadratic."""
    order = np.sign(unknown_scores[:, None] - known_scores[None, :])
    return float(np.mean((order + 1) / 2))


def test_unknown_images_score_higher(case, data):
    detector, _ = case
    value = auroc(detector.score(data.known), detector.score(data.unknown))
    # Other backends draw and train another network, which suits DICE less.
    assert value > (0.8 if keras.backend.backend() == "tensorflow" else 0.7)


def test_score_is_one_finite_float32_per_image(case, data):
    detector, _ = case
    constant = np.stack([np.zeros((8, 8, 1)), np.ones((8, 8, 1))]).astype(np.float32)
    for images in (data.known, data.known[:1], data.known[:0], constant):
        scores = detector.score(images)
        assert scores.dtype == np.float32
        assert scores.shape == (len(images),)
        assert np.all(np.isfinite(scores))


def test_batch_by_batch_equals_all_at_once(case, data):
    detector, _ = case
    at_once = detector.score(data.unknown, batch_size=1000)
    np.testing.assert_allclose(
        detector.score(data.unknown, batch_size=7), at_once, rtol=1e-4, atol=1e-4
    )
    one_by_one = [detector.score(image[None])[0] for image in data.unknown[:5]]
    np.testing.assert_allclose(one_by_one, at_once[:5], rtol=1e-4, atol=1e-4)


@pytest.mark.tensorflow
def test_a_dataset_scores_as_arrays_do(case, data):
    detector, _ = case
    import tensorflow as tf

    expected = detector.score(data.known, batch_size=16)
    images = tf.data.Dataset.from_tensor_slices(data.known).batch(16)
    labelled = images.map(lambda batch: (batch, tf.zeros(tf.shape(batch)[0])))
    np.testing.assert_array_equal(detector.score(images), expected)
    np.testing.assert_array_equal(detector.score(labelled), expected)


def test_batches_score_as_arrays_do(case, data):
    detector, _ = case
    expected = detector.score(data.known, batch_size=16)
    batches = [data.known[start : start + 16] for start in range(0, 60, 16)]
    labelled = [(batch, np.zeros(len(batch))) for batch in batches]
    np.testing.assert_array_equal(detector.score(batches), expected)
    np.testing.assert_array_equal(detector.score(labelled), expected)


def test_call_gives_score_logits_and_features(case, data):
    detector, _ = case
    images = ops.convert_to_tensor(data.unknown)
    eager = detector.call(images)
    compiled = detector.call
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(detector.call)
    graph = compiled(images)
    assert set(eager) == {"ood_score", "logits", "features"}
    assert eager["logits"].shape == (60, detector.network.num_logits)
    assert eager["features"].shape == (60, detector.network.feature_size)
    for name in eager:
        assert keras.backend.standardize_dtype(eager[name].dtype) == "float32"
        np.testing.assert_allclose(eager[name], graph[name], rtol=1e-4, atol=1e-4)
    # A small score may be a difference of large ones, and has their rounding.
    scores = detector.score(data.unknown)
    rounding = 1e-4 + 1e-6 * np.abs(scores).max()
    np.testing.assert_allclose(graph["ood_score"], scores, rtol=1e-4, atol=rounding)


@pytest.mark.tensorflow
def test_no_tensor_grows_with_the_square_of_the_batch(case):
    import tensorflow as tf

    detector, _ = case
    # No other size of this world is a multiple of this one.
    images = tf.TensorSpec((61, 8, 8, 1), tf.float32)
    graph = tf.function(detector.call).get_concrete_function(images).graph
    sizes = [
        [size for size in tensor.shape if size and size % 61 == 0]
        for operation in graph.get_operations()
        for tensor in operation.outputs
        if tensor.shape.rank is not None
    ]
    assert any(sizes)
    assert max(map(len, sizes)) == 1 and max(map(sum, sizes)) < 61 * 61


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_it_converts_to_the_formats_it_names(case, data, kind):
    import tensorflow as tf

    detector, _ = case
    if kind not in detector.exports:
        pytest.skip("does not say so")
    images = np.concatenate([data.known, data.unknown])
    score = tf.function(lambda images: detector.call(images)["ood_score"])
    scores = {"onnx": onnx_scores, "tflite": tflite_scores}[kind](score, images)
    expected = detector.score(images)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4 * scale)


def onnx_scores(score, images):
    import tensorflow as tf

    tf2onnx = pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    spec = tf.TensorSpec((None, *images.shape[1:]), tf.float32, name="image")
    model, _ = tf2onnx.convert.from_function(score, [spec], opset=18)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"image": images})[0]


def tflite_scores(score, images):
    import tensorflow as tf

    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    function = score.get_concrete_function(tf.TensorSpec(images.shape, tf.float32))
    # Without operations beyond the built-in ones, which is the default.
    content = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
    interpreter = interpreters.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_one_strange_image_leaves_its_neighbours_alone(case, data):
    detector, _ = case
    strange = data.known.copy()
    strange[1] = np.nan
    expected = detector.score(data.known, batch_size=60)
    scores = detector.score(strange, batch_size=60)
    np.testing.assert_array_equal(np.delete(scores, 1), np.delete(expected, 1))


def test_config_survives_json(case):
    detector, _ = case
    config = json.loads(json.dumps(detector.get_config()))
    assert config == detector.get_config()
    again = detectors.get(detector.name, **config)
    assert type(again) is type(detector)
    assert again.get_config() == config


def test_saved_and_loaded_gives_the_same_scores(case, data, tmp_path):
    detector, model = case
    path = detectors.save(detector, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"{detector.name}.json",
        f"{detector.name}.npz",
    ]
    for loaded in (detectors.load(path, model), detectors.load(tmp_path, model)):
        assert loaded.num_classes == 3
        np.testing.assert_array_equal(
            loaded.score(data.unknown), detector.score(data.unknown)
        )


def test_scoring_before_fitting_says_to_fit(case, data):
    detector, _ = case
    unfitted = type(detector).from_config(detector.get_config())
    for use in (unfitted.score, unfitted.call):
        with pytest.raises(RuntimeError, match="call fit"):
            use(data.known)
    with pytest.raises(RuntimeError, match="call fit"):
        unfitted.get_arrays()


def test_extreme_logits_give_finite_scores(case, make_form, data):
    detector, _ = case
    model = make_form("functional", detector.network.num_logits)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * 1000.0, bias])
    again = type(detector).from_config(detector.get_config()).fit(model, data.train)
    assert np.abs(model.predict(data.known, verbose=0)).max() > 1000
    assert np.all(np.isfinite(again.score(data.known)))
    assert np.all(np.isfinite(again.score(data.unknown)))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("apart", [False, True], ids=["in the layer", "apart"])
def test_mixed_precision_models_are_scored_in_float32(data, policy, apart):
    keras.utils.set_random_seed(0)
    softmax = None if apart else "softmax"
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(dtype=policy),
            keras.layers.Dense(12, activation="relu", dtype=policy),
            keras.layers.Dense(3, activation=softmax, dtype=policy),
            # As Keras' guide to mixed precision has it.
            *[keras.layers.Activation("softmax", dtype="float32")] * apart,
        ]
    )
    for name in ("msp", "energy", "vim", "react"):
        scores = detectors.get(name).fit(model, data.train).score(data.known)
        assert scores.dtype == np.float32
        assert np.all(np.isfinite(scores))


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_model_is_read_and_not_changed(case, make_form, data, form):
    fitted, _ = case
    model = make_form(form, fitted.network.num_logits)
    predictions = model.predict(data.known, verbose=0)
    before = picture_of(model)
    detector = type(fitted).from_config(fitted.get_config())
    scores = detector.fit(model, data.train).score(data.unknown)
    assert picture_of(model) == before
    np.testing.assert_array_equal(model.predict(data.known, verbose=0), predictions)
    np.testing.assert_allclose(scores, fitted.score(data.unknown), rtol=1e-3, atol=1e-3)


def picture_of(model):
    """All that must stay as it is, but the predictions."""
    return (
        [value.tobytes() for value in model.get_weights()],
        [weight.path for weight in model.trainable_weights],
        model.to_json() if type(model).__name__ != "Subclassed" else None,
        {layer.path: set(vars(layer)) for layer in model._flatten_layers()},
    )


def test_a_refit_forgets_and_leaves_unknown_images_out(case, data):
    detector, model = case
    again = type(detector).from_config(detector.get_config())
    other = (data.train[0][::-1] ** 2, data.train[1][::-1])
    assert again.fit(model, other) is again
    again.score(data.known)
    images = np.concatenate([data.unknown, data.train[0]])
    labels = np.concatenate([np.full(len(data.unknown), -1), data.train[1]])
    batches = [
        (images[start : start + 37], labels[start : start + 37])
        for start in range(0, len(images), 37)
    ]
    assert again.fit(model, batches) is again
    expected = detector.score(data.unknown)
    # A score near 0 may be a difference of large numbers.
    room = max(1e-3, 1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(
        again.score(data.unknown), expected, rtol=1e-3, atol=room
    )


@pytest.mark.tensorflow
def test_one_trace_serves_all_batch_sizes(case, data):
    detector, model = case
    again = type(detector).from_config(detector.get_config())
    again.restore(model, detector.get_arrays(), detector.num_classes)
    traces = []
    call = again.call
    again.call = lambda images: traces.append(images.shape) or call(images)
    for batch_size in (1, 7, 60):
        again.score(data.known, batch_size=batch_size)
    assert [tuple(shape) for shape in traces] == [(None, 8, 8, 1)]


@pytest.mark.parametrize("name", ["energy", "odin", "knn"])
def test_jax_compiles_for_few_sizes_of_a_batch(name, trained, data):
    if keras.backend.backend() != "jax":
        pytest.skip("about compiling with JAX")
    detector = detectors.get(name).fit(trained[3], data.train)
    traces = []
    call = detector.call
    detector.call = lambda images: traces.append(len(images)) or call(images)
    expected = detector.score(data.known, batch_size=60)
    assert traces == [1, 60]  # the first one looks which variables it reads
    for count in (59, 45, 33, 17, 30, 32):
        np.testing.assert_allclose(
            detector.score(data.known[:count]), expected[:count], rtol=1e-4, atol=1e-4
        )
    assert traces == [1, 60, 32]


def test_a_wrong_number_of_classes_is_an_error(case, data):
    detector, model = case
    config = detector.get_config()
    if "detector" in config:
        config["detector"]["num_classes"] = None
    for member in config.get("detectors", []):
        member["num_classes"] = None
    config["num_classes"] = 7
    with pytest.raises(ValueError, match="7 known classes"):
        type(detector).from_config(config).fit(model, data.train)


@pytest.fixture(scope="module")
def one_class():
    """An untrained network of one known class and the unknown, and images for it."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(5, activation="relu"),
            keras.layers.Dense(2),
        ]
    )
    images = np.random.default_rng(0).random((20, 8, 8, 1), np.float32)
    return model, (images, np.zeros(20, np.int32))


@pytest.mark.parametrize("name", detectors.names())
def test_one_known_class_is_scored_or_refused(name, one_class):
    model, (images, labels) = one_class
    try:
        detector = detectors.get(name, num_classes=1)
    except ValueError as error:
        assert "at least 2, since one class alone" in str(error)
        return
    scores = detector.fit(model, (images, labels)).score(images)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 1


def with_num_classes(detector):
    """A new one that is told how many classes there are."""
    config = detector.get_config()
    if "detector" in config:
        config["detector"]["num_classes"] = None
    for member in config.get("detectors", []):
        member["num_classes"] = None
    return type(detector).from_config(config | {"num_classes": 3})


def test_parts_merge_into_what_is_fitted_at_once(case, data, tmp_path):
    detector, model = case
    images, labels = data.train
    validation = data.known, np.arange(60) % 3
    at_once = with_num_classes(detector).fit(model, data.train, validation)
    again = with_num_classes(detector)
    # The second part has no image of class 2.
    order = np.argsort((labels == 2) & (np.arange(300) < 200), kind="stable")
    parts = np.split(order, [90, 150])
    collected = [
        again.collect(
            model,
            (images[rows], labels[rows]),
            tuple(part[number::3] for part in validation),
            shard=number,
        )
        for number, rows in enumerate(parts)
    ]
    with pytest.raises(RuntimeError, match="call fit"):
        again.score(data.known)
    for number, part in enumerate(collected):
        path = tmp_path / f"{number}.npz"
        detectors.write_collected(part, path)
        collected[number] = detectors.read_collected(path)
    two = detectors.merge([collected[2], collected[0]])
    merged = detectors.merge([two, collected[1]])
    assert again.learn(model, merged, validation) is again
    expected = at_once.score(data.unknown)
    scale = np.abs(expected).max()
    # A training makes more of what features of other batches round to.
    tolerance = 0.01 if detector.name == "learned_confidence" else 2e-4
    np.testing.assert_allclose(
        again.score(data.unknown), expected, rtol=2e-3, atol=tolerance * scale
    )


def test_learning_without_data_is_an_error(case):
    detector, model = case
    if not detector.learns:
        pytest.skip("learns nothing")
    again = type(detector).from_config(detector.get_config())
    with pytest.raises(ValueError, match="learns from known"):
        again.fit(model)
