"""The page of the forms of test sets; numbers are invented."""

import json

import pytest

from ood_keras import metrics
from ood_keras.study import summary, test_sets_page


def made_up_row(whole=True, **changes):
    values = dict.fromkeys(metrics.names(), 0.5)
    return (
        values
        | {"images": 1234, "whole": whole, "seen": False, "accepted": 0.25}
        | changes
    )


def write(folder, rows, num_images=None):
    model = {
        "training": {"recipe": {"name": "ours"}, "seed": 7, "unknown": []},
        "detector": "msp",
        "known": {"source": "mnist", "images": 10_000, "accepted": 0.9876},
        "unknown": rows,
    }
    result = {
        "num_images": num_images,
        "provenance": {"machine": {"processor": "made up", "cores": 2}},
        "models": {"small": model},
    }
    path = folder / "forms.json"
    path.write_text(json.dumps(result))
    return path


def as_printed(known, **changes):
    """The paper's Omniglot row, exactly as it prints it."""
    (row,) = [
        row
        for row in summary.PAPER_OURS
        if (row["known"], row["unknown"]) == (known, "omniglot")
    ]
    values = {name: float(row[name]) / 100 for name in summary.PAPER_METRICS}
    return made_up_row(**values | changes)


def test_every_form_has_a_row(tmp_path):
    rows = {
        "notmnist@negative": made_up_row(auroc=0.9123, accepted=0.0321, seen=True),
        "a_set_of_ones_own": made_up_row(detection_error=0.0456),
    }
    text = test_sets_page.page(write(tmp_path, rows))
    header, _, first, second = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    first, second = (dict(zip(header, row, strict=True)) for row in (first, second))
    assert first["spec"] == "`notmnist@negative`\\*"
    assert (first["AUROC"], first["accepted"]) == ("91.23", "3.21")
    assert (second["spec"], second["form"]) == ("`a_set_of_ones_own`", "")
    assert (second["Detection error"], second["images"]) == ("4.56", "1,234")
    assert "98.76 %" in text and "seed 7" in text and "Whole test sets" in text
    assert "EMNIST letters is a split of our own" in text
    assert "The paper's row of mnist" not in text


def test_both_readings_are_counted_against_the_paper(tmp_path):
    rows = {
        "omniglot@as_distributed": as_printed("mnist"),
        "omniglot": as_printed("mnist", auroc=0.9979, detection_error=0.0016),
    }
    text = test_sets_page.page(write(tmp_path, rows))
    assert "* Omniglot as distributed: 5 of 5 cells." in text
    assert "* Omniglot inverted: 3 of 5 cells." in text


@pytest.mark.parametrize("reading", ["omniglot", "omniglot@as_distributed"])
def test_a_part_of_the_images_is_not_counted(tmp_path, reading):
    """AUPR of a part is not comparable with that of all."""
    rows = {
        spec: as_printed("mnist", whole=spec != reading)
        for spec in ("omniglot", "omniglot@as_distributed")
    }
    text = test_sets_page.page(write(tmp_path, rows, num_images=100))
    assert text.count("of 5 cells") == 1
    assert "A random 100 images" in text and "--num_images=100" in text
