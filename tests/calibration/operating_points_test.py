"""Intervals of rates, thresholds per class, at a cost, and p-values."""

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest

from ood_keras.calibration import (
    ClassThresholds,
    ConformalPValues,
    OperatingPoint,
    benjamini_hochberg,
    clopper_pearson,
    conformal,
    conformal_per_class,
    lowest_cost,
    operating_points,
    quantile,
)


def through_json(value):
    return json.loads(json.dumps(value.to_dict(), allow_nan=False))


class TestClopperPearson:
    @pytest.mark.parametrize(
        ("accepted", "images"), [(0, 1), (1, 1), (0, 30), (30, 30), (95, 100), (7, 9)]
    )
    @pytest.mark.parametrize("confidence", [0.5, 0.95])
    def test_equals_scipy(self, accepted, images, confidence):
        stats = pytest.importorskip("scipy.stats")
        expected = stats.binomtest(accepted, images).proportion_ci(confidence, "exact")
        assert clopper_pearson(accepted, images, confidence) == pytest.approx(
            (expected.low, expected.high), abs=1e-12
        )

    def test_bad_input_is_explained(self):
        for accepted, images in ((-1, 3), (4, 3), (0, 0), (1.5, 3), (1, None)):
            with pytest.raises(ValueError, match="0 <= num_accepted <= num_images"):
                clopper_pearson(accepted, images)
        with pytest.raises(ValueError, match="`confidence` is a fraction"):
            clopper_pearson(1, 2, confidence=95)


class TestConformalPerClass:
    def data(self, num_images=3000, seed=0):
        """Three classes, of which the last is hard."""
        rng = np.random.default_rng(seed)
        classes = rng.integers(0, 3, num_images)
        return rng.normal(size=num_images) + np.array([0, 1, 5])[classes], classes

    def test_each_class_gets_its_own_conformal_threshold(self):
        scores, classes = self.data()
        thresholds = conformal_per_class(scores, classes, 3, 0.9)
        for c in range(3):
            alone = conformal(scores[classes == c], 0.9)
            assert thresholds.values[c] == alone.value
            assert thresholds.acceptance_intervals[c] == alone.acceptance_interval
            assert thresholds.num_calibration[c] == np.sum(classes == c)

    def test_every_class_keeps_the_target_where_one_threshold_does_not(self):
        scores, classes = self.data()
        new_scores, new_classes = self.data(100_000, seed=1)
        per_class = conformal_per_class(scores, classes, 3, 0.95)
        one = conformal(scores, 0.95)
        accepted = per_class.accepts(new_scores, new_classes)
        for c in range(3):
            low, high = per_class.acceptance_intervals[c]
            assert low - 0.01 < accepted[new_classes == c].mean() < high + 0.01
        assert one.accepts(new_scores)[new_classes == 2].mean() < 0.9

    def test_no_score_stands_at_them_and_text_decides_alike(self):
        scores, classes = self.data()
        scores = scores.astype(np.float32)
        thresholds = conformal_per_class(scores, classes, 3, 0.9)
        assert not np.isin(thresholds.values, scores[:, None]).any()
        at_scores = dataclasses.replace(thresholds, values=tuple(scores[:3].tolist()))
        for each in (thresholds, at_scores):
            expected = each.accepts(scores, classes)
            text = scores.astype(str)
            for copy in (text, text.astype(np.float64), scores.astype(np.float64)):
                np.testing.assert_array_equal(each.accepts(copy, classes), expected)

    def test_goes_through_json_and_says_what_it_promises(self):
        thresholds = conformal_per_class(*self.data(), 3)
        assert ClassThresholds.from_dict(through_json(thresholds)) == thresholds
        assert str(thresholds) == thresholds.guarantee
        assert "95 %" in str(thresholds) and "3,000 known images" in str(thresholds)

    def test_bad_input_is_explained(self):
        scores, classes = self.data(60)
        with pytest.raises(ValueError, match=r"at least 99 .* \(class: images\): \{0"):
            conformal_per_class(scores, classes, 3, 0.99)
        with pytest.raises(ValueError, match=r"\{3: 0\}"):
            conformal_per_class(scores, classes, 4, 0.8)
        with pytest.raises(ValueError, match=r"one integer in 0\.\.1 per score"):
            conformal_per_class(scores, classes, 2)
        thresholds = conformal_per_class(scores, classes, 3, 0.8)
        for wrong in ([0], [0.0, 1.0], [-1, 0]):
            with pytest.raises(ValueError, match=r"one integer in 0\.\.2 per score"):
                thresholds.accepts([1.0, 2.0], wrong)


class TestConformalPValues:
    def test_counts_the_known_scores_at_least_as_high(self):
        rng = np.random.default_rng(0)
        known = np.round(rng.normal(size=50), 1)
        scores = np.round(rng.normal(size=40), 1)
        expected = [(1 + np.sum(known >= score)) / 51 for score in scores]
        np.testing.assert_allclose(ConformalPValues(known)(scores), expected)

    def test_agrees_with_the_conformal_threshold(self):
        rng = np.random.default_rng(0)
        known, scores = rng.normal(size=99), rng.normal(size=500)
        np.testing.assert_array_equal(
            ConformalPValues(known)(scores) > 0.1,
            conformal(known, 0.9).accepts(scores),
        )

    def test_text_of_scores_has_the_same_p_values(self):
        scores = np.random.default_rng(0).uniform(size=300).astype(np.float32)
        p_values, text = ConformalPValues(scores), scores.astype(str).astype(float)
        np.testing.assert_array_equal(p_values(text), p_values(scores))
        np.testing.assert_array_equal(ConformalPValues(text)(scores), p_values(scores))

    def test_of_known_images_they_are_valid(self):
        rng = np.random.default_rng(0)
        p_values = np.concatenate(
            [
                ConformalPValues(rng.normal(size=50))(rng.normal(size=50))
                for _ in range(1000)
            ]
        )
        for level in (0.05, 0.1, 0.5):
            assert np.mean(p_values <= level) <= level + 0.01

    def test_false_discoveries_stay_below_the_rate(self):
        rng = np.random.default_rng(0)
        false_discoveries, found = [], []
        for _ in range(500):
            p_values = ConformalPValues(rng.normal(size=500))
            known, unknown = rng.normal(size=80), rng.normal(3, 1, 20)
            called = p_values.unknown(np.concatenate([known, unknown]), 0.2)
            false_discoveries.append(called[:80].sum() / max(called.sum(), 1))
            found.append(called[80:].mean())
        # The rate is controlled at 0.2 times the share of known images, 0.16.
        assert np.mean(false_discoveries) <= 0.17
        assert np.mean(found) > 0.5

    def test_goes_through_json_and_says_what_it_promises(self):
        p_values = ConformalPValues([2.0, 1.0, 3.0])
        copy = ConformalPValues.from_dict(through_json(p_values))
        np.testing.assert_array_equal(copy.known_scores, [1.0, 2.0, 3.0])
        infinite = ConformalPValues([0.0, np.inf, -np.inf])
        copy = ConformalPValues.from_dict(through_json(infinite))
        np.testing.assert_array_equal(copy.known_scores, [-np.inf, 0.0, np.inf])
        assert "on average at most 10 % are known images" in str(p_values)
        assert "5 %" in p_values.guarantee(0.05)

    def test_bad_input_is_explained(self):
        with pytest.raises(ValueError, match="at least one image"):
            ConformalPValues([])
        with pytest.raises(ValueError, match="`scores` holds NaN"):
            ConformalPValues([1.0])([np.nan])


class TestBenjaminiHochberg:
    @pytest.mark.parametrize("seed", range(10))
    def test_equals_scipy(self, seed):
        stats = pytest.importorskip("scipy.stats")
        p_values = np.random.default_rng(seed).random(50) ** 3
        np.testing.assert_array_equal(
            benjamini_hochberg(p_values, 0.1),
            stats.false_discovery_control(p_values) <= 0.1,
        )

    def test_hand_worked(self):
        """Limits at 0.05: 0.0125, 0.025, 0.0375, 0.05. The second rescues the first."""
        rejected = benjamini_hochberg([0.9, 0.02, 0.024, 0.4], 0.05)
        assert rejected.tolist() == [False, True, True, False]
        assert not benjamini_hochberg([0.9, 0.5], 0.05).any()

    def test_a_limit_that_is_met_exactly_counts(self):
        for dtype in (np.float64, np.float32):
            p_values = np.array([0.2, 0.6, 1.0], dtype)
            assert benjamini_hochberg(p_values, 0.6).tolist() == [True, False, False]

    def test_bad_input_is_explained(self):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            benjamini_hochberg([1.5])
        with pytest.raises(ValueError, match="`false_discovery_rate` is a fraction"):
            benjamini_hochberg([0.5], 0)


class TestLowestCost:
    def cost(self, value, known, unknown, prior, accept, reject):
        return (1 - prior) * reject * np.mean(known > value) + prior * accept * np.mean(
            unknown <= value
        )

    @pytest.mark.parametrize("seed", range(10))
    @pytest.mark.parametrize("decimals", [1, 9])
    def test_no_threshold_costs_less(self, seed, decimals):
        rng = np.random.default_rng(seed)
        known = np.round(rng.normal(size=60), decimals)
        unknown = np.round(rng.normal(1, 2, 40), decimals)
        for args in ((0.5, 1, 1), (0.01, 50, 1), (0.9, 1, 10), (0.3, 0.1, 2)):
            threshold = lowest_cost(known, unknown, *args)
            cost = self.cost(threshold.value, known, unknown, *args)
            places = np.concatenate([known, unknown, [-99.0]])
            costs = [self.cost(place, known, unknown, *args) for place in places]
            assert cost == pytest.approx(min(costs), abs=1e-12)
            assert f"{cost:.4g} per image" in str(threshold)

    def test_separable_scores_are_parted_in_the_middle(self):
        threshold = lowest_cost([0.0, 1.0], [3.0, 4.0], prior_unknown=0.01)
        assert threshold.value == 2.0
        assert "accepts 100 % and 0 %" in str(threshold)

    def test_it_may_be_best_to_accept_everything_or_nothing(self):
        everything = lowest_cost([0.0, 3.0], [1.0, 2.0], 1e-6)
        assert everything.accepts([0.0, 1.0, 2.0, 3.0]).all()
        nothing = lowest_cost([1.0, 2.0], [0.0, 3.0], 1 - 1e-6)
        assert not nothing.accepts([0.0, 1.0, 2.0, 3.0]).any()

    def test_infinite_and_neighbouring_scores(self):
        inf = np.inf
        one, above = np.float32(1), np.nextafter(np.float32(1), np.float32(2))
        for known, unknown, expected in (
            ([-inf], [2.0], 2.0 - 2.0**-12),
            ([2.0], [inf], 2.0 + 2.0**-12),
            ([-inf], [inf], 0.0),
            ([one], [above], 1.0),
            ([-3e38], [3e38], 0.0),
        ):
            threshold = lowest_cost(known, unknown, 0.5)
            assert threshold.value == expected
            assert threshold.accepts(known).all()
            assert not threshold.accepts(unknown).any()
        for no_image in (inf, np.finfo(np.float32).max):
            with pytest.raises(ValueError, match="accepts every image"):
                lowest_cost([no_image], [1.0], 1e-6)
        with pytest.raises(ValueError, match="rejects every image"):
            lowest_cost([1.0], [-inf], 1 - 1e-6)

    def test_is_the_strictest_of_equal_costs(self):
        # Accepting 4 of 6 known and 1 of 3 unknown costs 1/3; so do all 6 and 2.
        threshold = lowest_cost([5.0, 8.0, 6.0, 8.0, 5.0, 5.0], [1.0, 7.0, 9.0], 0.5)
        assert threshold.value == 6.5
        rng = np.random.default_rng(0)
        for _ in range(300):
            known, unknown = rng.integers(0, 9, 7), rng.integers(0, 9, 5)
            costs = [
                Fraction(int(sum(known > t)), 7) + Fraction(int(sum(unknown <= t)), 5)
                for t in range(-1, 9)
            ]
            strictest = costs.index(min(costs)) - 1
            scores = np.concatenate([known, unknown])
            accepted = lowest_cost(known, unknown, 0.5).accepts(scores)
            np.testing.assert_array_equal(accepted, scores <= strictest)

    def test_no_score_stands_at_it_and_text_decides_alike(self):
        rng = np.random.default_rng(0)
        for _ in range(100):
            known = rng.uniform(size=30).astype(np.float32)
            unknown = rng.uniform(0.5, 1.5, 30).astype(np.float32)
            both = np.concatenate([known, unknown])
            for prior in (1e-6, 0.5, 1 - 1e-6):
                threshold = lowest_cost(known, unknown, prior)
                assert threshold.value not in both
                text = both.astype(str)
                for copy in (text, text.astype(np.float64)):
                    np.testing.assert_array_equal(
                        threshold.accepts(copy), threshold.accepts(both)
                    )
                copies = (
                    scores.astype(str).astype(float) for scores in (known, unknown)
                )
                assert lowest_cost(*copies, prior) == threshold

    def test_goes_through_json(self):
        threshold = lowest_cost([0.0, 1.0], [3.0], 0.1)
        assert type(threshold).from_dict(through_json(threshold)) == threshold
        assert threshold.target_acceptance is None

    def test_bad_input_is_explained(self):
        with pytest.raises(ValueError, match="`prior_unknown` is a fraction"):
            lowest_cost([0.0], [1.0], prior_unknown=5)
        for cost in (0, None, "1", np.inf):
            with pytest.raises(ValueError, match=r"`cost_false_accept` must be a numb"):
                lowest_cost([0.0], [1.0], 0.5, cost_false_accept=cost)


@pytest.mark.parametrize(
    "made",
    [
        lambda: quantile(range(30)),
        lambda: conformal(range(30)),
        lambda: conformal_per_class(range(60), np.arange(60) % 2, 2),
        lambda: ConformalPValues(range(30)),
        lambda: lowest_cost(range(30), range(20, 50), 0.25, 2.5, 1e-3),
    ],
)
def test_the_promise_is_one_sentence(made):
    promise = str(made())
    assert promise[0].isupper() and promise.endswith(".")
    assert ". " not in promise and len(promise.split()) > 10


class TestOperatingPoints:
    def test_bad_arguments_are_explained(self):
        for arguments in ({"targets": 0.9}, {"method": "conformal"}):
            with pytest.raises(TypeError, match=r"such as \(0\.9, 0\.95\) and"):
                operating_points(range(30), range(30), **arguments)

    @pytest.mark.parametrize("method", [conformal, quantile])
    def test_several_targets_at_once(self, method):
        rng = np.random.default_rng(0)
        known, unknown = rng.normal(size=500), rng.normal(2, 1, 300)
        points = operating_points(known, unknown, (0.5, 0.99), method)
        for point, target in zip(points, (0.5, 0.99), strict=True):
            assert point.threshold == method(known, target)
            accepted = int(np.sum(unknown <= point.threshold.value))
            assert point.unknown_accepted == accepted / 300
            assert point.unknown_interval == clopper_pearson(accepted, 300)
            assert OperatingPoint.from_dict(through_json(point)) == point
            assert str(point).startswith(str(point.threshold))
            assert "Of 300 unknown images it accepts" in str(point)
