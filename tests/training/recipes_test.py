"""Recipes resolve, refuse what they do not know, and build what they say."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from ood_keras.training import objectives, recipes


def test_paper_recipe_is_section_3_6():
    recipe = recipes.get("paper")
    assert (recipe.learning_rate, recipe.momentum) == (0.01, 0.0)
    assert (recipe.batch_size, recipe.epochs) == (128, 150)
    assert recipe.unknown_images == 6000
    optimizer = recipe.objective.build_optimizer(steps_per_epoch=10)
    assert not optimizer.nesterov
    assert float(optimizer.learning_rate) == pytest.approx(0.01)


def test_overrides_replace_fields_only():
    recipe = recipes.get("fast", epochs=2)
    assert recipe.epochs == 2
    assert dataclasses.replace(recipe, epochs=recipes.get("fast").epochs) == (
        recipes.get("fast")
    )


@pytest.mark.parametrize("name", recipes.names())
def test_a_recorded_recipe_is_the_same_again(name):
    recipe = recipes.get(name, unknown_images=20.0)
    recorded = json.dumps(recipe.to_json())
    rendered = name.startswith(("robust", "photos"))
    assert ("validation_augment" in recorded) == rendered
    # Runs of earlier versions, which had no such field, can be resumed.
    assert ("backbone" in recorded) == (name == "photos")
    assert '"unknown_images": 20,' in recorded
    assert recipes.Recipe(**json.loads(recorded)) == recipe


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
    schedule = recipe.objective.build_optimizer(steps_per_epoch=20)._learning_rate
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
    model = recipe.objective.build_model((28, 28, 1), num_classes=3)
    assert model.output_shape == (None, 4)
    assert model.get_layer("features").output.shape == (None, 2)
    blocks = {
        type(each).__name__ for each in model.layers if each.name.startswith("block")
    }
    assert blocks == ({layer} if layer else set())


def test_recipes_for_photographs_build_their_networks():
    model = recipes.get("photos_scratch", filters=[4, 6], hidden_size=8).objective
    network = model.build_model((32, 32, 3), num_classes=3)
    assert network.name == "residual" and network.output_shape == (None, 4)
    recipe = recipes.get(
        "photos", backbone="MobileNet:alpha=0.25", backbone_weights=None, filters=[4, 6]
    )
    assert not recipe.is_pretrained and recipes.get("photos").is_pretrained
    network = recipe.objective.build_model((32, 32, 3), num_classes=3)
    assert network.get_layer("projected").output.shape == (None, 1, 1, 6)
    assert network.get_layer("backbone").trainable


def test_loss_takes_the_recipe_s_numbers():
    loss = recipes.get("fast", beta=0.3, gamma=0.5).objective.build_loss(num_classes=3)
    config = loss.get_config()
    assert (config["beta"], config["gamma"], config["num_classes"]) == (0.3, 0.5, 3)


# Every loss, and what else changes the network or the loss.
VARIANTS = {
    **{
        loss: {"loss": loss}
        for loss in objectives.names()
        if loss not in ("likelihood_ratio", "elsewhere")
    },
    "entropic_open_set": {
        "loss": "entropic_open_set",
        "objectosphere_on": "features",
        "objectosphere_weight": 1e-4,
    },
    "entropic_open_set_alone": {
        "loss": "entropic_open_set",
        "objectosphere_weight": 0,
    },
    "open_set_on_features": {
        "objectosphere_on": "features",
        "objectosphere_weight": 1e-4,
    },
    "unknown_weight": {"unknown_weight": 1.0},
    "all_around_the_loss": {
        "logit_temperature": 0.1,
        "feature_temperature": 0.2,
        "label_smoothing": 0.1,
    },
    "around_cross_entropy": {"loss": "cross_entropy", "label_smoothing": 0.1},
    "outlier_exposure_weight": {"loss": "outlier_exposure", "unknown_weight": 5.0},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_loss_trains_a_step(variant):
    recipe = recipes.get(
        "demo", filters=[4, 4], hidden_size=8, feature_size=4, **VARIANTS[variant]
    )
    assert recipe.filters == (4, 4)
    objective = recipe.objective
    model = objective.build_model((28, 28, 1), num_classes=3)
    objective.compile(model, num_classes=3, steps_per_epoch=10)
    labels = np.array([0, 1, 2, -1 if objective.shows_unknown else 0])
    images = np.random.default_rng(0).random((4, 28, 28, 1), "float32")
    targets = labels
    if len(objective.outputs) > 1:
        targets = dict.fromkeys(objective.outputs, labels)
    before = [weight.numpy() for weight in model.trainable_weights]
    model.train_on_batch(images, targets)
    loss = model.train_on_batch(images, targets)
    assert np.all(np.isfinite(loss))
    moved = [
        np.any(old != new.numpy())
        for old, new in zip(before, model.trainable_weights, strict=True)
    ]
    assert np.mean(moved) > 0.8
    outputs = model(images)
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs
    assert logits.shape == (4, 3 + objective.unknown_class)
    assert (objective.score == "unknown_probability") == objective.unknown_class


def test_a_prior_network_is_selected_by_its_precision():
    assert recipes.get("fast", loss="prior_network").objective.score == "energy"
    assert recipes.get("fast", loss="cross_entropy").objective.score == "msp"


def test_likelihood_ratio_has_no_classifier():
    recipe = recipes.get(
        "fast", loss="likelihood_ratio", learning_rate=0.002, schedule="constant"
    )
    objective = recipe.objective
    assert not objective.shows_unknown and not objective.unknown_class
    assert objective.score is None and objective.build_loss(num_classes=3) is None
    optimizer = objective.build_optimizer(steps_per_epoch=10)
    assert isinstance(optimizer, keras.optimizers.Adam)
    config = optimizer.get_config()
    assert config["learning_rate"] == pytest.approx(0.002)
    assert (config["beta_1"], config["weight_decay"]) == (0.9, 0.003)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "openset"}, "'open_set'"),
        ({"objectosphere_on": "logits"}, "'features'"),
        ({"loss": "entropic_open_set"}, "objectosphere_on='features'"),
        ({"loss": "extra_class", "unknown_weight": 1.0}, "leave it None"),
        *(
            ({field: value}, f"`{field}` must be an integer >= 1.*{field}={value!r}")
            for field, value in [
                ("synthetic_images", 0),
                ("unknown_images", 0),
                ("unknown_images", -5),
                ("unknown_images", 20.5),
                ("unknown_per_epoch", 0),
                ("epochs", "two"),
                ("batch_size", None),
                ("hidden_size", 0),
                ("feature_size", 2.5),
            ]
        ),
        *(
            ({field: value}, rf"`{field}` must be a number in [\[(].*{field}={value!r}")
            for field, value in [
                ("learning_rate", "nan"),
                ("learning_rate", float("inf")),
                ("learning_rate", 0),
                ("momentum", 1),
                ("weight_decay", -0.1),
                ("dropout", "half"),
                ("beta", 1.1),
                ("gamma", 0),
                ("objectosphere_weight", "two"),
                ("unknown_weight", -1),
                ("confidence_weight", None),
            ]
        ),
        ({"mixup": 0}, "`mixup`"),
        ({"label_smoothing": 1}, "`label_smoothing`"),
        ({"backbone": "MobileNet", "mixup": 10}, "a frozen backbone is shown none"),
        ({"loss": "confident_classifier", "logit_temperature": 0.1}, "of its own"),
        ({"network": "resnet"}, "'residual'"),
        ({"fine_tune_epochs": 2}, "needs a backbone with pretrained weights"),
        (
            {"backbone": "MobileNet", "fine_tune_epochs": 11},
            r"0 to the 10 `epochs`.*=11",
        ),
        (
            {"backbone": "MobileNet", "backbone_weights": None, "fine_tune_epochs": 1},
            "backbone_weights=None",
        ),
        ({"backbone": "MobileNet", "feature_renderings": 0}, "`feature_renderings`"),
        ({"backbone": "MobileNet", "loss": "confident_classifier"}, "no backbone"),
        ({"filters": "8,8"}, r"filters=\[8,8\].*filters='8,8'"),
        ({"filters": 8}, r"filters=\[8,8\].*filters=8"),
    ],
)
def test_recipes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        recipes.get("fast", **changes)


def test_an_objective_from_outside_trains_by_its_name(monkeypatch):
    monkeypatch.setattr(objectives, "_OBJECTIVES", dict(objectives._OBJECTIVES))

    @objectives.register
    class Hinge(objectives.Objective):
        name = "hinge"
        description = "for this test"
        shows_unknown = False

        def build_loss(self, num_classes):
            return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    recipe = recipes.get("demo", loss="hinge")
    assert isinstance(recipe.objective, Hinge)
    assert not recipe.objective.shows_unknown
    objectives.register(Hinge)  # Again, as where a module is reloaded.
    other = type("Other", (Hinge,), {})
    with pytest.raises(ValueError, match=r"'hinge' is .*Hinge already"):
        objectives.register(other)
    with pytest.raises(TypeError, match="a `name` and a `description`"):
        objectives.register(type("Nameless", (objectives.Objective,), {}))
    with pytest.raises(TypeError, match=r"subclass of training\.objectives\.Objective"):
        objectives.register(Hinge(recipe))
