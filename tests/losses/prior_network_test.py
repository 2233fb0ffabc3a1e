"""The loss of prior networks against SciPy's Dirichlet distributions."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
from gradients import values_and_gradient
from keras import ops
from references import losses_reference

from ood_keras import dirichlet
from ood_keras.losses.prior_network import PriorNetwork


def divergence(left, right):
    """KL from SciPy's density and moments: E[log p - log q] is linear in E[log x]."""
    expected_log = scipy.special.digamma(left) - scipy.special.digamma(left.sum())
    at = np.full(len(left), 1 / len(left))
    value = scipy.stats.dirichlet.logpdf(at, left)
    value -= scipy.stats.dirichlet.logpdf(at, right)
    return value + np.sum((left - right) * (expected_log - np.log(at)))


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_equals_the_reference(scale, direction):
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 32)
    logits = (scale * rng.normal(size=(32, 4))).astype("float32")
    loss = PriorNetwork(4, 20.0, weight=0.3, direction=direction, reduction=None)
    expected = []
    for label, row in zip(labels, logits, strict=True):
        target = np.ones(4)
        if label >= 0:
            target[label] += 20.0
        pair = np.exp(row.astype("float64")), target
        value = divergence(*(pair if direction == "reverse" else pair[::-1])) / 20.0
        expected.append(value if label >= 0 else 0.3 * value)
    np.testing.assert_allclose(loss(labels, logits), expected, rtol=1e-5, atol=1e-6)


def test_by_default_n_known_images_weigh_as_one_unknown():
    logits = np.array([[2.0, 0.0, 1.0]], "float32")
    loss = PriorNetwork(3, direction="forward")
    assert loss.get_config()["weight"] is None
    once = PriorNetwork(3, weight=1.0, direction="forward")([-1], logits)
    assert float(loss([-1], logits)) == pytest.approx(3 * float(once), rel=1e-6)


def test_divergence_is_the_mean_log_ratio_of_samples():
    left, right = np.array([4.0, 2.0, 3.0]), np.array([1.0, 1.0, 6.0])
    samples = np.random.default_rng(0).dirichlet(left, 200_000).T
    ratios = scipy.stats.dirichlet.logpdf(samples, left)
    ratios -= scipy.stats.dirichlet.logpdf(samples, right)
    result = dirichlet.divergence(left[None], right[None])
    assert float(result[0]) == pytest.approx(ratios.mean(), abs=0.02)


@pytest.mark.float64
def test_gamma_functions_equal_scipy():
    x = np.geomspace(1e-20, 1e20, 400)
    log_gamma = np.asarray(dirichlet._log_gamma(ops.convert_to_tensor(x)))
    digamma = np.asarray(dirichlet._digamma(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(log_gamma, scipy.special.gammaln(x), 1e-10, 1e-10)
    np.testing.assert_allclose(digamma, scipy.special.digamma(x), 1e-10, 1e-10)


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_is_least_at_the_target(direction):
    loss = PriorNetwork(3, 50.0, direction=direction, reduction=None)
    best = np.log([[51.0, 1.0, 1.0], [1.0, 1.0, 1.0]]).astype("float32")
    np.testing.assert_allclose(loss([0, -1], best), 0, atol=1e-6)
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = best + rng.normal(size=best.shape).astype("float32")
        assert np.all(np.asarray(loss([0, -1], other)) > 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"concentration": 0}, r"`concentration` must be a number in \(0, inf\)"),
        ({"concentration": np.inf}, r"`concentration` must be a number in \(0, inf\)"),
        ({"weight": -1}, r"`weight` must be a number in \[0, inf\)"),
        ({"direction": "up"}, "'reverse' or 'forward'"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        PriorNetwork(10, **arguments)


@pytest.mark.parametrize("direction", ["reverse", "forward"])
@pytest.mark.parametrize("label", [-1, 0])
def test_is_a_divergence_also_of_large_and_small_concentrations(label, direction):
    # At 50 itself, where logits are cut, there is no one derivative.
    most = 49.0
    logits = np.array([[45, 44.9, 0], [35, 30, 0], [most] * 3, [-40, 20, 1], [0] * 3])
    labels = np.full(len(logits), label)
    loss = PriorNetwork(
        3, weight=1.0, direction=direction, reduction=None, dtype="float64"
    )
    values, gradient = values_and_gradient(lambda x: loss(labels, x), logits)
    reference = losses_reference.prior_network
    expected = reference(labels, logits, 3, 100, 1, direction)
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-12)
    for k, step in enumerate(np.eye(3) * 1e-6):
        above = reference(labels, logits + step, 3, 100, 1, direction)
        slope = (above - reference(labels, logits - step, 3, 100, 1, direction)) / 2e-6
        rounding = 1e-8 + 1e-9 * expected
        assert (abs(gradient[:, k] - slope) <= 1e-5 * abs(slope) + rounding).all()


def test_beyond_the_largest_logit_the_cost_goes_on():
    logits = np.array([[60, 0, 0], [1000, 0, 0], [-60, 0, 0]], "float32")
    loss = PriorNetwork(3, reduction=None)
    for label in (-1, 0):
        _, gradient = values_and_gradient(
            lambda x, label=label: loss([label] * 3, x), logits
        )
        assert (np.sign(gradient[:, 0]) == [1, 1, -1]).all()
