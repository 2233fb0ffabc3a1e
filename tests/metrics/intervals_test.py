"""Confidence intervals and paired tests against references and simulation."""

import math

import numpy as np
import pytest
from references import metrics_reference

from ood_keras import metrics


def detectors(seed=0, num_known=40, num_unknown=30, decimals=1):
    """Two correlated detectors on the same images; the first is better."""
    rng = np.random.default_rng(seed)
    known = rng.normal(size=num_known)
    unknown = rng.normal(1.5, 1, num_unknown)
    noise = rng.normal(size=num_known), rng.normal(size=num_unknown)
    first = np.round(known, decimals), np.round(unknown, decimals)
    second = (
        np.round(known + noise[0], decimals),
        np.round(unknown + noise[1], decimals),
    )
    return first, second


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_delong_interval_equals_the_reference(confidence):
    stats = pytest.importorskip("scipy.stats")
    for pair in detectors():
        interval = metrics.auroc_interval(*pair, confidence=confidence)
        value = metrics_reference.auroc(*pair)
        error = math.sqrt(metrics_reference.delong_covariance([pair])[0, 0])
        reach = stats.norm.ppf((1 + confidence) / 2) * error / (value * (1 - value))
        ends = [
            1 / (1 + math.exp(-(math.log(value / (1 - value)) + sign * reach)))
            for sign in (-1, 1)
        ]
        assert interval == pytest.approx((value, *ends))


def test_delong_interval_covers_the_truth():
    """Known N(0, 1), unknown N(1.5, 1): AUROC = Phi(1.5 / sqrt 2) = 0.8556."""
    truth = 0.5 * math.erfc(-1.5 / math.sqrt(2) / math.sqrt(2))
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        interval = metrics.auroc_interval(rng.normal(size=60), rng.normal(1.5, 1, 40))
        covered += interval.low <= truth <= interval.high
    assert 930 <= covered <= 970


def test_perfect_separation_is_not_certainty():
    interval = metrics.auroc_interval(np.zeros(50), np.ones(10))
    assert interval == pytest.approx((1.0, 0.025 ** (1 / 10), 1.0))
    interval = metrics.auroc_interval(np.ones(10), np.zeros(50))
    assert interval == pytest.approx((0.0, 0.0, 1 - 0.025 ** (1 / 10)))


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_constant_scores_are_not_certainly_chance(confidence):
    """At either end, ten pairs all tie with probability (1 - confidence) / 2."""
    value, low, high = metrics.auroc_interval(np.zeros(10), np.zeros(50), confidence)
    assert value == 0.5
    share_of_ties = 2 * low  # at the lower end, where no pair is in order
    assert share_of_ties**10 == pytest.approx((1 - confidence) / 2)
    assert high == pytest.approx(1 - low)


def test_bootstrap_agrees_with_delong_and_with_the_metrics():
    first, _ = detectors(num_known=400, num_unknown=300, decimals=2)
    intervals = metrics.bootstrap_intervals(*first)
    assert {name: interval.value for name, interval in intervals.items()} == (
        metrics.evaluate_scores(*first)
    )
    delong = metrics.auroc_interval(*first)
    assert intervals["auroc"].low == pytest.approx(delong.low, abs=0.005)
    assert intervals["auroc"].high == pytest.approx(delong.high, abs=0.005)
    for interval in intervals.values():
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert metrics.bootstrap_intervals(*first) == intervals
    assert metrics.bootstrap_intervals(*first, seed=1) != intervals


def test_bootstrap_draws_images_with_replacement():
    """A draw's metrics are those of the drawn images, sorted anew."""
    from ood_keras.metrics.intervals import resample_curves

    pairs = detectors()
    rng = np.random.default_rng(3)
    for curves in resample_curves(pairs, 5, seed=3):
        known_draw = rng.integers(0, 40, 40)
        unknown_draw = rng.integers(0, 30, 30)
        for (known, unknown), curve in zip(pairs, curves, strict=True):
            expected = metrics.evaluate_scores(known[known_draw], unknown[unknown_draw])
            for name, value in expected.items():
                assert metrics.get(name).formula(np, curve) == pytest.approx(value)


def test_paired_delong_equals_the_reference():
    stats = pytest.importorskip("scipy.stats")
    first, second = detectors()
    comparison = metrics.compare_auroc(first, second)
    values = metrics_reference.auroc(*first), metrics_reference.auroc(*second)
    covariance = metrics_reference.delong_covariance([first, second])
    contrast = np.array([1, -1])
    error = math.sqrt(contrast @ covariance @ contrast)
    difference = values[0] - values[1]
    reach = stats.norm.ppf(0.975) * error
    assert comparison == pytest.approx(
        (
            *values,
            difference,
            difference - reach,
            difference + reach,
            2 * stats.norm.sf(abs(difference) / error),
        )
    )
    assert comparison.difference > 0


def test_pairing_finds_what_separate_intervals_hide():
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(size=300), rng.normal(1.5, 1, 300)
    first = known, unknown
    second = known + rng.normal(0, 0.3, 300), unknown + rng.normal(0, 0.3, 300)
    intervals = [metrics.auroc_interval(*pair) for pair in (first, second)]
    assert intervals[0].low < intervals[1].high
    assert metrics.compare_auroc(first, second).p_value < 0.05


def test_p_values_are_uniform_when_detectors_are_equally_good():
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(500):
        known, unknown = rng.normal(size=50), rng.normal(1, 1, 50)
        pairs = [
            (known + rng.normal(size=50), unknown + rng.normal(size=50))
            for _ in range(2)
        ]
        p_values.append(metrics.compare_auroc(*pairs).p_value)
    assert np.mean(np.less(p_values, 0.05)) == pytest.approx(0.05, abs=0.03)
    assert np.mean(np.less(p_values, 0.5)) == pytest.approx(0.5, abs=0.07)


def test_paired_bootstrap_agrees_with_delong():
    first, second = detectors(num_known=300, num_unknown=200, decimals=2)
    delong = metrics.compare_auroc(first, second)
    bootstrap = metrics.compare_scores(first, second)
    assert bootstrap[:3] == delong[:3]
    assert bootstrap[3:5] == pytest.approx(delong[3:5], abs=0.01)
    assert bootstrap.p_value < 0.01
    for metric, value in metrics.evaluate_scores(*first).items():
        comparison = metrics.compare_scores(first, second, metric, num_resamples=20)
        assert comparison.first == value


@pytest.mark.parametrize("metric", ["auroc", "fpr95_known_positive"])
def test_paired_bootstrap_by_hand(metric):
    first, second = detectors(num_known=20, num_unknown=15)
    rng = np.random.default_rng(4)
    differences = []
    for _ in range(99):
        draw = rng.integers(0, 20, 20), rng.integers(0, 15, 15)
        values = [
            metrics.evaluate_scores(known[draw[0]], unknown[draw[1]])[metric]
            for known, unknown in (first, second)
        ]
        differences.append(values[0] - values[1])
    better = sum(difference >= 0 for difference in differences)
    worse = sum(difference <= 0 for difference in differences)
    comparison = metrics.compare_scores(
        first, second, metric, confidence=0.8, num_resamples=99, seed=4
    )
    assert comparison.p_value == min(1, 2 * (min(better, worse) + 1) / 100)
    assert comparison[3:5] == pytest.approx(np.quantile(differences, [0.1, 0.9]))


def test_a_detector_does_not_differ_from_itself():
    first, _ = detectors()
    value = metrics.auroc(*first)
    for comparison in (
        metrics.compare_auroc(first, first),
        metrics.compare_scores(first, first, num_resamples=20),
    ):
        assert comparison == (value, value, 0, 0, 0, 1)


def test_a_difference_without_variance_is_no_certainty():
    ten, twenty = np.zeros(10), np.ones(20)
    perfect = ten, twenty
    constant = ten, np.zeros(20)
    comparison = metrics.compare_auroc(perfect, constant)
    assert comparison[:3] == (1.0, 0.5, 0.5)
    # Were both equally good, a pair would gain 1/2 in at most 2 of 3 cases.
    assert comparison.p_value == pytest.approx(2 * (2 / 3) ** 10)
    assert comparison.low > 0  # since p < 0.05
    share = 0.025 ** (1 / 10)
    assert comparison.low == pytest.approx(share / 2 - (1 - share))
    assert comparison.high == pytest.approx(share / 2 + (1 - share))
    mirrored = metrics.compare_auroc(constant, perfect)
    assert mirrored == pytest.approx(
        (0.5, 1, -0.5, -comparison.high, -comparison.low, comparison.p_value)
    )


def test_two_images_prove_nothing():
    right, wrong = ([0.0, 0.0], [1.0, 1.0]), ([1.0, 1.0], [0.0, 0.0])
    comparison = metrics.compare_auroc(right, wrong)
    assert comparison.difference == 1
    assert comparison.p_value == 0.5
    assert comparison.low < 0 < comparison.high


def test_two_perfect_detectors_may_still_differ():
    first, second = ([0.0, 1.0], [2.0, 3.0]), ([1.0, 0.0], [2.0, 3.0])
    comparison = metrics.compare_auroc(first, second)
    assert comparison[:3] == (1, 1, 0) and comparison.p_value == 1
    assert comparison.high == -comparison.low == pytest.approx(1 - 0.025 ** (1 / 2))


def test_bad_input_is_explained():
    first, second = detectors()
    with pytest.raises(ValueError, match="at least two known and two unknown"):
        metrics.auroc_interval([0.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="at least two known and two unknown"):
        metrics.compare_auroc(([0.0], [1.0]), ([0.0], [1.0]))
    for use in (
        lambda: metrics.bootstrap_intervals([0.0], [1.0, 2.0]),
        lambda: metrics.compare_scores(([0.0], [1.0]), ([0.0], [1.0])),
    ):
        with pytest.raises(ValueError, match="bootstrap needs at least two known"):
            use()
    for number in (0, -1, 2.5):
        with pytest.raises(ValueError, match="`num_resamples` must be an integer >= 1"):
            metrics.bootstrap_intervals(*first, num_resamples=number)
        with pytest.raises(ValueError, match="`num_resamples` must be an integer >= 1"):
            metrics.compare_scores(first, second, num_resamples=number)
    with pytest.raises(ValueError, match="on the same images in the same order"):
        metrics.compare_auroc(first, (second[0][1:], second[1]))
    with pytest.raises(ValueError, match="unknown metric 'f1'; expected one of: auroc"):
        metrics.compare_scores(first, second, "f1")
    for function in (metrics.auroc_interval, metrics.bootstrap_intervals):
        with pytest.raises(ValueError, match=r"write 95 % as 0\.95"):
            function(*first, confidence=95)
