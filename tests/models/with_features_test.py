"""The two-output view of a model shares its layers and trains them."""

import keras
import numpy as np
import pytest

from ood_keras import losses, models


def _model():
    keras.utils.set_random_seed(1)
    return models.alexnet(
        num_classes=3, filters=(4, 4), hidden_size=16, feature_size=2, dropout=0.0
    )


def _images(count):
    return np.random.default_rng(0).random((count, 28, 28, 1), dtype="float32")


def test_outputs_are_those_of_the_model():
    model = _model()
    images = _images(3)
    outputs = models.with_features(model)(images)
    assert set(outputs) == {"logits", "features"}
    np.testing.assert_array_equal(outputs["logits"], model(images))
    head = model.get_layer("logits")
    np.testing.assert_allclose(
        head(outputs["features"]), outputs["logits"], rtol=1e-5, atol=1e-6
    )


def test_objectosphere_on_features_trains_the_model():
    model = _model()
    images, labels = _images(40), np.arange(40) % 4 - 1

    both = models.with_features(model)
    both.compile(
        keras.optimizers.Adam(0.01),
        loss={
            "logits": losses.WeightedCrossEntropy(3),
            "features": losses.Objectosphere(3, on="features"),
        },
        loss_weights={"logits": 1.0, "features": 0.01},
        jit_compile=False,
    )
    before = model.get_weights()
    targets = {"logits": labels, "features": labels}
    history = both.fit(images, targets, epochs=5, verbose=0).history
    assert history["features_loss"][-1] < history["features_loss"][0]
    assert history["logits_loss"][-1] < history["logits_loss"][0]
    after = model.get_weights()
    assert any(np.any(b != a) for b, a in zip(before, after, strict=True))


def test_a_users_own_model_with_other_names():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, name="embedding"),
            keras.layers.Dense(3, name="scores"),
        ]
    )
    both = models.with_features(model, logits="scores", features="embedding")
    outputs = both(np.ones((2, 4), "float32"))
    assert outputs["features"].shape == (2, 5)
    assert outputs["logits"].shape == (2, 3)


def test_a_missing_layer_is_an_error_that_lists_the_layers():
    with pytest.raises(ValueError, match=r"no layer named 'embedding'.*features=.*\n?"):
        models.with_features(_model(), features="embedding")


class _Subclassed(keras.Model):
    def call(self, images):
        return images


@pytest.mark.parametrize(
    "make", [_Subclassed, lambda: keras.Sequential([keras.layers.Dense(3)])]
)
def test_a_model_without_a_graph_is_an_error(make):
    with pytest.raises(ValueError, match="expected a Functional or a built Sequential"):
        models.with_features(make())


def test_a_layer_of_a_nested_model_is_an_error_that_names_it():
    images = keras.Input((28, 28, 1))
    nested = _model()
    outer = keras.Model(images, nested(images))
    message = "no layer named 'logits'.*layer of alexnet, pass that model itself"
    with pytest.raises(ValueError, match=message):
        models.with_features(outer)
    assert set(models.with_features(nested).output) == {"logits", "features"}
