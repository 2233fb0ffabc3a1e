"""Flags and errors of the commands."""

import copy
import inspect
import os
import platform
import subprocess
import sys
import warnings

import pytest

from ood_keras import workflows
from ood_keras.study import command, write_results
from ood_keras.tools import (
    adopt,
    app,
    calibrate,
    command_flags,
    convert,
    data,
    demo,
    evaluate,
    export,
    fit,
    predict,
    quickstart,
    robustness,
    train,
    tune,
)
from ood_keras.workflows import calibration, thresholds
from ood_keras.workflows.demo import page

TOOLS = [
    adopt,
    calibrate,
    convert,
    data,
    demo,
    evaluate,
    export,
    fit,
    predict,
    quickstart,
    robustness,
    train,
    tune,
    command,
    write_results,
]


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("kmnist", ["kmnist"]),
        ("mnist[0,1],kmnist", ["mnist[0,1]", "kmnist"]),
        (" a , b[0-4] ,", ["a", "b[0-4]"]),
        ("", []),
        (None, []),
    ],
)
def test_split_specs(text, specs):
    assert command_flags.split_specs(text) == specs


def test_a_flag_given_twice_is_not_half_dropped(capsys):
    """absl takes the last value and says nothing of the first."""
    arguments = "--known=mnist --unknown=kmnist --unknown=synthetic --run_dir=x"
    with pytest.raises(SystemExit) as stop:
        app.run("ood-train", "", train._FLAGS, print, ["x", *arguments.split()])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "--unknown was given 2 times" in error and "commas" in error
    train._FLAGS.unparse_flags()


def test_a_flag_that_may_be_repeated_is(capsys):
    values = app.Flags()
    values.add_repeated("override", "", [])
    app.run("x", "", values, print, ["x", "--override=a=1", "--override=b=2"])
    assert values.override == ["a=1", "b=2"]


def test_sources_are_split_and_none_is_no_source():
    values = app.Flags()
    values.add_specs("unknown", "")
    values(["x"])
    assert values.unknown == []
    values(["x", "--unknown=mnist[0,1],kmnist"])
    assert values.read_arguments() == {"unknown": ["mnist[0,1]", "kmnist"]}
    assert values.read_arguments("unknown") == {}


@pytest.mark.parametrize(
    ("tool", "workflow", "left_out"),
    [
        (adopt, workflows.adopt, ()),
        (calibrate, workflows.calibrate, ("scores", "unknown_scores")),
        (
            calibrate,
            calibration.calibrate_on_scores,
            ("known", "unknown", "data_dir"),
        ),
        (convert, workflows.convert, ()),
        (data, workflows.audit, ()),
        (demo, page.serve, ()),
        (
            evaluate,
            workflows.evaluate,
            ("scores", "unknown_scores", "model", "output", "metrics"),
        ),
        (export, workflows.export, ()),
        (fit, workflows.fit, ("shards", "workers")),
        (
            robustness,
            workflows.measure_robustness,
            ("run_dir", "model", "known", "compare_with"),
        ),
        (train, workflows.train, ("override",)),
        (tune, workflows.tune_recipe, ("override", "search")),
    ],
)
def test_a_flag_is_called_as_the_argument_that_it_fills(tool, workflow, left_out):
    arguments = tool._FLAGS.read_arguments(*left_out)
    if "per_class" in arguments:
        arguments = thresholds.read_flags(arguments)
    taken = inspect.signature(workflow).parameters
    if "of_train" in taken:
        taken = {**inspect.signature(workflows.train).parameters, **taken}
    assert arguments.keys() <= taken.keys()


def test_what_is_kept_in_memory_is_said_to_all_that_a_command_starts(monkeypatch):
    names = ("OOD_KERAS_CACHE_DIR", "OOD_KERAS_MEMORY_GB")
    for name in names:
        monkeypatch.setenv(name, "before")
    flags = app.Flags()
    flags.add_data_dir()

    def run(*argv):
        app.run("ood-test", "Text.", flags, lambda: None, ["ood-test", *argv])
        return [os.environ[name] for name in names]

    assert run("--data_dir=data") == ["before", "before"]
    assert run("--cache_dir=a b", "--memory_gb=0") == ["a b", "0.0"]
    assert flags.read_arguments() == {"data_dir": "data"}


@pytest.mark.parametrize(
    ("trains", "before", "processor", "is_imported", "after"),
    [
        (True, None, "x86_64", False, "1"),
        (True, "0", "x86_64", False, "0"),
        (True, None, "arm64", False, None),
        (True, None, "x86_64", True, None),
        (False, None, "x86_64", False, None),
    ],
)
def test_commands_that_train_ask_for_onednn(
    trains, before, processor, is_imported, after, monkeypatch
):
    name = "TF_ENABLE_ONEDNN_OPTS"
    # Set first, so that what the command leaves is taken away again.
    monkeypatch.setenv(name, "as it was")
    if before is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, before)
    monkeypatch.setattr(platform, "machine", lambda: processor)
    if is_imported:
        monkeypatch.setitem(sys.modules, "tensorflow", None)
    else:
        monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    flags = app.Flags()
    app.run("ood-test", "Text.", flags, lambda: None, ["ood-test"], trains=trains)
    assert os.environ.get(name) == after


def read_threshold(*argv):
    values = app.Flags()
    values.add_thresholds()
    values(["command", *argv])
    return thresholds.read_flags(values.read_arguments())


def test_threshold_flags_become_the_arguments_of_a_workflow():
    nothing = read_threshold()
    assert nothing.pop("operating_points") == {}
    assert set(nothing.values()) == {None}
    assert read_threshold("--per_class")["method"] == "conformal_per_class"
    given = read_threshold(
        "--method=lowest_cost",
        "--prior_unknown=0.1",
        "--cost_false_accept=5",
        "--operating_points=strict=0.9, a=b=0.99",
    )
    assert given["operating_points"] == {"strict": 0.9, "a=b": 0.99}
    assert (given["prior_unknown"], given["cost_false_accept"]) == (0.1, 5)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--per_class", "--method=quantile"], "give one of them"),
        (["--operating_points=strict"], "such as strict=0.9,lenient=0.99. Received"),
        (["--operating_points=strict=high"], "such as strict=0.9,lenient=0.99"),
        (["--operating_points==0.9"], "such as strict=0.9,lenient=0.99"),
        (["--operating_points="], "such as strict=0.9,lenient=0.99"),
        (["--operating_points=a=0.9,a=0.8"], "names 'a' twice"),
    ],
)
def test_threshold_flags_that_cannot_be_are_refused(argv, says):
    with pytest.raises(ValueError, match=says):
        read_threshold(*argv)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_help_names_every_flag_and_loads_nothing_heavy(tool):
    code = (
        "import sys\n"
        f"from {tool.__name__} import main\n"
        "sys.argv = ['x', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    assert stop.code == 0\n"
        "assert 'keras' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    for name in tool._FLAGS:
        assert f"--{name}" in result.stdout


def run(main, *arguments):
    values = app.Flags()
    values.add_integer("count", "How many.", 1)
    with pytest.raises(SystemExit) as stop:
        app.run("ood-test", "Text.", values, main, ["ood-test", *arguments])
    return stop.value.code


def test_wrong_flag_names_it_and_points_to_help(capsys):
    assert run(lambda: None, "--cuont=1") == 2
    error = capsys.readouterr().err
    assert "cuont" in error
    assert "ood-test --help" in error


def test_error_is_one_line_without_traceback(capsys):
    def fail():
        raise ValueError("expected this, received that, do so")

    assert run(fail) == 1
    assert capsys.readouterr().err == (
        "ood-test: error: expected this, received that, do so\n"
    )
    assert run(fail, "--traceback") == 1
    assert "Traceback" in capsys.readouterr().err


def test_positional_arguments_reach_the_command():
    received = []
    arguments = ("ood-test", "Text.", app.Flags(), received.extend)
    app.run(*arguments, ["ood-test", "a", "b"], takes_paths=True)
    assert received == ["a", "b"]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_what_a_command_writes_is_of_this_machine(tool, capsys):
    """A URL would become a folder `./s3:`, and the command would say Done."""
    flag_values = copy.deepcopy(tool._FLAGS)
    written = {"output", "output_dir", "run_dir", "runs_dir", "picture", "explain"}
    texts = {name for name in flag_values if not flag_values[name].boolean}
    for name in written & texts:
        with pytest.raises(SystemExit) as stop:
            app.run("ood", "", flag_values, list, ["ood", f"--{name}=s3://bucket/a"])
        # With --shards, ood-predict writes to a URL.
        refused = (tool, name) != (predict, "output")
        assert ("of this machine" in capsys.readouterr().err) == refused
        assert stop.value.code


def test_what_is_no_flag_is_an_error_where_none_is_taken(capsys):
    assert run(lambda: None, "a.png") == 1
    assert capsys.readouterr().err == (
        "ood-test: error: ood-test takes flags only; received: ['a.png']\n"
    )


def test_warnings_about_data_are_lines_of_the_command(capsys, monkeypatch):
    from ood_keras import pipelines

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def main():
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            app.show_warnings("ood-test")
            for _ in range(2):
                pipelines.sources.base.warn("5 files are left out")
        raise ValueError("the end")

    assert run(main) == 1
    assert capsys.readouterr().err.splitlines() == [
        "ood-test: warning: 5 files are left out",
        "ood-test: error: the end",
    ]
