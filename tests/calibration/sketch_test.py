"""Thresholds of a sketch: never below that of the scores themselves."""

import json

import numpy as np
import pytest

from ood_keras import calibration, metrics
from ood_keras.metrics.score_sketch import NUM_BINS, bin_index


def draw(scale, shift, seed=0):
    rng = np.random.default_rng(seed)
    known = (scale * rng.normal(size=5000) + shift).astype(np.float32)
    unknown = (scale * rng.normal(2, size=3000) + shift).astype(np.float32)
    return known, unknown


SCALES = [(1, 0), (1, -3), (1e-3, 5), (1e3, 0), (1e-9, 0), (1e-30, 0), (1e6, -1e8)]


@pytest.mark.parametrize(("scale", "shift"), SCALES)
@pytest.mark.parametrize("target", [0.5, 0.9, 0.99])
def test_the_promise_holds(scale, shift, target):
    known, unknown = draw(scale, shift)
    sketch = metrics.ScoreSketch().update(known, unknown)
    for method, k in (
        (calibration.conformal, int(np.ceil((len(known) + 1) * target))),
        (calibration.quantile, int(np.ceil(len(known) * target))),
    ):
        threshold = method(sketch, target)
        score = np.sort(known)[k - 1]
        assert threshold.value >= score
        assert threshold.accepts(known).mean() >= target
        # 0.4 % of the score, or what is taken for 0.
        assert threshold.value - score <= max(0.004 * abs(score), 2.0**-23)
        exact = method(known, target)
        assert threshold.guarantee == exact.guarantee
        assert threshold.acceptance_interval == exact.acceptance_interval


def test_parts_give_the_threshold_of_the_whole():
    known, unknown = draw(1, 0)
    whole = metrics.ScoreSketch().update(known, unknown)
    merged = metrics.ScoreSketch()
    for part in range(7):
        merged.merge(metrics.ScoreSketch().update(known[part::7], unknown[part::7]))
    for method in (calibration.conformal, calibration.quantile, calibration.choose):
        assert method(merged) == method(whole)
    assert calibration.choose(merged).method == "conformal"
    few = metrics.ScoreSketch().update([1.0, 2.0])
    assert calibration.choose(few).method == "quantile"


def test_each_class_keeps_its_promise():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 6000)
    scores = (rng.normal(size=6000) * (1 + classes) + classes).astype(np.float32)
    sketches = [metrics.ScoreSketch().update(scores[classes == c]) for c in range(3)]
    found = calibration.conformal_per_class(sketches, None, 3, 0.9)
    exact = calibration.conformal_per_class(scores, classes, 3, 0.9)
    assert found.guarantee == exact.guarantee
    assert found.num_calibration == exact.num_calibration
    assert found.acceptance_intervals == exact.acceptance_intervals
    for c in range(3):
        own = np.sort(scores[classes == c])
        score = own[int(np.ceil((len(own) + 1) * 0.9)) - 1]
        assert score <= found.values[c] <= score + 0.004 * abs(score)


def test_sketches_of_classes_that_do_not_fit_are_explained():
    sketches = [metrics.ScoreSketch().update(np.arange(30.0)) for _ in range(3)]
    with pytest.raises(ValueError, match=r"a list of 4 sketches.*Received: 3"):
        calibration.conformal_per_class(sketches, None, 4)
    with pytest.raises(ValueError, match=r"a list of 2 sketches.*Received: 1"):
        calibration.conformal_per_class(sketches[0], None, 2)
    with pytest.raises(TypeError, match="give None for `predicted_classes`"):
        calibration.conformal_per_class(sketches, np.zeros(3, int), 3)
    with pytest.raises(TypeError, match="one integer for each"):
        calibration.conformal_per_class(np.arange(60.0), None, 2)
    few = [*sketches[:2], metrics.ScoreSketch().update([1.0])]
    with pytest.raises(ValueError, match=r"\{2: 1\}"):
        calibration.conformal_per_class(few, None, 3)


@pytest.mark.parametrize(("scale", "shift"), SCALES)
def test_a_p_value_is_never_below_that_of_the_scores(scale, shift):
    known, unknown = draw(scale, shift)
    scores = np.append(known[:500], unknown[:500])
    sketch = metrics.ScoreSketch().update(known, unknown)
    p_values, exact = map(calibration.ConformalPValues, (sketch, known))
    found, expected = p_values(scores), exact(scores)
    # Those that share the score's bin count as at least as high, and no others.
    bins, of_known = (
        bin_index(np, (each + np.float32(0)).view(np.int32)) for each in (scores, known)
    )
    beside = [
        np.sum((of_known == place) & (known < score))
        for place, score in zip(bins, scores, strict=True)
    ]
    np.testing.assert_allclose(found, expected + np.array(beside) / (len(known) + 1))
    assert p_values.guarantee(0.2) == exact.guarantee(0.2)
    copy = calibration.ConformalPValues.from_dict(
        json.loads(json.dumps(p_values.to_dict()))
    )
    np.testing.assert_array_equal(copy(scores), found)
    # What the sketch sees later is not in it.
    sketch.update(known)
    np.testing.assert_array_equal(p_values(scores), found)


def test_the_lowest_cost_is_that_of_the_scores_rounded_to_bins():
    known, unknown = draw(1, 0)
    sketch = metrics.ScoreSketch().update(known, unknown)
    threshold = calibration.lowest_cost(sketch, None, 0.2, cost_false_accept=3)

    def cost(limit):
        return 0.8 * np.mean(known > limit) + 0.6 * np.mean(unknown <= limit)

    bins = {int(bin_index(np, s.view(np.int32))) for s in np.append(known, unknown)}
    full = metrics.ScoreSketch(np.ones((2, NUM_BINS), np.int64))
    ends = full.ends(np.array(sorted(bins)))
    assert cost(threshold.value) == pytest.approx(min(map(cost, ends)))
    assert "no threshold between the bins of the sketch costs less" in str(threshold)
    assert threshold.num_calibration == len(known)


def test_operating_points_count_what_the_sketch_counted():
    known, unknown = draw(1, 0)
    sketch = metrics.ScoreSketch().update(known, unknown)
    for point in calibration.operating_points(sketch, None):
        accepted = point.threshold.accepts(unknown).mean()
        assert point.unknown_accepted == pytest.approx(accepted, abs=1e-12)
        assert point.num_unknown == len(unknown)


def test_ends_part_neighbouring_bins():
    """Every finite end accepts its bin's largest number and nothing of the next."""
    rng = np.random.default_rng(0)
    places = np.append(rng.integers(0, NUM_BINS - 2, 300), [0, NUM_BINS // 2 - 1])
    full = metrics.ScoreSketch(np.ones((2, NUM_BINS), np.int64))
    ends = full.ends(places)
    inside = np.float32(ends)
    found = bin_index(np, (inside + np.float32(0)).view(np.int32))
    # Below 0, where float32 has no normal number, the end lies just above it.
    beyond = places == NUM_BINS // 2 - 1
    np.testing.assert_array_equal(found[~beyond], places[~beyond])
    above = np.nextafter(inside, np.float32(np.inf))
    after = bin_index(np, (above + np.float32(0)).view(np.int32))
    np.testing.assert_array_equal(after[~beyond], places[~beyond] + 1)
    assert np.all(inside[beyond] == np.finfo(np.float32).tiny)
    # Where the next bin is empty, the end lies within it.
    empty = metrics.ScoreSketch().ends(places)
    found = bin_index(np, np.float32(empty).view(np.int32))
    np.testing.assert_array_equal(found, places + 1)


def test_what_no_threshold_can_stand_above_is_explained():
    sketch = metrics.ScoreSketch().update([0.0, 1.0, np.inf, np.inf], [1.0])
    with pytest.raises(ValueError, match=r"beyond 2\^40.*infinite"):
        calibration.quantile(sketch, 0.9)
    assert calibration.quantile(sketch, 0.5).value > 1
    with pytest.raises(ValueError, match="seen no known score"):
        calibration.conformal(metrics.ScoreSketch().update([], [1.0]))
    with pytest.raises(ValueError, match=r"from 1 to .*4"):
        sketch.known_at_most(5)
    with pytest.raises(TypeError, match="holds the unknown scores too"):
        calibration.lowest_cost(sketch, [1.0], 0.1)
    with pytest.raises(ValueError, match="of 2 known and 0 unknown"):
        calibration.operating_points(metrics.ScoreSketch().update([1.0, 2.0]), None)
