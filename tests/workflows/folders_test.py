"""Folders of pictures as people have them, up to the first step of a training."""

import json

import numpy as np
import pytest
from PIL import Image

from ood_keras import pipelines, training, workflows
from ood_keras.workflows import run_data

RANDOM = np.random.default_rng(0)


class Begun(Exception):
    """The training was about to begin."""


@pytest.fixture
def begin(monkeypatch, tmp_path):
    """A function that trains up to the first step, and returns the settings."""

    def fit(*_, run_dir, **arguments):
        run_dir.mkdir()
        run = {"settings": arguments["settings"], "seed": 0}
        (run_dir / "run.json").write_text(json.dumps(run))
        (run_dir / "model.keras").touch()
        raise Begun

    monkeypatch.setattr(training, "fit", fit)

    def begin(folder, **arguments):
        run_dir = tmp_path / "run"
        with pytest.raises(Begun):
            workflows.train(
                **{"known": f"folder:{folder}", "unknown": ["synthetic"]}
                | arguments
                | {"run_dir": run_dir, "recipe": "demo"}
            )
        return json.loads((run_dir / "run.json").read_text())["settings"]

    return begin


def write(folder, count, shape=(32, 32, 3), suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = RANDOM.integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02} ä{suffix}")


def counts(settings):
    return {name: part["images"] for name, part in settings["data"].items()}


def test_names_with_spaces_and_letters_of_any_language(begin, tmp_path):
    folder = tmp_path / "meine Bilder, größer"
    for name in ("Löwenzahn (gelb)", "ひまわり", "red rose"):
        write(folder / name, 10)
    settings = begin(folder)
    assert settings["class_names"] == ["Löwenzahn (gelb)", "red rose", "ひまわり"]
    assert counts(settings)[f"folder:{folder}/train"] == 18
    assert settings["group_by"] == ["copies"]


def test_grey_and_colour_and_every_size_in_one(begin, tmp_path):
    write(tmp_path / "a" / "cat", 6, (10, 10))
    write(tmp_path / "a" / "cat" / "wide", 6, (100, 10_000, 3), ".jpg")
    write(tmp_path / "a" / "dog", 12, (40, 30, 4))
    with pytest.warns(pipelines.DataWarning, match="1 folders lie within"):
        settings = begin(tmp_path / "a", image_shape=(32, 32, 3))
    assert settings["image_shape"] == [32, 32, 3]
    assert counts(settings)[f"folder:{tmp_path / 'a'}/train"] == 14


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((10, 10, 3), r"28"),
        ((10_000, 10_000), r"10000x10000 pixels; at most \d+ are read"),
    ],
)
def test_pictures_of_10_and_of_10_000_pixels(shape, message, begin, tmp_path):
    for name in ("cat", "dog"):
        write(tmp_path / "a" / name, 5, (10, 10, 3))
    if shape[0] > 10:
        huge = Image.new("L", shape)
        huge.save(tmp_path / "a" / "cat" / "huge.png")
    with pytest.raises(ValueError, match=message):
        begin(tmp_path / "a")


def test_one_class_trains_against_the_unknown(begin, tmp_path):
    one = tmp_path / "one"
    write(one / "cat", 10)
    with pytest.raises(ValueError, match=r"one known class, cat, .*open_set or extra"):
        begin(one, overrides=["loss=outlier_exposure"])
    with pytest.raises(ValueError, match=r"no known class.* each sub-folder"):
        begin(one / "cat")
    assert begin(one)["class_names"] == ["cat"]


def test_a_class_that_is_known_and_unknown(begin, tmp_path):
    for name in ("cat", "dog"):
        write(tmp_path / "known" / name, 10)
    write(tmp_path / "other" / "Cat", 10)
    with pytest.raises(ValueError, match=r"(?i)cat"):
        begin(tmp_path / "known", unknown=[f"folder:{tmp_path / 'other'}"])


def test_what_kept_pictures_together_is_kept_with_the_run(begin, tmp_path):
    for name in ("cat", "dog"):
        for film in range(6):
            write(tmp_path / "known" / name / f"film{film}", 3)
    write(tmp_path / "other", 30)
    spec = f"folder:{tmp_path / 'other'}"
    with pytest.warns(pipelines.DataWarning):
        settings = begin(tmp_path / "known", unknown=[spec], group_by=["folder"])
        assert settings["group_by"] == ["folder"]
        data = run_data.load_run_data(tmp_path / "run", [spec])
    films = {
        role: {name.split("/")[0] for name in data.known.split(role).files}
        for role in data.known.roles
    }
    assert len(set.union(*films.values())) == sum(map(len, films.values())) == 6


def test_groups_that_cannot_be(begin, tmp_path):
    for name in ("cat", "dog"):
        write(tmp_path / "known" / name, 10)
    with pytest.raises(ValueError, match="finds nothing in any of 20 names"):
        begin(tmp_path / "known", group_by=r"patient(\d+)")
    with pytest.raises(ValueError, match="no source is a folder"):
        begin(tmp_path, known="digits", group_by="copies")
    assert "group_by" not in begin(tmp_path / "known", group_by="none")


def test_a_run_of_before_there_were_groups_is_dealt_out_as_it_was(begin, tmp_path):
    for name in ("cat", "dog"):
        write(tmp_path / "known" / name, 2)
        write(tmp_path / "known" / name / "more", 8)
    with pytest.warns(pipelines.DataWarning):
        begin(tmp_path / "known", group_by="none")
        plain = run_data.load_run_data(tmp_path / "run", ["uniform_noise"])
        one_by_one = pipelines.load(f"folder:{tmp_path / 'known'}")
        assert plain.known.test.files == one_by_one.test.files
