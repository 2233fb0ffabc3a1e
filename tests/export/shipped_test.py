"""Models that come with the package: found by name, whole, small, described."""

import configparser
import importlib.resources
import pathlib
import shutil

import numpy as np
import pytest

from ood_keras import calibration, export
from ood_keras.evaluation import under_renderings
from ood_keras.export import model_card
from ood_keras.inference import shipped_models
from ood_keras.inference.shipped_models import names

MOST_BYTES = 6_000_000


@pytest.fixture
def installation(exported, tmp_path, monkeypatch):
    """A package with `mnist`, what else was exported there, and a folder elsewhere."""
    folder = tmp_path / "package"
    for place in ("mnist/2", "mnist/10", "mnist/11", "mine/1"):
        shutil.copytree(exported.path, folder / place)
    monkeypatch.setattr(
        shipped_models, "VERSIONS", {"empty": (1,), "mnist": (1, 2, 10)}
    )
    (folder / "empty").mkdir()
    (folder / "README.md").touch()
    monkeypatch.setattr(importlib.resources, "files", lambda _: folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def test_a_shipped_model_goes_by_its_name(installation, exported):
    assert names() == ["mnist"]
    assert export.shipped("mnist") == installation / "mnist" / "10"
    predictor = export.load("mnist")
    assert predictor.path == installation / "mnist" / "10"
    answer = predictor.predict(exported.images)["class_id"]
    expected = export.load(exported.path).predict(exported.images)["class_id"]
    np.testing.assert_array_equal(answer, expected)


def test_a_folder_goes_before_a_name(installation, exported):
    shutil.copytree(exported.path, pathlib.Path("mnist"))
    assert export.load("mnist").path == pathlib.Path("mnist")


def test_what_ships_is_said_once():
    """By git, by the wheel, and by the names."""
    expected = {
        f"{name}/{version}"
        for name, versions in shipped_models.VERSIONS.items()
        for version in versions
    }
    root = pathlib.Path(__file__).parents[2]
    kept = (root / ".gitignore").read_text().splitlines()
    kept = [line[14:-1] for line in kept if line.startswith("!saved_models/")]
    assert sorted(kept) == sorted(expected)
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    packed = setup["options.package_data"]["ood_keras.saved_models"].split()
    assert sorted(packed) == sorted(f"{one}/**" for one in expected)
    there = {path.parent for path in root.glob("saved_models/*/*/manifest.json")}
    assert expected <= {f"{path.parent.name}/{path.name}" for path in there}


@pytest.mark.parametrize(
    "name", ["mnst", "empty", "README.md", "mnist/3", "saved/1", "mine"]
)
def test_a_wrong_name_lists_those_there_are(installation, name):
    with pytest.raises(FileNotFoundError, match=r"no such folder.*their name: mnist"):
        export.load(name)
    with pytest.raises(FileNotFoundError, match=r"comes with ood_keras.*name: mnist"):
        export.shipped(name)


def test_a_shipped_model_is_not_recalibrated_in_place(installation):
    threshold = calibration.quantile([0.0], 0.5)
    with pytest.raises(FileNotFoundError, match="mnist is not an exported model"):
        export.recalibrate("mnist", threshold)
    assert {path.name for path in (installation / "mnist").iterdir()} == {
        "2",
        "10",
        "11",
    }


@pytest.mark.parametrize("name", names())
def test_what_is_shipped_is_whole_small_and_described(name):
    predictor = export.load(name)
    files = [path for path in predictor.path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    content = predictor.manifest
    assert content["training"] and content["at_threshold"]
    assert content["metrics"]["known"]["source"] == name
    page = (predictor.path / model_card.NAME).read_text()
    assert "not recorded" not in page and "was not told" not in page
    for path in files:
        for folder in (b"/home/", b"/work/", b"/root/", b"/tmp/"):
            assert folder not in path.read_bytes(), path
    noise = np.random.default_rng(0).uniform(size=(200, *predictor.image_shape))
    answer = predictor.predict(noise.astype(np.float32))
    assert answer["valid"].all() and not answer["accepted"].any()


def _noise(shape):
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def test_the_shipped_digits_are_known_however_they_are_rendered():
    """Validation images, and not those that `docs/renderings.md` is about."""
    predictor = export.load("mnist")
    examples = predictor.known_examples
    images = examples.images / np.float32(255)
    found = under_renderings.measure_exported(
        predictor,
        known=("examples", (images, examples.labels)),
        unknown={"noise": _noise(images.shape)},
        progress=False,
    )
    threshold = calibration.Threshold.from_dict(predictor.manifest["threshold"])
    (measured,) = found.at({predictor.manifest["detector"]["name"]: threshold})[
        "detectors"
    ].values()
    assert found.kind == "drawing"
    assert measured["summary"]["accepted"]["worst"] > 0.9
    assert measured["summary"]["accuracy"]["worst"] > 0.95
    # And the noise is rejected in every one.
    for row in measured["steps"]:
        assert row["unknown"]["noise"]["rejected"] == 1
