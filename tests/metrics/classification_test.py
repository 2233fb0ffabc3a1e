"""OSCR, AURC and the calibration error against the references."""

import numpy as np
import pytest
from references import metrics_reference

from ood_keras import metrics

CASES = metrics_reference.score_cases()


@pytest.mark.parametrize("case", CASES)
def test_oscr_equals_the_reference(case):
    known, unknown = CASES[case]
    correct = np.random.default_rng(0).random(len(known)) < 0.8
    assert metrics.oscr(known, correct, unknown) == pytest.approx(
        metrics_reference.oscr(known.tolist(), correct, unknown.tolist()), abs=1e-14
    )


def test_oscr_is_the_auroc_if_all_are_right_and_0_if_none_is():
    known, unknown = CASES["many_ties"]
    right = np.ones(len(known), bool)
    assert metrics.oscr(known, right, unknown) == metrics.auroc(known, unknown)
    assert metrics.oscr(known, ~right, unknown) == 0


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("error_rate", [0, 0.3, 1])
def test_aurc_equals_the_reference(case, error_rate):
    scores = np.concatenate(CASES[case])
    errors = np.random.default_rng(0).random(len(scores)) < error_rate
    assert metrics.aurc(scores, errors) == pytest.approx(
        metrics_reference.aurc(scores.tolist(), errors), abs=1e-14
    )


def test_aurc_of_constant_scores_is_the_error_rate():
    assert metrics.aurc(np.zeros(4), np.array([True, False, False, False])) == 0.25


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_calibration_error_equals_the_reference(num_bins):
    rng = np.random.default_rng(0)
    confidence = np.concatenate([rng.random(200), [0.0, 1.0, 0.1, 0.2, 1 / 15, 0.5]])
    correct = rng.random(len(confidence)) < confidence**2
    for dtype in (np.float32, np.float64):
        values = confidence.astype(dtype)
        assert metrics.calibration_error(values, correct, num_bins) == pytest.approx(
            metrics_reference.calibration_error(values.tolist(), correct, num_bins)
        )


def test_a_confidence_on_an_edge_counts_to_the_lower_bin():
    # Bins up to 0.5 and beyond: |1 - 0.5| and |0 - 0.9| over two images.
    assert metrics.calibration_error([0.5, 0.9], [True, False], 2) == 0.7


def test_confidences_on_edges_count_alike_however_they_were_stored():
    # Of a softmax, of its text, and of that as float32 or float64.
    confidence = np.arange(1, 11, dtype=np.float32) / np.float32(10)
    correct = np.random.default_rng(0).random(10) < 0.5
    for num_bins in (5, 10, 15):
        copies = [confidence, confidence.astype(str).astype(np.float64)]
        errors = [metrics.calibration_error(c, correct, num_bins) for c in copies]
        assert errors[0] == pytest.approx(errors[1], abs=1e-7)


def test_calibration_error_of_the_calibrated_and_the_overconfident():
    half = np.arange(100) % 2 == 0
    assert metrics.calibration_error(np.full(100, 0.5), half) == 0
    assert metrics.calibration_error(np.ones(100), half) == 0.5


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match="`correct` must hold one bool per image"):
        metrics.oscr([0.0, 1.0], [1, 0], [2.0])
    with pytest.raises(ValueError, match="`errors` must hold one bool per image"):
        metrics.aurc([0.0, 1.0], [True])
    with pytest.raises(ValueError, match="apply a softmax to logits"):
        metrics.calibration_error([0.5, 7.0], [True, False])
    for num_bins in (0, 2.5, None):
        with pytest.raises(ValueError, match="`num_bins` must be an integer >= 1"):
            metrics.calibration_error([0.5], [True], num_bins=num_bins)
