"""What would spoil a training stops it, all at once, or is left out and counted."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from ood_keras import pipelines, workflows
from ood_keras.tools import evaluate as evaluate_command
from ood_keras.training import recipes
from ood_keras.workflows import evaluation
from ood_keras.workflows.data_check import check_data

RECIPE = recipes.get(
    "demo",
    epochs=1,
    filters=(2, 2),
    hidden_size=4,
    feature_size=4,
    unknown_images=10,
    synthetic_images=20,
)


def write(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path):
    """Known and unknown pictures, with one of each kind of harm."""
    known, other = tmp_path / "known", tmp_path / "other"
    for seed in range(60):
        write(known / ("cat", "dog")[seed % 2] / f"{seed}.png", seed)
    for seed in range(20):
        write(other / f"{seed}.png", 100 + seed)
    write(known / "dog/copy.png", 0)
    write(other / "cat.png", 2)
    (known / "cat/empty.png").write_bytes(b"")
    whole = (known / "cat/4.png").read_bytes()
    (known / "cat/cut.png").write_bytes(whole[:300])
    (other / "text.jpg").write_text("no picture")
    return f"folder:{known}", f"folder:{other}"


def test_all_that_spoils_is_listed_at_once(folders, tmp_path):
    known, other = folders
    with pytest.raises(ValueError) as error:
        workflows.train(
            known=known, unknown=[other], run_dir=tmp_path / "run", recipe=RECIPE
        )
    text = str(error.value)
    for part in (
        "3 files cannot be read",
        "cat/empty.png is no readable picture: it is empty",
        "cat/cut.png is no readable picture: truncated",
        f"{other}: text.jpg is no readable picture",
        "1 picture under several labels",
        f"{known}: cat/0.png = {known}: dog/copy.png",
        "1 picture both known and unknown",
        f"{known}: cat/2.png = {other}: cat.png",
        "--skip_bad",
    ):
        assert part in text, part
    assert not (tmp_path / "run").exists()


def test_what_is_bad_is_left_out_counted_and_stays_out(folders, tmp_path, capsys):
    known, other = folders
    run_dir = tmp_path / "run"
    arguments = {
        "known": known,
        "unknown": [other],
        "run_dir": run_dir,
        "recipe": RECIPE,
    }
    workflows.train(**arguments, skip_bad=True)
    printed = capsys.readouterr().out
    assert f"Left out: 4 files of {known}, 2 files of {other}." in printed
    settings = json.loads((run_dir / "run.json").read_text())["settings"]
    assert settings["left_out"].keys() == {known, other}
    assert settings["left_out"][known].keys() == {
        "cat/0.png",
        "cat/cut.png",
        "cat/empty.png",
        "dog/copy.png",
    }
    reasons = settings["left_out"][other]
    assert reasons["cat.png"].endswith("cat/2.png")
    assert reasons.keys() == {"cat.png", "text.jpg"}
    # 60 and the copy, less both copies.
    images = {name: one["images"] for name, one in settings["data"].items()}
    assert images[f"{known}/train"] + images[f"{known}/validation"] == 47
    # The same command goes on with the run, and looks for nothing again.
    workflows.train(**arguments)
    report = workflows.evaluate(
        run_dir=run_dir, unknown=[other], detectors=["msp"], renderings="none"
    )
    assert report.protocol["left out"] == f"4 files of {known}, 2 files of {other}"


def test_bad_files_of_new_test_sources_are_left_out_and_counted(
    folders, tmp_path, capsys, monkeypatch
):
    known, other = folders
    run_dir = tmp_path / "run"
    workflows.train(
        known=known,
        unknown=["synthetic"],
        run_dir=run_dir,
        recipe=RECIPE,
        skip_bad=True,
    )
    of_training = json.loads((run_dir / "run.json").read_text())["settings"]["left_out"]
    with pytest.raises(ValueError, match=r"text\.jpg is no readable picture"):
        workflows.evaluate(run_dir=run_dir, unknown=[other], renderings="none")
    capsys.readouterr()
    arguments = [f"--run_dir={run_dir}", f"--unknown={other},uniform_noise"]
    monkeypatch.setattr(
        "sys.argv",
        [
            "ood-evaluate",
            *arguments,
            "--detectors=msp",
            "--renderings=none",
            "--skip_bad",
        ],
    )
    evaluate_command.main()
    printed = capsys.readouterr().out
    assert f"Left out: 2 files of {other}." in printed
    assert f"cat.png is the same picture as the known {known}: cat/2.png" in printed
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["left_out"].keys() == {other}
    assert metrics["left_out"][other].keys() == {"cat.png", "text.jpg"}
    assert metrics["data"][f"{other}/test"]["images"] == 20
    report = (run_dir / "report.html").read_text()
    assert f"4 files of {known}, 2 files of {other}" in report
    settings = json.loads((run_dir / "run.json").read_text())["settings"]
    assert settings["left_out"] == of_training


def test_what_judged_an_adoption_stays_as_it_was(monkeypatch):
    monkeypatch.setattr(evaluation, "find_bad", lambda known, unknown, **_: unknown)
    settings = {"known": "folder:k", "unknown": [], "judges": ["folder:j"]}
    found = evaluation._find_bad(settings, {"folder:j", "folder:new", "folder:k"})
    assert found == ["folder:new"]


def test_good_folders_and_other_sources_pass(folders):
    known, _ = folders
    assert check_data("digits", ["synthetic"]) == {}
    assert check_data(f"{known}[dog]", []) == {}


def test_classes_cannot_be_left_out(folders):
    known, _ = folders
    write(pathlib.Path(known.removeprefix("folder:")) / "CAT/1.png", 7)
    for skip_bad in (False, True):
        with pytest.raises(ValueError, match="'CAT' and 'cat', which differ in case"):
            check_data(known, [], skip_bad=skip_bad)


def test_copies_in_several_splits_leave_the_test_as_it_is(tmp_path):
    for seed in range(20):
        write(tmp_path / "train/cat" / f"{seed}.png", seed)
        write(tmp_path / "test/cat" / f"{seed}.png", seed + 18)
    left_out = check_data(f"folder:{tmp_path}", [], skip_bad=True)
    assert list(left_out[f"folder:{tmp_path}"]) == [
        "train/cat/18.png",
        "train/cat/19.png",
    ]


def test_copies_in_one_split_do_no_harm_wherever_they_lie(tmp_path):
    for seed in range(30):
        write(tmp_path / "known/cat" / f"{seed}.png", seed)
        for folder in (1, 2):
            for part in ("train", "test"):
                path = tmp_path / f"u{folder}/{part}/{seed}.png"
                write(path, 1000 * folder + 100 * (part == "test") + seed)
    # Of a training part, some go into validation; their copies need not.
    for number in range(3, 30):
        write(tmp_path / f"u1/train/{number}.png", 1000)
    write(tmp_path / "u2/train/0.png", 1000)
    known, *unknown = (f"folder:{tmp_path}/{name}" for name in ("known", "u1", "u2"))
    assert check_data(known, unknown) == {}
    assert check_data(known, unknown, skip_bad=True) == {}
    # One in two splits of two folders is in the test of one, and there it stays.
    write(tmp_path / "u2/test/0.png", 1001)
    with pytest.raises(ValueError, match=r"1 picture in several splits.*\n.*1\.png"):
        check_data(known, unknown)
    left_out = check_data(known, unknown, skip_bad=True)
    assert {spec: [*names] for spec, names in left_out.items()} == {
        unknown[0]: ["train/1.png"]
    }


def test_files_to_leave_out_are_those_of_folders(folders):
    known, _ = folders
    bad = ["cat/empty.png", "cat/cut.png", "cat/0.png", "no/such.png"]
    source = pipelines.load(known, leave_out=bad)
    names = [name for role in source.roles for name in source.split(role).files]
    assert len(names) == 60 and "cat/0.png" not in names
    with pytest.raises(ValueError, match="`leave_out` names files of a folder"):
        pipelines.load("digits", leave_out=bad)
