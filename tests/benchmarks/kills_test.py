"""The benchmark that kills: it must see what a kill could leave behind."""

import pathlib
import sys

import keras
import numpy as np
import pytest

from ood_keras import files

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def kills(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import kills

    return kills


def test_a_phase_is_read_by_others_and_goes_back(kills, tmp_path):
    told, read = (kills.Phase(tmp_path / "phase") for _ in range(2))
    assert read.read() == ""
    with told.at("outer"):
        with told.at("inner"):
            assert read.read() == "inner"
        assert read.read() == "outer"
    assert read.read() == "outer"
    told.watch(sys.modules[__name__], "watched", "x" * 500)
    assert watched(read) == "x" * 128


def watched(phase):
    return phase.read()


def test_files_say_that_they_are_written(kills, tmp_path, monkeypatch):
    for name in ("atomic_file", "atomic_directory"):
        monkeypatch.setattr(files, name, getattr(files, name))
    phase = kills.Phase(tmp_path / "phase")
    phase.watch_files()
    with phase.at("before"):
        with files.atomic_file(tmp_path / "00001-00000002.npz") as temporary:
            assert phase.read() == "writing N-N.npz"
            temporary.touch()
        assert phase.read() == "before"
    assert (tmp_path / "00001-00000002.npz").exists()


def write_run(folder):
    run = folder / "run"
    run.mkdir()
    files.write_text(run / "history.csv", "epoch,loss\n1,0.5\n")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(
        run / "model.keras"
    )
    checkpoints = run / "checkpoints"
    checkpoints.mkdir()
    files.write_arrays(checkpoints / "00001-00000000.npz", {"a": np.arange(99)})
    return run


@pytest.mark.parametrize(
    "name", ["history.csv", "model.keras", "checkpoints/00001-00000000.npz"]
)
def test_a_file_that_is_cut_off_is_seen(kills, tmp_path, name):
    run = write_run(tmp_path)
    assert kills.check_fit(tmp_path) == "whole"
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: -len(content) // 3])
    with pytest.raises(Exception, match=r"."):
        kills.check_fit(tmp_path)
    (run / "model.keras").unlink()
    if name == "model.keras":
        assert kills.check_fit(tmp_path) == "absent"


def test_leftovers_are_counted_by_kind(kills, tmp_path):
    for name in (
        ".lock",
        ".1.a1b2c3d4.ood_keras.tmp",
        ".00001-00000002.npz.17_0a1b2c3d.tmp.npz",
        "whole.npz",
    ):
        (tmp_path / name).touch()
    first, second = kills.leftovers(tmp_path)
    assert "ood_keras.tmp" in second + first and ".npz" in second + first


def test_a_later_run_adds_to_the_counts_and_replaces_its_own(kills):
    first = {"scenarios": ["fit", "two"], "seed": 0}
    merged = kills.merge(None, first, {"fit": {"kills": 1}, "two": {"kills": 2}})
    assert merged["runs"] == [first]
    again = {"scenarios": ["two", "study"], "seed": 1}
    merged = kills.merge(merged, again, {"two": {"kills": 9}, "study": {"kills": 3}})
    assert merged["runs"] == [{"scenarios": ["fit"], "seed": 0}, again]
    assert merged["scenarios"] == {
        "fit": {"kills": 1},
        "study": {"kills": 3},
        "two": {"kills": 9},
    }
    assert list(merged["scenarios"]) == ["fit", "study", "two"]


@pytest.mark.slow
def test_a_killed_training_is_whole_and_goes_on(kills):
    found = kills.run(["fit"], kills=1, seed=0, say=print)["fit"]
    assert (found["kills"], found["broken"]) == (1, [])
    assert found["resumed_to_equal_results"] == 1
