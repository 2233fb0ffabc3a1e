"""Pieces of work on processes; the kills are in tests/export/shards_killed_test.py."""

import os
import pathlib
import signal

import pytest

from ood_keras import engines


def work(piece):
    """Squares 2, fails at 3, and dies at a path, the first two times."""
    if isinstance(piece, str):
        with open(piece, "a") as file:
            file.write("x")
        if os.path.getsize(piece) < 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.environ["OMP_NUM_THREADS"]
    if piece == 3:
        raise ValueError("three\nis too much")
    return piece**2


@pytest.mark.slow
def test_every_piece_is_done_and_has_its_result(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    dies = str(tmp_path / "tries")
    found = engines.run(work, [2, 3, dies], num_workers=2)
    assert sorted(found, key=str) == sorted(
        [(2, 4, None), (3, None, "ValueError: three is too much"), (dies, "1", None)],
        key=str,
    )
    assert list(engines.run(work, [])) == []


def test_an_unknown_engine_is_named():
    with pytest.raises(ValueError, match=r"one of local, ray.*'spark'"):
        list(engines.run(work, [1], engine="spark"))


@pytest.mark.slow
def test_ray_does_the_same(monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    here = str(pathlib.Path(__file__).parent)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    found = engines.run(work, range(1, 5), engine="ray", num_workers=2)
    assert sorted(found) == [
        (1, 1, None),
        (2, 4, None),
        (3, None, "ValueError: three is too much"),
        (4, 16, None),
    ]
