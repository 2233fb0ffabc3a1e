"""The residual network: sizes, shortcuts, and that it learns."""

import keras
import numpy as np
import pytest

from ood_keras import losses, models
from ood_keras.layers import ModifiedSEBlock, SqueezeExcitation

SMALL = {"filters": (4, 6), "hidden_size": 8, "feature_size": 6}


@pytest.mark.parametrize(
    ("side", "first"), [(16, 16), (48, 48), (49, 25), (96, 48), (130, 33)]
)
def test_large_images_are_halved_before_the_first_stage(side, first):
    model = models.residual((side, side, 3), 3, **SMALL)
    assert model.get_layer("stage_1_unit_1").output.shape[1:] == (first, first, 4)
    assert model.get_layer("stage_2_unit_1").output.shape[1] == -(-first // 2)
    assert model.output_shape == (None, 4)


@pytest.mark.parametrize(
    ("block", "kind"),
    [("modified_se", ModifiedSEBlock), ("se", SqueezeExcitation), ("none", None)],
)
def test_every_stage_ends_in_a_block(block, kind):
    model = models.residual(num_classes=3, block=block, unknown_class=False, **SMALL)
    found = [layer for layer in model.layers if layer.name.startswith("block_")]
    assert [type(layer) for layer in found] == ([kind] * 2 if kind else [])
    assert model.output_shape == (None, 3)


def test_a_unit_whose_convolutions_are_zero_is_its_shortcut():
    model = models.residual((16, 16, 3), 3, block="none", depth=2, **SMALL)
    model.get_layer("stage_1_unit_2_2_norm").gamma.assign(np.zeros(4))
    names = ("stage_1_unit_1", "stage_1_unit_2")
    both = keras.Model(model.input, [model.get_layer(name).output for name in names])
    before, after = both(np.random.default_rng(0).random((2, 16, 16, 3)))
    np.testing.assert_array_equal(before, after)


@pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="PyTorch 2.13 ends its process in the backward pass of this network",
)
def test_it_learns():
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    labels = np.arange(32) % 4 - 1
    images = 0.3 * generator.random((32, 16, 16, 3)).astype("float32")
    for row, label in enumerate(labels):
        images[row, ..., label] += 0.5 if label >= 0 else 0.0
    model = models.residual((16, 16, 3), 3, dropout=0.0, **SMALL)
    model.compile(keras.optimizers.SGD(0.1, 0.9), losses.OpenSetLoss(3))
    history = model.fit(images, labels, batch_size=16, epochs=12, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (15, 16, 3)}, "at least 16 x 16"),
        ({"filters": (8,)}, "two stages or more"),
        ({"block": "modified"}, "'modified_se'"),
        ({"depth": 0}, "`depth`"),
    ],
)
def test_what_cannot_be_built_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.residual(**arguments)
