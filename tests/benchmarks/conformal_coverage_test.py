"""The check of conformal acceptance, on scores of scikit-learn's handwritten digits."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import conformal_coverage

    yield conformal_coverage
    sys.modules.pop("conformal_coverage", None)


@pytest.fixture(scope="module")
def scores():
    """Energies of held-out digits under a linear classifier of the others, float32."""
    from sklearn import datasets, linear_model

    images, labels = datasets.load_digits(return_X_y=True)
    model = linear_model.LogisticRegression(max_iter=200)
    model.fit(images[:900] / 16, labels[:900])
    logits = model.decision_function(images[900:] / 16)
    return -np.logaddexp.reduce(logits, axis=1).astype(np.float32)


@pytest.mark.parametrize("target", [0.8, 0.95])
def test_random_splits_follow_theory(study, scores, target):
    counts = study.split_acceptance(scores, target, 99, 1000)
    row = study.against_theory(counts, len(scores), 99, target)
    assert row["inside"], row
    # The promise itself: on average at least the target.
    assert row["band_of_mean"][0] < target <= row["band_of_mean"][1]


def test_the_law_is_that_of_ranks(study):
    """Each of the n + 1 gaps between n scores is as likely for a new one."""
    # One new image: accepted with probability k / (n + 1).
    assert study.law(20, 19, 0.95).pmf(1) == pytest.approx(19 / 20)
    # Two calibrate at the larger, two are new: both accepted in 12 of 24 orders.
    assert study.law(4, 2, 0.6).pmf([0, 1, 2]) == pytest.approx([1 / 6, 1 / 3, 1 / 2])


def test_a_threshold_that_is_off_by_one_rank_is_found(study, scores):
    counts = study.split_acceptance(scores, 0.8, 99, 1000)
    assert not study.against_theory(counts, len(scores), 99, 0.81)["inside"]
    # The mean alone is not enough: the same mean, without any spread.
    constant = np.full(1000, round(study.law(len(scores), 99, 0.8).mean()))
    assert not study.against_theory(constant, len(scores), 99, 0.8)["inside"]


def test_the_cumulative_distance_is_that_of_all_integers(study):
    expected = stats.binom(30, 0.4)
    counts = expected.rvs(200, random_state=0)
    share = [np.mean(counts <= number) for number in range(31)]
    direct = np.abs(share - expected.cdf(range(31))).max()
    assert study.cumulative_distance(counts, expected) == pytest.approx(direct)


def test_the_command_writes_its_result_and_picture(scores, tmp_path):
    np.savez(
        tmp_path / "scores.npz",
        **{"known/energy": scores[:500], "validation/known/energy": scores[500:]},
    )
    output, picture = tmp_path / "result.json", tmp_path / "picture.png"
    subprocess.run(
        [
            sys.executable,
            FOLDER / "conformal_coverage.py",
            f"--scores={tmp_path / 'scores.npz'}",
            "--num_splits=50",
            "--num_calibration=99",
            "--targets=0.9",
            f"--output={output}",
            f"--picture={picture}",
        ],
        check=True,
        stdout=subprocess.PIPE,
    )
    result = json.loads(output.read_text())
    row = result["detectors"]["energy"]["0.9"]
    assert row["inside"] is result["inside"] is True
    accepted = result["validation_to_test"]["energy"]["0.9"]
    assert accepted["interval"][0] < accepted["accepted"] < 1
    assert picture.read_bytes().startswith(b"\x89PNG")
