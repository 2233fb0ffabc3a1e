"""The exact metrics against the quadratic reference and scikit-learn."""

from fractions import Fraction

import numpy as np
import pytest
from references import metrics_reference

from ood_keras import metrics
from ood_keras.metrics import ranked_scores
from ood_keras.metrics.measures import BUILT_IN

CASES = metrics_reference.score_cases()


def only(result, expected):
    """Those of the results that `expected` speaks of."""
    return {name: result[name] for name in expected}


def test_every_metric_has_a_reference():
    """Written separately, in `references/metrics_reference.py`."""
    assert set(metrics_reference.evaluate_scores([0.0], [1.0])) == set(BUILT_IN)


@pytest.mark.parametrize("case", CASES)
def test_all_metrics_equal_the_reference(case):
    known, unknown = CASES[case]
    result = metrics.evaluate_scores(known, unknown)
    expected = metrics_reference.evaluate_scores(known.tolist(), unknown.tolist())
    assert only(result, expected) == pytest.approx(expected, abs=1e-14)
    assert all(type(value) is float for value in result.values())
    by_itself = {
        "auroc": metrics.auroc(known, unknown),
        "aupr_in": metrics.aupr_in(known, unknown),
        "aupr_out": metrics.aupr_out(known, unknown),
        "detection_error": metrics.detection_error(known, unknown),
        "fpr95_known_positive": metrics.fpr_at_tpr(known, unknown),
        "fpr95_unknown_positive": metrics.fpr_at_tpr(
            known, unknown, positive="unknown"
        ),
    }
    assert only(result, by_itself) == by_itself


@pytest.mark.parametrize("case", CASES)
def test_equals_scikit_learn(case):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    known, unknown = CASES[case]
    # scikit-learn takes no infinities and its FPR no ties; ranks keep both.
    ranks = np.unique(np.concatenate([known, unknown]) + 0.0, return_inverse=True)[1]
    is_unknown = np.repeat([0, 1], [len(known), len(unknown)])
    result = metrics.evaluate_scores(known, unknown)
    fpr, tpr, _ = sklearn_metrics.roc_curve(is_unknown, ranks, drop_intermediate=False)
    expected = {
        "auroc": sklearn_metrics.roc_auc_score(is_unknown, ranks),
        "aupr_in": sklearn_metrics.average_precision_score(1 - is_unknown, -ranks),
        "aupr_out": sklearn_metrics.average_precision_score(is_unknown, ranks),
        "detection_error": np.min((1 - tpr + fpr) / 2),
        "fpr95_unknown_positive": fpr[np.argmax(tpr >= 0.95)],
    }
    assert only(result, expected) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_random_scores_with_ties(seed):
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 60, 2)
    known, unknown = (rng.integers(0, 20, n).astype(np.float32) for n in size)
    expected = metrics_reference.evaluate_scores(known.tolist(), unknown.tolist())
    result = metrics.evaluate_scores(known, unknown)
    assert only(result, expected) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("block", [1, 2, 7])
@pytest.mark.parametrize("case", CASES)
def test_blocks_change_nothing(case, block, monkeypatch):
    whole = metrics.RankedScores(*CASES[case])
    expected = whole.evaluate()
    monkeypatch.setattr(ranked_scores, "_BLOCK", block)
    ranked = metrics.RankedScores(*CASES[case])
    for name in ("thresholds", "known_accepted", "unknown_accepted"):
        np.testing.assert_array_equal(getattr(ranked, name), getattr(whole, name))
    assert ranked.evaluate() == pytest.approx(expected, abs=1e-14)


def test_hand_worked_numbers():
    """Accepting 0, 1, 2, 3 in turn: known 1, 2, 3, 3 and unknown 0, 0, 1, 2."""
    result = metrics.evaluate_scores([0.0, 1.0, 2.0], [2.0, 3.0])
    expected = {
        "auroc": 5.5 / 6,
        "aupr_in": 1 / 3 + 1 / 3 + 1 / 3 * 3 / 4,
        "aupr_out": 1 / 2 + 1 / 2 * 2 / 3,
        "detection_error": (1 - 2 / 3) / 2,
        "fpr95_known_positive": 1 / 2,
        "fpr95_unknown_positive": 1 / 3,
    }
    assert only(result, expected) == pytest.approx(expected)


def test_constant_scores_are_chance_and_never_look_good():
    result = metrics.evaluate_scores(np.ones(30), np.ones(10))
    assert result["auroc"] == 0.5
    assert result["fpr95_known_positive"] == 1
    assert result["fpr95_unknown_positive"] == 1
    assert result["detection_error"] == 0.5
    assert result["aupr_in"] == 0.75
    assert result["aupr_out"] == 0.25


def test_higher_means_unknown():
    assert metrics.auroc([0.0], [1.0]) == 1
    assert metrics.auroc([1.0], [0.0]) == 0


def test_a_tpr_that_is_reached_exactly_counts():
    known, unknown = np.arange(20.0), np.arange(20.0) - 0.5
    # 19 of 20 known are accepted at 18.0, and with them the unknown up to 17.5.
    assert metrics.fpr_at_tpr(known, unknown, tpr=0.95) == 19 / 20
    for num_known in (20, 50, 100):
        known, unknown = np.arange(num_known), np.arange(num_known) + 0.5
        for tpr in (0.7, 0.9, 0.95, 0.99, 1.0):
            assert metrics.fpr_at_tpr(known, unknown, tpr=tpr) == (
                metrics_reference.fpr_known_positive(
                    known.tolist(), unknown.tolist(), Fraction(str(tpr))
                )
            )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tpr", [0.01, 0.5, 0.8, 1.0])
def test_fpr_at_any_tpr(case, tpr):
    known, unknown = CASES[case]
    for positive in ("known", "unknown"):
        reference = getattr(metrics_reference, f"fpr_{positive}_positive")
        assert metrics.fpr_at_tpr(known, unknown, tpr, positive) == reference(
            known.tolist(), unknown.tolist(), Fraction(str(tpr))
        )


@pytest.mark.parametrize("case", CASES)
def test_roc_curve_is_the_exact_curve(case):
    known, unknown = CASES[case]
    curve = metrics.roc_curve(known, unknown)
    exact = np.array(metrics_reference.points(known.tolist(), unknown.tolist()))
    exact = exact / [len(known), len(unknown)]
    corners = np.stack([curve.known_accepted, curve.unknown_accepted], axis=1)
    assert corners[0].tolist() == [0, 0] and corners[-1].tolist() == [1, 1]
    assert {tuple(point) for point in corners} <= {tuple(point) for point in exact}
    area = np.trapezoid(curve.known_accepted, curve.unknown_accepted)
    assert area == pytest.approx(metrics_reference.auroc(known, unknown))
    for threshold, accepted in zip(curve.thresholds[1:], corners[1:], strict=True):
        assert np.mean(known <= threshold) == accepted[0]
        assert np.mean(unknown <= threshold) == accepted[1]


def test_one_ranking_serves_every_metric():
    known, unknown = CASES["overlapping"]
    ranked = metrics.RankedScores(known, unknown)
    assert ranked.fpr_at_tpr(0.8) == metrics.fpr_at_tpr(known, unknown, 0.8)
    assert ranked.evaluate() == metrics.evaluate_scores(known, unknown)
    np.testing.assert_array_equal(
        ranked.roc_curve().thresholds, metrics.roc_curve(known, unknown).thresholds
    )


@pytest.mark.parametrize(
    ("known", "unknown", "message"),
    [
        ([], [1.0], r"`known_scores` must hold .* at least one image"),
        ([1.0], [], r"`unknown_scores` must hold .* at least one image"),
        ([[1.0]], [1.0], r"shape \(num_images,\)"),
        ([1.0, np.nan, np.nan], [1.0], "NaN, which has no rank: 2 of 3"),
        ([1.0], np.array([np.nan], np.float32), "`unknown_scores` holds NaN"),
    ],
)
def test_bad_scores_are_explained(known, unknown, message):
    for function in (metrics.evaluate_scores, metrics.auroc, metrics.roc_curve):
        with pytest.raises(ValueError, match=message):
            function(known, unknown)


def test_bad_arguments_are_explained():
    with pytest.raises(TypeError, match="real numbers"):
        metrics.auroc(["a"], ["b"])
    with pytest.raises(ValueError, match=r"write 95 % as 0\.95"):
        metrics.fpr_at_tpr([0.0], [1.0], tpr=95)
    with pytest.raises(ValueError, match=r"write 95 % as 0\.95"):
        metrics.fpr_at_tpr([0.0], [1.0], tpr="0.95")
    with pytest.raises(ValueError, match=r"write 95 % as 0\.95"):
        metrics.fpr_at_tpr([0.0], [1.0], tpr=None)
    with pytest.raises(ValueError, match="`positive` must be"):
        metrics.fpr_at_tpr([0.0], [1.0], positive="in")


def test_inputs_stay_as_they_are():
    known = np.array([2.0, -0.0, 1.0], np.float32)
    before = known.tobytes()
    metrics.evaluate_scores(known, known)
    assert known.tobytes() == before
