"""The tidy files of a study: read as written, and as earlier versions wrote them."""

import csv
import json

import made_up_study
import numpy as np
import pytest

from ood_keras import metrics
from ood_keras.study import intervals
from ood_keras.study import summary as study_summary
from ood_keras.study.records import Records
from ood_keras.study.study_results import StudyResults
from ood_keras.study.table1 import TABLE1


def make_run(folder, name="mnist/ours/seed_0", auroc=0.999, interval=(0.998, 0.9995)):
    """Finishes one run of the grid with invented numbers."""
    (run,) = TABLE1.runs(name)
    job = run.job()
    row = {metric: auroc for metric in made_up_study.METRICS[:3]}
    row |= {metric: 0.0013 for metric in made_up_study.METRICS[3:]}
    if interval is not None:
        row["auroc_interval"] = list(interval)
    unknown = {
        source: {"seen": source in job["unknown"], **row}
        for source in ("kmnist", "emnist/letters")
    }
    record = {
        **job,
        "methods": {
            method: {"detector": detector, "config": {}}
            for method, detector in job["methods"].items()
        },
        "run": {"versions": {"keras": "3.15.1"}, "settings": {}},
        "machine": {"processor": "abacus", "cores": 1},
        "minutes": {"training": 8.25, "evaluation": 1.0},
    }
    result = {
        "known": {"source": run.known.spec, "accuracy": 0.1 + 0.2},
        "detectors": {method: {"unknown": unknown} for method in job["methods"]},
        "selected_detector": "ours",
    }
    (folder / run.name).mkdir(parents=True)
    for file, content in (("run", record), ("metrics", result)):
        (folder / run.name / f"{file}.json").write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path):
    """Two seeds of one training that finished, and one that failed."""
    make_run(tmp_path)
    make_run(tmp_path, "mnist/ours/seed_1", auroc=1 / 3, interval=None)
    failed = tmp_path / "mnist/ours/seed_2"
    failed.mkdir()
    (failed / "failure.json").write_text(json.dumps({"error": 'no "room",\nat all'}))
    return tmp_path


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_written_is_read_to_the_last_digit(folder):
    written = study_summary.write(TABLE1, folder)
    assert study_summary.read(folder) == written
    runs = written["runs"]
    assert runs["mnist/ours/seed_0"]["minutes"] == {"training": 8.25, "evaluation": 1.0}
    assert runs["mnist/ours/seed_2"]["error"] == 'no "room",\nat all'
    assert runs["mnist/ours/seed_2"]["status"] == "failed"
    assert "minutes" not in runs["mnist/ours/seed_2"]
    accuracy = written["known_accuracy"]["mnist"]["ours"]
    assert accuracy["values"] == [0.1 + 0.2] * 2
    cell = written["results"]["mnist"]["ours"]["kmnist"]["auroc"]
    assert cell["values"] == [0.999, 1 / 3]
    assert written["auroc_intervals"]["mnist"]["ours"]["kmnist"] == {
        "0": [0.998, 0.9995]
    }
    # Nothing of it comes from this file, which is for programs.
    (folder / study_summary.NAME).unlink()
    assert study_summary.read(folder) == written


def test_programs_still_find_all_of_it_in_one_file(folder):
    written = study_summary.write(TABLE1, folder)
    assert json.loads((folder / "summary.json").read_text()) == written


def test_a_folder_of_an_earlier_version_is_read(tmp_path):
    summary = made_up_study.write(tmp_path)
    assert study_summary.read(tmp_path) == summary
    assert StudyResults.read(tmp_path).interval("mnist", "ours", "kmnist") is None


def test_a_folder_without_results_says_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"study\.json.*--summary"):
        study_summary.read(tmp_path)


def test_a_line_is_one_observation(folder):
    study_summary.write(TABLE1, folder)
    rows = read_rows(folder / "metrics.csv")
    keys = [(row["method"], row["unknown"], row["seed"]) for row in rows]
    assert keys == [
        (method, unknown, seed)
        for method in ("ours", "ours_distances")
        for unknown in ("kmnist", "emnist/letters")
        for seed in "01"
    ]
    assert [row["seen"] for row in rows[:4]] == ["no", "no", "yes", "yes"]
    assert [row["auroc_low"] for row in rows[:2]] == ["0.998", ""]
    runs = {row["run"]: row for row in read_rows(folder / "runs.csv")}
    assert len(runs) == len(TABLE1.runs())
    assert runs["mnist/ours/seed_0"]["minutes_training"] == "8.25"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.999,", "much,"),
        (",no,", ",perhaps,"),
        ("ours,kmnist,0,", "ours,kmnist,first,"),
        ("ours,kmnist,0,no,", "ours,kmnist,0,no,1,1,"),
        ("ours,kmnist,0,no,", "ours,kmnist,0,"),
    ],
)
def test_a_damaged_line_is_named(folder, old, new):
    study_summary.write(TABLE1, folder)
    path = folder / "metrics.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=r"metrics\.csv, line 2: .*--summary"):
        Records.read(folder)


def test_intervals_are_added_where_scores_are(folder, capsys):
    run_dir = folder / "mnist/ours/seed_1"
    before = json.loads((run_dir / "metrics.json").read_text())
    generator = np.random.default_rng(0)
    scores = {
        "known/ours": generator.normal(size=50),
        "unknown/kmnist/ours": generator.normal(1, 1, 40),
    }
    np.savez(run_dir / "scores.npz", **scores)
    intervals._add([str(folder)])
    # Of the other three of this run no scores are there.
    assert "added 1 intervals; 3 are missing" in capsys.readouterr().out
    after = json.loads((run_dir / "metrics.json").read_text())
    row = after["detectors"]["ours"]["unknown"]["kmnist"]
    expected = metrics.auroc_interval(*scores.values())
    assert row.pop("auroc_interval") == [expected.low, expected.high]
    assert after == before
    assert intervals.add(folder) == (0, 3)
    study_summary.write(TABLE1, folder)
    found = StudyResults.read(folder).summary["auroc_intervals"]["mnist"]["ours"]
    assert found["kmnist"] == {
        "0": [0.998, 0.9995],
        "1": [expected.low, expected.high],
    }


def test_intervals_want_a_folder(tmp_path):
    with pytest.raises(ValueError, match="one folder of a study's results"):
        intervals._add([str(tmp_path / "typo")])


def test_an_interval_stands_beside_the_value_of_its_seed(folder):
    study_summary.write(TABLE1, folder)
    study = StudyResults.read(folder)
    assert study.interval("mnist", "ours", "kmnist") == {
        "value": 0.999,
        "low": 0.998,
        "high": 0.9995,
    }
    assert study.interval("mnist", "ours", "omniglot") is None
