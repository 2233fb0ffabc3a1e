"""A package of somebody else's, tests/outside, which adds one of each kind."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

OUTSIDE = pathlib.Path(__file__).parent / "outside"


def run(*arguments, path=()):
    """Runs Python in a process of its own; returns what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    """What the commands say, and the folder that they wrote."""
    folder = tmp_path_factory.mktemp("journey")
    return run(OUTSIDE / "journey.py", folder, path=[OUTSIDE]), folder


@pytest.fixture(scope="module")
def report(journey):
    output = run(OUTSIDE / "another_day.py", journey[1], path=[OUTSIDE])
    return json.loads(output.rpartition("report:")[2])


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_package_imports_no_private_name():
    files = [*(OUTSIDE / "lookout").glob("*.py"), OUTSIDE / "small_study.py"]
    imports = [
        (getattr(node, "module", None), alias.name)
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert len(imports) > 10
    for module, name in imports:
        assert not any(
            part.startswith("_") for part in f"{module}.{name}".split(".")
        ), (module, name)


def test_the_commands_take_all_of_it_by_name(journey):
    output, folder = journey
    run_json = read(folder / "run" / "run.json")
    settings = run_json["settings"]
    assert settings["known"] == "lookout/shapes"
    assert settings["unknown"] == ["grey:3"]
    assert settings["recipe"]["loss"] == "brier"
    assert settings["recipe"]["augment"] == "random_mirror"
    metrics = read(folder / "run" / "metrics.json")
    row = metrics["detectors"]["nearest_mean"]["unknown"]["grey:9"]
    with np.load(folder / "run" / "scores.npz", allow_pickle=False) as scores:
        known = scores["known/nearest_mean"]
        unknown = scores["unknown/grey:9/nearest_mean"]
    threshold = np.sort(known)[int(0.8 * len(known)) - 1]
    assert row["fpr80"] == np.mean(unknown <= threshold)
    assert "FPR80" in output
    steps = metrics["renderings"]["detectors"]["nearest_mean"]["steps"]
    assert "lookout_turn=1" in [step["name"] for step in steps]
    for command in ("ood-evaluate", "ood-export"):
        assert f"\n  {command} --plugin=lookout --run_dir=" in output
    for version, target in ((1, 0.8), (2, 0.6)):
        manifest = read(folder / "model" / str(version) / "manifest.json")
        assert manifest["detector"]["name"] == "nearest_mean"
        assert manifest["threshold"]["method"] == "halfway"
        assert manifest["threshold"]["target_acceptance"] == target
    card = (folder / "model" / "1" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "CC0, drawn by lookout" in card
    assert "1 images: " in output


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("run", "random_mirror"),
        ("model", "Brier"),
        ("detector", "nearest_mean"),
        ("metric", "fpr80"),
        ("source", "lookout/shapes"),
        ("made source", "grey:3"),
        ("augmentation", "random_mirror"),
        ("loss", "brier"),
        ("threshold", "halfway"),
    ],
)
def test_without_the_package_the_name_and_the_remedy_are_said(report, kind, name):
    assert repr(name) in report["without"][kind]
    assert "--plugin=MODULE" in report["without"][kind]


def test_no_artifact_imports_the_package(report):
    assert report["imported by an artifact"] is False


def test_what_was_saved_is_loaded_like_the_librarys_own(report):
    assert report["loss"] == "Brier"
    features, means = np.array(report["features"]), np.array(report["means"])
    gaps = np.linalg.norm(features[:, None] - means, axis=-1)
    np.testing.assert_allclose(report["loaded"], gaps.min(axis=1), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(report["loaded"], report["recorded"], rtol=1e-4)
    np.testing.assert_allclose(report["served"], report["recorded"], rtol=1e-4)


def test_a_study_in_a_file_is_run_with_what_lies_beside_it(tmp_path):
    output = run(
        *("-m", "ood_keras.study.command"),
        f"--study={OUTSIDE / 'small_study.py'}",
        f"--output_dir={tmp_path / 'out'}",
        f"--runs_dir={tmp_path / 'runs'}",
        "--only=lookout_shapes/brier",
    )
    assert "brier: 1 runs" in output
    assert "lookout_shapes/brier/seed_0: finished" in output
    summary = read(tmp_path / "out" / "summary.json")
    assert summary["study"] == "brier"
    assert summary["against_paper"] == {}
    assert {name: run["status"] for name, run in summary["runs"].items()} == {
        "lookout_shapes/brier/seed_0": "finished",
        "lookout_shapes/outlier_exposure/seed_0": "missing",
    }
    results = summary["results"]["lookout/shapes"]
    assert set(results) == {"nearest_mean", "brier"}
    assert set(results["brier"]) == {"grey:3", "grey:9"}
    assert summary["seen"]["lookout/shapes"]["brier"] == ["grey:3"]
