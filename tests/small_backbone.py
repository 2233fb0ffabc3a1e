"""A backbone of three layers in the form of those of `keras.applications`."""

import keras
import numpy as np

from ood_keras.models import backbones

SHAPE = (32, 32, 3)


def preprocess_input(images):
    return images / 127.5 - 1.0


def TinyNet(
    include_top=True,
    weights=None,
    input_shape=SHAPE,
    alpha=1.0,
    classes=10,
    name="tiny",
):
    images = keras.Input(input_shape)
    x = keras.layers.Conv2D(round(8 * alpha), 5, 4, "same", name="conv")(images)
    x = keras.layers.BatchNormalization(momentum=0.5, name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        x = keras.layers.Dense(classes, name="predictions")(x)
    return keras.Model(images, x, name=name)


def install(patch):
    """Makes it one of `keras.applications`, for as long as `patch` lasts."""
    patch.setattr(keras.applications, "TinyNet", TinyNet, raising=False)
    assert "TinyNet" in backbones.names()


def make_trained(**arguments):
    """One that "was trained on other pictures": no weight is what it began with."""
    keras.utils.set_random_seed(1)
    model = TinyNet(**{"include_top": False, **arguments})
    generator = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(weight + generator.uniform(0.01, 0.1, weight.shape))
    return model
