import math

import keras
import numpy as np
import pytest
from keras import ops
from references import detectors_reference as reference

from ood_keras.detectors import output_scores

NAMES = [
    "unknown_probability",
    "msp",
    "max_logit",
    "energy",
    "entropy",
    "gen",
    "objectosphere",
]


def score(name, logits, num_classes, **kwargs):
    logits = ops.convert_to_tensor(np.asarray(logits, np.float32))
    return ops.convert_to_numpy(output_scores.get(name)(logits, num_classes, **kwargs))


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference(name, num_classes, extra):
    if name == "unknown_probability" and not extra:
        pytest.skip("needs an unknown class")
    logits = np.random.default_rng(0).normal(0, 3, (50, num_classes + extra))
    expected = getattr(reference, name)(logits, num_classes)
    np.testing.assert_allclose(
        score(name, logits, num_classes), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["msp", "energy"])
def test_temperature_equals_the_reference(name):
    logits = np.random.default_rng(1).normal(0, 3, (20, 4))
    expected = getattr(reference, name)(logits, 3, temperature=2.5)
    np.testing.assert_allclose(
        score(name, logits, 3, temperature=2.5), expected, rtol=1e-4, atol=1e-5
    )


def test_hand_worked_values():
    # Probabilities 0.5, 0.3 and, for the unknown class, 0.2.
    logits = [[math.log(5), math.log(3), math.log(2)]]
    assert score("unknown_probability", logits, 2) == pytest.approx([math.log(2 / 8)])
    assert score("msp", logits, 2) == pytest.approx([-math.log(2)])
    assert score("max_logit", logits, 2) == pytest.approx([-math.log(5)])
    assert score("energy", logits, 2) == pytest.approx([-math.log(8)])
    # ||p||^2 = 0.25 + 0.09 = 0.34.
    assert score("objectosphere", logits, 2) == pytest.approx([math.log(0.66 / 0.34)])


@pytest.mark.parametrize("name", NAMES)
def test_ranks_what_a_float32_softmax_would_tie(name):
    # The gap to the other classes grows, far beyond the point of p == 1.0.
    gaps = np.array([10.0, 20.0, 50.0, 200.0, 1000.0, 9000.0])
    logits = np.zeros((6, 4))
    logits[:, 0] = gaps
    scores = score(name, logits, 3)
    assert np.all(np.diff(scores) < 0)
    assert np.all(np.isfinite(scores))


@pytest.mark.parametrize("name", ["unknown_probability", "msp", "objectosphere"])
def test_ranks_nearly_certain_unknowns(name):
    logits = np.zeros((4, 4))
    logits[:, 3] = [20.0, 100.0, 1000.0, 10000.0]
    scores = score(name, logits, 3)
    assert np.all(np.diff(scores) > 0)
    assert np.all(np.isfinite(scores))


@pytest.mark.parametrize("name", NAMES)
def test_finite_at_extremes_and_ties(name):
    values = [-1e4, 0.0, 1e4]
    logits = np.array(np.meshgrid(*[values] * 4)).reshape(4, -1).T
    assert np.all(np.isfinite(score(name, logits, 3)))


def test_msp_and_objectosphere_of_equal_logits():
    # p = 1/4 each; n = 3/16, (1 - n) / n = 13/3.
    logits = np.full((1, 4), 7.0)
    assert score("msp", logits, 3) == pytest.approx([0.0])
    assert score("objectosphere", logits, 3) == pytest.approx([math.log(13 / 3)])


def test_the_largest_probability_keeps_its_digits_near_1():
    logits = ops.convert_to_tensor([[20.0, 3.0, 2.0, 5.0]])
    rest = np.sum(np.exp([-17.0, -18.0, -15.0]))
    value = output_scores.minus_log_largest(logits, 3)
    assert ops.convert_to_numpy(value) == pytest.approx([np.log1p(rest)], rel=1e-5)


def test_half_precision_logits_are_scored_in_float32():
    logits = ops.cast(np.eye(3) * 30, "float16")
    for name in ("msp", "energy"):
        result = output_scores.get(name)(logits, 3)
        assert ops.convert_to_numpy(result).dtype == np.float32


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match=r"one of: .*energy, .*gen"):
        output_scores.get("no_such_score")
    with pytest.raises(ValueError, match=r"4 logits for 3 known classes"):
        score("unknown_probability", np.zeros((1, 3)), 3)
    with pytest.raises(ValueError, match=r"\(batch, 3\), or \(batch, 4\)"):
        score("energy", np.zeros((1, 5)), 3)


@pytest.mark.parametrize("name", ["expm1", "log1p"])
def test_no_digit_is_lost_near_0(name):
    x = np.concatenate([10.0 ** np.arange(-12, 1.0), -(10.0 ** np.arange(-12, 0.0))])
    x = np.append(x, [0.0, -0.5, -0.999, 30.0]).astype(np.float32)
    compute = getattr(output_scores, name)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # In a graph too, where simplifications might lose digits.
        compute = tf.function(compute)
    values = ops.convert_to_numpy(compute(ops.convert_to_tensor(x)))
    expected = getattr(np, name)(x.astype(np.float64))
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_expm1_has_its_limits():
    values = output_scores.expm1(ops.convert_to_tensor([-np.inf, -200.0, 200.0]))
    np.testing.assert_array_equal(values, [-1.0, -1.0, np.inf])


def test_arcsinh_of_any_size():
    x = np.array([0, 1e-8, 1e-3, 0.3, 1, 30, 9.9e5, 1.1e6, 1e20, 3e38], np.float32)
    x = np.concatenate([-x, x])
    found = ops.convert_to_numpy(output_scores.arcsinh(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(found, np.arcsinh(x.astype(np.float64)), rtol=1e-6)


def test_one_logit_for_two_classes_is_explained():
    with pytest.raises(ValueError, match=r"one for both\. Give the last layer 2 units"):
        score("msp", [[0.5], [-0.5]], 2)
    # One known class without an unknown one: of what reads the logit itself.
    np.testing.assert_allclose(score("max_logit", [[0.5], [-0.5]], 1), [-0.5, 0.5])
