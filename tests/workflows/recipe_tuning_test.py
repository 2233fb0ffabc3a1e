"""Searching for the numbers of a recipe; training itself is played, but once."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ood_keras import pipelines
from ood_keras.training import recipes
from ood_keras.training.recipe_overrides import parse_overrides
from ood_keras.training.run import DivergedError
from ood_keras.workflows import Range, recipe_tuning, training, tune_recipe

pytest.importorskip("keras_tuner")
SEARCH = {"learning_rate": Range(0.005, 0.2, log=True), "dropout": [0.0, 0.25, 0.3]}
ARGUMENTS = {"known": "digits", "unknown": ["synthetic"], "recipe": "demo"}


@pytest.fixture
def trainings(monkeypatch):
    """Plays `training.train`; the best learning rate is 0.1. Lists what was trained."""
    made = []

    def train(*, run_dir, overrides, **_):
        made.append((run_dir.name, overrides))
        changes = parse_overrides(overrides)
        rate = changes.get("learning_rate", 0.02)
        if rate > 0.15:
            raise DivergedError("training diverged")
        passing = abs(rate - 0.1)
        rows = [{"val_fpr95_known_positive": p} for p in (1.0, passing, 0.9)]
        others = {"val_detection_error": 0.1, "val_auroc": 0.9}
        return [
            {"epoch": 1, "val_known_accuracy": 0.5, **others, **row} for row in rows
        ]

    monkeypatch.setattr(training, "train", train)
    return made


def test_the_first_trial_is_the_recipe_and_the_best_comes_first(trainings, tmp_path):
    found = tune_recipe(**ARGUMENTS, search=SEARCH, trials=12, output=tmp_path)
    assert trainings[0] == ("001", [])
    by_number = sorted(found, key=lambda trial: trial.number)
    assert [trial.number for trial in by_number] == [*range(1, 13)]
    assert by_number[0].values == {"learning_rate": 0.02, "dropout": 0.3}
    # At its best epoch, and not at the last.
    assert by_number[0].passing == pytest.approx(0.08)
    passing = [trial.passing for trial in found]
    assert passing == sorted(passing) and passing[0] < 0.08
    for trial in found:
        assert 0.005 <= trial.values["learning_rate"] <= 0.2
        assert trial.values["dropout"] in SEARCH["dropout"]
    assert (tmp_path / "tuning.png").read_bytes().startswith(b"\x89PNG")
    assert f"trial {found[0].number}: " in recipe_tuning.describe_best(found)


def test_what_diverges_is_the_worst_and_named(trainings, tmp_path, capsys):
    search = {"learning_rate": Range(0.16, 0.2)}
    found = tune_recipe(**ARGUMENTS, search=search, trials=3, output=tmp_path)
    assert [trial.number for trial in found] == [1, 2, 3]
    assert [trial.passing for trial in found[1:]] == [1.0, 1.0]
    assert capsys.readouterr().out.count("training diverged") == 2


def test_a_search_that_was_stopped_ends_as_an_unbroken_one(
    trainings, tmp_path, monkeypatch
):
    def values(found):
        return [(trial.number, trial.values, trial.metrics) for trial in found]

    options = {**ARGUMENTS, "search": SEARCH, "trials": 8}
    unbroken = tune_recipe(**options, output=tmp_path / "unbroken")
    # Two fields have six random trials, so by the seventh the process is Gaussian.
    for stop in (3, 7):
        output, play = tmp_path / str(stop), training.train
        with monkeypatch.context() as patch:

            def train(*, run_dir, stop=stop, play=play, **options):
                if run_dir.name == f"{stop:03}":
                    raise KeyboardInterrupt
                return play(run_dir=run_dir, **options)

            patch.setattr(training, "train", train)
            with pytest.raises(KeyboardInterrupt):
                tune_recipe(**options, output=output)
        trainings.clear()
        assert values(tune_recipe(**options, output=output)) == values(unbroken)
        assert len(trainings) == 9 - stop


def test_more_trials_go_further_and_other_arguments_are_refused(trainings, tmp_path):
    options = {**ARGUMENTS, "search": SEARCH, "output": tmp_path}
    tune_recipe(**options, trials=2)
    assert len(tune_recipe(**options, trials=4)) == len(trainings) == 4
    for other in ({"seed": 1}, {"search": {"dropout": [0.1]}}, {"skip_bad": True}):
        with pytest.raises(ValueError, match="holds a search with another"):
            tune_recipe(**{**options, **other}, trials=4)
    assert len(trainings) == 4


def test_choices_of_several_numbers_may_be_tuples(trainings, tmp_path):
    own = recipes.get("demo").filters
    assert isinstance(own, tuple)
    options = {
        **ARGUMENTS,
        "search": {"filters": [(2, 2), own, (4,)]},
        "output": tmp_path,
    }
    (first,) = tune_recipe(**options, trials=1)
    assert first.values == {"filters": [*own]}
    assert len(tune_recipe(**options, trials=3)) == len(trainings) == 3
    # What is tried is credited to what it is, the recipe's own choice too.
    space = json.loads((tmp_path / "tuning.json").read_text())["asked"]["search"]
    assert recipe_tuning._encode(first.values, space) == {"filters": 1}


def test_the_recipe_is_chosen_by_what_will_be_trained_with(
    trainings, tmp_path, monkeypatch
):
    random = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "known" / ("cat", "dog")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    for number in range(3):
        copy = tmp_path / "known/cat" / f"copy{number}.png"
        shutil.copy(tmp_path / "known/cat/00.png", copy)
    (tmp_path / "known/cat/bad.png").write_bytes(b"")
    spec = f"folder:{tmp_path / 'known'}"
    seen = []
    choose = training.choose_recipe

    def look(known):
        seen.append(known.train.files)
        return choose(known)

    monkeypatch.setattr(training, "choose_recipe", look)
    options = {"known": spec, "unknown": ["synthetic"], "trials": 1}
    with pytest.raises(ValueError, match=r"1 file cannot be read(.|\n)*--skip_bad"):
        tune_recipe(**options, output=tmp_path / "a")
    tune_recipe(**options, output=tmp_path / "b", skip_bad=True)
    expected = pipelines.load(spec, leave_out=["cat/bad.png"], group_by="copies")
    assert seen == [expected.train.files]
    dealt = pipelines.load(spec, leave_out=["cat/bad.png"])
    assert dealt.train.files != expected.train.files
    assert trainings == [("001", [])]


@pytest.mark.parametrize(
    ("options", "recipe"),
    [
        ({"overrides": ["backbone=MobileNetV2"]}, "photos"),
        ({"backbone": "none"}, "robust"),
    ],
)
def test_a_backbone_decides_the_recipe_as_in_a_training(
    trainings, tmp_path, options, recipe
):
    arguments = {"known": "digits", "unknown": ["synthetic"], **options}
    tune_recipe(**arguments, search={"learning_rate": [0.1]}, trials=1, output=tmp_path)
    recorded = json.loads((tmp_path / "tuning.json").read_text())
    assert recorded["asked"]["recipe"] == recipe


def test_errors_of_a_training_come_out_as_they_are(tmp_path, monkeypatch):
    def train(**_):
        raise FileNotFoundError("no such data")

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(FileNotFoundError, match="no such data"):
        tune_recipe(**ARGUMENTS, search=SEARCH, trials=5, output=tmp_path)
    assert not (tmp_path / "tuning.json").exists()


def test_the_default_leaves_overridden_fields_alone(trainings, tmp_path):
    found = tune_recipe(
        known="digits",
        unknown=["synthetic"],
        recipe="fast",
        overrides=["dropout=0.1"],
        trials=2,
        output=tmp_path,
    )
    fields = {"learning_rate", "weight_decay", "objectosphere_weight"}
    assert all(trial.values.keys() == fields for trial in found)
    assert trainings[0] == ("001", ["dropout=0.1"])
    (override,) = (o for o in trainings[1][1] if o.startswith("weight_decay="))
    assert 0.003 / 4 <= float(override.partition("=")[2]) <= 0.003 * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unknown": []}, "unknown validation images"),
        ({"search": {"colour": [1]}}, "no field 'colour'"),
        ({"search": {"dropout": [1.5]}}, "dropout"),
        ({"search": {"dropout": []}}, "nothing to try"),
        ({"search": {"epochs": [2]}, "overrides": ["epochs=3"]}, "both searched"),
        ({"trials": 0}, "trials"),
    ],
)
def test_bad_arguments_are_refused_before_any_training(
    trainings, tmp_path, options, message
):
    with pytest.raises(ValueError, match=message):
        tune_recipe(**{**ARGUMENTS, "output": tmp_path, **options})
    assert not trainings


def test_texts_that_say_what_to_search():
    found = recipe_tuning.parse_search(
        ["learning_rate=0.005:0.2:log", "epochs=2:5", "filters=[8,16]|[16]"]
    )
    assert found == {
        "learning_rate": Range(0.005, 0.2, log=True),
        "epochs": Range(2, 5),
        "filters": [[8, 16], [16]],
    }
    assert found["epochs"].is_whole and not found["learning_rate"].is_whole
    for text in (
        "dropout",
        "dropout=0.1",
        "dropout=0.5:0.1",
        "dropout=0:1:log",
        "=1:2",
    ):
        with pytest.raises(ValueError, match="FIELD=LOW:HIGH"):
            recipe_tuning.parse_search([text])
    with pytest.raises(ValueError, match="once for each"):
        recipe_tuning.parse_search(["dropout=0:1", "dropout=0|1"])


def test_the_command_trains_and_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    from ood_keras.tools import tune

    arguments = [
        "ood-tune",
        "--known=digits[0-2]",
        "--unknown=synthetic",
        "--recipe=demo",
        "--override=epochs=1",
        "--override=filters=[4,4]",
        "--override=block=none",
        "--override=synthetic_images=50",
        "--search=dropout=0:0.5",
        "--trials=2",
        f"--output={tmp_path}",
    ]
    monkeypatch.setattr("sys.argv", arguments)
    tune.main()
    said = capsys.readouterr().out
    recorded = json.loads((tmp_path / "tuning.json").read_text())
    best = min(
        recorded["trials"], key=lambda one: one["metrics"]["val_fpr95_known_positive"]
    )
    assert f"ood-evaluate --run_dir={best['run_dir']}" in said
    assert "Trial 2 of 2: dropout=0." in said
    run = json.loads((tmp_path / "trials" / "002" / "run.json").read_text())
    dropout = recorded["trials"][1]["values"]["dropout"]
    assert run["settings"]["recipe"]["dropout"] == dropout


def write_mnist(folder, seed=0):
    """A small data set in the files of MNIST."""
    random = np.random.default_rng(seed)
    (folder / "mnist").mkdir(parents=True)
    for part, count in (("train", 240), ("t10k", 20)):
        images = random.integers(0, 256, (count, 28, 28), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, array in (("images", images), ("labels", labels)):
            header = bytes([0, 0, 8, array.ndim])
            header += np.array(array.shape, ">u4").tobytes()
            path = folder / "mnist" / f"{part}-{kind}-idx{array.ndim}-ubyte"
            path.write_bytes(header + array.tobytes())


def test_a_search_goes_on_where_its_data_lie_elsewhere_and_not_on_others(tmp_path):
    write_mnist(tmp_path / "here")
    options = {
        "known": "mnist[0-2]",
        "unknown": ["mnist[3-5]", "synthetic"],
        "recipe": "demo",
        "overrides": ["epochs=1", "filters=[4,4]", "block=none", "synthetic_images=50"],
        "search": {"unknown_images": [20, 30]},
        "output": tmp_path / "search",
    }
    tune_recipe(**options, data_dir=tmp_path / "here", trials=1)
    # Earlier versions noted the folder.
    path = tmp_path / "search" / "tuning.json"
    recorded = json.loads(path.read_text())
    recorded["asked"]["train"]["data_dir"] = str(tmp_path / "here")
    path.write_text(json.dumps(recorded))
    (tmp_path / "here").rename(tmp_path / "there")
    options["data_dir"] = tmp_path / "there"
    assert len(tune_recipe(**options, trials=2)) == 2
    shutil.rmtree(tmp_path / "there")
    write_mnist(tmp_path / "there", seed=1)
    with pytest.raises(ValueError, match=r"mnist\[0-2\]/.* is not the data that .*001"):
        tune_recipe(**options, trials=3)
    # Nothing is trained, so nothing is looked at.
    assert len(tune_recipe(**options, trials=2)) == 2
