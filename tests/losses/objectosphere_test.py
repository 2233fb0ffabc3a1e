"""Objectosphere against decimal arithmetic and hand-worked numbers."""

import numpy as np
import pytest
from gradients import values_and_gradient
from references import losses_reference

from ood_keras.losses import Objectosphere


@pytest.mark.parametrize("scale", [1, 10, 10_000])
def test_softmax_form_equals_the_reference(scale):
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 64)
    logits = (scale * rng.uniform(-1, 1, (64, 5))).astype("float32")
    values = Objectosphere(4, gamma=0.7, reduction=None)(labels, logits)
    expected = losses_reference.objectosphere_on_softmax(labels, logits, 4, 0.7)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 50])
def test_feature_form_equals_the_reference(scale):
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 64)
    features = (scale * rng.normal(size=(64, 7))).astype("float32")
    values = Objectosphere(4, gamma=60, on="features", reduction=None)(labels, features)
    expected = losses_reference.objectosphere_on_features(labels, features, 4, 60)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def test_mass_on_the_unknown_class_is_not_counted():
    # Softmax (0.3, 0.4, 0.3): the known part has the norm 0.5.
    logits = np.log([[0.3, 0.4, 0.3]] * 2).astype("float32")
    values = Objectosphere(2, gamma=0.9, reduction=None)([0, -1], logits)
    np.testing.assert_allclose(values, [0.16, 0.25], rtol=1e-5)


def test_no_cost_for_known_images_beyond_gamma():
    features = np.array([[30.0, 50.0]], "float32")
    assert float(Objectosphere(2, on="features")([1], features)) == 0.0


def test_default_gamma_depends_on_what_it_is_the_norm_of():
    zeros = np.zeros((1, 3), "float32")
    assert float(Objectosphere(2, on="features")([0], zeros)) == pytest.approx(50**2)
    unknown_for_sure = np.array([[-99.0, -99.0, 99.0]], "float32")
    assert float(Objectosphere(2)([0], unknown_for_sure)) == pytest.approx(0.9**2)


def test_gradient_at_zero_features_is_zero_and_elsewhere_points_outwards():
    loss = Objectosphere(2, gamma=10.0, on="features", reduction=None)
    features = np.float32([[0, 0], [0, 0], [3, 4], [3, 4]])
    _, gradient = values_and_gradient(lambda x: loss([0, -1, 0, -1], x), features)
    expected = [[0, 0], [0, 0], [-6, -8], [6, 8]]  # -2 (10 - 5) F / 5 and 2 F
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on": "logits"}, '`on` must be "softmax" or "features"'),
        ({"gamma": 1.5}, r"`gamma` must be a number in \(0, 1\]"),
        ({"gamma": 0.0}, r"`gamma` must be a number in \(0, 1\]"),
        ({"gamma": "1"}, r"`gamma` must be a number in \(0, 1\]"),
        ({"gamma": -1.0, "on": "features"}, r"`gamma` must be a number in \(0, inf\)"),
        ({"gamma": float("nan"), "on": "features"}, r"`gamma` must be a number in \("),
    ],
)
def test_arguments_out_of_range_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Objectosphere(10, **arguments)


def test_features_with_more_axes_are_an_error():
    with pytest.raises(ValueError, match="flatten or pool them first"):
        Objectosphere(2, on="features")([0], np.zeros((1, 3, 3, 8), "float32"))
