"""What a summary counts as met, and which runs it takes for finished."""

import json

import pytest

from ood_keras import metrics
from ood_keras.study import summary as study_summary
from ood_keras.study.table1 import TABLE1


def missed(known, unknown, metric, percent):
    """Whether one cell misses the paper's, rounded and not, with all others met."""
    results = {}
    for row in metrics.paper_table():
        if row["detector"] == "modified_senet":
            cells = {
                name: {"mean": float(row[name]) / 100}
                for name in study_summary.PAPER_METRICS
            }
            by_method = results.setdefault(row["known"], {})
            by_method.setdefault("copy", {})[row["unknown"]] = cells
    results[known]["copy"][unknown][metric]["mean"] = percent / 100
    count = study_summary.against_paper(results, "copy")
    return count["met"] == 69, count["met_unrounded"] == 69


@pytest.mark.parametrize(
    ("cell", "percent", "expected"),
    [
        # Printed: 0.0. Five images of 10,000 are half of the last digit.
        (("mnist", "kmnist", "fpr95_known_positive"), 0.05, (True, True)),
        (("mnist", "kmnist", "fpr95_known_positive"), 0.049, (False, True)),
        # Printed: 0.69 and 2.5.
        (("mnist", "emnist/letters", "detection_error"), 0.695, (True, True)),
        (("mnist", "emnist/letters", "detection_error"), 0.6949, (False, True)),
        (("fashion_mnist", "kmnist", "detection_error"), 2.55, (True, True)),
        (("fashion_mnist", "kmnist", "detection_error"), 2.5, (False, False)),
        # Printed: 100, beside columns of two decimals.
        (("fashion_mnist", "mnist", "auroc"), 99.995, (True, True)),
        (("fashion_mnist", "mnist", "auroc"), 99.9951, (False, True)),
        # Printed: 99.83.
        (("mnist", "kmnist", "auroc"), 99.825, (True, True)),
        (("mnist", "kmnist", "auroc"), 99.8251, (False, True)),
    ],
)
def test_a_half_of_the_last_digit_does_not_meet_the_paper(cell, percent, expected):
    assert missed(*cell, percent) == expected


def test_a_run_from_before_a_setting_existed_is_changed(tmp_path):
    run = TABLE1.runs("mnist/ours/seed_0")[0]
    folder = tmp_path / run.name
    folder.mkdir(parents=True)
    job = run.job()
    record = {
        **job,
        "methods": {name: {"detector": d} for name, d in job["methods"].items()},
    }
    (folder / "metrics.json").write_text("{}")
    (folder / "run.json").write_text(json.dumps(record))
    assert study_summary.status(run, tmp_path) == "finished"
    del record["validation_unknown"]
    (folder / "run.json").write_text(json.dumps(record))
    assert study_summary.status(run, tmp_path) == "changed"
