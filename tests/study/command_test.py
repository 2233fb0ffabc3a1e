"""The engine of studies, its summary, and the grid of Table 1."""

import dataclasses
import json
import math
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import threading
import time

import fake_study_worker
import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats

from ood_keras import files, metrics, pipelines, workflows
from ood_keras.names import valid
from ood_keras.pipelines.sources import base
from ood_keras.study import command as study_tool
from ood_keras.study import engine as study_engine
from ood_keras.study import find, other_families, records
from ood_keras.study import summary as study_summary
from ood_keras.study import worker as study_worker
from ood_keras.study.grid import Known, Method, Study, Training
from ood_keras.study.table1 import TABLE1
from ood_keras.training import recipes

WORKER = (sys.executable, fake_study_worker.__file__)
RECIPE = recipes.get(
    "demo",
    epochs=1,
    filters=(4, 4),
    hidden_size=8,
    synthetic_images=200,
    unknown_images=200,
)
OURS = Method(name="ours", title="Ours", detector="unknown_probability")
MSP = Method(name="softmax", title="Softmax threshold", detector="msp")
FAMILIES = "other families"


def make_study(*names, seeds=(0,), known="digits"):
    trainings = tuple(
        Training(name=name, methods=(dataclasses.replace(OURS, name=name),))
        for name in names
    )
    block = Known(
        spec=known,
        exposure="glyphs",
        test_unknown=("glyphs", "uniform_noise"),
        recipe=RECIPE,
    )
    return Study(
        name="micro",
        known=(block,),
        trainings=trainings,
        order=((names, (known,), seeds),),
    )


def with_energy(study):
    """The same study with one more method of its only training."""
    (training,) = study.trainings
    energy = Method(name="energy", title="Energy", detector="energy")
    more = dataclasses.replace(training, methods=(*training.methods, energy))
    return dataclasses.replace(study, trainings=(more,))


def run_study(study, folder, **options):
    lines = []
    failed = study_engine.run_study(
        study,
        data_dir=None,
        output_dir=folder / "out",
        runs_dir=folder / "runs",
        **{"worker": WORKER, "say": lines.append, **options},
    )
    return failed, lines


def read_summary(folder):
    return json.loads((folder / "out" / "summary.json").read_text())


def tries(folder, name):
    return len((folder / "runs" / name / "tries").read_text())


def test_finished_runs_are_not_run_again_and_failed_ones_are(tmp_path):
    study = make_study("ours", "broken", "other")
    failed, lines = run_study(study, tmp_path)
    assert failed == ["digits/broken/seed_0"]
    assert lines[0].startswith("micro: 3 runs, of which 0 were finished before")
    assert lines[1].startswith("[1/3] digits/ours/seed_0: finished; ")
    assert "to go" in lines[1]
    assert "FAILED (ValueError: the data are gone)" in lines[2]
    assert lines[3].startswith("[3/3] digits/other/seed_0: finished; ")
    summary = read_summary(tmp_path)
    assert {name: run["status"] for name, run in summary["runs"].items()} == {
        "digits/ours/seed_0": "finished",
        "digits/broken/seed_0": "failed",
        "digits/other/seed_0": "finished",
    }
    assert summary["runs"]["digits/broken/seed_0"]["error"] == (
        "ValueError: the data are gone"
    )
    text = study_summary.format_summary(summary)
    assert "3 runs, 2 finished, 1 failed" in text
    assert "the data are gone" in text

    failed, lines = run_study(study, tmp_path)
    assert failed == ["digits/broken/seed_0"]
    assert len(lines) == 2
    assert tries(tmp_path, "digits/ours/seed_0") == 1
    assert tries(tmp_path, "digits/broken/seed_0") == 2


def test_a_worker_that_was_killed_is_said_to_be(tmp_path):
    study = make_study("killed")
    failed, lines = run_study(study, tmp_path)
    assert (
        "FAILED (ended by signal 9 (Killed); was there too little memory?)" in lines[1]
    )
    (name,) = failed
    assert "signal 9" in read_summary(tmp_path)["runs"][name]["error"]


def test_what_an_earlier_attempt_said_is_no_error_of_this_one(tmp_path):
    run_study(make_study("broken"), tmp_path)
    silent = (sys.executable, "-c", "import sys; sys.exit(3)")
    _, lines = run_study(make_study("broken"), tmp_path, worker=silent)
    assert "FAILED (exit status 3)" in lines[1]


def test_a_killed_study_goes_on(tmp_path):
    # In a process of its own, to be killed while its worker waits.
    code = (
        "import pathlib, command_test\n"
        "study = command_test.make_study('ours', 'slow')\n"
        f"command_test.run_study(study, pathlib.Path({str(tmp_path)!r}))\n"
    )
    folder = pathlib.Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    begun = tmp_path / "runs" / "digits" / "slow" / "seed_0" / "tries"
    deadline = time.monotonic() + 120
    while not begun.exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    runs = read_summary(tmp_path)["runs"]
    assert [run["status"] for run in runs.values()] == ["finished", "missing"]

    failed, lines = run_study(make_study("ours", "slow"), tmp_path)
    assert not failed
    assert lines[1].startswith("[1/1] digits/slow/seed_0: finished; ")
    assert tries(tmp_path, "digits/ours/seed_0") == 1
    assert tries(tmp_path, "digits/slow/seed_0") == 2


@pytest.mark.slow
def test_runs_of_ray_survive_a_killed_worker(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    study = make_study("ours", "slow", "broken")
    killed = threading.Thread(target=kill_parent_of_slow, args=(tmp_path,))
    killed.start()
    failed, lines = run_study(study, tmp_path, engine="ray", num_workers=2)
    killed.join()
    assert failed == ["digits/broken/seed_0"]
    assert any("FAILED (ValueError: the data are gone)" in line for line in lines)
    runs = read_summary(tmp_path)["runs"]
    assert [run["status"] for run in runs.values()] == [
        "finished",
        "finished",
        "failed",
    ]
    assert tries(tmp_path, "digits/ours/seed_0") == 1
    assert tries(tmp_path, "digits/slow/seed_0") == 2
    # What is finished stays so.
    assert run_study(make_study("ours", "slow"), tmp_path, engine="ray")[0] == []
    assert tries(tmp_path, "digits/slow/seed_0") == 2


def kill_parent_of_slow(folder):
    """Kills the process that waits for the worker of "slow", a task of Ray."""
    path = folder / "runs" / "digits" / "slow" / "seed_0" / "parent"
    deadline = time.monotonic() + 300
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent = int(path.read_text())
    assert parent != os.getpid()
    os.kill(parent, signal.SIGKILL)


@pytest.mark.slow
def test_runs_side_by_side_are_those_of_one_after_the_other(tmp_path):
    study = make_study("ours", "broken", seeds=(0, 1))
    failed, lines = run_study(study, tmp_path, engine="local", num_workers=2)
    assert sorted(failed) == ["digits/broken/seed_0", "digits/broken/seed_1"]
    assert len(lines) == 5
    summary = read_summary(tmp_path)
    values = summary["results"]["digits"]["ours"]["glyphs"]["auroc"]["values"]
    assert values == [0.9, 0.91]


def test_a_run_that_another_process_holds_is_left_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr(study_engine, "_PATIENCE_SECONDS", 0)
    study = make_study("ours")
    log = tmp_path / "runs" / "digits" / "ours" / "seed_0.log"
    log.parent.mkdir(parents=True)
    with log.open("a") as file:
        assert study_engine._lock(file)
        failed, lines = run_study(study, tmp_path)
    assert not failed
    assert "left to another process" in lines[1]
    assert run_study(study, tmp_path)[1][1].startswith("[1/1] digits/ours/seed_0: fin")


def test_a_run_that_another_process_has_finished_meanwhile_is_not_done_again(tmp_path):
    study = make_study("ours", "other")
    finished = []

    def say(line):
        # After the list of what is left was made.
        if line.startswith("[1/2]"):
            finished.extend(run_study(study, tmp_path)[1])

    lines = []
    run_study(study, tmp_path, say=lambda line: (lines.append(line), say(line)))
    assert "digits/other/seed_0: finished; " in finished[-1]
    assert "digits/other/seed_0: finished by another process; " in lines[-1]
    assert tries(tmp_path, "digits/other/seed_0") == 1


def test_summary_against_numbers_worked_by_hand(tmp_path):
    study = make_study("ours", seeds=(0, 2, 1))
    run_study(study, tmp_path)
    summary = read_summary(tmp_path)
    auroc = summary["results"]["digits"]["ours"]["glyphs"]["auroc"]
    assert auroc["values"] == [0.9, 0.91, 0.92]
    assert auroc["mean"] == pytest.approx(0.91)
    assert auroc["std"] == pytest.approx(0.01)
    assert summary["seeds"]["digits"]["ours"] == [0, 1, 2]
    assert summary["seen"]["digits"]["ours"] == ["glyphs"]
    accuracy = summary["known_accuracy"]["digits"]["ours"]
    assert accuracy["mean"] == pytest.approx(statistics.fmean([0.97, 0.98, 0.99]))
    assert summary["versions"] == {"keras": ["3"]}
    assert [machine["processor"] for machine in summary["machines"]] == ["abacus"]
    assert summary["inconsistencies"] == []
    one = study_summary.summarise(make_study("ours", seeds=(1,)), tmp_path / "out")
    assert one["results"]["digits"]["ours"]["glyphs"]["auroc"]["std"] is None


def test_impossible_numbers_are_listed(tmp_path):
    study = make_study("ours")
    run_study(study, tmp_path)
    path = tmp_path / "out" / "digits" / "ours" / "seed_0" / "metrics.json"
    path.write_text(path.read_text().replace('"auroc": 0.9', '"auroc": 0.3'))
    summary = study_summary.write(study, tmp_path / "out")
    assert any("auroc" in text for text in summary["inconsistencies"])
    assert "Inconsistent results: none" not in study_summary.format_summary(summary)


def test_a_run_of_another_recipe_is_left_out(tmp_path):
    study = make_study("ours")
    run_study(study, tmp_path)
    known = dataclasses.replace(
        study.known[0], recipe=dataclasses.replace(RECIPE, gamma=0.5)
    )
    other = dataclasses.replace(study, known=(known,))
    (run,) = other.runs()
    assert study_summary.status(run, tmp_path / "out") == "changed"
    assert study_summary.summarise(other, tmp_path / "out")["results"]["digits"] == {}


def test_a_method_that_came_later_is_measured_and_the_others_count(tmp_path):
    study = make_study("ours")
    run_study(study, tmp_path)
    study = with_energy(study)
    (run,) = study.runs()
    assert study_summary.status(run, tmp_path / "out") == "partial"
    summary = study_summary.summarise(study, tmp_path / "out")
    assert list(summary["results"]["digits"]) == ["ours"]
    run_study(study, tmp_path)
    assert tries(tmp_path, "digits/ours/seed_0") == 2
    summary = read_summary(tmp_path)
    assert summary["runs"][run.name]["status"] == "finished"
    assert list(summary["results"]["digits"]) == ["ours", "energy"]


def test_what_was_measured_stays_where_measuring_more_fails(tmp_path):
    study = make_study("ours")
    run_study(study, tmp_path)
    fails = (sys.executable, "-c", "import sys; sys.exit('no room')")
    failed, _ = run_study(with_energy(study), tmp_path, worker=fails)
    summary = read_summary(tmp_path)
    assert summary["runs"][failed[0]]["status"] == "partial"
    assert summary["runs"][failed[0]]["error"] == "no room"
    assert list(summary["results"]["digits"]) == ["ours"]
    again = study_summary.write(study, tmp_path / "out")
    assert again["runs"][failed[0]]["status"] == "finished"
    assert "error" not in again["runs"][failed[0]]


def test_of_two_summaries_the_later_look_is_the_later_to_be_written(tmp_path):
    study = make_study("ours")
    folder = tmp_path / "out"
    folder.mkdir()
    lock = os.open(folder, os.O_RDONLY)
    assert files.lock(lock)
    writer = threading.Thread(target=study_summary.write, args=(study, folder))
    writer.start()
    writer.join(timeout=0.5)
    # What happens while it waits for its turn, it must not have looked past.
    run = folder / "digits" / "ours" / "seed_0"
    run.mkdir(parents=True)
    (run / "failure.json").write_text('{"error": "no room"}')
    os.close(lock)
    writer.join()
    assert read_summary(tmp_path)["runs"]["digits/ours/seed_0"]["error"] == "no room"


def test_a_run_that_is_being_measured_again_is_missing(tmp_path):
    study = make_study("ours")
    run_study(study, tmp_path)
    (tmp_path / "out" / "digits" / "ours" / "seed_0" / "metrics.json").unlink()
    summary = study_summary.write(study, tmp_path / "out")
    assert summary["runs"]["digits/ours/seed_0"]["status"] == "missing"


def test_two_methods_of_a_training_need_two_detectors():
    twin = dataclasses.replace(OURS, name="twin")
    with pytest.raises(ValueError, match="'ours' needs a detector of its own"):
        Training(name="ours", methods=(OURS, twin))


def test_a_method_with_another_detector_is_another_run(tmp_path):
    study = make_study("ours")
    run_study(study, tmp_path)
    (training,) = study.trainings
    methods = (dataclasses.replace(training.methods[0], detector="energy"),)
    other = dataclasses.replace(training, methods=methods)
    (run,) = dataclasses.replace(study, trainings=(other,)).runs()
    assert study_summary.status(run, tmp_path / "out") == "changed"


def test_a_field_that_a_recipe_got_later_had_its_default(tmp_path):
    study = make_study("ours")
    run_study(study, tmp_path)
    path = tmp_path / "out" / "digits" / "ours" / "seed_0" / "run.json"
    record = json.loads(path.read_text())
    del record["recipe"]["confidence_weight"]
    path.write_text(json.dumps(record))
    (run,) = study.runs()
    assert study_summary.status(run, tmp_path / "out") == "finished"


def made_up_results(change):
    """The paper's own numbers as those of a method "copy", changed by a function."""
    results = {}
    for row in metrics.paper_table():
        if row["detector"] == "modified_senet":
            cells = {
                metric: {"mean": change(metric, float(row[metric])) / 100}
                for metric in study_summary.PAPER_METRICS
            }
            results.setdefault(row["known"], {}).setdefault("copy", {})[
                row["unknown"]
            ] = cells
    return results


def test_the_paper_meets_itself_in_all_seventy_cells():
    count = study_summary.against_paper(made_up_results(lambda _, value: value), "copy")
    assert (count["cells"], count["measured"], count["met"]) == (70, 70, 70)
    assert count["missed"] == []


def test_lower_is_better_for_errors_only():
    def more(metric, value):
        return value + 0.3

    count = study_summary.against_paper(made_up_results(more), "copy")
    assert count["met"] == 14 * 3
    assert {cell["metric"] for cell in count["missed"]} == {
        "fpr95_known_positive",
        "detection_error",
    }


def test_rounding_is_to_the_printed_digits():
    # 0.04 % rounds to the printed 0.0 %, and no FPR of the paper is below that.
    def slightly_more(metric, value):
        return value + 0.04 * (metric == "fpr95_known_positive")

    count = study_summary.against_paper(made_up_results(slightly_more), "copy")
    assert (count["met"], count["met_unrounded"]) == (70, 56)

    # A bare 100 stands for 100.00, so that 99.9 does not meet it.
    def slightly_less(metric, value):
        return value - 0.1 * (metric in ("auroc", "aupr_in", "aupr_out"))

    count = study_summary.against_paper(made_up_results(slightly_less), "copy")
    assert count["met"] == 28
    seen = [cell for cell in count["missed"] if cell["paper"] == "100"]
    assert [cell["value"] for cell in seen] == [99.9, 99.9, 99.9]


def test_what_was_not_measured_is_not_met():
    results = made_up_results(lambda _, value: value)
    del results["fashion_mnist"]
    count = study_summary.against_paper(results, "copy")
    assert (count["cells"], count["measured"], count["met"]) == (70, 35, 35)
    assert {cell["value"] for cell in count["missed"]} == {None}


def test_patterns_choose_runs():
    study = make_study("ours", "other", seeds=(0, 1))
    names = [run.name for run in study.runs()]
    assert names == [
        "digits/ours/seed_0",
        "digits/other/seed_0",
        "digits/ours/seed_1",
        "digits/other/seed_1",
    ]
    assert [run.name for run in study.runs("digits/ours")] == names[::2]
    assert [run.name for run in study.runs("*/seed_1", [1])] == names[2:]
    assert [run.name for run in study.runs("*other*, digits/ours", [0])] == names[:2]
    for wrong in (("mnist/*",), ("digits/ours,digits/oours",), (None, [0, 7])):
        with pytest.raises(ValueError, match="digits/other/seed_0"):
            study.runs(*wrong)
    with pytest.raises(ValueError, match=r"matches digits/oours, 7; its runs are: "):
        study.runs("digits/ours,digits/oours,", [0, 7])


def command(*arguments, study="table1"):
    study_tool._FLAGS.unparse_flags()
    for name in study_tool._FLAGS:
        study_tool._FLAGS[name].unparse()
    study_tool._FLAGS(["ood-study", f"--study={study}", *arguments])
    study_tool._study()


def test_the_command_lists_and_plans(tmp_path, capsys):
    command(f"--output_dir={tmp_path}", "--list", "--only=mnist/ours", "--seeds=0,2")
    assert capsys.readouterr().out.splitlines() == [
        "missing   mnist/ours/seed_0",
        "missing   mnist/ours/seed_2",
    ]
    command(f"--output_dir={tmp_path}", "--dry_run", "--only=mnist/ours/seed_1")
    planned = capsys.readouterr().out
    assert planned.startswith("mnist/ours/seed_1\n  unknown: emnist/letters\n")
    assert "epochs=" in planned
    assert not any(tmp_path.iterdir())


def test_the_command_counts(tmp_path, capsys):
    command(f"--output_dir={tmp_path}", "--summary")
    assert "71 runs, 71 missing" in capsys.readouterr().out
    assert json.loads((tmp_path / "summary.json").read_text())["results"]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (["--summary", "--only=mnist/ours"], ValueError, "leave --only and --seeds"),
        (["--list", "--seeds=x"], ValueError, "whole numbers.*'x'"),
        (["--data_dir=nowhere"], FileNotFoundError, "there is no folder nowhere"),
    ],
)
def test_the_command_says_what_it_cannot_take(tmp_path, arguments, error, match):
    with pytest.raises(error, match=match):
        command(f"--output_dir={tmp_path}", *arguments)
    assert not any(tmp_path.iterdir())


def test_the_command_makes_no_folder_to_count_in(tmp_path):
    with pytest.raises(FileNotFoundError, match="--summary reads what"):
        command(f"--output_dir={tmp_path / 'typo'}", "--summary")
    assert not (tmp_path / "typo").exists()


STUDY_FILE = """
from ood_keras import study, training

STUDY = study.Study(
    name="tiny",
    known=(
        study.Known(
            spec="digits",
            exposure="glyphs",
            test_unknown=("glyphs",),
            recipe=training.recipes.get("demo"),
        ),
    ),
    trainings=(
        study.Training(
            name="plain",
            methods=(study.Method(name="plain", title="Plain", detector="msp"),),
        ),
        study.Training(
            name="other",
            methods=(study.Method(name="other", title="Other", detector="energy"),),
        ),
    ),
    seeds=(0, 3),
)
"""


def test_the_command_takes_a_file_of_the_users(tmp_path, capsys):
    path = tmp_path / "my_study.py"
    path.write_text(STUDY_FILE)
    output = tmp_path / "out"
    command(f"--output_dir={output}", "--list", study=path)
    runs = ("plain/seed_0", "other/seed_0", "plain/seed_3", "other/seed_3")
    assert capsys.readouterr().out.splitlines() == [
        f"missing   digits/{run}" for run in runs
    ]
    assert not output.exists()


def test_a_study_in_a_file_is_summed_up_without_the_paper(tmp_path, capsys):
    path = tmp_path / "my_study.py"
    path.write_text(STUDY_FILE)
    study, _ = find.find_study(str(path))
    run_study(study, tmp_path)
    command(f"--output_dir={tmp_path / 'out'}", "--summary", study=path)
    lines = capsys.readouterr().out.splitlines()
    assert "4 runs, 4 finished" in lines[0]
    start = lines.index("  digits: Plain [plain], 2 seeds")
    # By hand: the fake worker gives 0.9 and 0.01 more for each seed.
    assert lines[start + 1] == "    glyphs (seen): 91.50 / 20.00"
    assert not any("paper" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (("STUDY =", "OTHER ="), ValueError, r"must define STUDY = .*STUDY = None"),
        (("energy", "enrgy"), ValueError, "'other'.*'enrgy'.*--plugin=MODULE"),
        (('("glyphs",)', '("glyhps",)'), ValueError, "'glyhps'.*mean glyphs"),
        (('name="other",', 'name="plain",'), ImportError, "training .*twice: plain"),
        (
            ('Method(name="other"', 'Method(name="plain"'),
            ImportError,
            "line 4 of .*my_study.*method .*twice: plain",
        ),
        (('name="tiny"', 'name="a/b"'), ImportError, "names .* folders.*'a/b'"),
        (("study.Known(", "study.Knwon("), ImportError, r"my_study\.py.*line 7"),
    ],
)
def test_a_study_that_cannot_be_run_is_explained(tmp_path, change, error, match):
    path = tmp_path / "my_study.py"
    assert change[0] in STUDY_FILE
    path.write_text(STUDY_FILE.replace(*change))
    with pytest.raises(error, match=match):
        command(f"--output_dir={tmp_path / 'out'}", study=path)
    assert not (tmp_path / "out").exists()


def test_a_study_is_found_by_name_or_file(tmp_path):
    assert find.find_study("table1") == (TABLE1, None)
    assert find.find_study("scanner")[0].renderings == "full"
    assert find.find_study("colour")[0].renderings == "short"
    with pytest.raises(ValueError, match=r"colour, or a file FILE\.py.*'table2'"):
        find.find_study("table2")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere\.py"):
        find.find_study(str(tmp_path / "nowhere.py"))


def test_a_known_set_may_have_a_name_of_its_own():
    study = make_study("ours", known="digits[0,1]")
    assert [run.name for run in study.runs()] == ["digits[0,1]/ours/seed_0"]
    named = dataclasses.replace(study.known[0], name="two_digits")
    study = dataclasses.replace(study, known=(named,), order=())
    (run,) = study.runs("two_digits/ours")
    assert run.name == "two_digits/ours/seed_0"
    assert run.job()["known"] == "digits[0,1]"
    other = dataclasses.replace(named, spec="digits[2,3]")
    with pytest.raises(ValueError, match=r"known set.*Received twice: two_digits"):
        dataclasses.replace(study, known=(named, other))


def test_an_order_names_what_is_in_the_grid():
    study = make_study("ours", "other")
    with pytest.raises(ValueError, match=r"`order` names othr, .*ours, other.*digits"):
        dataclasses.replace(study, order=((("othr",), ("digits",), (0,)),))
    everything = dataclasses.replace(study, order=(), seeds=(1, 0))
    assert [run.name for run in everything.runs()] == [
        f"digits/{name}/seed_{seed}" for seed in (1, 0) for name in ("ours", "other")
    ]


def test_epochs_are_multiplied():
    study = make_study("ours")
    (training,) = study.trainings
    longer = dataclasses.replace(training, times_epochs=3)
    (run,) = dataclasses.replace(study, trainings=(longer,)).runs()
    assert run.job()["recipe"]["epochs"] == 3 * RECIPE.epochs


def test_table_1_is_the_paper_s():
    rows = [row for row in metrics.paper_table() if row["detector"] == "modified_senet"]
    for known in TABLE1.known:
        unknown = [row["unknown"] for row in rows if row["known"] == known.spec]
        seen = [
            row["unknown"] for row in rows if row["known"] == known.spec and row["seen"]
        ]
        assert sorted(known.test_unknown) == sorted(unknown)
        assert seen == [known.exposure]


def test_every_run_of_table_1_can_be_made():
    runs = TABLE1.runs()
    assert len({run.name for run in runs}) == len(runs)
    assert {run.training.name for run in runs} == {
        training.name for training in TABLE1.trainings
    }
    for run in runs:
        job = run.job()
        assert recipes.Recipe(**job["recipe"]) == run.recipe
        assert run.recipe.objective.shows_unknown == bool(job["unknown"])
        assert job["validation_unknown"]
        detectors = set(job["methods"].values())
        assert len(detectors) == len(job["methods"])
        assert (
            "unknown_probability" in detectors
        ) == run.recipe.objective.unknown_class
    ours = next(run for run in runs if run.name == "mnist/ours/seed_0").job()
    assert ours["unknown"] == ["emnist/letters"]
    none = next(run for run in runs if run.name == "mnist/synthetic_only/seed_0").job()
    assert none["unknown"] == none["validation_unknown"] == ["synthetic"]


@pytest.fixture(scope="module", autouse=True)
def few_images_of_noise():
    """A tenth of the usual, of which every family scores all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "DEFAULT_COUNT", 1_000)
        yield


@pytest.fixture(scope="module")
def real_run(tmp_path_factory):
    """A run without unknown images, by the real worker, in this process."""
    folder = tmp_path_factory.mktemp("study")
    training = Training(
        name="plain",
        methods=(MSP,),
        exposure=(),
        changes={"loss": "cross_entropy", "augment": "random_shift_flip"},
    )
    study = make_study("plain")
    study = dataclasses.replace(study, trainings=(training,))
    (run,) = study.runs()
    study_worker.work(run.job(), None, folder / "runs" / run.name, folder / run.name)
    return study, run, folder


def test_worker_leaves_the_promised_files(real_run):
    study, run, folder = real_run
    assert study_summary.status(run, folder) == "finished"
    output = folder / run.name
    assert {path.name for path in output.iterdir()} == {
        "run.json",
        "history.csv",
        "examples.npz",
        "metrics.json",
        "scores.npz",
    }
    record = json.loads((output / "run.json").read_text())
    assert record["methods"]["softmax"]["detector"] == "msp"
    assert record["run"]["settings"]["known"] == "digits"
    assert str(folder) not in json.dumps(record)
    result = json.loads((output / "metrics.json").read_text())
    assert result["selected_detector"] == "softmax"
    rows = result["detectors"]["softmax"]["unknown"]
    assert not rows["glyphs"]["seen"]
    assert set(result["data"]) == {"digits/test", "glyphs/test", "uniform_noise/test"}
    with np.load(output / "scores.npz", allow_pickle=False) as scores:
        assert set(scores) == {
            "known/softmax",
            "unknown/glyphs/softmax",
            "unknown/uniform_noise/softmax",
            "labels/known",
            "predictions/known",
        }
        assert scores["known/softmax"].dtype == np.float32
        accuracy = np.mean(scores["labels/known"] == scores["predictions/known"])
        auroc = metrics.auroc(scores["known/softmax"], scores["unknown/glyphs/softmax"])
    assert accuracy == result["known"]["accuracy"]
    assert auroc == rows["glyphs"]["auroc"]
    summary = study_summary.summarise(study, folder)
    assert summary["results"]["digits"]["softmax"]["glyphs"]["auroc"]["mean"] == auroc


def test_a_study_that_measures_renderings_keeps_shares_and_classes(real_run, tmp_path):
    study, run, folder = real_run
    study = dataclasses.replace(study, renderings="short")
    (rendered,) = study.runs()
    run_dir = folder / "runs" / run.name
    study_worker.work(rendered.job(), None, run_dir, tmp_path / run.name)
    study_summary.write(study, tmp_path)
    found = records.Records.read(tmp_path)
    with np.load(run_dir / "scores.npz", allow_pickle=False) as arrays:
        judged = np.sort(arrays[valid("validation/known/msp")])
        limit = judged[math.ceil((len(judged) + 1) * 0.99) - 1]
        known = arrays[valid("renderings/known/msp")]
        glyphs = arrays[valid("renderings/unknown/glyphs/msp")]
        untouched = arrays[valid("unknown/glyphs/msp")]
        mine = metrics.auroc(known.ravel(), glyphs.ravel())
        outliers = arrays[valid("validation/unknown/msp")]
    (row,) = found.renderings
    assert row["validation_auroc"] == metrics.auroc(judged, outliers)
    passing = np.mean(outliers <= np.quantile(judged, 0.95, method="higher"))
    assert row["validation_fpr95_known_positive"] == pytest.approx(passing, abs=0.02)
    # The threshold stands a little above that score.
    assert row["accepted"] == pytest.approx(np.mean(known[0] <= limit), abs=0.01)
    assert row["accepted_worst"] <= row["accepted_mild"] <= 1
    assert row["accepted_worst"] >= np.mean(known <= limit, axis=1).min() - 0.01
    measured = {row["unknown"]: row for row in found.measurements}
    assert measured["glyphs"]["auroc_full_spectrum"] == mine
    letters = [row for row in found.classes if row["unknown"] == "glyphs"]
    assert {row["unknown"] for row in found.classes} == {"glyphs"}
    total = sum(row["images"] for row in letters)
    assert total == len(untouched)
    accepted = sum(row["images"] * row["accepted"] for row in letters) / total
    assert accepted == pytest.approx(np.mean(untouched <= limit), abs=0.01)
    # A study that measures none is another run, with no such tables.
    assert study_summary.status(run, tmp_path) == "finished"
    assert study_summary.status(rendered, folder) == "changed"
    assert not (folder / records.RENDERINGS).exists()


@pytest.mark.parametrize("order", [("msp", "energy"), ("energy", "msp")])
def test_pictures_are_of_the_first_method_whatever_validation_says(
    real_run, tmp_path, order
):
    _, run, folder = real_run
    job = {**run.job(), "methods": {f"by_{name}": name for name in order}}
    study_worker.work(job, None, folder / "runs" / run.name, tmp_path)
    result = json.loads((tmp_path / "metrics.json").read_text())
    assert result["selected_detector"] == f"by_{order[0]}"
    for name, method in zip(
        ("examples", f"examples_by_{order[1]}"), job["methods"], strict=True
    ):
        with np.load(tmp_path / "scores.npz", allow_pickle=False) as scores:
            known = scores[f"known/{method}"]
        with np.load(tmp_path / f"{name}.npz", allow_pickle=False) as examples:
            worst = examples["known/scores"]
        np.testing.assert_array_equal(worst, np.sort(known)[::-1][: len(worst)])


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """The trainings of the other families, by the real worker on tiny networks."""
    folder = tmp_path_factory.mktemp("families")
    trainings = tuple(each for each in TABLE1.trainings if each.group == FAMILIES)
    # What a family changes is the grid's, but for the length of a training.
    trainings = tuple(
        dataclasses.replace(each, changes={**each.changes, "epochs": 1})
        for each in trainings
    )
    names = tuple(each.name for each in trainings)
    study = dataclasses.replace(make_study(*names), trainings=trainings)
    for run in study.runs():
        run_dir = folder / "runs" / run.name
        study_worker.work(run.job(), None, run_dir, folder / run.name)
    return study, folder


def read(folder, run, name):
    return json.loads((folder / run / f"{name}.json").read_text())


def test_families_come_last_on_mnist_with_one_seed():
    families = [run for run in TABLE1.runs() if run.training.group == FAMILIES]
    assert families == TABLE1.runs()[-len(families) :]
    assert {(run.known.spec, run.seed) for run in families} == {("mnist", 0)}
    methods = {method.detector for run in families for method in run.training.methods}
    assert methods == {"entropy", *other_families.NAMES}


def test_every_family_has_all_cells(families):
    study, folder = families
    found = {}
    for run in study.runs():
        assert study_summary.status(run, folder) == "finished"
        result = read(folder, run.name, "metrics")
        assert set(result["detectors"]) == {
            method.name for method in run.training.methods
        }
        assert result["selected_detector"] in result["detectors"]
        with np.load(folder / run.name / "scores.npz", allow_pickle=False) as scores:
            scores = dict(scores)
        for method, rows in result["detectors"].items():
            assert set(rows["unknown"]) == {"glyphs", "uniform_noise"}
            for source, row in rows["unknown"].items():
                cells = metrics.evaluate_scores(
                    scores[f"known/{method}"], scores[f"unknown/{source}/{method}"]
                )
                seen = source == "glyphs" and method == "prior_network"
                # A detector's rows say more than those of other families.
                assert {"seen": seen, **cells}.items() <= row.items()
            found[method] = scores, result["known"]["accuracy"]
        # Progress, for the log.
        history = (folder / run.name / "history.csv").read_text().splitlines()
        assert len(history) == 2
    labels = pipelines.load("digits").test.labels
    for method, (scores, accuracy) in found.items():
        np.testing.assert_array_equal(scores["labels/known"], labels)
        if method == "likelihood_ratio":
            assert accuracy is None and "predictions/known" not in scores
        else:
            assert accuracy == np.mean(scores["predictions/known"] == labels)
    summary = study_summary.summarise(study, folder)
    assert set(summary["results"]["digits"]) == set(study.methods)
    assert set(summary["known_accuracy"]["digits"]) == {*study.methods} - {
        "likelihood_ratio"
    }
    assert "Inconsistent results: none" in study_summary.format_summary(summary)


def test_families_are_scored_as_their_papers_say(families):
    _, folder = families
    images = pipelines.load("digits").test.dataset()

    def logits(run):
        model = keras.models.load_model(folder / "runs" / run / "model.keras")
        return model.predict(images, verbose=0).astype("float64")

    def order(run, method):
        with np.load(folder / run / "scores.npz", allow_pickle=False) as scores:
            return scores[f"known/{method}"]

    run = "digits/families_cross_entropy/seed_0"
    p = scipy.special.softmax(logits(run), axis=1)
    agree = scipy.stats.spearmanr(order(run, "entropy"), scipy.stats.entropy(p, axis=1))
    assert agree.statistic > 0.999
    methods = read(folder, run, "run")["methods"]
    scaled = logits(run) / methods["temperature_scaling"]["config"]["temperature"]
    largest = scipy.special.softmax(scaled, axis=1).max(axis=1)
    agree = scipy.stats.spearmanr(order(run, "temperature_scaling"), -largest)
    assert agree.statistic > 0.999

    run = "digits/prior_network/seed_0"
    entropies = [scipy.stats.dirichlet(np.exp(row)).entropy() for row in logits(run)]
    agree = scipy.stats.spearmanr(order(run, "prior_network"), entropies)
    assert agree.statistic > 0.999

    run = "digits/likelihood_ratio/seed_0"
    pair = keras.models.load_model(folder / "runs" / run / "model.keras")
    bounds = pair.predict(images, verbose=0)
    np.testing.assert_allclose(
        order(run, "likelihood_ratio"), bounds["background"] - bounds["full"], rtol=1e-3
    )
    config = read(folder, run, "run")["methods"]["likelihood_ratio"]["config"]
    assert config == {"mutation_rate": 0.2, "latent_size": 20, "hidden_size": 500}


def test_other_test_images_change_nothing_that_was_fitted(families):
    _, folder = families
    run = "digits/families_cross_entropy/seed_0"
    recorded = read(folder, run, "run")["methods"]
    methods = ["temperature_scaling", "one_class_svm"]
    result = other_families.evaluate(
        run_dir=folder / "runs" / run,
        unknown=["gaussian_noise"],
        methods=methods,
        validation_unknown=["glyphs"],
    )
    for name in methods:
        assert result.configs[name] == recorded[name]["config"]
    with np.load(folder / run / "scores.npz", allow_pickle=False) as scores:
        for name in methods:
            known = scores[f"known/{name}"]
            np.testing.assert_array_equal(result.scores[f"known/{name}"], known)


def test_a_family_that_was_stopped_while_it_was_measured_ends_alike(families):
    study, folder = families
    (run,) = study.runs("digits/likelihood_ratio")
    results = {}
    for name in ("metrics.json", "history.csv"):
        path = folder / run.name / name
        results[path] = path.read_bytes()
        path.unlink()
    study_worker.work(run.job(), None, folder / "runs" / run.name, folder / run.name)
    for path, content in results.items():
        assert path.read_bytes() == content


def test_the_autoencoders_are_no_classifier(families):
    _, folder = families
    run = "digits/likelihood_ratio/seed_0"
    with pytest.raises(ValueError, match="holds no classifier"):
        workflows.evaluate(
            run_dir=folder / "runs" / run,
            unknown=["uniform_noise"],
            validation_unknown=["glyphs"],
        )


def test_run_without_unknowns_needs_someone_to_select_with(real_run):
    _, run, folder = real_run
    run_dir = folder / "runs" / run.name
    with pytest.raises(ValueError, match="--validation_unknown"):
        workflows.evaluate(
            run_dir=run_dir, unknown=["uniform_noise"], detectors=["msp"]
        )


def test_known_images_alone_take_no_unknown_source(tmp_path):
    recipe = dataclasses.replace(RECIPE, loss="cross_entropy")
    with pytest.raises(ValueError, match="known images alone"):
        workflows.train(
            known="digits", unknown=["glyphs"], run_dir=tmp_path, recipe=recipe
        )


@pytest.mark.slow
def test_a_real_study_in_processes_of_their_own(tmp_path):
    study = make_study("ours")
    failed = study_engine.run_study(
        study, data_dir=None, output_dir=tmp_path / "out", runs_dir=tmp_path / "runs"
    )
    assert not failed
    assert read_summary(tmp_path)["runs"]["digits/ours/seed_0"]["status"] == "finished"
