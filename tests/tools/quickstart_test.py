"""The demo: what it does are the commands that it prints."""

import dataclasses
import importlib
import json
import re

import pytest

from ood_keras import workflows
from ood_keras.tools import quickstart
from ood_keras.training import recipes
from ood_keras.workflows import promises


class Asked:
    """Writes down what it is asked for."""

    def __init__(self):
        self.asked = []

    def train(self, **arguments):
        self.asked.append(("train", arguments))

    def evaluate(self, **arguments):
        self.asked.append(("evaluate", arguments))
        return "a table"

    def export(self, **arguments):
        self.asked.append(("export", arguments))
        return arguments["output"] / "1", "a promise"

    def predict(self, **arguments):
        self.asked.append(("predict", arguments))
        return "image  label"


@pytest.fixture
def demo(monkeypatch, tmp_path, capsys):
    stand_in = Asked()
    for verb in ("train", "evaluate", "export", "predict"):
        monkeypatch.setattr(workflows, verb, getattr(stand_in, verb))
    monkeypatch.setattr(promises, "describe_verdict", "the verdict on {}".format)
    monkeypatch.setattr("sys.argv", ["ood-quickstart", f"--run_dir={tmp_path}"])
    quickstart.main()
    return stand_in.asked, capsys.readouterr().out


def test_it_runs_what_it_prints(demo, tmp_path):
    asked, printed = demo
    commands = re.findall(r"^\$ ood-(\w+) (.+)$", printed, flags=re.MULTILINE)
    assert [name for name, _ in commands] == [name for name, _ in asked]
    for (name, text), (_, arguments) in zip(commands, asked, strict=True):
        tool = importlib.import_module(f"ood_keras.tools.{name}")
        changes = re.findall(r"--override=(\S+)", text)
        assert changes == list(arguments.get("overrides", ()))
        for flag, value in re.findall(r"--(\w+)=(\S+)", text):
            assert flag in tool._FLAGS
            if flag == "override":
                continue
            given = arguments[flag]
            given = ",".join(given) if isinstance(given, list) else str(given)
            assert given == value


def test_it_trains_in_renderings_and_leaves_the_recipe_as_it_is(demo):
    arguments = dict(demo[0])["train"]
    changes = dict(change.split("=") for change in arguments["overrides"])
    recipe = recipes.get(arguments["recipe"])
    assert recipe.augment is recipe.validation_augment is None
    recipe = dataclasses.replace(recipe, **changes)
    robust = recipes.get("robust")
    assert recipe.augment == robust.augment
    assert recipe.validation_augment == robust.validation_augment


def test_a_demo_of_an_earlier_version_goes_on_as_it_began(
    demo, monkeypatch, tmp_path, capsys
):
    asked = demo[0]
    asked.clear()
    recipe = recipes.get("demo").to_json()
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"recipe": recipe}}))
    quickstart.main()
    assert dict(asked)["train"]["overrides"] == ()
    assert "--override" not in capsys.readouterr().out
    asked.clear()
    recipe |= {"augment": "random_rendering", "validation_augment": "mild_rendering"}
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"recipe": recipe}}))
    quickstart.main()
    assert len(dict(asked)["train"]["overrides"]) == 2


def test_it_tests_on_what_training_never_saw(demo, tmp_path):
    asked = dict(demo[0])
    assert not set(asked["train"]["unknown"]) & set(asked["evaluate"]["unknown"])
    assert {"glyphs", "uniform_noise"} <= set(asked["evaluate"]["unknown"])
    assert asked["train"]["known"] == "digits"
    assert asked["export"]["output"] == tmp_path / "saved_model"
    assert f"the verdict on {tmp_path / 'saved_model' / '1'}\n" in demo[1]
    assert (tmp_path / "predictions.txt").read_text() == "image  label\n"


def test_what_it_advises_for_other_pictures_renders_them_too(demo):
    command = re.findall(r"^  ood-train (.+)$", demo[1], flags=re.MULTILINE)
    (flags,) = (dict(re.findall(r"--(\w+)=(\S+)", text)) for text in command)
    assert set(flags) == {"known", "unknown", "run_dir"}
    for name in re.findall(r"recipe, (\w+) or (\w+)", demo[1])[0]:
        recipe = recipes.get(name)
        assert (
            "rendering" in recipe.augment and "rendering" in recipe.validation_augment
        )
