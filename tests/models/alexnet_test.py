"""The networks: shapes, names, errors, and that they learn."""

import keras
import numpy as np
import pytest

from ood_keras import losses, models
from ood_keras.layers import ModifiedSEBlock, SqueezeExcitation

_SMALL = {"filters": (4, 4), "hidden_size": 16, "feature_size": 12}
_BUILDERS = [models.se_alexnet, models.alexnet]


@pytest.mark.parametrize("build", _BUILDERS)
@pytest.mark.parametrize(
    "shape", [(28, 28, 1), (32, 32, 3), (28, 41, 1), (64, 64, 3), (105, 105, 1)]
)
def test_any_size_from_28_pixels_up(build, shape):
    model = build(shape, num_classes=5, **_SMALL)
    logits = model(np.random.default_rng(0).random((2, *shape), dtype="float32"))
    assert logits.shape == (2, 6)
    assert np.isfinite(logits).all()
    # The dense layers are those of 28 x 28 pixels.
    assert model.get_layer("flatten").input.shape[1:3] == (4, 4)


@pytest.mark.parametrize("build", _BUILDERS)
def test_names_and_outputs(build):
    model = build(num_classes=7, unknown_class=False, **_SMALL)
    assert model.input.name == "image"
    assert model.output_shape == (None, 7)
    assert model.layers[-1].name == "logits"
    assert model.get_layer("features").output.shape == (None, 12)
    assert model.get_layer("logits").input is model.get_layer("features").output


@pytest.mark.parametrize(
    ("build", "arguments", "block"),
    [
        (models.se_alexnet, {}, ModifiedSEBlock),
        (models.alexnet, {}, None),
        (models.alexnet, {"squeeze_excitation": True}, SqueezeExcitation),
    ],
)
def test_a_block_follows_every_convolution(build, arguments, block):
    model = build(filters=(4, 6, 8), **arguments)
    blocks = [layer for layer in model.layers if layer.name.startswith("block_")]
    assert len(blocks) == (3 if block else 0)
    assert all(type(layer) is block for layer in blocks)


def test_the_block_is_the_only_difference():
    def layers_of(model):
        kept = [layer for layer in model.layers if not layer.name.startswith("block_")]
        return [(layer.name, type(layer)) for layer in kept]

    assert layers_of(models.se_alexnet()) == layers_of(models.alexnet())


def test_fewer_features_than_classes_are_linear():
    keras.utils.set_random_seed(0)

    def smallest_feature(feature_size):
        model = models.alexnet(
            num_classes=10, **{**_SMALL, "feature_size": feature_size}
        )
        # What comes in has passed a ReLU, so that every sum is negative.
        kernel = model.get_layer("features").kernel
        kernel.assign(-np.ones(kernel.shape, "float32"))
        images = np.random.default_rng(0).random((64, 28, 28, 1), dtype="float32")
        features = models.with_features(model)(images)["features"]
        return keras.ops.convert_to_numpy(features).min()

    assert smallest_feature(2) < 0
    assert smallest_feature(10) == 0


@pytest.mark.parametrize("feature_size", [2, 64])
def test_learns_four_patterns_and_rejects_noise(feature_size):
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    patterns = np.kron(rng.random((4, 4, 4, 1)), np.ones((7, 7, 1)))
    labels = np.tile([0, 1, 2, 3, -1], 64)
    images = patterns[labels] + 0.1 * rng.normal(size=(320, 28, 28, 1))
    images[labels == -1] = rng.random((64, 28, 28, 1))
    model = models.se_alexnet(
        num_classes=4, filters=(8, 8), hidden_size=32, feature_size=feature_size
    )
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        loss=losses.OpenSetLoss(4),
        jit_compile=False,
    )
    model.fit(images, labels, batch_size=32, epochs=8, verbose=0)
    chosen = model.predict(images, verbose=0).argmax(axis=1)
    assert np.mean(chosen == np.where(labels == -1, 4, labels)) > 0.95


def test_the_same_seed_gives_the_same_network():
    def weights():
        keras.utils.set_random_seed(3)
        return models.se_alexnet(**_SMALL).get_weights()

    for first, second in zip(weights(), weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_saves_and_loads(tmp_path):
    model = models.se_alexnet(**_SMALL)
    images = np.random.default_rng(0).random((4, 28, 28, 1), dtype="float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (27, 28, 1)}, "at least 28 x 28 pixels; resize or pad"),
        ({"input_shape": (None, 28, 1)}, r"must be \(height, width, channels\)"),
        ({"input_shape": (28, 28)}, r"must be \(height, width, channels\)"),
        ({"input_shape": (28, 28, 0)}, r"must be \(height, width, channels\)"),
        ({"input_shape": 28}, r"must be \(height, width, channels\).*=28"),
        ({"num_classes": 1, "unknown_class": False}, "at least 2, since one class"),
        ({"filters": (32,)}, "two stages or more"),
        ({"filters": (32, 0)}, "two stages or more"),
        ({"filters": 32}, "two stages or more.*filters=32"),
        ({"dropout": 1.0}, r"`dropout` must be a number in \[0, 1\)"),
        ({"dropout": None}, r"`dropout` must be a number in \[0, 1\)"),
        ({"hidden_size": 0}, "`hidden_size` must be an integer >= 1"),
        ({"feature_size": 1.5}, "`feature_size` must be an integer >= 1"),
    ],
)
@pytest.mark.parametrize("build", _BUILDERS)
def test_arguments_out_of_range_are_errors(build, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


def test_wrong_branch_filters_go_by_their_name():
    with pytest.raises(ValueError, match="`branch_filters` must be an integer >= 1"):
        models.se_alexnet(branch_filters=0)
