"""Modules from outside the package, loaded by name."""

import doctest
import sys

import pytest

from ood_keras import plugins


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name, text):
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("a_plugin"):
            del sys.modules[name]


def test_modules_are_imported_in_order_and_once(write):
    write("a_plugin_list", "loaded = []")
    for name in ("one", "two"):
        write(
            f"a_plugin_{name}", f"import a_plugin_list as a\na.loaded.append('{name}')"
        )
    names = ["a_plugin_two", "a_plugin_one", "a_plugin_two"]
    assert [module.__name__ for module in plugins.load(names)] == names
    assert sys.modules["a_plugin_list"].loaded == ["two", "one"]
    assert plugins.load("a_plugin_one") == [sys.modules["a_plugin_one"]]
    assert plugins.load([]) == []


def test_what_it_registers_is_known(write):
    write(
        "a_plugin_thresholds",
        "from ood_keras import calibration\n"
        "@calibration.register\n"
        "def a_plugin_method(known_scores, target_acceptance=0.9):\n"
        "    return calibration.quantile(known_scores, target_acceptance)\n",
    )
    from ood_keras import calibration
    from ood_keras.calibration import registry

    try:
        plugins.load(["a_plugin_thresholds"])
        assert "a_plugin_method" in calibration.names(of_known_scores=True)
        threshold = calibration.get("a_plugin_method")([1.0, 2.0])
        assert threshold == calibration.quantile([1.0, 2.0], 0.9)
    finally:
        registry._METHODS.pop("a_plugin_method", None)


def test_a_module_in_a_package(write):
    write("a_plugin_package.inner", "number = 3")
    assert plugins.load(["a_plugin_package.inner"])[0].number == 3


@pytest.mark.parametrize("name", ["", "my-metrics", "folder/a.py", ".a", "a..b", None])
def test_what_is_no_name_is_explained(name):
    with pytest.raises(ValueError, match="name of a Python module"):
        plugins.load([name])


def test_a_file_is_explained():
    with pytest.raises(ValueError, match=r"without \.py.*PYTHONPATH.*'a_plugin\.py'"):
        plugins.load(["a_plugin.py"])


def test_a_missing_module_is_explained(write):
    write("a_plugin_package.inner", "")
    for name in ("a_plugin_missing", "a_plugin_missing.inner"):
        with pytest.raises(
            ImportError, match=r"no module 'a_plugin_missing'.*PYTHONPATH"
        ):
            plugins.load([name])
    with pytest.raises(ImportError, match=r"no module 'a_plugin_package\.other'"):
        plugins.load(["a_plugin_package.other"])


def test_what_a_plugin_itself_lacks_is_explained(write):
    write("a_plugin_lacking", "import a_module_that_is_nowhere")
    message = "'a_plugin_lacking' needs the module 'a_module_that_is_nowhere'"
    with pytest.raises(ImportError, match=message):
        plugins.load(["a_plugin_lacking"])


@pytest.mark.parametrize("error", ["1 / 0", "raise ImportError('no')", "syntax error"])
def test_a_plugin_that_fails_is_explained(write, error):
    path = write("a_plugin_failing", f"\n{error}")
    with pytest.raises(ImportError, match="'a_plugin_failing' failed") as raised:
        plugins.load(["a_plugin_failing"])
    assert raised.value.__cause__ is not None
    if "syntax" not in error:
        assert f"line 2 of {path}" in str(raised.value)


def test_a_file_is_run_and_finds_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "a_plugin_beside.py").write_text("number = 5")
    path = tmp_path / "a_plugin_file.py"
    # A dataclass looks its module up.
    path.write_text(
        "from __future__ import annotations\n"
        "import dataclasses\n"
        "import a_plugin_beside\n"
        "@dataclasses.dataclass\n"
        "class Holder:\n"
        "    number: int\n"
        "held = Holder(a_plugin_beside.number)\n"
    )
    assert plugins.run_file(path).held.number == 5
    assert sys.path[-1] == str(tmp_path)  # Shadows nothing.
    del sys.modules["a_plugin_beside"]
    path.write_text("import json\n\njson.loads('{')\n")
    with pytest.raises(ImportError, match=r"line 3 of .*a_plugin_file\.py: JSON"):
        plugins.run_file(path)
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.py"):
        plugins.run_file(tmp_path / "nowhere.py")
    path.with_suffix(".txt").write_text("")
    with pytest.raises(ImportError, match=r"no Python file, whose name ends with \.py"):
        plugins.run_file(path.with_suffix(".txt"))


def test_example():
    assert doctest.testmod(plugins).failed == 0
