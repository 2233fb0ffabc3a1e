"""The section about cells that are not met, from invented results."""

import functools
import pathlib

import made_up_study
import pytest

from ood_keras.study import markdown, table1_misses
from ood_keras.study.study_results import StudyResults


@pytest.fixture
def study(tmp_path):
    made_up_study.write(tmp_path)
    return StudyResults.read(tmp_path)


def write_section(study, images):
    picture = functools.partial(markdown.show_picture, images)
    misses = table1_misses.find(study)
    text = markdown.render("misses", misses=misses, picture=picture)
    return [*text.splitlines(), ""]


def section(lines, title):
    start = lines.index(f"### {title}") + 1
    ends = [index for index, line in enumerate(lines) if line.startswith("#")]
    return lines[start : min((e for e in ends if e > start), default=len(lines))]


def test_every_measured_miss_is_listed_beside_the_papers_number(study, tmp_path):
    missed = study.summary["against_paper"]["ours"]["missed"]
    missed += [
        {**missed[0], "metric": "detection_error", "paper": "1.15"},
        {**missed[0], "unknown": "omniglot", "value": None},
        {**missed[0], "known": "fashion_mnist", "unknown": "mnist"},
    ]
    lines = write_section(study, tmp_path)
    assert lines[0] == "## Cells that are not met"
    assert section(lines, "mnist: Ours") == [
        "",
        "* kmnist: AUROC 99.75 (99.83), Detection error 0.25 (1.15)",
        "",
    ]
    assert section(lines, "fashion_mnist: Ours") == [
        "",
        "* mnist: AUROC 50.00 (99.83)",
        "",
    ]
    # Not measured on Fashion-MNIST, and no method of this name at all.
    assert "### fashion_mnist: Ours + synthetic" not in lines
    assert "### mnist: ODIN" not in lines
    assert section(lines, "mnist: Longer")


def test_nothing_missed_and_nothing_measured_are_told_apart(study, tmp_path):
    study.summary["against_paper"]["ours"]["missed"] = []
    lines = write_section(study, tmp_path)
    assert "Every cell that was measured is met." in section(lines, "mnist: Ours")
    study.summary["results"] = {}
    assert write_section(study, tmp_path) == ["", ""]


def test_pictures_of_the_mistakes_are_shown(study, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "results_mnist_ours_synthetic_mistakes.png").touch()
    lines = write_section(study, images)
    shown = [line for line in lines if line.startswith("![")]
    (link,) = shown
    assert link.endswith("(images/results_mnist_ours_synthetic_mistakes.png)")
    assert link in section(lines, "mnist: Ours + synthetic")


def test_what_was_tried_is_written_down():
    root = pathlib.Path(__file__).resolve().parents[2]
    section = (root / "study/templates/misses.md.jinja").read_text()
    for page in ("decisions/recipes.md", "decisions/omniglot.md"):
        assert f"]({page})" in section
        assert (root / "docs" / page).is_file()
