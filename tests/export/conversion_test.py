"""Networks as people build them, converted: with parity, or an error that teaches."""

import contextlib
import json

import keras
import numpy as np
import pytest
from keras import layers, ops

from ood_keras import calibration, detectors, export
from ood_keras.export import edge, parity

IMAGE_SHAPE = (8, 8, 3)
NUM_CLASSES = 3


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(24, *IMAGE_SHAPE)).astype(np.float32)


@pytest.fixture(autouse=True)
def no_fresh_process(monkeypatch):
    """That the SavedModel equals the live model is proved elsewhere, and slow."""
    monkeypatch.setattr(parity, "check", lambda *_: {})
    monkeypatch.setattr(parity, "FreshProcess", contextlib.nullcontext)


def network(*inner):
    """A small classifier with `inner` layers."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE),
            *inner,
            layers.GlobalAveragePooling2D(),
            layers.Dense(8, activation="tanh"),
            layers.Dense(NUM_CLASSES, kernel_initializer="random_normal"),
        ]
    )


def exported(model, images, folder, name="energy"):
    """An exported model; returns it and the live detector."""
    labels = np.arange(len(images)) % NUM_CLASSES
    detector = detectors.get(name, num_classes=NUM_CLASSES)
    detector.fit(model, (images, labels))
    # Between two scores, where rounding decides nothing.
    scores = np.sort(detector.score(images))
    threshold = calibration.Threshold.from_dict(
        {
            **calibration.quantile(scores, 0.5).to_dict(),
            "value": float((scores[11] + scores[12]) / 2),
        }
    )
    return export.saved_model(model, detector, threshold, folder / "m" / "1"), detector


def converted(path, images, folder):
    """The predictors of the TFLite and of the ONNX file."""
    export.tflite(path, folder / "t", known_images=images, formats=["float32"])
    export.onnx(path, folder / "o", known_images=images)
    return {
        "tflite": export.TFLitePredictor(folder / "t" / "float32"),
        "onnx": export.ONNXPredictor(folder / "o"),
    }


def check_equals_live(model, images, folder, name="energy"):
    path, detector = exported(model, images, folder, name)
    live = detector.score(images)
    for kind, predictor in converted(path, images, folder).items():
        np.testing.assert_allclose(
            predictor.predict(images)["ood_score"],
            live,
            rtol=1e-4,
            atol=1e-4,
            err_msg=kind,
        )


def transformer():
    image = keras.Input(IMAGE_SHAPE)
    x = layers.Conv2D(8, 4, strides=4)(image)
    x = layers.Reshape((4, 8))(x)
    x = x + layers.Embedding(4, 8)(ops.arange(4))
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 4)(y, y)
    y = layers.Dense(16, activation="gelu")(layers.LayerNormalization()(x))
    x = layers.GlobalAveragePooling1D()(x + layers.Dense(8)(y))
    return keras.Model(image, layers.Dense(NUM_CLASSES)(x))


def convnext():
    image = keras.Input(IMAGE_SHAPE)
    x = layers.Conv2D(8, 2, strides=2)(image)
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    y = layers.LayerNormalization(epsilon=1e-6)(y)
    y = layers.Dense(16, activation="gelu")(y)
    x = x + layers.Dense(8)(y) * 0.1
    return keras.Model(
        image, layers.Dense(NUM_CLASSES)(layers.GlobalAveragePooling2D()(x))
    )


def mobilenet():
    return network(
        layers.Conv2D(8, 3, strides=2, activation="hard_silu"),
        layers.DepthwiseConv2D(3, padding="same", activation="relu6"),
        layers.BatchNormalization(),
        layers.Conv2D(8, 1, activation="hard_sigmoid"),
    )


def efficientnet():
    return network(
        layers.Rescaling(2.0, -1.0),
        layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 1.0, 2.0]),
        layers.Conv2D(8, 3, activation="swish"),
        layers.BatchNormalization(),
        layers.Conv2D(8, 3, groups=2, activation="silu"),
    )


FAMILIES = {
    "transformer": transformer,
    "convnext": convnext,
    "mobilenet": mobilenet,
    "efficientnet": efficientnet,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_networks_convert(family, images, tmp_path):
    keras.utils.set_random_seed(0)
    check_equals_live(FAMILIES[family](), images, tmp_path)


# All that Keras has, but `threshold`, which takes arguments, and those below.
ACTIVATIONS = [
    "celu",
    "elu",
    "exponential",
    "gelu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squareplus",
    "tanh",
    "tanh_shrink",
]


def test_every_activation_converts(images, tmp_path):
    """One branch for each, so that one conversion shows them all."""
    keras.utils.set_random_seed(0)
    image = keras.Input(IMAGE_SHAPE)
    branches = [
        layers.Conv2D(4, 3, activation=name, kernel_initializer="random_normal")(image)
        for name in ACTIVATIONS
    ]
    branches.append(ops.glu(branches[0]))
    branches.append(keras.activations.threshold(branches[1], 0.1, -1.0))
    x = layers.GlobalAveragePooling2D()(layers.Concatenate()(branches))
    check_equals_live(
        keras.Model(image, layers.Dense(NUM_CLASSES)(x)), images, tmp_path
    )


def test_every_way_to_resize_converts(images, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input(IMAGE_SHAPE)
    x = layers.Conv2D(4, 3, padding="same")(image)
    small = [
        layers.Resizing(5, 6, interpolation=name, antialias=antialias)(x)
        for name in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
        for antialias in (False, True)
    ]
    small.append(layers.Resizing(5, 6, antialias=True, crop_to_aspect_ratio=True)(x))
    small.append(
        layers.Resizing(5, 6, interpolation="bicubic", pad_to_aspect_ratio=True)(x)
    )
    for method in ("gaussian", "mitchellcubic", "area"):
        small.append(Resized(method)(x))
    large = layers.UpSampling2D(2, interpolation="lanczos3")(x)
    x = layers.Flatten()(layers.Concatenate()(small))
    x = layers.Concatenate()([x, layers.Flatten()(large)])
    check_equals_live(
        keras.Model(image, layers.Dense(NUM_CLASSES)(x)), images, tmp_path
    )


class Resized(layers.Layer):
    """Resizes with a kernel of TensorFlow that Keras does not offer."""

    def __init__(self, method):
        super().__init__()
        self._method = method

    def call(self, images):
        import tensorflow as tf

        return tf.image.resize(images, (5, 6), method=self._method, antialias=True)


def test_other_operators_are_written_in_known_ones(images, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input(IMAGE_SHAPE)
    branches = [
        ops.image.rgb_to_hsv(image),
        ops.image.hsv_to_rgb(image),
        ops.erf(3 * image - 1),
        ops.log1p(image),
        ops.expm1(image),
        ops.logaddexp(image, -image),
    ]
    x = layers.GlobalMaxPooling2D()(layers.Concatenate()(branches))
    check_equals_live(
        keras.Model(image, layers.Dense(NUM_CLASSES)(x)), images, tmp_path
    )


DTYPES = {
    "mixed_float16": "float16",
    "mixed_bfloat16": "bfloat16",
    "bfloat16": "bfloat16",
    "float64": "float64",
}


def small_network():
    return network(
        layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 1.0, 2.0]),
        layers.Conv2D(8, 3, activation="gelu"),
        layers.BatchNormalization(),
        layers.DepthwiseConv2D(3, activation="silu"),
        layers.LayerNormalization(),
    )


@pytest.fixture
def with_policy():
    """`with_policy(name)` sets the policy of the layers made from now on."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("policy", DTYPES)
def test_files_of_a_network_in_half_precision_compute_in_float32(
    policy, images, tmp_path, with_policy
):
    twin = small_network()
    with_policy(policy)
    model = small_network()
    model.set_weights(twin.get_weights())
    weights = model.get_weights()
    # What float16 makes of the weights is what float32 has to use.
    twin.set_weights(weights)
    path, live = exported(model, images, tmp_path)
    wanted = detectors.get("energy", num_classes=NUM_CLASSES).fit(twin).score(images)
    half = live.score(images)
    assert np.abs(half - wanted).max() < 0.3
    if "16" in policy:
        assert np.abs(half - wanted).max() > 1e-5
    for predictor in converted(path, images, tmp_path).values():
        scores = predictor.predict(images)["ood_score"]
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4)
        assert predictor.threshold == export.load(path).threshold
    for report in (tmp_path / "t" / "parity.json", tmp_path / "o" / "parity.json"):
        assert json.loads(report.read_text())["float32_instead_of"] == [DTYPES[policy]]
    assert model.dtype_policy.name == policy
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


# Each reads another part of the network, or computes in another way.
@pytest.mark.parametrize("name", ["mahalanobis", "knn", "gram", "vim", "ash"])
def test_detectors_on_a_network_in_half_precision(name, images, tmp_path, with_policy):
    with_policy("mixed_float16")
    path, _ = exported(small_network(), images, tmp_path, name)
    reference = export.load(path).predict(images, threshold=np.inf)
    export.onnx(path, tmp_path / "o", known_images=images)
    found = export.ONNXPredictor(tmp_path / "o").predict(images, threshold=np.inf)
    np.testing.assert_allclose(
        found["probabilities"], reference["probabilities"], atol=0.03
    )
    scale = max(1, np.abs(reference["ood_score"]).max())
    np.testing.assert_allclose(
        found["ood_score"], reference["ood_score"], atol=0.05 * scale
    )


def test_a_network_that_overflows_in_half_precision_is_no_other(
    images, tmp_path, with_policy
):
    with_policy("mixed_float16")
    # The square is more than float16 holds: its inverse is 0 there, and not in float32.
    model = network(layers.Rescaling(3000.0), Squashed(), layers.Rescaling(100.0))
    path, _ = exported(model, images, tmp_path)
    with pytest.raises(export.ParityError, match=r"computes in float16[^.]*"):
        export.onnx(path, tmp_path / "o", known_images=images)
    assert not (tmp_path / "o").exists()


class Squashed(layers.Layer):
    def call(self, images):
        return 1.0 / (1.0 + ops.square(images) / 60000.0)


class Calls(layers.Layer):
    """A layer that calls a function."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self._function = function

    def call(self, images):
        return images + 0.1 * self._function(images)


def lower_triangle(images):
    import tensorflow as tf

    matrices = ops.transpose(images, (0, 3, 1, 2)) + 9 * ops.eye(8)
    return ops.transpose(tf.linalg.inv(matrices), (0, 2, 3, 1))


def bits(images):
    import tensorflow as tf

    return tf.cast(tf.bitcast(images, tf.int16), images.dtype) / 1e5


@pytest.mark.parametrize(
    ("function", "operator", "targets"),
    [
        (ops.erfinv, "Erfinv", ("onnx", "tflite")),
        (lower_triangle, "MatrixInverse", ("onnx", "tflite")),
        (ops.arcsinh, "Asinh", ("tflite",)),
        (lambda images: ops.cumprod(images, 1), "Cumprod", ("tflite",)),
    ],
)
def test_what_cannot_be_converted_names_layer_and_operator_before_any_work(
    function, operator, targets, images, tmp_path, monkeypatch
):
    path, _ = exported(
        network(
            layers.Conv2D(4, 1, activation="sigmoid"), Calls(function, name="odd_one")
        ),
        images,
        tmp_path,
    )
    # The SavedModel answers about the images after the conversion.
    monkeypatch.setattr(edge, "Predictor", None)
    for target in targets:
        with pytest.raises(ValueError, match="cannot be converted to") as caught:
            getattr(export, target)(path, tmp_path / "out", known_images=images)
        assert f"operator '{operator}' (layer 'odd_one'" in str(caught.value)
        assert "InvalidGraph" not in str(caught.value)
        assert [child.name for child in tmp_path.iterdir()] == ["m"]


def test_reading_bits_of_half_precision_is_refused(images, tmp_path, with_policy):
    with_policy("mixed_float16")
    path, _ = exported(
        network(layers.Conv2D(4, 1), Calls(bits, name="odd_one")), images, tmp_path
    )
    for target in ("onnx", "tflite"):
        with pytest.raises(ValueError, match=r"layer 'odd_one'.*'Bitcast'.*float16"):
            getattr(export, target)(path, tmp_path / "out", known_images=images)


def test_layers_are_found_by_the_names_that_keras_gives_their_nodes():
    from ood_keras.export.plain_graph import place

    start = "model/StatefulPartitionedCall/StatefulPartitionedCall"
    for scope, name in (
        ("functional_1/stem_1/Gelu", "stem"),
        ("functional_1/conv2d_1_2", "conv2d_1"),
        ("functional_1/block_1/norm_1/batchnorm", "norm"),
        ("shared_3/Gelu", "shared"),
    ):
        assert f"layer {name!r}" in place(f"{start}/{scope}/Erfc")
    assert "outside of any layer" in place(f"{start}/Erfc")
