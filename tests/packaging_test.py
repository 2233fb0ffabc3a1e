"""The package list, the arrows between rooms, and what an import may cost."""

import ast
import configparser
import functools
import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = {"ood_keras": "ood_keras"} | {
    name: f"ood_keras.{name}"
    for name in ("pipelines", "saved_models", "study", "tools")
}
# From the ground up; imports point down. Between rooms of one floor they may too, as
# long as no circle arises.
FLOORS = {
    "pipelines": 0,
    "layers": 0,
    "inference": 1,
    "detectors": 1,
    "models": 1,
    "metrics": 2,
    "calibration": 3,
    "losses": 3,
    "export": 4,
    "evaluation": 4,
    "training": 4,
    "workflows": 5,
    "tools": 6,
    "study": 7,
}


def modules():
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            yield ".".join([package, *parts]), path


@functools.cache
def imported(path):
    """Every dotted name that a file imports, at its top or inside a function."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            raise ValueError(f"{path}: relative imports hide the room they lead to")
    return names


@functools.cache
def arrows():
    """Every import of one file by another, both by their dotted names."""
    names = {name for name, _ in modules()}
    found = set()
    for name, path in modules():
        for target in imported(path):
            while target and target not in names:
                target = target.rpartition(".")[0]
            if target and target != name:
                found.add((name, target))
    return frozenset(found)


def room(name):
    """The room of a file; `None` for the files that stand beside the rooms."""
    part = name.split(".")[1] if "." in name else None
    return part if part in FLOORS else None


def test_package_list_names_every_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {name for name, path in modules() if path.name == "__init__.py"}
    assert listed == found


def test_files_of_tests_have_names_of_their_own():
    """Of two with one name in different folders, pytest collects the first."""
    names = [path.name for path in (ROOT / "tests").rglob("*_test.py")]
    assert len(set(names)) == len(names)


def test_shipped_models_are_in_git_and_in_the_wheel():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = config["options.package_data"]["ood_keras.saved_models"].split()
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    kept = [line for line in ignored if line.startswith("!saved_models/")]
    assert kept == [
        f"!saved_models/{pattern.removesuffix('**')}" for pattern in patterns
    ]


def test_minimum_versions_are_those_that_were_run():
    lines = (ROOT / "tests/minimum_versions.txt").read_text().splitlines()
    run = {line.replace("==", ">=") for line in lines if not line.startswith("#")}
    config = (ROOT / "setup.cfg").read_text()
    required = re.findall(r"^    ([\w-]+>=\S+)$", config, flags=re.MULTILINE)
    assert set(required) == run


def test_imports_point_downwards_only():
    upward = [
        (source, target)
        for source, target in arrows()
        if source != "ood_keras"  # For type checkers, it names what it loads later.
        and room(target)
        and (room(source) is None or FLOORS[room(source)] < FLOORS[room(target)])
    ]
    assert not upward


def test_only_workflows_and_recipes_join_pipelines_to_the_library():
    joined = [
        (source, target)
        for source, target in arrows()
        if room(target) == "pipelines"
        and room(source) not in ("pipelines", "workflows", "study")
        and source
        not in (
            "ood_keras",
            "ood_keras.training.recipes",
            # Arrays and datasets become epochs as splits do.
            "ood_keras.training.as_training_data",
        )
    ]
    assert not joined


def test_files_form_no_circle():
    # A package stands for its files, which it imports, so it takes no part itself.
    packages = {name for name, path in modules() if path.name == "__init__.py"}
    remaining = {arrow for arrow in arrows() if not packages & set(arrow)}
    while remaining:
        sources = {source for source, _ in remaining}
        leaves = {arrow for arrow in remaining if arrow[1] not in sources}
        assert leaves, f"a circle among {sorted(remaining)}"
        remaining -= leaves


def test_no_bare_imports_of_renamed_folders():
    folders = {path for path in ROOT.iterdir() if path.is_dir()}
    folders -= {ROOT / ".venv", ROOT / "build"}
    bare = [
        (str(path), target)
        for folder in folders
        for path in folder.rglob("*.py")
        for target in imported(path)
        if target.split(".")[0] in ("pipelines", "study", "tools")
    ]
    assert not bare


def run_python(code):
    """What a fresh process prints that runs `code`."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def modules_after(imports, code=""):
    """The modules of a fresh process that ran `imports` and then `code`."""
    report = "import sys; print('modules:', *sys.modules)"
    output = run_python(f"{imports}\n{code}\n{report}")
    return set(output.rpartition("modules:")[2].split())


def test_import_is_lazy():
    assert not {"keras", "tensorflow", "numpy"} & modules_after("import ood_keras")


def test_reading_exported_models_loads_no_tensorflow():
    files = [name for name, _ in modules() if name.startswith("ood_keras.inference")]
    loaded = modules_after("\n".join(f"import {name}" for name in files))
    assert not {"keras", "tensorflow"} & loaded


REGISTERED = "assert 'ood_keras>OpenSetLoss' in keras.saving.get_custom_objects()"
ROOMS = sorted(set(FLOORS) - {"tools"})
# Keras itself loads some packages where they are installed.
NOTHING_HEAVY = f"""
import sys, keras
before = set(sys.modules)
import ood_keras
ours = set(sys.modules) - before
assert not {{"scipy.stats", "matplotlib.pyplot", "jinja2", "tqdm"}} & ours, ours
{REGISTERED}
"""
AFTER_KERAS = {"registration": NOTHING_HEAVY}
AFTER_KERAS |= {room: f"import ood_keras.{room}" for room in ROOMS}
FORKS = """
import json, os, sys, traceback
import keras

for name, code in json.loads(sys.stdin.read()).items():
    child = os.fork()
    if not child:
        try:
            exec(code, {})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if not os.waitpid(child, 0)[1]:
        print("passed:", name, flush=True)
"""


@pytest.fixture(scope="module")
def after_keras():
    """What each of `AFTER_KERAS` does in a process of its own that has loaded Keras.

    Returns:
        `(passed, said)`: names, and the errors of the others. The processes are forks
        of one, since loading TensorFlow takes longest.
    """
    result = subprocess.run(
        [sys.executable, "-c", FORKS],
        input=json.dumps(AFTER_KERAS),
        capture_output=True,
        text=True,
        timeout=900,
    )
    return re.findall("^passed: (.*)$", result.stdout, re.MULTILINE), result.stderr


def test_registration_loads_nothing_heavy(after_keras):
    passed, said = after_keras
    assert "registration" in passed, said


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_can_be_the_first_to_be_imported(room, after_keras):
    passed, said = after_keras
    assert room in passed, said


@pytest.mark.parametrize(
    "imports",
    [
        "import ood_keras; import keras",
        "import ood_keras, importlib.util as u; u.find_spec('keras'); import keras",
    ],
)
def test_keras_finds_the_objects_also_if_it_comes_second(imports):
    modules_after(imports, REGISTERED)
