"""Quantile and conformal thresholds against sorting, theory and simulation."""

import dataclasses
import json
import math
import pathlib

import numpy as np
import pytest

from ood_keras.calibration import (
    Threshold,
    choose,
    conformal,
    quantile,
    registry,
    smallest_num_images,
)

MODELS = pathlib.Path(__file__).resolve().parents[2] / "saved_models"
METHODS = {"quantile": quantile, "conformal": conformal}


def scores(num_scores, seed=0):
    return np.random.default_rng(seed).normal(size=num_scores).astype(np.float32)


@pytest.mark.parametrize("num_scores", [1, 2, 19, 20, 21, 99, 100, 1000])
@pytest.mark.parametrize("target", [0.05, 0.5, 0.9, 0.95, 0.99])
def test_quantile_is_the_lowest_score_that_accepts_enough(num_scores, target):
    known = scores(num_scores)
    threshold = quantile(known, target)
    accepted = threshold.accepts(known).sum()
    assert threshold.value not in known
    assert accepted * 100 >= round(target * 100) * num_scores
    assert (accepted - 1) * 100 < round(target * 100) * num_scores


@pytest.mark.parametrize("target", [0.05, 0.5, 0.9, 0.95, 0.99, 0.999])
def test_conformal_is_the_kth_smallest_score(target):
    for num_scores in (smallest_num_images(target), 1000, 2025):
        known = scores(num_scores)
        k = math.ceil(round((num_scores + 1) * target, 6))
        below, above = np.append(np.sort(known), np.inf)[k - 1 : k + 1]
        threshold = conformal(known, target)
        assert below < threshold.value < above
        assert threshold.accepts(known).sum() == k


@pytest.mark.parametrize(
    ("target", "smallest"), [(0.9, 9), (0.95, 19), (0.99, 99), (0.999, 999)]
)
def test_smallest_number_of_images(target, smallest):
    assert smallest_num_images(target) == smallest
    highest = scores(smallest).max()
    assert highest < conformal(scores(smallest), target).value < highest * 1.001
    with pytest.raises(ValueError, match=f"needs at least {smallest} known images"):
        conformal(scores(smallest - 1), target)


def generated_scores():
    return np.random.default_rng(5).standard_t(3, size=4000).astype(np.float32)


def real_scores():
    """Negative largest logits of real digits, by a classifier that never saw them."""
    datasets = pytest.importorskip("sklearn.datasets")
    linear_model = pytest.importorskip("sklearn.linear_model")
    images, labels = datasets.load_digits(return_X_y=True)
    model = linear_model.RidgeClassifier().fit(images[:600], labels[:600])
    return -model.decision_function(images[600:]).max(axis=1).astype(np.float32)


@pytest.mark.parametrize("pool_of", [generated_scores, real_scores])
def test_conformal_acceptance_over_1000_splits_is_as_theory_says(pool_of):
    """Of m others, the number accepted is beta-binomial(m, k, n + 1 - k), exactly."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(5)
    pool = pool_of()
    n, k = 500, 476
    m = len(pool) - n
    accepted = []
    for _ in range(1000):
        rng.shuffle(pool)
        threshold = conformal(pool[:n], 0.95)
        accepted.append(threshold.accepts(pool[n:]).sum())
    theory = stats.betabinom(m, k, n + 1 - k)
    standard_error = theory.std() / math.sqrt(1000)
    assert abs(np.mean(accepted) - theory.mean()) < 4 * standard_error
    low, high = theory.ppf([0.05, 0.95])
    inside = np.mean((accepted >= low) & (accepted <= high))
    expected = theory.cdf(high) - theory.cdf(low - 1)
    assert inside == pytest.approx(expected, abs=4 * math.sqrt(0.09 / 1000))


def test_the_interval_is_that_of_the_beta_distribution():
    stats = pytest.importorskip("scipy.stats")
    threshold = conformal(scores(100), 0.9)
    expected = stats.beta(91, 10).ppf([0.05, 0.95])
    np.testing.assert_allclose(threshold.acceptance_interval, expected)
    threshold = quantile(scores(100), 0.9)
    expected = stats.beta(90, 11).ppf([0.05, 0.95])
    np.testing.assert_allclose(threshold.acceptance_interval, expected)


def test_the_quantile_accepts_on_average_what_it_says():
    rng = np.random.default_rng(0)
    promise = str(quantile(scores(19), 0.9))
    assert promise.endswith("and at least 90 % on average.")  # 18 of 19 + 1
    accepted = [
        quantile(rng.normal(size=19), 0.9).accepts(rng.normal(size=100)).mean()
        for _ in range(1000)
    ]
    assert np.mean(accepted) == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_ties_and_constant_scores_only_accept_more(method):
    threshold = METHODS[method](np.full(30, 2.0), 0.9)
    assert 2.0 < threshold.value < 2.001
    assert threshold.accepts([2.0, 1.0, 2.1]).tolist() == [True, True, False]
    # Saturated at 0, with a few others that tell how large a score is.
    saturated = METHODS[method](np.repeat([0.0, 3.0], [95, 5]), 0.9)
    assert 0.0 < saturated.value < 0.001
    assert saturated.accepts([0.0, 1e-6, 3.0]).tolist() == [True, True, False]
    zero = METHODS[method](np.zeros(30), 0.9)
    assert zero.accepts([0.0, -0.0, 1e-30]).tolist() == [True, True, False]


@pytest.mark.parametrize("method", METHODS)
def test_float64_scores_stay_accepted_in_float32(method):
    known = 1 + np.arange(40) * 1e-12
    threshold = METHODS[method](known, 0.9)
    assert np.float32(threshold.value) == threshold.value
    assert threshold.accepts(known).mean() >= 0.9
    assert threshold.accepts(known.astype(np.float32)).mean() >= 0.9
    # No more of them than of their float32 numbers.
    known = np.random.default_rng(0).normal(size=500)
    assert METHODS[method](known, 0.9) == METHODS[method](known.astype(np.float32), 0.9)


def as_read_back(known):
    """Float32 scores in every form in which they come back."""
    text = known.astype(str)
    return {
        "float64": known.astype(np.float64),
        "text": text,
        "bytes": text.astype(bytes),
        "text as float64": text.astype(np.float64),
        "nine digits": np.array([f"{score:.9g}" for score in known.tolist()]),
        "exact digits": np.array([repr(score) for score in known.tolist()]),
        "objects": text.astype(object),
        "list": known.tolist(),
    }


@pytest.mark.parametrize("method", METHODS)
def test_a_score_decides_as_what_is_read_back_of_it(method):
    """The issue's 181 sets, decided by the threshold and at each of the scores."""
    rng = np.random.default_rng(0)
    for num_scores in range(19, 200):
        known = rng.uniform(size=num_scores).astype(np.float32)
        threshold = METHODS[method](known, 0.9)
        # As older artifacts have it, and users who take a score.
        at_a_score = dataclasses.replace(threshold, value=float(np.sort(known)[-2]))
        for each in (threshold, at_a_score):
            expected = each.accepts(known)
            for form, copy in as_read_back(known).items():
                np.testing.assert_array_equal(each.accepts(copy), expected, form)
        copy = known.astype(str).astype(np.float64)
        assert METHODS[method](copy, 0.9) == threshold


def test_what_is_no_score_is_not_decided():
    threshold = quantile(scores(20))
    for wrong in (["", "1.0"], ["high"], [b"x"], [[1.0], ["no"]]):
        with pytest.raises(ValueError, match="`scores` must be numbers, or texts"):
            threshold.accepts(np.array(wrong, object))
    # Beyond float32 as in a graph; without a score as NaN.
    beyond = threshold.accepts([1e300, -1e300, np.inf, -np.inf])
    assert beyond.tolist() == [False, True, False, True]
    missing = np.array([None, "nan", "-inf", "inf"], object)
    assert threshold.accepts(missing).tolist() == [False, False, True, False]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("offset", [0.0, -20.0, 1000.0])
@pytest.mark.parametrize("seed", range(5))
def test_rounding_decides_no_calibration_image(method, offset, seed):
    """The scores are moved as another batch size or runtime does."""
    known = scores(200, seed) + np.float32(offset)
    threshold = METHODS[method](known, 0.9)
    expected = threshold.accepts(known)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        moved = known * (1 + rng.uniform(-2e-7, 2e-7, 200))
        np.testing.assert_array_equal(threshold.accepts(moved), expected)


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_rounding_cannot_part_are_accepted_together(method):
    one = np.float32(1)
    cluster = [one]
    for _ in range(5):
        cluster.append(np.nextafter(cluster[-1], np.float32(2)))
    # The one to accept is the lowest of six neighbours in float32.
    known = np.concatenate([np.linspace(0, 0.9, 89), cluster, np.full(5, 1.5)])
    threshold = METHODS[method](known, 0.9)
    assert cluster[-1] < threshold.value < 1.5
    assert threshold.accepts(known).sum() == 95
    # Where every gap is that narrow the threshold stays near, and keeps its promise.
    dense = one + np.arange(2000, dtype=np.float32) * np.spacing(one)
    threshold = METHODS[method](dense, 0.9)
    assert 0.9 <= threshold.accepts(dense).mean() < 0.97


@pytest.mark.parametrize("method", METHODS)
def test_an_outlier_does_not_draw_the_threshold_to_itself(method):
    # All but three of 200 are to be accepted.
    known = np.append(scores(197), np.array([1e30, 2e30, 3e38], np.float32))
    threshold = METHODS[method](known, {"quantile": 0.985, "conformal": 0.98}[method])
    highest = float(np.sort(known)[-4])
    assert highest < threshold.value < highest * 1.001
    largest = METHODS[method](np.full(30, np.nextafter(np.float32(3.4e38), 0)), 0.9)
    assert np.isfinite(largest.value)
    assert not largest.accepts(np.finfo(np.float32).max)


@pytest.mark.parametrize("method", METHODS)
def test_infinite_scores(method):
    known = np.concatenate([[-np.inf], np.arange(97.0), [np.inf, np.inf]])
    threshold = METHODS[method](known, 0.9)
    assert 0 <= threshold.value < 97
    assert threshold.accepts([-np.inf, np.inf]).tolist() == [True, False]
    with pytest.raises(ValueError, match="2 of 100 known scores are inf"):
        METHODS[method](known, 0.99)


@pytest.mark.parametrize("method", METHODS)
def test_says_what_it_promises(method):
    threshold = METHODS[method](scores(1000), 0.95)
    assert str(threshold) == threshold.guarantee
    assert "95 %" in str(threshold) and "1,000 known images" in str(threshold)
    assert str(threshold).endswith(".") and str(threshold).count(". ") == 0
    assert threshold.method == method
    assert threshold.target_acceptance == 0.95
    assert threshold.num_calibration == 1000


@pytest.mark.parametrize("method", METHODS)
def test_goes_through_json(method):
    threshold = METHODS[method](scores(50), 0.9)
    fields = json.loads(json.dumps(threshold.to_dict(), allow_nan=False))
    assert Threshold.from_dict(fields) == threshold


def test_goes_through_json_with_the_numbers_of_numpy():
    numbers = np.float32(0.5), np.int64(3), np.float32(0.9)
    value, count, target = numbers
    ends = np.array([0.25, 0.75], np.float32)
    sentence = "Between 25 % and 75 %."
    threshold = Threshold(value, "mine", sentence, count, target, ends)
    fields = json.loads(json.dumps(threshold.to_dict(), allow_nan=False))
    assert Threshold.from_dict(fields) == threshold


def test_nan_is_never_accepted():
    assert quantile(scores(20)).accepts([np.nan, -9.0]).tolist() == [False, True]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("known", "target", "message"),
    [
        ([], 0.95, "at least one image"),
        ([0.0, np.nan], 0.5, "holds NaN"),
        ([0.0, 1.0], 95, r"write 95 % as 0\.95"),
        ([0.0, 1.0], 1.0, "strictly between 0 and 1"),
        ([0.0, 1.0], 0.0, "strictly between 0 and 1"),
        ([0.0, 1.0], math.nan, "strictly between 0 and 1"),
        ([0.0, 1.0], "0.95", "strictly between 0 and 1"),
        ([0.0, 1.0], None, "strictly between 0 and 1"),
        ([0.0, 1.0], [0.5], "strictly between 0 and 1"),
        (np.full(40, 1e300), 0.9, "beyond what float32 holds"),
        # The score that exported models give bytes that were not divided by 255.
        (np.full(40, np.finfo(np.float32).max), 0.9, "40 of 40 .* divide bytes by 255"),
    ],
)
def test_bad_input_is_explained(method, known, target, message):
    with pytest.raises(ValueError, match=message):
        METHODS[method](known, target)


def test_one_choice_for_every_command():
    known = scores(200)
    assert choose(known) == conformal(known, 0.95)
    assert choose(known, 0.9, "quantile") == quantile(known, 0.9)
    # 18 are one too few for a promise of 95 %.
    assert choose(known[:18]) == quantile(known[:18], 0.95)
    with pytest.raises(ValueError, match="needs at least 19 known images"):
        choose(known[:18], method="conformal")
    with pytest.raises(
        ValueError, match=r"'best'; expected one of: .*conformal, .*quantile"
    ):
        choose(known, method="best")


def test_a_threshold_must_fit_float32():
    fields = quantile(scores(20)).to_dict()
    for value in (0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="number that float32 holds"):
            Threshold.from_dict({**fields, "value": value})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_acceptance": 0.9}, "with target_acceptance=0.9 on 1,000 images has"),
        ({"num_calibration": 900}, "with target_acceptance=0.95 on 900 images has"),
        ({"acceptance_interval": (0.9, 0.96)}, r"Received: \(0.9, 0.96\)"),
        ({"acceptance_interval": (0.96, 0.9)}, "two fractions"),
        ({"guarantee": "Accepts 95 %."}, r"other fields say: 9.* by `acceptance_inter"),
        ({"method": "mine", "acceptance_interval": (0.91, 0.96)}, "say: 91 %, by"),
    ],
)
def test_a_sentence_that_its_fields_contradict_is_an_error(method, change, message):
    threshold = METHODS[method](scores(1000), 0.95)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(threshold, **change)
    with pytest.raises(ValueError, match=message):
        Threshold.from_dict({**threshold.to_dict(), **change})
    # More may follow the sentence, and a name of one's own frees from the rank.
    dataclasses.replace(threshold, guarantee=f"{threshold} Of 10 unknown, none.")
    dataclasses.replace(threshold, method="mine", target_acceptance=0.9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("known", [scores(1000), np.full(1000, 3.0)])
def test_a_value_that_its_sentence_contradicts_is_an_error(method, known):
    threshold = METHODS[method](known, 0.95)
    assert threshold.check_promise(known) is threshold
    others = dataclasses.replace(threshold, value=float(np.float32(known.min() - 1)))
    with pytest.raises(ValueError, match=r"accepts 0 % of the known .* promises betwe"):
        others.check_promise(known)
    # Nothing is promised, so nothing is broken.
    dataclasses.replace(others, acceptance_interval=None).check_promise(known)
    if len(set(known)) > 1:
        everything = dataclasses.replace(threshold, value=float(known.max() + 1))
        with pytest.raises(ValueError, match="accepts 100 % of the known images"):
            everything.check_promise(known)


def test_what_a_method_of_ones_own_promises_is_checked(monkeypatch):
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))

    @registry.register
    def of_the_mean(known_scores, target_acceptance=0.95):
        value = float(np.float32(np.mean(known_scores)))
        threshold = quantile(known_scores, target_acceptance)
        return dataclasses.replace(threshold, method="of_the_mean", value=value)

    with pytest.raises(ValueError, match=r"'of_the_mean' chose .* promises between"):
        choose(scores(1000), 0.95, "of_the_mean")


@pytest.mark.parametrize("path", sorted(MODELS.glob("*/*/manifest.json")))
def test_shipped_thresholds_say_what_they_do(path):
    manifest = json.loads(path.read_text())
    points = manifest["operating_points"].values()
    for fields in (manifest["threshold"], *points):
        assert Threshold.from_dict(fields).method == "conformal"
        with pytest.raises(ValueError, match=r"target_acceptance=0\.9 on"):
            Threshold.from_dict({**fields, "target_acceptance": 0.9})
