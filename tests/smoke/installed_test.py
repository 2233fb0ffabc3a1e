"""Uses the package as installed; CI copies this file away from the checkout."""

import importlib.metadata
import pathlib
import shutil
import subprocess
import sys

import pytest

COMMANDS = sorted(
    script.name
    for script in importlib.metadata.entry_points(group="console_scripts")
    if script.module.startswith("ood_keras.")
)
BIN = pathlib.Path(sys.executable).parent


def run(*arguments, cwd):
    return subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(command, tmp_path):
    result = run(BIN / command, "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert command in result.stdout
    assert "Flags:" in result.stdout


def test_all_commands_are_there():
    assert {"ood-adopt", "ood-data", "ood-train", "ood-predict"} < set(COMMANDS)


def test_one_name_in_site_packages(tmp_path):
    code = "import ood_keras.pipelines, ood_keras.tools; import pipelines"
    result = run(sys.executable, "-c", code, cwd=tmp_path)
    assert "No module named 'pipelines'" in result.stderr


def test_shipped_models_go_by_their_name(tmp_path):
    code = (
        "from ood_keras.inference.shipped_models import names; print('names', *names())"
    )
    result = run(sys.executable, "-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    names = result.stdout.rpartition("names")[2].split()
    if not names:
        pytest.skip("no model is shipped with this version")
    (tmp_path / "junk.png").write_bytes(b"not an image")
    for name in names:
        result = run(BIN / "ood-predict", f"--model={name}", "junk.png", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "__unknown__" in result.stdout


def test_pages_are_written_from_templates(tmp_path):
    code = (
        "from ood_keras.study import markdown; "
        "print(markdown.render('misses', misses=[{'known': 'mnist', 'title': 'Ours', "
        "'method': 'ours', 'missed': {}}], picture=lambda *names: ''))"
    )
    result = run(sys.executable, "-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Every cell that was measured is met." in result.stdout


def test_main_job_from_another_folder(tmp_path):
    run_dir = tmp_path / "run"
    steps = [
        ["ood-train", "--known=digits", "--unknown=synthetic", "--recipe=demo"],
        ["ood-evaluate", "--unknown=glyphs"],
        ["ood-export", f"--output={tmp_path / 'model'}"],
    ]
    for override in ("epochs=1", "filters=[8,8]", "synthetic_images=300"):
        steps[0].append(f"--override={override}")
    for command, *flags in steps:
        result = run(BIN / command, f"--run_dir={run_dir}", *flags, cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
    junk = tmp_path / "junk.png"
    junk.write_bytes(b"not an image")
    result = run(BIN / "ood-predict", f"--model={tmp_path}/model/1", junk, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "__unknown__" in result.stdout
    shutil.rmtree(run_dir)
