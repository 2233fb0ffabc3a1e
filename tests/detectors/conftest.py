"""A small trained model in every form that users bring, and images for it."""

import types

import keras
import numpy as np
import pytest
from keras import layers, ops

NUM_CLASSES = 3
SHAPE = (8, 8, 1)


def known_images(num_images, seed):
    """A bright bar in one of three places, on noise; the place is the class."""
    generator = np.random.default_rng(seed)
    images = generator.uniform(0.0, 0.25, (num_images, *SHAPE))
    labels = np.arange(num_images) % NUM_CLASSES
    for image, label in zip(images, labels, strict=True):
        image[1 + 2 * label : 3 + 2 * label, 1:7] += 0.6
    return images.astype(np.float32), labels


def unknown_images(num_images, seed):
    """Blobs and faint noise, which are no bar."""
    generator = np.random.default_rng(seed)
    images = generator.uniform(0.0, 0.3, (num_images, *SHAPE))
    for index, image in enumerate(images):
        if index % 2:
            row, column = generator.integers(0, 6, 2)
            image[row : row + 2, column : column + 2] += 0.6
    return images.astype(np.float32)


def _trunk(name):
    # Layer names differ between the forms, so nothing can be found by its name.
    return [
        layers.Conv2D(8, 3, activation="relu", name=f"{name}_convolution"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(12, activation="relu", name=f"{name}_hidden"),
        layers.Dropout(0.3),
    ]


class Subclassed(keras.Model):
    def __init__(self, num_logits, head, **kwargs):
        super().__init__(**kwargs)
        self.trunk = _trunk("subclassed")
        self.classify = layers.Dense(num_logits)
        self.head = head

    def call(self, inputs):
        for layer in self.trunk:
            inputs = layer(inputs)
        logits = self.classify(inputs)
        return ops.softmax(logits) if self.head == "softmax" else logits


def _functional(num_logits, activation=None):
    inputs = outputs = keras.Input(SHAPE)
    for layer in _trunk("functional"):
        outputs = layer(outputs)
    return keras.Model(
        inputs, layers.Dense(num_logits, activation=activation, name="end")(outputs)
    )


def _nested(num_logits):
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, _functional(num_logits, "softmax")(inputs))


def _sequential(num_logits, *end):
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            *_trunk("sequential"),
            layers.Dense(num_logits),
            *end,
        ]
    )


def _subclassed(num_logits, head):
    model = Subclassed(num_logits, head)
    model(np.zeros((1, *SHAPE), np.float32))
    return model


FORMS = {
    "functional": lambda k: _functional(k),
    "functional_softmax": lambda k: _functional(k, "softmax"),
    "sequential": lambda k: _sequential(k),
    "sequential_softmax_layer": lambda k: _sequential(k, layers.Softmax()),
    "sequential_activation_layer": lambda k: _sequential(
        k, layers.Activation("softmax")
    ),
    "subclassed": lambda k: _subclassed(k, "logits"),
    "subclassed_softmax": lambda k: _subclassed(k, "softmax"),
    "nested_softmax": _nested,
}


def _trained(num_logits):
    keras.utils.set_random_seed(1)
    images, labels = known_images(600, seed=0)
    if num_logits > NUM_CLASSES:
        images = np.concatenate([images, unknown_images(200, seed=1)])
        labels = np.concatenate([labels, np.full(200, NUM_CLASSES)])
    model = _functional(num_logits)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(images, labels, epochs=6, batch_size=50, verbose=0)
    return model


@pytest.fixture(scope="session")
def trained():
    """`num_logits -> trained Functional model` for N and N + 1 logits."""
    return {count: _trained(count) for count in (NUM_CLASSES, NUM_CLASSES + 1)}


@pytest.fixture(scope="session")
def make_form(trained):
    """`(form, num_logits) -> new model` of that form, with the trained weights."""

    def make(form, num_logits):
        model = FORMS[form](num_logits)
        model.set_weights(trained[num_logits].get_weights())
        return model

    return make


@pytest.fixture(scope="session")
def data():
    """Known training data, known test images and unknown test images."""
    return types.SimpleNamespace(
        num_classes=NUM_CLASSES,
        train=known_images(300, seed=2),
        known=known_images(60, seed=3)[0],
        unknown=unknown_images(60, seed=4),
    )
