"""The benchmark of growth measures what it says, at a small size."""

import json
import pathlib
import sys

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def growth(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import growth

    yield growth
    sys.modules.pop("growth", None)


def test_sides_see_the_same_scores(growth, monkeypatch):
    monkeypatch.setattr(growth, "BLOCK", 300)
    found = growth.compare(
        {side: growth.measure(side, [1000]) for side in growth.SIDES}
    )
    row = found["sketch"]["1000"]
    assert row["auroc_inside"] and 0 <= row["threshold_above_exact"] < 0.004
    exact, other = (found[side]["1000"]["auroc"] for side in ("exact", "scikit_learn"))
    assert exact == pytest.approx(other)
    assert found["sketch"]["1000"]["auroc"] == pytest.approx(exact, abs=2e-3)


def test_the_committed_result_keeps_what_the_guide_says():
    found = json.loads((FOLDER / "results" / "growth.json").read_text())["metrics"]
    assert list(found["sketch"])[-1] == str(10**8)
    rows = [row for row in found["sketch"].values() if "auroc_inside" in row]
    assert rows and all(row["auroc_inside"] for row in rows)
    assert all(0 <= row["threshold_above_exact"] < 0.004 for row in rows)
