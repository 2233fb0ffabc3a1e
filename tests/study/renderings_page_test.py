"""The page on renderings, of the committed results."""

import json
import pathlib

import numpy as np
import pytest

from ood_keras import export
from ood_keras.study import capitals_section, renderings_page

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


def test_the_quote_says_which_model_a_name_opens_and_which_letters_it_takes():
    quote = " ".join(renderings_page.quote(RESULTS).split())
    newest = "mnist_robust_mild"
    assert (
        f"`mnist_fast`, `mnist_robust`, `{newest}` are versions 1, 2, 3 of "
        "`saved_models/mnist`, and `--model=mnist` opens version 3."
    ) in quote
    result = json.loads((RESULTS / newest / "renderings.json").read_text("utf-8"))
    images, accepted = {}, {}
    for letter, row in result["classes"]["emnist/letters"].items():
        for group in ("all", "like" if letter in "BGILOQSYZ" else "other"):
            images[group] = images.get(group, 0) + row["images"]
            accepted[group] = accepted.get(group, 0) + row["images"] * row["accepted"]
    shares = {name: 100 * accepted[name] / images[name] for name in images}
    assert shares["other"] < shares["all"] < shares["like"]
    assert f"`{newest}` still accepts {shares['all']:.2f} % of the test" in quote
    assert f"letters: {shares['like']:.2f} % of those shaped like a digit" in quote
    assert f"{shares['other']:.2f} % of the others" in quote
    assert export.shipped("mnist").name == "3"


def test_the_quote_is_silent_on_names_that_open_nothing(folder):
    path = next(folder.glob("*/renderings.json"))
    result = json.loads(path.read_text("utf-8"))
    # As `ood-robustness --model=mnist` writes it, and a model of somebody's own.
    for name, number in (("mnist", 8), ("models/mnist_1/1", 9)):
        result["model"]["name"] = name
        copy = folder / f"copy_{number}" / "renderings.json"
        copy.parent.mkdir()
        copy.write_text(json.dumps(result))
    quote = " ".join(renderings_page.quote(folder).split())
    assert "versions 1, 2 of `saved_models/mnist`, and `--model=mnist` opens" in quote
    assert quote.count("opens version") == 1 and "mnist_1" not in quote


def test_the_quote_without_letters_says_nothing_of_them(folder):
    for path in folder.glob("*/renderings.json"):
        result = json.loads(path.read_text("utf-8"))
        del result["classes"]["emnist/letters"]
        path.write_text(json.dumps(result))
    quote = renderings_page.quote(folder)
    assert "are versions 1, 2 of `saved_models/mnist`" in quote
    assert "Beware" not in quote


def test_the_same_training_with_other_seeds():
    sheet = RESULTS.parents[1] / "benchmarks" / "results" / "demo_sheet.json"
    page = renderings_page.page(RESULTS, sheet)
    section = page.partition("trained again, with other seeds")[2]
    rows = {
        cells[0]: cells[1:]
        for line in section.partition("\n### ")[0].splitlines()
        if line.startswith("| ")
        for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    }
    assert [name for name in rows if name.isdigit()] == ["0", "1", "2"]
    mild = []
    for path in (".", "seed_1", "seed_2"):
        file = RESULTS / "mnist_robust_mild" / path / "renderings.json"
        result = json.loads(file.read_text("utf-8"))
        (measured,) = result["detectors"].values()
        mild.append(100 * measured["summary"]["accepted"]["mean"])
        seed = str(result["model"]["seed"])
        assert float(rows[seed][1]) == pytest.approx(mild[-1], abs=0.006)
    for name, choose in (("mean", np.mean), ("lowest", min), ("highest", max)):
        assert float(rows[name][1]) == pytest.approx(choose(mild), abs=0.006)
    drawn = json.loads(sheet.read_text("utf-8"))["models"]["saved_models/mnist/3"]
    letters = drawn["pens"]["as scanned"]["letters"]
    expected = 100 * (1 - letters["accepted_other"])
    assert float(rows["0"][-1]) == pytest.approx(expected, abs=0.006)


def test_printed_capitals_are_counted_apart_from_small_letters(folder):
    def rows(**accepted):
        return {
            name: {"images": 8, "accepted": share, "auroc": 1 - share / 2}
            for name, share in accepted.items()
        }

    model = {
        "recipe": "robust",
        "seed": 0,
        "detector": "energy",
        "known_accepted": 0.991,
        "sets": {
            "glyphs": rows(a=0.5, A=0.25, K=0.75),
            # C is a digit by shape to both lists, B to that of `glyphs` alone.
            "capitals": rows(A=0.25, B=0.5, C=1.0),
        },
    }
    file = folder / "capitals.json"
    assert capitals_section.compare(file) is None
    file.write_text(
        json.dumps(
            {
                "fonts": ["cmr10", "cmb10"],
                "machine": {"processor": "made up", "cores": 3},
                "models": {"saved_models/mnist/3": model},
            }
        )
    )
    page = renderings_page.page(folder, None, capitals_section.compare(file))
    section = page.partition("## Printed capitals")[2]
    for row in (
        "| printed characters | how many | mnist/3: passed | mnist/3: AUROC |",
        "| capitals of `glyphs` | 2 | 50.00 | 75.00 |",
        "| small letters of `glyphs` | 1 | 50.00 | 75.00 |",
        "| all of `glyphs` | 3 | 50.00 | 75.00 |",
        "| capitals but C, I, L, O, S, Z | 2 | 37.50 | 81.25 |",
    ):
        assert row in section
    assert "In print B, C, D, E," in section and "the same 2 fonts" in section
    assert "99.10 % of the test digits" in section and "made up, 3 cores" in section
    assert "[below](#printed-capitals)" in page
    assert "## Printed capitals" not in (without := renderings_page.page(folder))
    assert "#printed-capitals" not in without
