"""A model whose answers can be read off its images.

Images are 1 x 3 x 1, and pixel k is the evidence for class k: two known classes and an
unknown one. Logits are four times the pixels, features are the pixels.
"""

import types

import keras
import numpy as np
import pytest

from ood_keras import detectors, evaluation


@keras.saving.register_keras_serializable(package="ood_keras_tests")
class CountsImages(keras.layers.Layer):
    """Passes images on and counts the batches that it really runs on."""

    def build(self, input_shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, images):
        self.count.assign_add(1.0)
        return images


def make_model():
    model = keras.Sequential(
        [
            keras.Input((1, 3, 1)),
            CountsImages(name="counter"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    model.get_layer("logits").set_weights([4 * np.eye(3), np.zeros(3)])
    return model


def make_images(evidence):
    return np.asarray(evidence, np.float32).reshape(-1, 1, 3, 1)


def make_known(num_images, seed):
    """Images that mostly show their class, and their labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, num_images)
    evidence = generator.uniform(0, 0.6, (num_images, 3))
    evidence[np.arange(num_images), labels] += 0.3
    return make_images(evidence), labels


def make_unknown(num_images, seed):
    evidence = np.random.default_rng(seed).uniform(0, 0.6, (num_images, 3))
    evidence[:, 2] += 0.3
    return make_images(evidence)


def fit_all(model, names=("unknown_probability", "msp", "energy")):
    return {name: detectors.get(name, num_classes=2).fit(model) for name in names}


@pytest.fixture(scope="session")
def toolbox():
    """What the tests build their own cases from."""
    return types.SimpleNamespace(
        make_model=make_model,
        make_images=make_images,
        make_known=make_known,
        make_unknown=make_unknown,
        fit_all=fit_all,
    )


@pytest.fixture(scope="session")
def case():
    """An evaluation with everything that was given to it."""
    model = make_model()
    fitted = fit_all(model)
    known = make_known(300, seed=1)
    unknown = {
        "emnist/letters": make_unknown(200, seed=2),
        "<b>noise</b> & co": make_unknown(100, seed=3),
    }
    validation = make_known(150, seed=4)[0], make_unknown(120, seed=5)
    report = evaluation.evaluate(
        fitted,
        known=("digits", known),
        unknown=unknown,
        seen=["emnist/letters", "never/tested"],
        validation_known=validation[0],
        validation_unknown=validation[1],
        class_names=["zero", "one"],
        protocol={"seed": 7, "trained on": ["digits", "emnist/letters"]},
    )
    return types.SimpleNamespace(
        model=model,
        fitted=fitted,
        known=known,
        unknown=unknown,
        validation=validation,
        report=report,
    )


@pytest.fixture(scope="session")
def run_dir(case, tmp_path_factory):
    """The folder that the report was saved into."""
    folder = tmp_path_factory.mktemp("run")
    case.report.save(folder)
    return folder
