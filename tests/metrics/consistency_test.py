"""The linter: never wrong about real results, and sharp where it can be."""

import json

import numpy as np
import pytest
from references import metrics_reference

from ood_keras import metrics
from ood_keras.metrics import check_consistency

CASES = metrics_reference.score_cases()


def test_finds_exactly_the_five_impossible_rows_of_the_paper():
    rows = metrics.paper_table()
    assert len(rows) == 51
    found = check_consistency(rows, unit="percent")
    assert {one.where for one in found} == {
        "1 (mnist, emnist/letters, odin)",
        "2 (mnist, emnist/letters, confident_classifier)",
        "27 (fashion_mnist, emnist/letters, odin)",
        "32 (fashion_mnist, mnist, odin)",
        "33 (fashion_mnist, mnist, confident_classifier)",
    }
    assert all("detection_error" in one.values for one in found)
    # The paper's own rows pass.
    assert not any("modified_senet" in one.where for one in found)


def test_the_paper_trained_on_two_of_its_own_rows():
    seen = [row for row in metrics.paper_table() if row["seen"]]
    assert [(row["known"], row["unknown"], row["detector"]) for row in seen] == [
        ("mnist", "emnist/letters", "modified_senet"),
        ("fashion_mnist", "mnist", "modified_senet"),
    ]


@pytest.mark.parametrize("case", CASES)
def test_true_results_pass(case):
    known, unknown = CASES[case]
    result = metrics.evaluate_scores(known, unknown)
    correct = np.random.default_rng(0).random(len(known)) < 0.7
    result["accuracy"] = float(correct.mean())
    result["oscr"] = metrics.oscr(known, correct, unknown)
    assert check_consistency(result) == []
    printed = {name: f"{100 * value:.1f}" for name, value in result.items()}
    assert check_consistency(printed, unit="percent") == []


def test_true_results_pass_at_random():
    rng = np.random.default_rng(0)
    for _ in range(3000):
        size = rng.integers(1, 45, 2)
        spread = rng.integers(1, 60)
        known = rng.integers(0, spread, size[0])
        unknown = rng.integers(0, spread, size[1]) + rng.integers(-9, 30)
        result = metrics.evaluate_scores(known, unknown)
        assert check_consistency(result) == []
        printed = {name: f"{value:.2f}" for name, value in result.items()}
        assert check_consistency(printed) == []


BROKEN = [
    ({"auroc": 1.1}, "0 <= auroc <= 1"),
    ({"aupr_in": -0.1}, "0 <= aupr_in <= 1"),
    ({"detection_error": 0.51}, "0 <= detection_error <= 0.5"),
    ({"auroc": float("nan")}, "0 <= auroc <= 1"),
    ({"auroc": 0.79, "detection_error": 0.1}, "auroc >= 1 - 2 detection_error"),
    ({"auroc": 0.99, "detection_error": 0.1}, "auroc <= 1 - 2 detection_error^2"),
    (
        {"detection_error": 0.11, "fpr95_known_positive": 0.15},
        "detection_error <= (0.05 + fpr95_known_positive) / 2",
    ),
    (
        {"detection_error": 0.02, "fpr95_unknown_positive": 0.2},
        "detection_error >= min(0.05, fpr95_unknown_positive) / 2",
    ),
    (
        {"auroc": 0.75, "fpr95_known_positive": 0.2},
        "auroc >= 0.95 (1 - fpr95_known_positive)",
    ),
    (
        {"auroc": 0.99, "fpr95_unknown_positive": 0.9},
        "auroc <= 1 - 0.025 fpr95_unknown_positive",
    ),
    (
        {"fpr95_known_positive": 0.01, "fpr95_unknown_positive": 0.2},
        "fpr95_unknown_positive <= 0.05 where fpr95_known_positive <= 0.05",
    ),
    ({"auroc": 1.0, "aupr_in": 0.9}, "aupr_in = 1 where auroc = 1"),
    ({"auroc": 0.9, "aupr_out": 1.0}, "auroc = 1 where aupr_out = 1"),
    ({"oscr": 0.95, "auroc": 0.9}, "oscr <= auroc"),
    ({"oscr": 0.95, "accuracy": 0.9}, "oscr <= accuracy"),
    (
        {"oscr": 0.7, "accuracy": 0.9, "auroc": 0.9},
        "oscr >= auroc + accuracy - 1",
    ),
]


@pytest.mark.parametrize(("cell", "rule"), BROKEN)
def test_each_rule_is_found_in_fractions_and_percent(cell, rule):
    assert [one.rule for one in check_consistency(cell)] == [rule]
    percent = {name: 100 * value for name, value in cell.items()}
    assert [one.rule for one in check_consistency(percent, "percent")] == [rule]


def test_the_rules_are_sharp():
    """Score sets that meet the bounds: known and unknown at hand-picked places."""
    error = 0.25
    lowest = metrics.evaluate_scores([0.0, 2.0], [1.0])
    assert lowest["detection_error"] == error
    assert lowest["auroc"] == 1 - 2 * error
    # The chord that ties give: the curve is the line TPR = FPR + 1 - 2 e itself.
    highest = metrics.evaluate_scores([0.0, 1.0], [1.0, 2.0])
    assert highest["detection_error"] == error
    assert highest["auroc"] == 1 - 2 * error**2


def test_rounding_is_read_from_the_printed_digits():
    """1 - 2 e = 0.9: a printed 0.90 or 0.9 may hide it, 0.8999 may not."""
    for auroc, num_found in (("0.9", 0), ("0.90", 0), ("0.8999", 1), (0.8999, 1)):
        cell = {"auroc": auroc, "detection_error": 0.05}
        assert len(check_consistency(cell)) == num_found
    assert not check_consistency({"auroc": "89.5", "detection_error": "5"}, "percent")


def test_walks_a_metrics_json():
    result = metrics.evaluate_scores(*CASES["overlapping"])
    report = {
        "known": {"source": "digits", "accuracy": 0.99},
        "detectors": {
            "msp": {"unknown": {"glyphs": {"seen": False, **result}}},
            "energy": {"unknown": {"glyphs": {"seen": False, **result}}},
        },
        "selected_detector": "msp",
    }
    assert check_consistency(json.loads(json.dumps(report))) == []
    report["detectors"]["energy"]["unknown"]["glyphs"]["detection_error"] = 0.01
    found = check_consistency(report)
    assert {one.where for one in found} == {"detectors/energy/unknown/glyphs"}
    assert "detection_error=0.01" in str(found[0])
    assert "but always detection_error >=" in str(found[-1])


def test_metrics_in_float32_are_possible():
    scores = np.random.default_rng(0).normal(size=(60, 2, 200)).astype("float32")
    for seed, (known, unknown) in enumerate(scores):
        pair = known, unknown[: 1 + seed] + np.float32(seed / 10)
        result = metrics.evaluate_scores(*pair)
        for sign in (-1, 1):
            rounded = {n: float(v + sign * 3e-6) for n, v in result.items() if v < 1}
            rounded = {n: v for n, v in rounded.items() if v > 0}
            assert check_consistency(rounded) == []


def test_one_hundred_percent_is_exact():
    assert check_consistency({"auroc": 1.0, "aupr_in": 0.999})
    assert not check_consistency({"auroc": 0.9999966621398926, "aupr_out": 0.9989})


def test_missing_values_are_skipped():
    assert check_consistency({"auroc": None, "detection_error": 0.4}) == []


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match='"fraction" or "percent"'):
        check_consistency({}, unit="%")
    with pytest.raises(ValueError, match="results/auroc must be a number"):
        check_consistency({"auroc": "n/a"})
