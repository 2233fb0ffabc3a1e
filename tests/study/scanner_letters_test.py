"""Letters in each rendering; numbers are invented."""

import json

import pytest
from scanner_page_test import OURS, write

from ood_keras.study import scanner_letters, scanner_page

STEPS = [("untouched", False), ("blur", True), ("darker", True), ("noise", False)]


def write_model(folder, numbers, *, seed=0, known="mnist", letters="emnist/letters"):
    """`numbers` are AUROC, letters and digits accepted of each of `STEPS`."""
    folder.mkdir(parents=True)
    recipe = "robust" if "robust" in folder.parts[-2:] else "ours_synthetic"
    steps = [
        {
            "name": title,
            "title": title,
            "mild": mild,
            "known": {"accepted": digits, "accuracy": 0.5, "accepted_right": 0.5},
            "unknown": {
                letters: {"images": 1000, "rejected": 1 - passed, "auroc": auroc},
                "kmnist": {"images": 1000, "rejected": 0.123, "auroc": 0.123},
            },
        }
        for (title, mild), (auroc, passed, digits) in zip(STEPS, numbers, strict=True)
    ]
    result = {
        "known": {"source": known, "images": 1000},
        "detectors": {"unknown_probability": {"steps": steps}},
        "model": {"recipe": recipe, "seed": seed},
    }
    (folder / "renderings.json").write_text(json.dumps(result))


FAST = [(0.9999, 0.002, 0.99), (0.9, 0.0, 0.0), (0.95, 0.4, 0.5), (0.6, 0.5, 0.2)]
ROBUST = [(0.98, 0.2, 0.99), (0.985, 0.19, 0.98), (0.97, 0.21, 0.97), (0.96, 0.3, 0.9)]
AGAIN = [(0.97, 0.25, 0.99), (0.94, 0.19, 0.98), (0.96, 0.27, 0.97), (0.93, 0.3, 0.9)]


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path / "renderings" / "fast", FAST)
    write_model(tmp_path / "renderings" / "robust", ROBUST)
    write_model(tmp_path / "renderings" / "robust" / "seed_1", AGAIN, seed=1)
    write_model(tmp_path / "renderings" / "clothes", FAST, known="fashion_mnist")
    write_model(tmp_path / "renderings" / "no_letters", FAST, letters="omniglot")
    return tmp_path / "renderings"


def rows_of(table):
    return [[cell.strip() for cell in str(row).split("|")[1:-1]] for row in table]


def section(tmp_path, folder):
    rendered = scanner_letters.compare(folder, tmp_path)
    page = scanner_page.page(write(tmp_path / "study", {OURS: {0: 0.9}}), rendered)
    lines = page.partition("## Letters in each rendering")[2].partition("\n## ")[0]
    return [line for line in lines.splitlines() if line]


def test_every_rendering_has_auroc_and_what_is_accepted_of_both(tmp_path, folder):
    rows = rows_of(line for line in section(tmp_path, folder) if line.startswith("|"))
    (header,) = [row for row in rows if row[0] == "rendering"]
    assert header[1:4] == [f"fast: {what}" for what in scanner_letters._SHOWN]
    assert header[4] == "robust: AUROC" and len(header) == 7
    assert ["untouched", "99.99", "0.20", "99.00", "98.00", "20.00", "99.00"] in rows
    # Mild ones in italics.
    assert ["*blur*", "90.00", "0.00", "0.00", "98.50", "19.00", "98.00"] in rows
    assert ["noise", "60.00", "50.00", "20.00", "96.00", "30.00", "90.00"] in rows


def test_extremes_are_of_mild_renderings_and_of_all_seed_by_seed(tmp_path, folder):
    rows = rows_of(line for line in section(tmp_path, folder) if line.startswith("|"))
    assert ["fast", "0", "99.99", "90.00", "60.00", "0.20", "40.00", "50.00"] in rows
    assert ["robust", "0", "98.00", "97.00", "96.00", "20.00", "21.00", "30.00"] in rows
    assert ["robust", "1", "97.00", "94.00", "93.00", "25.00", "27.00", "30.00"] in rows


def test_each_model_is_described_where_it_fails(tmp_path, folder):
    lines = [line for line in section(tmp_path, folder) if line.startswith("* ")]
    assert len(lines) == 2
    assert "`fast`, trained the usual way (recipe `ours_synthetic`)" in lines[0]
    assert "99.99 untouched, and 90.00 in the mild rendering" in lines[0]
    assert "(blur), in which 0.00 % of the digits are accepted" in lines[0]
    assert "0.20 % untouched and 40.00 % in the mild" in lines[0]
    assert "(darker)." in lines[0]
    assert "`robust`, trained in random renderings (recipe `robust`)" in lines[1]


def test_without_such_a_model_there_is_no_section(tmp_path):
    write_model(tmp_path / "renderings" / "clothes", FAST, known="fashion_mnist")
    images = tmp_path / "images"
    assert scanner_letters.compare(tmp_path / "renderings", images) is None
    assert scanner_letters.draw(tmp_path / "renderings", images) == []
    page = scanner_page.page(write(tmp_path / "study", {OURS: {0: 0.9}}))
    assert "## Letters in each rendering" not in page


def test_the_picture_is_drawn_and_shown(tmp_path, folder):
    images = tmp_path / "images"
    images.mkdir()
    assert scanner_letters.compare(folder, images)["picture"] == ""
    (path,) = scanner_letters.draw(folder, images)
    assert path.stat().st_size > 5000
    shown = scanner_letters.compare(folder, images)["picture"]
    assert f"](images/{path.name})" in shown
