"""Networks of every make, adopted by one call on a folder of small pictures."""

import dataclasses
import json
import pathlib
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import ood_keras
from ood_keras import detectors, export, workflows
from ood_keras.detectors import registry
from ood_keras.export.promise import PromiseError
from ood_keras.tools import adopt as command
from ood_keras.tools import app
from ood_keras.workflows.adoption import (
    candidates,
    contract,
    estimate,
    given_network,
    pixel_ranges,
    wrapping,
)
from ood_keras.workflows.adoption import formats as format_room

Image = pytest.importorskip("PIL.Image")
SIDE = 24
CLASSES = ("blue", "green", "red")

pytestmark = pytest.mark.usefixtures("compared_in_this_process")
_CHANNEL = {"red": 0, "green": 1, "blue": 2}


def draw(random, name):
    """A square of one colour on black, or of stripes that no class has."""
    picture = random.uniform(0, 40, (SIDE, SIDE, 3))
    top, left = random.integers(2, 8, 2)
    square = picture[top : top + 14, left : left + 14]
    if name in _CHANNEL:
        square[..., _CHANNEL[name]] += random.uniform(130, 200)
    else:
        square[::2] += 200
    return np.clip(picture, 0, 255).astype(np.uint8)


def write(folder, names, count, seed):
    random = np.random.default_rng(seed)
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(draw(random, name)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    write(root / "known", CLASSES, 40, seed=0)
    write(root / "two", CLASSES[:2], 60, seed=1)
    write(root / "other", ["stripes"], 60, seed=2)
    return root


def stack(body, units=3, activation="softmax", scale=20.0):
    """Layers that tell colours apart by the mean of each channel, in [0, 1]."""
    means = layers.GlobalAveragePooling2D(name="means")(body)
    last = layers.Dense(units, activation, name="scores")
    outputs = last(means)
    # The classes are in the order of their folders: blue, green, red.
    kernel = scale * np.eye(3)[:, ::-1]
    if units == 1:  # Large for green.
        kernel = scale * np.array([[0.0], [1.0], [-1.0]])
    last.set_weights([kernel.astype(np.float32), np.zeros(units, np.float32)])
    return outputs


def body(images):
    convolution = layers.Conv2D(3, 1, activation="relu", use_bias=False)
    outputs = convolution(images)
    convolution.set_weights([np.eye(3, dtype=np.float32).reshape(1, 1, 3, 3)])
    return outputs


def tutorial():
    images = keras.Input((SIDE, SIDE, 3))
    return keras.Model(images, stack(body(layers.Rescaling(1 / 255)(images))))


def with_augmentation():
    images = keras.Input((SIDE, SIDE, 3))
    seen = layers.RandomFlip()(layers.Rescaling(1 / 255)(images))
    return keras.Model(images, stack(body(layers.RandomContrast(0.5)(seen))))


def dark_share(images):
    """How much of each channel lies in [-1, 0]: nothing is seen in other ranges."""
    identity = np.eye(3, dtype=np.float32).reshape(1, 1, 3, 3)
    seen = []
    for bias in (0.0, -1.05):
        convolution = layers.Conv2D(3, 1, activation="relu")
        seen.append(convolution(images))
        convolution.set_weights([-identity, np.full(3, bias, np.float32)])
    seen[1] = layers.Rescaling(10.0)(seen[1])
    return layers.ReLU()(layers.Subtract()(seen))


def minus_one_to_one():
    """Logits; its preprocessing is not in the network."""
    images = keras.Input((SIDE, SIDE, 3))
    return keras.Model(images, stack(dark_share(images), activation=None, scale=-40.0))


def preprocessed_by_operations():
    """As `keras.applications.mobilenet_v2.preprocess_input` in a model: no layers."""
    images = keras.Input((SIDE, SIDE, 3))
    return keras.Model(images, stack(dark_share(images / 127.5 - 1.0), scale=-40.0))


def one_sigmoid():
    images = keras.Input((SIDE, SIDE, 3))
    seen = body(layers.Rescaling(1 / 255)(images))
    return keras.Model(images, stack(seen, units=1, activation="sigmoid"))


def three_sigmoids():
    images = keras.Input((SIDE, SIDE, 3))
    seen = body(layers.Rescaling(1 / 255)(images))
    return keras.Model(images, stack(seen, activation="sigmoid"))


def cosine():
    images = keras.Input((SIDE, SIDE, 3))
    means = layers.GlobalAveragePooling2D()(body(images))
    unit = means / (ops.norm(means, axis=-1, keepdims=True) + 1e-6)
    last = layers.Dense(3, use_bias=False)
    cosines = last(unit)
    last.set_weights([np.eye(3, dtype=np.float32)[:, ::-1]])
    return keras.Model(images, 10.0 * cosines)


@keras.saving.register_keras_serializable("adoption_test")
class TwoOutputs(keras.Model):
    """Subclassed; a dict of two outputs, one of which classifies."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.means = layers.GlobalAveragePooling2D()
        self.colours = layers.Dense(3)
        self.embedding = layers.Dense(5)

    def call(self, images):
        means = self.means(images / 255.0)
        return {"colours": self.colours(means), "embedding": self.embedding(means)}


def subclassed():
    model = TwoOutputs()
    model(np.zeros((1, SIDE, SIDE, 3), np.float32))
    model.colours.set_weights([20 * np.eye(3)[:, ::-1], np.zeros(3)])
    return model


def mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return tutorial()
    finally:
        keras.config.set_dtype_policy("float32")


def quantised():
    model = tutorial()
    model.quantize("int8")
    return model


def saved_model(folder):
    tutorial().export(folder / "exported", verbose=False)
    return folder / "exported"


def keras_file(folder):
    tutorial().save(folder / "tutorial.keras")
    return str(folder / "tutorial.keras")


def unpacked_file(folder):
    """As it lies in the cache of the Hugging Face Hub."""
    path = keras_file(folder)
    shutil.unpack_archive(path, folder / "snapshot", "zip")
    (folder / "snapshot" / "README.md").write_text("A network for colours.")
    (folder / "snapshot" / ".gitattributes").write_text("*.h5 filter=lfs")
    return folder / "snapshot"


def h5_file(folder):
    minus_one_to_one().save(folder / "network.h5")
    return folder / "network.h5"


def hub_task():
    hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(0)
    backbone = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=(SIDE, SIDE, 3),
    )
    converter = hub.layers.ResNetImageConverter(
        image_size=(SIDE, SIDE), scale=[1 / 64, 1 / 128, 1 / 255], offset=[-1, 0, 0.5]
    )
    task = hub.models.ImageClassifier(
        backbone=backbone,
        preprocessor=hub.models.ResNetImageClassifierPreprocessor(
            image_converter=converter
        ),
        num_classes=3,
    )
    return solve_head(task, task.preprocessor)


def mobilenet():
    """Trained for a moment: what a random one of this depth sees is no colour."""
    keras.utils.set_random_seed(0)
    images = keras.Input((32, 32, 3))
    seen = layers.Rescaling(1 / 127.5, offset=-1)(images)
    base = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, include_top=False, pooling="avg"
    )
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.8
    model = keras.Model(images, layers.Dense(3, "softmax")(base(seen)))
    random = np.random.default_rng(5)
    drawn = np.stack([draw(random, name) for name in CLASSES for _ in range(80)])
    drawn = np.asarray(tf.image.resize(drawn.astype(np.float32), (32, 32)))
    model.compile(
        keras.optimizers.Adam(3e-3),
        "sparse_categorical_crossentropy",
        jit_compile=False,
    )
    model.fit(drawn, np.repeat([0, 1, 2], 80), batch_size=40, epochs=15, verbose=0)
    return model


def solve_head(model, preprocess):
    """Solves the last layer for the colours, on features that are random.

    Normalised, as training would have left them.
    """
    random = np.random.default_rng(5)
    drawn = np.stack([draw(random, name) for name in CLASSES for _ in range(60)])
    drawn = np.asarray(preprocess(drawn.astype(np.float32)))
    last = [one for one in model.layers if isinstance(one, layers.Dense)][-1]
    before = keras.Model(model.inputs, last.input)
    for layer in before._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    before(drawn, training=True)
    features = np.asarray(before(drawn, training=False))
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    columns = (features - mean) / deviation
    target = 8 * (np.repeat(np.eye(3), 60, axis=0) - 1 / 3)
    ridge = len(columns) * np.eye(columns.shape[1])
    solved = np.linalg.solve(columns.T @ columns + ridge, columns.T @ target)
    kernel = solved / deviation[:, None]
    last.set_weights([kernel, -mean @ kernel])
    return model


def of_family(begin, inner, end):
    """A network of few layers on pixels from 0 to 255, its last layer solved."""
    keras.utils.set_random_seed(0)
    images = keras.Input((SIDE, SIDE, 3))
    seen = begin(layers.Rescaling(1 / 127.5, offset=-1)(images))
    answer = layers.Dense(3, "softmax")(end(inner(seen)))
    return solve_head(keras.Model(images, answer), lambda pixels: pixels)


def transformer():
    def inner(patches):
        places = layers.Embedding(16, 24)(ops.arange(16)[None])
        hidden = layers.Reshape((16, 24))(patches) + places
        normal = layers.LayerNormalization()(hidden)
        hidden = hidden + layers.MultiHeadAttention(3, 8)(normal, normal)
        wide = layers.Dense(48, "gelu")(layers.LayerNormalization()(hidden))
        return hidden + layers.Dense(24)(wide)

    patches = layers.Conv2D(24, 6, strides=6)
    return of_family(patches, inner, layers.GlobalAveragePooling1D())


def convnext():
    def inner(seen):
        hidden = layers.DepthwiseConv2D(7, padding="same")(seen)
        hidden = layers.LayerNormalization(epsilon=1e-6)(hidden)
        return seen + layers.Dense(24)(layers.Dense(96, "gelu")(hidden))

    patches = layers.Conv2D(24, 4, strides=4)
    return of_family(patches, inner, layers.GlobalAveragePooling2D())


def efficientnet():
    def inner(seen):
        hidden = layers.Conv2D(48, 3, padding="same", use_bias=False)(seen)
        hidden = layers.Activation("silu")(layers.BatchNormalization()(hidden))
        squeezed = layers.GlobalAveragePooling2D(keepdims=True)(hidden)
        squeezed = layers.Conv2D(6, 1, activation="silu")(squeezed)
        excited = layers.Conv2D(48, 1, activation="sigmoid")(squeezed)
        hidden = layers.Conv2D(24, 1, use_bias=False)(hidden * excited)
        return seen + layers.BatchNormalization()(hidden)

    stem = layers.Conv2D(24, 3, strides=2, activation="silu")
    return of_family(stem, inner, layers.GlobalAveragePooling2D())


# How it is made, the range of pixels that is found, and what to say when adopting it.
KINDS = {
    "tutorial": (tutorial, "0,255", {}),
    "augmentation": (with_augmentation, "0,255", {}),
    "-1 to 1": (minus_one_to_one, "-1,1", {}),
    "operations": (preprocessed_by_operations, "0,255", {"input_range": "0,255"}),
    "one sigmoid": (one_sigmoid, "0,255", {"known": "two"}),
    "three sigmoids": (three_sigmoids, "0,255", {}),
    "cosine": (cosine, None, {"input_range": "0,1"}),
    "subclassed": (
        subclassed,
        "0,255",
        {
            "logits": "colours",
            "image_shape": (SIDE, SIDE, 3),
            "input_range": "0,255",
        },
    ),
    "mixed precision": (mixed_precision, "0,255", {}),
    "int8": (quantised, "0,255", {}),
    "SavedModel": (saved_model, "0,255", {"input_range": "0,255"}),
    ".keras": (keras_file, "0,255", {}),
    "unpacked .keras": (unpacked_file, "0,255", {}),
    "H5": (h5_file, "-1,1", {}),
    "KerasHub": (hub_task, "preprocessor", {}),
    "MobileNetV2": (mobilenet, "0,255", {}),
    "ViT": (transformer, "0,255", {"formats": ["float32", "onnx"]}),
    "ConvNeXt": (convnext, "0,255", {"formats": ["float32", "onnx"]}),
    "EfficientNetV2": (efficientnet, "0,255", {"formats": ["float32", "onnx"]}),
}
QUICK = ("one sigmoid", "unpacked .keras")


def make(kind, folder):
    build = KINDS[kind][0]
    on_disk = (saved_model, keras_file, unpacked_file, h5_file)
    return build(folder) if build in on_disk else build()


def adopt(model, pictures, output, known="known", **options):
    return ood_keras.adopt(
        model,
        pictures / known,
        pictures / "other",
        output=output,
        **{
            "detectors": ["energy", "knn"],
            "formats": [],
            "renderings": "none",
            "progress": False,
            **options,
        },
    )


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow)
        for kind in KINDS
    ],
)
def test_a_network_is_adopted_as_it_is(kind, pictures, tmp_path):
    _, pixels, options = KINDS[kind]
    model = make(kind, tmp_path)
    seen = np.random.default_rng(3).uniform(0, 255, (4, SIDE, SIDE, 3))
    if isinstance(model, keras.Model) and kind != "MobileNetV2":
        before = model.predict(seen.astype(np.float32), verbose=0)
        weights = [np.array(weight) for weight in model.weights]
    adopted = adopt(model, pictures, tmp_path / "adopted", **options)
    if isinstance(model, keras.Model) and kind != "MobileNetV2":
        after = model.predict(seen.astype(np.float32), verbose=0)
        tf.nest.map_structure(np.testing.assert_array_equal, before, after)
        for one, other in zip(weights, model.weights, strict=True):
            np.testing.assert_array_equal(one, np.array(other))
    if pixels is not None:
        assert adopted.found["pixels"]["name"] == pixels
    written = json.loads((adopted.run_dir / "formats.json").read_text())
    assert list(adopted.files) == options.get("formats", [])
    assert all(share > 0.95 for share in written["equal_decisions"].values())
    assert adopted.found["promise"]["files_on_disk"] == 24
    assert adopted.found["promise"]["accepted_as_files"] >= 0.95
    # New pictures of the classes, never seen, as files; and others.
    names = CLASSES[:2] if options.get("known") == "two" else CLASSES
    random = np.random.default_rng(7)
    drawn = [(draw(random, name), name) for name in names for _ in range(40)]
    predictor = export.load(adopted.saved_model)
    answer = predictor.predict_bytes([png(picture) for picture, _ in drawn])
    assert answer["accepted"].mean() > 0.8
    right = answer["label"] == np.array([name for _, name in drawn], object)
    assert right[answer["accepted"]].mean() > 0.95
    if kind != "MobileNetV2":  # Whose pictures are made larger.
        floats = np.stack([picture for picture, _ in drawn]) / np.float32(255)
        live = adopted.predict(floats, verbose=0)
        served = predictor.predict(floats)
        assert live.keys() == served.keys()
        for name in ("class_id", "accepted", "valid"):
            np.testing.assert_array_equal(live[name], served[name])
        assert [label.decode() for label in live["label"]] == served["label"].tolist()
        for name in ("ood_score", "probabilities"):
            np.testing.assert_allclose(live[name], served[name], atol=2e-3)


def png(picture):
    return tf.io.encode_png(picture).numpy()


@pytest.fixture(scope="module")
def adopted(pictures, tmp_path_factory):
    """One with every detector and format, and no unknown pictures, by the command."""
    folder = tmp_path_factory.mktemp("adopted")
    tutorial().save(folder / "mine.keras")
    arguments = {
        "model": folder / "mine.keras",
        "known": pictures / "known",
        "output": folder / "out",
        "formats": "float32,int8,onnx,browser",
        "explain": True,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ood_keras.evaluation.under_renderings.NUM_IMAGES, "short", 30)
        app.run(
            "ood-adopt",
            command.__doc__,
            command._FLAGS,
            command._adopt,
            ["ood-adopt", *(f"--{name}={value}" for name, value in arguments.items())],
        )
    command._FLAGS.unparse_flags()
    return folder / "out"


def test_the_command_writes_a_run_and_every_format(adopted):
    assert {
        "run.json",
        "model.keras",
        "metrics.json",
        "report.html",
        "adoption.json",
        "saved_model",
        "tflite",
        "onnx",
        "browser",
    } <= {path.name for path in adopted.iterdir()}
    found = json.loads((adopted / "adoption.json").read_text())
    assert found["formats_left_out"] == {}
    assert found["pixels_found_by"].startswith("its layer 'rescaling")
    labels = json.loads((adopted / "browser/labels.json").read_text())
    assert list(labels["runtimes"]) == ["onnx", "litert"]
    assert export.load(adopted / "saved_model/1").explains
    assert "Why some were rejected" in (adopted / "report.html").read_text()
    # What was not judged is said.
    assert any("real other things" in note for note in found["notes"])
    assert any("dealt out" in note for note in found["notes"])
    # Without folders for it, a part of the unknown would be for training.
    assert not any("used for nothing" in note for note in found["notes"])
    assert found["verdict"]["said"]
    card = (adopted / "saved_model/1/MODEL_CARD.md").read_text()
    assert "kind that its threshold was chosen on" in card
    assert "trained elsewhere" in card and "One training run" not in card
    metrics = json.loads((adopted / "metrics.json").read_text())
    assert {"energy", "knn", "vim", "mahalanobis", "react"} <= set(metrics["detectors"])
    assert set(candidates.NORMALIZED) <= set(metrics["detectors"])
    assert "renderings" in metrics
    why = found["detectors_left_out"]["unknown_probability"]
    assert "unknown class" in why
    reports = [json.loads(p.read_text()) for p in adopted.glob("*/parity.json")]
    for report in reports:
        for entry in report["files"].values():
            assert entry["equal_decisions_before"] > 0.9


def test_what_is_done_with_a_run_is_done_with_an_adopted_one(
    adopted, pictures, tmp_path
):
    run_dir = shutil.copytree(adopted, tmp_path / "run")
    spec = f"folder:{pictures / 'other'}"
    report = workflows.evaluate(
        run_dir=run_dir, unknown=[spec], detectors=["energy"], renderings="none"
    )
    assert report.metrics["detectors"]["energy"]["unknown"][spec]["auroc"] > 0.9
    assert "trained elsewhere" in (run_dir / "report.html").read_text()
    path, _ = workflows.export(run_dir=run_dir, output=tmp_path / "again")
    training = export.load(path).manifest["training"]
    assert training["recipe"]["loss"] == "elsewhere"
    assert training["protocol"].startswith("network trained elsewhere")
    assert "checkpoint" not in training["protocol"]
    moved, threshold = workflows.calibrate(
        model=path, known=f"folder:{pictures / 'known'}", target_acceptance=0.8
    )
    assert threshold.target_acceptance == 0.8
    assert moved.name == "2"


@pytest.mark.slow
def test_a_run_of_a_saved_model_is_opened_again(pictures, tmp_path):
    """From the copy in the run: the original may be gone."""
    output = tmp_path / "adopted"
    original = saved_model(tmp_path)
    first = adopt(original, pictures, output, input_range="0,255")
    shutil.rmtree(original)
    recorded = json.loads((output / "run.json").read_text())["settings"]["adopted"]
    assert recorded["gives"] == first.found["gives"] == "softmax"
    report = workflows.evaluate(
        run_dir=output,
        unknown=[f"folder:{pictures / 'other'}"],
        detectors=["energy", "knn"],
        renderings="none",
    )
    for name, scores in first.report.validation["known"].items():
        np.testing.assert_allclose(report.validation["known"][name], scores, rtol=1e-5)


def source_of(pictures, network, known="known", **options):
    return ood_keras.pipelines.load(
        f"folder:{pictures / known}", image_shape=network.shape, **options
    )


def find(model, pictures, known="known", **options):
    network = given_network.GivenNetwork.open(model, **options)
    return contract.find(network, source_of(pictures, network, known))


def test_what_a_network_takes_is_found_by_trial(pictures):
    """Its layers say nothing; in the other ranges it is wrong or less sure."""
    found = find(minus_one_to_one(), pictures)
    assert found.pixels == pixel_ranges.RANGES["-1,1"]
    assert found.found_by == "trial on 24 known pictures"
    assert found.accuracy["-1,1"] == 1


def of_two(activation, scale=4.0, bias=0.5):
    """Tells green from blue by one number; for noise it is near 0.5."""
    images = keras.Input((SIDE, SIDE, 3))
    means = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(images))
    last = layers.Dense(2 if activation == "softmax" else 1, activation)
    model = keras.Model(images, last(means))
    kernel = scale * np.array([[0.0, 0.0], [0.0, 1.0], [0.0, -1.0]])[:, -last.units :]
    last.set_weights([kernel, np.full(last.units, bias)])
    return model


@pytest.mark.parametrize("activation", [None, "sigmoid", "softmax"])
def test_what_a_saved_model_gives_is_told_by_more_than_noise(
    pictures, tmp_path, activation
):
    """Logits that noise keeps in [0, 1] are no probabilities, and stay as they are."""
    model = of_two(activation)
    model.export(tmp_path / "exported", verbose=False)
    noise = np.random.default_rng(0).uniform(0, 255, (8, SIDE, SIDE, 3))
    values = np.asarray(model(noise))
    assert values.min() >= 0 and values.max() <= 1
    found = find(tmp_path / "exported", pictures, "two", input_range="0,255")
    assert found.gives == (activation or "logits")
    told = found.to_json()
    assert (told["gives"], told["gives_found_on"] > 100) == (found.gives, True)
    drawn = draw(np.random.default_rng(0), "green")[None] / np.float32(255)
    expected = np.asarray(model(255 * drawn), np.float64)
    if activation == "sigmoid":
        expected = np.log(expected / (1 - expected))
    if activation == "softmax":
        expected = np.log(expected) - np.log(expected).mean()
    np.testing.assert_allclose(found.model(drawn), expected, rtol=1e-3)
    # Also where nobody has pictures.
    none = np.zeros((0, SIDE, SIDE, 3), np.float32)
    ranges = [pixel_ranges.RANGES["0,255"]]
    gives, _ = wrapping.tell_output(
        tmp_path / "exported", (SIDE, SIDE, 3), None, ranges, none
    )
    assert gives == found.gives


def test_where_nothing_tells_the_user_is_asked(pictures):
    """This one knows the pictures in any range, and would score otherwise in each."""
    images = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(images, stack(body(images)))
    with pytest.raises(ValueError, match=r"which pixels .*0,1 100%, 0,255 100%"):
        find(model, pictures)
    assert find(model, pictures, input_range="0,255").pixels.name == "0,255"


def test_red_and_blue_exchanged_is_no_order_of_classes(pictures):
    """Trained on blue, green, red, as `imagenet_caffe` has it, and declared not so."""
    model = tutorial()
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel[::-1], bias])
    found = find(model, pictures)
    assert found.pixels.reverse_channels
    assert "against its layer 'rescaling" in found.found_by
    with pytest.raises(ValueError, match="Give --input_range=imagenet_caffe"):
        find(model, pictures, input_range="0,255")


def test_batch_normalisation_tells_what_training_saw(pictures):
    """Of ranges in which all pictures are known; its statistics are of [0, 1]."""
    images = keras.Input((SIDE, SIDE, 3))
    normalise = layers.BatchNormalization()
    model = keras.Model(images, stack(normalise(body(images))))
    with pytest.raises(ValueError, match="which pixels"):
        find(model, pictures)
    random = np.random.default_rng(11)
    drawn = np.stack([draw(random, name) for name in CLASSES for _ in range(20)])
    seen = (drawn / 255).reshape(-1, 3)
    _, _, mean, variance = normalise.variables
    mean.assign(seen.mean(axis=0))
    variance.assign(seen.var(axis=0))
    assert find(model, pictures).pixels == pixel_ranges.RANGES["0,1"]


def test_pixels_of_the_keras_applications():
    """As their own `preprocess_input` makes them of pixels from 0 to 255."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (2, 4, 5, 3)).astype(np.float32)
    modes = {"-1,1": "tf", "imagenet_torch": "torch", "imagenet_caffe": "caffe"}
    for name, mode in modes.items():
        expected = keras.applications.imagenet_utils.preprocess_input(
            pixels.copy(), mode=mode
        )
        found = pixel_ranges.RANGES[name]
        for made in (found.apply(pixels / 255), found.layer()(pixels / 255)):
            np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4)
    assert pixel_ranges.parse(" -0.5, 0.5").apply(np.ones(1)) == [0.5]
    for text in ("1,0", "0", "0,255,3", "bright", "nan,1"):
        with pytest.raises(ValueError, match="LOW,HIGH"):
            pixel_ranges.parse(text)


def test_a_wrong_range_that_is_declared_is_an_error(pictures):
    with pytest.raises(ValueError, match=r"--input_range says .*Give --input_range=-1"):
        find(minus_one_to_one(), pictures, input_range="0,1")


def in_another_order():
    model = tutorial()
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel[:, [2, 0, 1]], bias])
    return model


def test_another_order_of_classes_is_seen(pictures):
    with pytest.raises(ValueError, match=r"another order.*red, blue, green"):
        find(in_another_order(), pictures)


@pytest.mark.slow
def test_another_order_of_classes_can_be_given(pictures, tmp_path):
    adopted = adopt(
        in_another_order(),
        pictures,
        tmp_path / "out",
        class_names=["red", "blue", "green"],
    )
    predictor = export.load(adopted.saved_model)
    assert predictor.class_names == ("red", "blue", "green")
    drawn = [draw(np.random.default_rng(8), name) for name in predictor.class_names]
    found = predictor.predict_bytes([png(one) for one in drawn])
    assert found["probabilities"].argmax(axis=1).tolist() == [0, 1, 2]
    # The names of the run say the order too.
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert settings["class_names"] == ["red", "blue", "green"]
    assert settings["known"].endswith("[2,0,1]")


def test_a_network_that_knows_nothing_is_refused(pictures):
    images = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(images, stack(body(0.0 * images)))
    with pytest.raises(ValueError, match=r"not know these .*of all orders, .*fits"):
        find(model, pictures)


def lambda_file(folder):
    images = keras.Input((SIDE, SIDE, 3))
    seen = layers.Lambda(lambda x: x / 255)(images)
    keras.Model(images, stack(body(seen))).save(folder / "lambda.keras")
    return folder / "lambda.keras"


def unpacked_lambda(folder):
    path = lambda_file(folder)
    shutil.unpack_archive(path, folder / "snapshot", "zip")
    return folder / "snapshot"


def lambda_h5_file(folder):
    images = keras.Input((SIDE, SIDE, 3))
    seen = layers.Lambda(lambda x: x / 255)(images)
    keras.Model(images, stack(body(seen))).save(folder / "lambda.h5")
    return folder / "lambda.h5"


def backbone_folder(folder):
    config = {"module": "keras_hub.src.models", "class_name": "ResNetBackbone"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.weights.h5").write_bytes(b"")
    return folder


def two_inputs(folder):
    images = keras.Input((SIDE, SIDE, 3), name="picture")
    age = keras.Input((1,), name="age")
    joined = layers.Concatenate()([layers.Flatten()(images), age])
    return keras.Model([images, age], layers.Dense(3)(joined))


def two_heads(folder):
    images = keras.Input((SIDE, SIDE, 3))
    flat = layers.Flatten()(images)
    heads = [layers.Dense(3, name="kind")(flat), layers.Dense(2, name="side")(flat)]
    return keras.Model(images, heads)


def feature_map(folder):
    images = keras.Input((SIDE, SIDE, 3))
    return keras.Model(images, body(images))


def text_network(folder):
    tokens = keras.Input((12,))
    return keras.Model(tokens, layers.Dense(3)(tokens))


def ten_classes(folder):
    images = keras.Input((SIDE, SIDE, 3))
    return keras.Model(images, layers.Dense(10)(layers.Flatten()(images)))


def one_more_class(folder):
    images = keras.Input((SIDE, SIDE, 3))
    return keras.Model(images, layers.Dense(4)(layers.Flatten()(images)))


def unsigned_saved_model(folder):
    module = tf.Module()
    module.weight = tf.Variable(1.0)
    tf.saved_model.save(module, str(folder / "unsigned"))
    return folder / "unsigned"


def text_file(folder):
    (folder / "weights.txt").write_text("no network")
    return folder / "weights.txt"


def damaged_file(folder):
    (folder / "half.keras").write_bytes(b"PK\x03\x04 half of it")
    return folder / "half.keras"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda_file, "would run code of its own.*refused"),
        (lambda_h5_file, "would run code of its own.*refused"),
        (unpacked_lambda, "would run code of its own.*refused"),
        (backbone_folder, "backbone without a classifying head"),
        (two_inputs, r"2 inputs \(picture, age\).*--other_inputs=NAME=NUMBER"),
        (two_heads, r"2 outputs, kind \(2, 3\), side \(2, 2\).*--logits=NAME"),
        (feature_map, r"no classifier of images.*\(2, 24, 24, 3\)"),
        (text_network, r"input of shape \(batch, 12\).*height, width"),
        (ten_classes, r"tells 10 classes apart, and .* has 3 \(blue, green, red\)"),
        (one_more_class, "tells 4 classes apart.*--unknown_class"),
        (unsigned_saved_model, "has no signature to call"),
        (text_file, r"Expected \.keras or \.h5"),
        (damaged_file, "cannot be read as a Keras network"),
        (lambda folder: folder / "nowhere.keras", "there is no file or folder"),
        (lambda folder: folder, "is no network"),
    ],
)
def test_what_cannot_be_adopted_is_refused_with_the_reason(
    build, message, pictures, tmp_path
):
    model = build(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=f"(?s){message}"):
        adopt(model, pictures, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_few_pictures_for_the_promise(pictures, tmp_path):
    few = write(tmp_path / "few", CLASSES, 20, seed=4)
    with pytest.raises(ValueError, match=r"12 known validation .* 95% .* needs 19"):
        adopt(tutorial(), few.parent, tmp_path / "out", known="few")
    with pytest.raises(ValueError, match="needs 99"):
        adopt(tutorial(), pictures, tmp_path / "out", target_acceptance=0.99)


def test_nothing_is_overwritten_and_nothing_half_done_is_left(
    pictures, tmp_path, monkeypatch
):
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        adopt(tutorial(), pictures, full)
    assert (full / "thesis.txt").read_text() == "mine"

    def reject(self, contents, **options):
        count = len(contents)
        return {"accepted": np.zeros(count, bool), "valid": np.ones(count, bool)}

    # An export that decodes files otherwise than they were read for calibration.
    monkeypatch.setattr(export.Predictor, "predict_bytes", reject)
    output = tmp_path / "out"
    with pytest.raises(PromiseError, match=r"as files, .* 0\.0% are"):
        adopt(tutorial(), pictures, output)
    assert not output.exists()
    # A folder that was there is there, and still empty.
    output.mkdir()
    with pytest.raises(PromiseError):
        adopt(tutorial(), pictures, output)
    assert output.is_dir() and not any(output.iterdir())


def test_detectors_may_be_given_by_names_of_ones_own(pictures, tmp_path):
    adopted = adopt(
        tutorial(),
        pictures,
        tmp_path / "out",
        detectors={
            "near": {"name": "knn", "k": 3},
            "next": detectors.get("knn", k=1),
            "mahalanobis_normalized": candidates.NORMALIZED["mahalanobis_normalized"],
        },
    )
    said = str(adopted)
    assert "Verdict" in said and f"Model: {adopted.saved_model}" in said
    notes = [note for note in adopted.found["notes"] if "used for nothing" in note]
    assert len(notes) == 1 and re.search(r"and 36 of 60 are", notes[0])
    measured = adopted.report.metrics["detectors"]
    assert list(measured) == ["near", "next", "mahalanobis_normalized"]
    assert export.load(adopted.saved_model).class_names == CLASSES
    opened = workflows.export(run_dir=adopted.run_dir, output=tmp_path / "again")[0]
    assert export.load(opened).class_names == CLASSES


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (["energy", "nearest"], ValueError, "'nearest'; expected .*_normalized"),
        (["knn", {"name": "knn", "k": 3}], ValueError, "two detectors are called"),
        ({"../up": "knn"}, ValueError, r"letters, digits.* Received: '\.\./up'"),
        ([{"name": "knn", "length": 1}], TypeError, "unknown argument of 'knn'"),
        ([7], TypeError, "as a name, a Detector or a dict"),
    ],
)
def test_detectors_that_are_none_are_refused_at_once(given, error, message, tmp_path):
    with pytest.raises(error, match=message):
        ood_keras.adopt(None, None, output=tmp_path / "out", detectors=given)


class Blind(detectors.Detector):
    """One that fits, and gives no score."""

    name = "blind"

    def score_outputs(self, outputs):
        return np.nan * outputs["logits"][:, 0]


def test_a_detector_without_scores_is_left_out(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates.detector_room, "names", lambda: ["energy", "knn"])
    monkeypatch.setattr(candidates, "NORMALIZED", {"blind": Blind()})
    with pytest.raises(TypeError, match="only registered detectors"):
        adopt(tutorial(), pictures, tmp_path / "none", detectors=[Blind()])
    monkeypatch.setitem(registry._CLASSES, "blind", Blind)
    adopted = adopt(tutorial(), pictures, tmp_path / "out", detectors=None)
    assert "blind" not in adopted.report.metrics["detectors"]
    assert "gives NaN" in adopted.found["detectors_left_out"]["blind"]
    with pytest.raises(ood_keras.evaluation.NoScoreError, match="'blind' gives NaN"):
        adopt(tutorial(), pictures, tmp_path / "asked", detectors=["energy", Blind()])


def test_what_cannot_be_exported_is_not_begun(pictures, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"8 validation pictures of .* needs 19 of ea"):
        adopt(tutorial(), pictures, tmp_path / "out", method="conformal_per_class")
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="needs Keras on TensorFlow"):
        adopt(tutorial, pictures, tmp_path / "out")


@pytest.mark.parametrize("shape", [(64, 64), ("a", "b", "c"), (64, 64, 0), 64])
def test_shapes_that_are_none_are_refused(shape):
    with pytest.raises(ValueError, match="HEIGHT,WIDTH,CHANNELS, as in"):
        given_network.GivenNetwork.open(tutorial(), image_shape=shape)


def two_inputs_by_name():
    """How bright the picture is shown, beside it; and two outputs, in a list."""
    inputs = {
        "photo": keras.Input((SIDE, SIDE, 3), name="picture"),
        "gain": keras.Input((1,), name="gain", dtype="int32"),
    }
    gain = layers.Reshape((1, 1, 1))(ops.cast(inputs["gain"], "float32"))
    seen = layers.Multiply()([layers.Rescaling(1 / 255)(inputs["photo"]), gain])
    scores = stack(body(seen), activation=None)
    return keras.Model(inputs, [layers.Dense(2, name="side")(scores), scores])


def test_other_inputs_are_constants(pictures, tmp_path):
    options = {"logits": "scores"}
    model = two_inputs_by_name()
    with pytest.raises(ValueError, match=r"2 inputs .*--other_inputs=NAME=NUMBER"):
        adopt(model, pictures, tmp_path / "none", **options)
    adopted = adopt(
        model, pictures, tmp_path / "out", other_inputs=["gain=2"], **options
    )
    drawn = np.stack([draw(np.random.default_rng(9), name) for name in CLASSES])
    _, scores = model({"photo": drawn, "gain": np.full((3, 1), 2)})
    expected = keras.ops.softmax(scores)
    for answer in (
        adopted.predict(drawn, verbose=0),
        export.load(adopted.saved_model).predict(drawn / np.float32(255)),
    ):
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-3)
    # The run is opened again with its constants.
    report = workflows.evaluate(
        run_dir=adopted.run_dir,
        unknown=[f"folder:{pictures / 'other'}"],
        detectors=["energy"],
        renderings="none",
    )
    np.testing.assert_allclose(
        report.validation["known"]["energy"],
        adopted.report.validation["known"]["energy"],
        rtol=1e-5,
    )


def test_a_sequential_network_is_taken_as_it_was_trained(pictures):
    """One that was never saved, nor called by another."""
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *tutorial().layers[1:]])
    with pytest.raises(AttributeError):
        model.input  # noqa: B018
    assert find(model, pictures).pixels.name == "0,255"


def test_one_input_in_a_dict_is_an_image_input(pictures):
    images = keras.Input((SIDE, SIDE, 3), name="pixels")
    answer = stack(body(layers.Rescaling(1 / 255)(images)))
    found = find(keras.Model({"pixels": images}, answer), pictures)
    assert found.pixels.name == "0,255"


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"age": 1}, r"2 inputs, gain \(None, 1\), picture .* Received: age"),
        ({"gain": 1, "picture": 0}, "but the picture's"),
        (["gain"], "NAME=NUMBER .* Received: 'gain'"),
        (["gain=many"], "NAME=NUMBER"),
        (["=1"], "NAME=NUMBER"),
        (["gain=nan"], "NAME=NUMBER"),
        ({"gain": [1, 2]}, r"shape \(1,\). Received: value of shape \(2,\)"),
        ({"gain": np.inf}, "must be finite"),
        ({"gain": 0}, "does not know these pictures"),
    ],
)
def test_constants_that_do_not_fit_are_refused(constants, message, pictures):
    with pytest.raises(ValueError, match=message):
        find(two_inputs_by_name(), pictures, output="scores", constants=constants)


def test_constants_need_names_to_go_by(pictures, tmp_path):
    with pytest.raises(ValueError, match="no inputs with names"):
        find(subclassed(), pictures, output="colours", constants={"age": 1})
    with pytest.raises(ValueError, match="is a SavedModel, whose other inputs"):
        find(saved_model(tmp_path), pictures, constants={"age": 1})


class Unsaved(keras.Model):
    """Keras cannot write down what it was made from."""

    def __init__(self, colours):
        super().__init__()
        self.means = layers.GlobalAveragePooling2D()
        self.colours = colours

    def call(self, images):
        return self.colours(self.means(images / 255.0))

    def get_config(self):
        raise NotImplementedError("no config")


def test_a_network_that_cannot_be_saved_is_exported_all_the_same(pictures, tmp_path):
    last = layers.Dense(3)
    model = Unsaved(last)
    model(np.zeros((1, SIDE, SIDE, 3), np.float32))
    last.set_weights([20 * np.eye(3)[:, ::-1], np.zeros(3)])
    options = {"image_shape": (SIDE, SIDE, 3), "input_range": "0,255"}
    adopted = adopt(model, pictures, tmp_path / "out", **options)
    assert any("cannot be saved" in note for note in adopted.found["notes"])
    assert export.load(adopted.saved_model).class_names == CLASSES
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        workflows.export(run_dir=adopted.run_dir, output=tmp_path / "again")
    check_live(adopted, tmp_path)


def check_live(adopted, tmp_path):
    """It drops into code that expects a Keras model, takes bytes, and is not saved."""
    model = adopted
    assert isinstance(model, keras.Model)
    assert model.as_keras_model() is model
    drawn = np.stack([draw(np.random.default_rng(9), name) for name in CLASSES])
    floats = drawn / np.float32(255)
    by_bytes, by_floats = (model.predict(x, verbose=0) for x in (drawn, floats))
    for name, expected in by_floats.items():
        np.testing.assert_array_equal(by_bytes[name], expected)
    np.testing.assert_array_equal(
        adopted.detector.score(drawn), adopted.detector.score(floats)
    )
    # Pixels from 0 to 255 as floats are no image.
    assert not model.predict(255 * floats, verbose=0)["valid"].any()
    images = keras.Input((SIDE, SIDE, 3))
    within = keras.Model(images, model(images)["probabilities"])
    np.testing.assert_allclose(
        within.predict(floats, verbose=0), by_floats["probabilities"], atol=1e-6
    )
    with pytest.raises(NotImplementedError, match=r"export\.load"):
        model.save(tmp_path / "live.keras")


@pytest.mark.parametrize(
    ("fails", "written"),
    [
        (set(), ["float32", "float16", "int8"]),
        ({"int8"}, ["float32", "float16"]),
        ({"float32"}, ["float16", "int8"]),
        ({"float32", "int8"}, ["float16"]),
        ({"float32", "float16", "int8"}, []),
    ],
)
def test_formats_that_fail_are_no_reason_to_lose_others(
    fails, written, monkeypatch, tmp_path
):
    def convert(_, target, *, formats, **__):
        if fails & set(formats):
            raise ValueError("these cannot be")
        target.mkdir()
        (target / "parity.json").write_text('{"files": {}}')
        return target

    # Nobody asks for ONNX, so it is not written, although the detector has a form.
    asked = []
    monkeypatch.setattr(export, "onnx", lambda *_, **__: asked.append(1), raising=False)
    monkeypatch.setattr(export, "tflite", convert, raising=False)
    names = ["float32", "float16", "int8"]
    files, skipped, reports = format_room.write(
        tmp_path / "1", tmp_path, names, ["tflite", "onnx"], None, None, lambda _: None
    )
    assert not asked
    assert list(files) == written
    assert set(skipped) == set(names) - set(written)
    assert set(skipped.values()) <= {"these cannot be"}
    assert len(reports) == bool(written)


@pytest.mark.parametrize("fails", [set(), {"onnx"}, {"tflite"}, {"onnx", "tflite"}])
def test_one_runtime_is_enough_for_a_page(fails, monkeypatch, tmp_path):
    def convert(kind):
        def write(_, target, **__):
            if kind in fails:
                raise ValueError(f"no {kind}")
            target.mkdir()
            (target / "parity.json").write_text('{"files": {}}')
            return target

        return write

    made = {}
    for kind in ("onnx", "tflite"):
        monkeypatch.setattr(export, kind, convert(kind), raising=False)
    monkeypatch.setattr(
        export, "browser", lambda _, **places: made.update(places), raising=False
    )
    files, skipped, reports = format_room.write(
        tmp_path / "1",
        tmp_path,
        ["browser"],
        ["tflite", "onnx"],
        None,
        None,
        lambda _: None,
    )
    if len(fails) == 2:
        assert list(skipped) == ["browser"] and not files
        assert "; float32: no tflite; onnx: no onnx" in skipped["browser"]
        return
    assert set(made) == {"onnx", "tflite"} - fails
    assert list(files) == ["browser"] and len(reports) == 2 - len(fails)
    names = {"onnx": "onnx", "tflite": "float32"}
    assert skipped == {names[kind]: f"no {kind}" for kind in fails}


@pytest.mark.parametrize("heavy", [True, False])
def test_the_rough_time_grows_with_what_there_is_to_do(heavy):
    amount = estimate.Amount(
        fitting=1000, scoring=100, sources=2, heavy=heavy, formats=2, renderings="none"
    )
    first = estimate.seconds(amount, 0.01)
    for change in (
        {"fitting": 2000},
        {"scoring": 200},
        {"formats": 3},
        {"renderings": "short"},
    ):
        assert estimate.seconds(dataclasses.replace(amount, **change), 0.01) > first
    assert estimate.seconds(amount, 0.1) > first
    assert "minute" in estimate.describe(amount, 0.01)


def test_the_rough_time_is_what_was_measured():
    path = pathlib.Path(__file__).parents[2] / "benchmarks/results/adoption_size.json"
    result = json.loads(path.read_text())
    for size in result["sizes"]:
        amount = estimate.Amount(
            fitting=size["pictures"],
            scoring=4 * 2 * 40,
            sources=2,
            heavy=True,
            formats=0,
            renderings="none",
        )
        expected = estimate.seconds(amount, result["network_processor_seconds"])
        assert 0.5 < size["processor_seconds"] / expected < 2
