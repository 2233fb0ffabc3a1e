"""Backbones of KerasHub, from folders that it wrote; left out where it is missing."""

import json
import sys
import zipfile

import keras
import numpy as np
import pytest

from ood_keras import models, plugins
from ood_keras.models import backbones
from ood_keras.workflows import run_record

SIZE = (32, 32)
SHAPE = (*SIZE, 3)
HEAD = {"filters": 6, "hidden_size": 8, "feature_size": 6}
IMAGES = np.random.default_rng(0).random((4, *SHAPE)).astype("float32")


@pytest.fixture(scope="module")
def hub():
    return pytest.importorskip("keras_hub", reason="keras-hub is not installed")


@pytest.fixture(scope="module")
def presets(hub, tmp_path_factory):
    """`{kind: (folder, network)}`."""
    keras.utils.set_random_seed(3)
    networks = {
        "resnet": hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[3],
            stackwise_num_filters=[64],
            stackwise_num_blocks=[1],
            stackwise_num_strides=[1],
            block_type="basic_block",
            image_shape=(None, None, 3),
        ),
        "vit": hub.models.ViTBackbone(
            image_shape=(*SIZE, 3),
            patch_size=8,
            num_layers=1,
            num_heads=2,
            hidden_dim=6,
            mlp_dim=8,
        ),
    }
    converters = {
        "resnet": hub.layers.ResNetImageConverter(
            image_size=(9, 9), scale=[1 / 64, 1 / 128, 1 / 255], offset=[-1, 0, 0.5]
        ),
        "vit": hub.layers.ViTImageConverter(image_size=(32, 32), scale=1 / 127),
    }
    made = {}
    for kind, network in networks.items():
        folder = tmp_path_factory.mktemp("presets") / kind
        network.save_to_preset(str(folder))
        converters[kind].save_to_preset(str(folder))
        made[kind] = folder, network
    return made


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_the_map_is_that_of_the_preset(presets, kind, tmp_path):
    folder, network = presets[kind]
    name = f"keras_hub:{folder}"
    model = models.transfer(name, SHAPE, 3, **HEAD)
    assert model.get_layer("backbone").trainable is False
    pixels = 255 * IMAGES
    if kind == "resnet":
        scale, offset = np.array([1 / 64, 1 / 128, 1 / 255]), [-1, 0, 0.5]
        expected = network(pixels * scale + offset)
    else:
        # The first token is that of the class.
        tokens = np.asarray(network(pixels / 127))
        expected = tokens[:, 1:].reshape(4, 4, 4, 6)
    maps, head = models.cut(model, "map")
    np.testing.assert_allclose(maps(IMAGES), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(head(maps(IMAGES)), model(IMAGES))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(IMAGES), model(IMAGES))


def test_weights_of_the_preset_of_a_file_and_random_ones(presets, tmp_path):
    folder, network = presets["resnet"]
    name = f"keras_hub:{folder}"
    other = backbones.build(name, SIZE, None)
    assert other.trainable and other.name == "backbone"
    assert any(
        np.any(one != two)
        for one, two in zip(other.get_weights(), network.get_weights(), strict=True)
    )
    other.save_weights(tmp_path / "other.weights.h5")
    other.save(tmp_path / "other.keras")
    model = models.transfer(name, SHAPE, 3, **HEAD)
    model.get_layer("backbone").set_weights(other.get_weights())
    model.save(tmp_path / "run.keras")
    for path in sorted(tmp_path.iterdir()):
        loaded = backbones.build(name, SIZE, path)
        for one, two in zip(loaded.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two, err_msg=path.name)


def test_training_in_16_bits_leaves_a_float32_model(presets):
    folder, _ = presets["resnet"]
    with models.mixed_precision("bfloat16"):
        model = models.transfer(f"keras_hub:{folder}", SHAPE, 3, **HEAD)
    backbone = model.get_layer("backbone")
    assert all(layer.compute_dtype == "bfloat16" for layer in backbone.layers[1:])
    assert model.get_layer("map").output.dtype == "float32"
    whole = models.in_float32(model)
    assert all(
        layer.compute_dtype == "float32" for layer in whole.get_layer("backbone").layers
    )
    np.testing.assert_allclose(whole(IMAGES), model(IMAGES), rtol=0.1, atol=0.1)


def test_a_preset_that_says_nothing_of_pixels_gets_them_as_they_are(presets, tmp_path):
    _, network = presets["resnet"]
    network.save_to_preset(str(tmp_path / "bare"))
    with pytest.warns(UserWarning, match=r"no image converter.*in \[0, 1\]"):
        model = models.transfer(f"keras_hub:{tmp_path}/bare", SHAPE, 3, **HEAD)
    maps, _ = models.cut(model, "map")
    np.testing.assert_allclose(maps(IMAGES), network(IMAGES), rtol=1e-4, atol=1e-5)


def test_names_and_sizes_that_do_not_fit(hub, presets, tmp_path):
    for preset, kind, message in (
        ("resnet_50_imagenot", ValueError, "Did you mean .*resnet_50_imagenet"),
        (f"{tmp_path}/nothing", FileNotFoundError, "no folder .*nothing"),
        (tmp_path, ValueError, "cannot be built for images of 32 x 32"),
    ):
        with pytest.raises(kind, match=message):
            backbones.build(f"keras_hub:{preset}", SIZE, None)
    with pytest.raises(ValueError, match="cannot be built for images of 48 x 48"):
        backbones.build(f"keras_hub:{presets['vit'][0]}", (48, 48))
    hub.models.BertBackbone(
        vocabulary_size=4,
        num_layers=1,
        num_heads=1,
        hidden_dim=2,
        intermediate_dim=2,
        max_sequence_length=4,
    ).save_to_preset(str(tmp_path / "words"))
    with pytest.raises(ValueError, match="words"):
        backbones.build(f"keras_hub:{tmp_path}/words", SIZE)


def test_a_download_that_fails_says_how_to_do_without(hub, monkeypatch):
    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(hub.models.Backbone, "from_preset", fail)
    with pytest.raises(ConnectionError, match=r"no route.*save_to_preset\(FOLDER\)"):
        backbones.build("keras_hub:hf://somebody/network", SIZE)


def test_without_keras_hub_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ValueError, match=r"KerasHub cannot be.*pip install keras-hub"):
        models.transfer("keras_hub:resnet_50_imagenet", SHAPE, 3)


@keras.saving.register_keras_serializable(package="hub_test")
class Wrapper(keras.layers.Layer):
    """A class whose config holds one of KerasHub."""


def write_model(path, module, name, registered):
    """Writes a `.keras` file whose only layer is said to be of another class."""
    keras.Sequential([keras.Input((2,)), Wrapper(name="it")]).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Wrapper":
            layer |= {
                "module": module,
                "class_name": name,
                "registered_name": registered,
            }
            layer["config"]["inner"] = {"module": "keras_hub.src.models", "config": {}}
    members["config.json"] = json.dumps(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_run_with_one_says_how_to_install_keras_hub_too(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "keras_hub"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    path = tmp_path / "model.keras"
    write_model(path, "keras_hub.src.models.a", "ResNetBackbone", "keras_hub>A")
    with pytest.raises(ValueError, match=r"a ResNetBackbone of KerasHub.*keras-hub"):
        run_record.load_model(tmp_path)
    # A class of somebody's own is none of KerasHub's, whatever it holds.
    write_model(path, "mine", "MyNet", "mine>MyNet")
    with pytest.raises(plugins.UnknownNameError, match=r"holds the class 'MyNet'"):
        run_record.load_model(tmp_path)
