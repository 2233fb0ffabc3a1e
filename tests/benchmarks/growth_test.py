"""The benchmark of growth measures what it says, at a small size."""

import importlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def part(monkeypatch):
    """Loads a part by its name."""
    monkeypatch.syspath_prepend(FOLDER)
    yield lambda name: importlib.import_module(f"growth_parts.{name}")
    for name in [name for name in sys.modules if name.startswith("growth_parts")]:
        del sys.modules[name]


def read(name):
    return json.loads((FOLDER / "results" / "growth.json").read_text())[name]["sides"]


def test_sides_see_the_same_scores(part, monkeypatch):
    metrics = part("metrics")
    monkeypatch.setattr(metrics, "BLOCK", 300)
    monkeypatch.setattr(metrics, "FIRST", 1000)
    found = metrics.compare(
        {side: metrics.measure_side(side, 1000, 1000) for side in metrics.SIDES}
    )["sides"]
    row = found["sketch"]["1000"]
    assert row["auroc_inside"] and 0 <= row["threshold_above_exact"] < 0.004
    exact, other = (found[side]["1000"]["auroc"] for side in ("exact", "scikit_learn"))
    assert exact == pytest.approx(other)
    assert found["sketch"]["1000"]["auroc"] == pytest.approx(exact, abs=2e-3)


def test_images_are_made_anew_in_each_walk(part):
    images = part("fitting").Images(2500)
    first, second = list(images), list(images)
    assert [len(labels) for _, labels in first] == [1000, 1000, 500]
    for (one, _), (other, _) in zip(first, second, strict=True):
        assert one.tobytes() == other.tobytes()
    assert not np.array_equal(first[0][0], first[1][0])
    assert images.seconds > 0


def test_detectors_are_fitted_on_as_many_images_as_said(part, monkeypatch):
    fitting = part("fitting")
    seen = []

    class Counted(fitting.Images):
        def __init__(self, count):
            super().__init__(count)
            seen.append(count)

    network = fitting.make_network()
    monkeypatch.setattr(fitting, "make_network", lambda: network)
    monkeypatch.setattr(fitting, "Images", Counted)
    sides = ("network", "scikit_learn", "mahalanobis")
    found = {side: fitting.measure_side(side, 10_000, 1000) for side in sides}
    # After a warm-up; what is held stops earlier.
    all_sizes = [1000, 1000, 10_000]
    assert seen == [*all_sizes, 1000, 1000, *all_sizes]
    found = fitting.compare(found)["sides"]
    for size, row in found["mahalanobis"].items():
        passed = found["network"][size]["seconds"]
        assert row["times_a_pass"] == pytest.approx(row["seconds"] / passed, abs=0.01)


def test_requests_of_all_ways_are_answered_alike(part):
    found = part("serving").measure(4, 0, num_requests=2)
    for rows in found["sides"].values():
        assert list(rows) == ["1", "4"]
        for size, row in rows.items():
            assert 0 < row["p50_ms"] <= row["p95_ms"]
            share = row["p50_ms"] / int(size)
            assert row["p50_ms_per_image"] == pytest.approx(share, abs=1e-3)


def test_pictures_are_those_of_the_model_in_files_too(part, tmp_path):
    from PIL import Image

    from ood_keras.inference import inputs

    predict = part("predict")
    examples = predict.read_examples()
    predict.write_idx(tmp_path / "images.idx", examples, 1000)
    predict.write_pngs(tmp_path / "png", examples, 1000)
    pictures = predict.make_pictures(examples, 0, 1000)
    of_idx = inputs.read_again(str(tmp_path / "images.idx"), 7, (28, 28, 1))
    assert np.array_equal(of_idx.squeeze(), pictures[7])
    names = sorted((tmp_path / "png").rglob("*.png"))
    assert len(names) == 1000
    assert np.array_equal(np.asarray(Image.open(names[7])), pictures[7])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "most", "sides"),
    [
        ("training", 8, ("plain", "ours", "two_replicas")),
        ("predict", 1000, ("idx", "png", "saved_model")),
    ],
)
def test_a_part_adds_its_result_to_the_others(tmp_path, name, most, sides):
    output, picture = tmp_path / "growth.json", tmp_path / "growth.png"
    output.write_text('{"metrics": 1}')
    command = [sys.executable, str(FOLDER / "growth.py"), f"--part={name}"]
    command += [f"--most={most}", f"--output={output}", f"--picture={picture}"]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads(output.read_text())
    assert found["metrics"] == 1
    assert tuple(found[name]["sides"]) == sides
    for rows in found[name]["sides"].values():
        assert rows[str(most)]["images_per_second"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_committed_result_keeps_what_the_guide_says_of_metrics():
    found = read("metrics")
    assert list(found["sketch"])[-1] == str(10**9)
    rows = [row for row in found["sketch"].values() if "auroc_inside" in row]
    assert rows and all(row["auroc_inside"] for row in rows)
    assert all(0 <= row["threshold_above_exact"] < 0.004 for row in rows)


def test_the_committed_result_keeps_what_the_guide_says_of_fitting():
    found = read("fitting")
    held = found["scikit_learn"][str(10**6)]["mebibytes"]
    for name, rows in found.items():
        assert list(rows) == [str(10**power) for power in range(3, 7)]
        if name != "scikit_learn":
            # Ten times the images take ten times the memory where all are held.
            last, before = (rows[str(10**power)]["mebibytes"] for power in (6, 5))
            assert last < max(2.5 * before, 10) and last < held / 3


def test_the_committed_result_keeps_what_the_guide_says_of_predicting():
    found = read("predict")
    for side, most in (("idx", 1.15), ("png", 1.45)):
        rows = found[side]
        assert list(rows) == [str(10**power) for power in range(3, 7)]
        assert rows[str(10**6)]["times_the_bare_model"] < most
        memory = [row["mebibytes"] for row in rows.values()]
        assert max(memory) - min(memory) < 4
