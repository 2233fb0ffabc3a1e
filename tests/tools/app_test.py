"""Flags and errors of the commands."""

import subprocess
import sys
import warnings

import pytest
from absl import flags

from ood_keras.study import command, write_results
from ood_keras.tools import (
    adopt,
    app,
    calibrate,
    convert,
    demo,
    evaluate,
    export,
    fit,
    predict,
    quickstart,
    robustness,
    train,
)

TOOLS = [
    adopt,
    calibrate,
    convert,
    demo,
    evaluate,
    export,
    fit,
    predict,
    quickstart,
    robustness,
    train,
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
    assert app.split_specs(text) == specs


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
    values = app.new_flags()
    several = flags.DEFINE_multi_string("override", [], "", flag_values=values)
    app.run("x", "", values, print, ["x", "--override=a=1", "--override=b=2"])
    assert several.value == ["a=1", "b=2"]


def read_threshold(*argv):
    values = app.new_flags()
    read = app.define_threshold(values)
    values(["command", *argv])
    return read()


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
    values = app.new_flags()
    flags.DEFINE_integer("count", 1, "How many.", flag_values=values)
    with pytest.raises(SystemExit) as stop:
        app.run("ood-test", "Text.", values, main, ["ood-test", *arguments])
    return stop.value.code


def test_wrong_flag_names_it_and_points_to_help(capsys):
    assert run(lambda _: None, "--cuont=1") == 2
    error = capsys.readouterr().err
    assert "cuont" in error
    assert "ood-test --help" in error


def test_error_is_one_line_without_traceback(capsys):
    def fail(_):
        raise ValueError("expected this, received that, do so")

    assert run(fail) == 1
    assert capsys.readouterr().err == (
        "ood-test: error: expected this, received that, do so\n"
    )
    assert run(fail, "--traceback") == 1
    assert "Traceback" in capsys.readouterr().err


def test_positional_arguments_reach_the_command():
    received = []
    values = app.new_flags()
    app.run("ood-test", "Text.", values, received.extend, ["ood-test", "a", "b"])
    assert received == ["a", "b"]


def test_warnings_about_data_are_lines_of_the_command(capsys, monkeypatch):
    from ood_keras import pipelines

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def main(positional):
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
