"""The demo: what it does are the commands that it prints."""

import importlib
import re

import pytest

from ood_keras import workflows
from ood_keras.tools import quickstart
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
        for flag, value in re.findall(r"--(\w+)=(\S+)", text):
            assert flag in tool._FLAGS
            given = arguments[flag]
            given = ",".join(given) if isinstance(given, list) else str(given)
            assert given == value


def test_it_tests_on_what_training_never_saw(demo, tmp_path):
    asked = dict(demo[0])
    assert not set(asked["train"]["unknown"]) & set(asked["evaluate"]["unknown"])
    assert {"glyphs", "uniform_noise"} <= set(asked["evaluate"]["unknown"])
    assert asked["train"]["known"] == "digits"
    assert asked["export"]["output"] == tmp_path / "saved_model"
    assert f"the verdict on {tmp_path / 'saved_model' / '1'}\n" in demo[1]
    assert (tmp_path / "predictions.txt").read_text() == "image  label\n"
