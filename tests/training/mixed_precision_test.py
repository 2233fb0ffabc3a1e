"""Networks that train in 16 bits: what stays float32, and what is made of them."""

import json

import keras
import numpy as np
import pytest
import small_backbone

from ood_keras import export, models, training, workflows
from ood_keras.evaluation import under_renderings
from ood_keras.pipelines.sources import base
from ood_keras.training import recipes
from ood_keras.workflows import run_record

SMALL = {"filters": (4, 4), "hidden_size": 8, "feature_size": 4, "epochs": 1}
SHAPE = (28, 28, 1)


def make(kind, **fields):
    recipe = recipes.get("demo", **{**SMALL, "mixed_precision": kind, **fields})
    keras.utils.set_random_seed(0)
    model = recipe.objective.build_model(SHAPE, 3)
    recipe.objective.compile(model, 3, steps_per_epoch=2)
    return model


def pictures(count=24):
    generator = np.random.default_rng(0)
    images = generator.random((count, *SHAPE), np.float32)
    return images, (np.arange(count) % 4 - 1).astype(np.int32)


@pytest.fixture(scope="module")
def mixed():
    return make("bfloat16")


def test_layers_compute_in_16_bits_and_losses_see_float32(mixed):
    assert mixed.get_layer("conv_2").compute_dtype == "bfloat16"
    assert {weight.dtype for weight in mixed.trainable_weights} == {"float32"}
    assert mixed.output.dtype == mixed.loss.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"
    images, labels = pictures()
    assert np.isfinite(mixed.train_on_batch(images, labels))


def test_a_loss_on_features_sees_float32_too():
    fields = {"objectosphere_on": "features", "objectosphere_weight": 1e-4}
    model = make("bfloat16", **fields)
    assert model.output["features"].dtype == "bfloat16"
    assert {loss.dtype for loss in model.loss.values()} == {"float32"}


def test_what_is_made_of_it_computes_in_float32(mixed):
    plain = models.in_float32(mixed)
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    for one, other in zip(plain.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    images, _ = pictures()
    as_float32, as_trained = plain.predict(images), mixed.predict(images)
    # bfloat16 has 8 bits.
    np.testing.assert_allclose(as_float32, as_trained, rtol=0.05, atol=0.05)
    assert not np.array_equal(as_float32, as_trained)
    assert models.in_float32(plain) is plain


def test_a_frozen_backbone_keeps_its_weights_in_float32(tmp_path, monkeypatch):
    small_backbone.install(monkeypatch)
    bare = small_backbone.make_trained(alpha=0.5)
    bare.save_weights(tmp_path / "bare.weights.h5")
    with models.mixed_precision("bfloat16"):
        model = models.transfer(
            "TinyNet:alpha=0.5",
            small_backbone.SHAPE,
            3,
            weights=tmp_path / "bare.weights.h5",
            filters=4,
            hidden_size=8,
            feature_size=4,
        )
    # As a run leaves it.
    model.save(tmp_path / "model.keras")
    plain = models.in_float32(keras.models.load_model(tmp_path / "model.keras"))
    assert plain.get_layer("backbone").get_layer("conv").compute_dtype == "float32"
    images = np.random.default_rng(0).random((4, *small_backbone.SHAPE), np.float32)
    np.testing.assert_allclose(
        plain.predict(images), model.predict(images), rtol=0.1, atol=0.1
    )
    assert models.cut(model, "map")[0].output.dtype == "float32"


def test_float16_scales_its_loss_and_a_run_of_it_is_read_again(tmp_path):
    images, labels = pictures()
    known = labels >= 0

    def fit():
        model = make("float16")
        training.fit(
            model,
            (images, labels),
            epochs=1,
            run_dir=tmp_path,
            validation=((images[known], labels[known]), images[~known]),
            num_classes=3,
            progress=False,
        )
        return model

    model = fit()
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    for one, other in zip(model.get_weights(), fit().get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_has_a_training_step_of_its_own_refuses_it():
    with pytest.raises(ValueError, match="takes no mixed_precision"):
        recipes.get("demo", loss="confident_classifier", mixed_precision="float16")
    with pytest.raises(ValueError, match="`mixed_precision` must be one of"):
        recipes.get("demo", mixed_precision="float64")


@pytest.mark.slow
@pytest.mark.usefixtures("compared_in_this_process")
def test_a_run_is_resumed_measured_and_exported(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "DEFAULT_COUNT", 100)
    monkeypatch.setitem(under_renderings.NUM_IMAGES, "short", 30)
    options = {"known": "digits", "unknown": ["synthetic"], "run_dir": tmp_path / "run"}
    overrides = ["epochs=1", "filters=[4,4]", "synthetic_images=100"]
    history = workflows.train(
        **options, recipe="demo", overrides=overrides, mixed_precision="bfloat16"
    )
    again = workflows.train(**options, recipe="demo", overrides=overrides)
    assert again == history  # It was complete, and what it computes in is recorded.
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["settings"]["recipe"]["mixed_precision"] == "bfloat16"
    model = run_record.load_model(tmp_path / "run")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    workflows.evaluate(
        run_dir=tmp_path / "run", unknown=["uniform_noise"], renderings="none"
    )
    # The export compares what it wrote with the model.
    path, _ = workflows.export(run_dir=tmp_path / "run", output=tmp_path / "saved")
    assert export.load(path).class_names == tuple("0123456789")
