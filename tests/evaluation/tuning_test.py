"""Tuned detectors are the best of their grid, each one tried on its own."""

import itertools

import keras
import numpy as np
import pytest

from ood_keras import detectors, evaluation, metrics


@pytest.fixture(scope="module")
def setting():
    """A random network, and images on which its steps and layers matter."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, name="conv"),
            keras.layers.ReLU(name="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="relu", name="features"),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    train = random.random((90, 6, 6, 1), "float32") * 0.5
    train[..., 0, 0] += labels[:, None] / 5
    known = train[:40] + 0.05 * random.random((40, 6, 6, 1), "float32")
    unknown = random.random((50, 6, 6, 1), "float32") * 0.6 + 0.1
    return model, (train, labels), known, unknown


def rank(detector, known, unknown):
    row = metrics.evaluate_scores(detector.score(known), detector.score(unknown))
    return row["fpr95_known_positive"], row["detection_error"], -row["auroc"]


def test_odin_is_the_best_of_its_grid(setting):
    model, _, known, unknown = setting
    temperatures, steps = (1.0, 1000.0), (0.0, 0.05, 0.2)
    tuned = evaluation.tune_odin(
        model,
        num_classes=3,
        known=known,
        unknown=unknown,
        temperatures=temperatures,
        steps=steps,
    )
    ranks = {
        (temperature, step): rank(
            detectors.get(
                "odin", num_classes=3, temperature=temperature, epsilon=step
            ).fit(model),
            known,
            unknown,
        )
        for temperature, step in itertools.product(temperatures, steps)
    }
    assert len(set(ranks.values())) > 1
    found = tuned.get_config()
    assert ranks[found["detector"]["temperature"], found["epsilon"]] == min(
        ranks.values()
    )


def test_mahalanobis_is_the_best_of_its_grid(setting):
    model, data, known, unknown = setting
    layer_sets, steps = (None, ["relu", "features"]), (0.0, 0.1)
    tuned = evaluation.tune_mahalanobis(
        model,
        data,
        num_classes=3,
        known=known,
        unknown=unknown,
        layer_sets=layer_sets,
        steps=steps,
    )
    ranks = {}
    for layers, step in itertools.product(layer_sets, steps):
        one = detectors.get(
            "mahalanobis", num_classes=3, layers=layers, perturbation=step
        ).fit(model, data)
        if layers:
            one.weigh_layers(known, unknown)
        ranks[str(layers), step] = rank(one, known, unknown)
    assert len(set(ranks.values())) > 1
    found = tuned.get_config()
    best = min(ranks.values())
    np.testing.assert_allclose(
        ranks[str(found["layers"]), found["perturbation"]], best, atol=1e-6
    )


def test_only_so_many_images_are_looked_at(setting):
    model, _, known, unknown = setting
    options = {"temperatures": (1.0,), "steps": (0.0, 0.2)}
    few = evaluation.tune_odin(
        model, num_classes=3, known=known, unknown=unknown, num_images=10, **options
    )
    same = evaluation.tune_odin(
        model,
        num_classes=3,
        known=known[::4],
        unknown=unknown[::5],
        num_images=10,
        **options,
    )
    assert few.epsilon == same.epsilon
