"""Recipes resolve, refuse what they do not know, and build what they say."""

import dataclasses

import numpy as np
import pytest

from ood_keras.pipelines import recipes


def test_paper_recipe_is_section_3_6():
    recipe = recipes.get("paper")
    assert (recipe.learning_rate, recipe.momentum) == (0.01, 0.0)
    assert (recipe.batch_size, recipe.epochs) == (128, 150)
    assert recipe.unknown_images == 6000
    optimizer = recipe.build_optimizer(steps_per_epoch=10)
    assert not optimizer.nesterov
    assert float(optimizer.learning_rate) == pytest.approx(0.01)


def test_overrides_replace_fields_only():
    recipe = recipes.get("fast", epochs=2)
    assert recipe.epochs == 2
    assert dataclasses.replace(recipe, epochs=recipes.get("fast").epochs) == (
        recipes.get("fast")
    )


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("fats", {}, "fast"),
        ("fast", {"epoch": 1}, "epochs"),
        ("fast", {"epochs": 0}, "epochs=0"),
        ("fast", {"schedule": "linear"}, "'cosine'"),
        ("fast", {"block": "none_"}, "'modified_se'"),
    ],
)
def test_wrong_recipes_name_what_is_right(name, overrides, message):
    with pytest.raises(ValueError, match=message):
        recipes.get(name, **overrides)


def test_cosine_schedule_warms_up_and_ends_at_zero():
    recipe = recipes.get("fast", epochs=4, learning_rate=0.1)
    schedule = recipe.build_optimizer(steps_per_epoch=20)._learning_rate
    rates = np.array([float(schedule(step)) for step in range(81)])
    assert rates[0] == 0
    assert np.argmax(rates) == 10
    assert rates.max() == pytest.approx(0.1)
    assert rates[80] == pytest.approx(0, abs=1e-7)
    assert np.all(np.diff(rates[10:]) <= 0)


@pytest.mark.parametrize(
    ("block", "layer"),
    [("modified_se", "ModifiedSEBlock"), ("se", "SqueezeExcitation"), ("none", None)],
)
def test_block_decides_the_network(block, layer):
    recipe = recipes.get("fast", block=block, feature_size=2)
    model = recipe.build_model((28, 28, 1), num_classes=3)
    assert model.output_shape == (None, 4)
    assert model.get_layer("features").output.shape == (None, 2)
    blocks = {
        type(each).__name__ for each in model.layers if each.name.startswith("block")
    }
    assert blocks == ({layer} if layer else set())


def test_loss_takes_the_recipe_s_numbers():
    loss = recipes.get("fast", beta=0.3, gamma=0.5).build_loss(num_classes=3)
    config = loss.get_config()
    assert (config["beta"], config["gamma"], config["num_classes"]) == (0.3, 0.5, 3)
