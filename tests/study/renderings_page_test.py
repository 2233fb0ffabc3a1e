"""The page on renderings, of the committed results."""

import json
import pathlib

import numpy as np
import pytest

from ood_keras.study import renderings_page

RESULTS = pathlib.Path(__file__).parents[2] / "results" / "renderings"


@pytest.fixture
def folder(tmp_path):
    """Two models, of which the second was not measured on printed letters."""
    for name in ("mnist_fast", "mnist_robust"):
        result = json.loads((RESULTS / name / "renderings.json").read_text("utf-8"))
        (measured,) = result["detectors"].values()
        if name == "mnist_robust":
            del measured["summary"]["auroc"]["glyphs"]
            for step in measured["steps"]:
                del step["unknown"]["glyphs"]
        path = tmp_path / name
        path.mkdir()
        (path / "renderings.json").write_text(json.dumps(result))
        # The page measures the pictures that it shows.
        picture = RESULTS / name / "renderings.png"
        (path / "renderings.png").write_bytes(picture.read_bytes())
    return tmp_path


def test_unknown_images_that_pass(folder):
    page = renderings_page.page(folder)
    section = page.partition("### Unknown images that pass")[2].partition("\n### ")[0]
    rows = {
        cells[0]: cells[1:]
        for line in section.splitlines()
        if line.startswith("| ")
        for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    }
    result = json.loads((folder / "mnist_fast" / "renderings.json").read_text())
    (measured,) = result["detectors"].values()
    rejected = {
        step["name"]: step["unknown"]["glyphs"]["rejected"]
        for step in measured["steps"]
        if step["mild"] or step["name"] == "untouched"
    }
    untouched = rejected.pop("untouched")
    expected = [100 * (1 - untouched), 100 * (1 - np.mean(list(rejected.values())))]
    np.testing.assert_allclose(
        list(map(float, rows["glyphs"][:2])), expected, atol=0.006
    )
    assert rows["glyphs"][2:] == ["-", "-"]
    assert "-" not in rows["kmnist"]
