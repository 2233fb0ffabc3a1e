"""Networks on a backbone: its pixels, its weights, and where the model is cut."""

import keras
import numpy as np
import pytest
import small_backbone
from small_backbone import SHAPE, make_trained

from ood_keras import losses, models
from ood_keras.models import backbones

NAME = "TinyNet:alpha=0.5"
HEAD = {"filters": 6, "hidden_size": 8, "feature_size": 6}
RNG = np.random.default_rng(0)
IMAGES = RNG.random((4, *SHAPE)).astype("float32")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        small_backbone.install(patch)
        yield


@pytest.fixture(scope="module")
def bare():
    return make_trained(alpha=0.5)


@pytest.fixture(scope="module")
def weights(bare, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "bare.weights.h5"
    bare.save_weights(path)
    return path


@pytest.fixture(scope="module")
def model(weights):
    keras.utils.set_random_seed(2)
    return models.transfer(NAME, SHAPE, 3, weights=weights, **HEAD)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("VGG16", "vgg16"),  # BGR, less the mean.
        ("DenseNet121", "densenet"),  # Mean and standard deviation.
        ("MobileNetV2", "mobilenet_v2"),  # -1 to 1.
        ("EfficientNetB0", "efficientnet"),  # 0 to 255; it scales by itself.
    ],
)
def test_images_are_preprocessed_as_the_network_s_own_function_does(name, module):
    inputs = keras.Input(SHAPE)
    ours = keras.Model(inputs, backbones.preprocess(inputs, name))
    theirs = getattr(keras.applications, module).preprocess_input(255 * IMAGES)
    np.testing.assert_allclose(ours(IMAGES), theirs, rtol=1e-5, atol=1e-4)
    again = keras.Model.from_config(ours.get_config())
    np.testing.assert_array_equal(again(IMAGES), ours(IMAGES))


def test_the_preprocessing_of_every_network_is_known():
    assert {"MobileNetV3Small", "ResNet50", "ConvNeXtTiny"} <= set(backbones.names())
    for name in backbones.names():
        backbones.preprocess(keras.Input(SHAPE), name)


def test_grey_images_become_rgb():
    inputs = keras.Input((32, 32, 1))
    grey = keras.Model(inputs, backbones.preprocess(inputs, "VGG16"))
    inputs = keras.Input(SHAPE)
    rgb = keras.Model(inputs, backbones.preprocess(inputs, "VGG16"))
    images = IMAGES[..., :1]
    np.testing.assert_array_equal(grey(images), rgb(np.repeat(images, 3, axis=-1)))
    with pytest.raises(ValueError, match=r"1 or 3 channels.*with 2 channels"):
        backbones.preprocess(keras.Input((32, 32, 2)), "VGG16")


def test_the_map_is_what_the_backbone_makes_of_the_images(bare, model):
    own = small_backbone.preprocess_input(255 * IMAGES)
    maps, head = models.cut(model, "map")
    np.testing.assert_allclose(maps(IMAGES), bare(own), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(head(maps(IMAGES)), model(IMAGES))
    pooled, top = models.cut(models.with_features(model), "pool")
    assert pooled.output_shape == (None, 1, 1, 8)
    for name, output in top(pooled(IMAGES)).items():
        np.testing.assert_array_equal(output, models.with_features(model)(IMAGES)[name])
    # The same in every process and call, so that a run can be resumed.
    configs = [models.cut(model, "map")[1].get_config()["layers"] for _ in range(2)]
    assert configs[0] == configs[1]


def test_only_a_chain_can_be_cut(model):
    with pytest.raises(ValueError, match="must follow one another"):
        models.cut(models.residual((16, 16, 3), 3, filters=(2, 2), **_head()), "stem")


def _head():
    return {name: size for name, size in HEAD.items() if name != "filters"}


@pytest.mark.parametrize(
    ("block", "names"),
    [("modified_se", {"projection", "block"}), ("se", {"projection"}), ("none", set())],
)
def test_the_block_is_on_the_last_map(block, names):
    model = models.transfer(
        NAME, SHAPE, 3, weights=None, block=block, unknown_class=False, **HEAD
    )
    assert names <= {layer.name for layer in model.layers}
    assert ("projection" in {layer.name for layer in model.layers}) == bool(names)
    assert model.output_shape == (None, 3)
    assert model.get_layer("backbone").trainable


def test_a_pretrained_backbone_is_frozen_until_it_is_said_to_train(bare, model):
    labels = np.array([0, 1, 2, -1])
    model.compile(keras.optimizers.SGD(0.1), losses.OpenSetLoss(3), jit_compile=False)
    logits = model.get_layer("logits").get_weights()
    model.train_on_batch(IMAGES, labels)
    backbone = model.get_layer("backbone")
    for weight, expected in zip(
        backbone.get_weights(), bare.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(weight, expected)
    assert np.any(model.get_layer("logits").get_weights()[0] != logits[0])
    models.unfreeze(model)
    model.compile(keras.optimizers.SGD(0.1), losses.OpenSetLoss(3), jit_compile=False)
    model.train_on_batch(IMAGES, labels)
    for weight, before in zip(backbone.weights, bare.weights, strict=True):
        both = [keras.ops.convert_to_numpy(each) for each in (weight, before)]
        changed = np.any(both[0] != both[1])
        # Batch normalisation stays that of the other pictures.
        assert changed != ("norm/" in weight.path), weight.path
    backbone.trainable = False
    backbone.set_weights(bare.get_weights())


def test_weights_are_found_in_every_kind_of_file(bare, model, tmp_path):
    images = small_backbone.preprocess_input(255 * IMAGES)
    bare.save(tmp_path / "bare.keras")
    bare.save_weights(tmp_path / "bare.weights.h5")
    # As keras.applications publishes them.
    bare.save(tmp_path / "bare.h5")
    model.save(tmp_path / "run.keras")
    complete = make_trained(alpha=0.5, include_top=True)
    for weight, trained in zip(complete.weights, bare.weights, strict=False):
        weight.assign(trained)
    complete.save(tmp_path / "complete.keras")
    for path in sorted(tmp_path.iterdir()):
        loaded = backbones.build(NAME, (32, 32), path)
        np.testing.assert_allclose(loaded(images), bare(images), err_msg=path.name)


def test_weights_that_do_not_fit_are_refused(bare, tmp_path):
    other = make_trained(alpha=1.0)
    other.save(tmp_path / "other.keras")
    other.save_weights(tmp_path / "other.weights.h5")
    (tmp_path / "none.weights.h5").write_bytes(b"no weights")
    for name in ("other.keras", "other.weights.h5", "none.weights.h5"):
        with pytest.raises(ValueError, match=rf"{name} does not hold the weights of"):
            backbones.build(NAME, (32, 32), tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"missing\.keras"):
        backbones.build(NAME, (32, 32), tmp_path / "missing.keras")
    with pytest.raises(ValueError, match=r"ends in \.weights\.h5.*net\.pth"):
        backbones.build(NAME, (32, 32), tmp_path / "net.pth")
    bare = make_trained(alpha=0.5)
    bare.weights[1].assign(bare.weights[1] * np.nan)
    bare.save_weights(tmp_path / "nan.weights.h5")
    with pytest.raises(ValueError, match="not finite"):
        backbones.build(NAME, (32, 32), tmp_path / "nan.weights.h5")


def test_code_in_a_file_of_weights_is_not_run(tmp_path):
    inputs = keras.Input(SHAPE)
    outputs = keras.layers.Lambda(lambda x: x)(make_trained(alpha=0.5)(inputs))
    keras.Model(inputs, outputs).save(tmp_path / "lambda.keras")
    with pytest.raises(ValueError, match=r"lambda\.keras.*[Ll]ambda"):
        backbones.build(NAME, (32, 32), tmp_path / "lambda.keras")


def test_without_a_network_the_message_says_what_to_do(monkeypatch):
    def fetch(include_top, weights, input_shape, name):
        raise Exception("URL fetch failure on https://example.org/vgg16.h5: None")

    monkeypatch.setattr(keras.applications, "VGG16", fetch)
    with pytest.raises(ConnectionError, match=r"vgg16\.h5.*--backbone_weights=FILE"):
        backbones.build("VGG16", (32, 32))


def test_batch_normalisation_inside_of_other_layers_stays_frozen():
    inputs = keras.Input(SHAPE)
    block = keras.Sequential(
        [keras.layers.Conv2D(2, 3, 2), keras.layers.BatchNormalization()]
    )
    network = keras.Model(inputs, block(inputs), name="backbone")
    network.trainable = False
    images = keras.Input(SHAPE)
    model = keras.Model(images, network(images))
    models.unfreeze(model)
    convolution, norm = block.layers
    assert convolution.trainable_weights and not norm.trainable_weights


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MobileNet9", "the networks of keras.applications are: ConvNeXt"),
        ("MobileNet:size=2", "MobileNet takes alpha, depth_multiplier, dropout after"),
        ("MobileNet:alpha=os.getcwd()", "no number, true or false"),
        ("MobileNet:weights=none", "MobileNet takes"),
    ],
)
def test_names_that_are_none(name, message):
    with pytest.raises(ValueError, match=message):
        backbones.build(name, (32, 32), None)


def test_images_that_are_too_small_for_a_network():
    with pytest.raises(ValueError, match=r"Xception cannot be built.*20 x 20.*71"):
        models.transfer("Xception", (20, 20, 3), 3, weights=None)
