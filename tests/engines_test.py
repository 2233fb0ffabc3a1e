"""Pieces of work on processes; the kills are in tests/export/shards_killed_test.py."""

import os
import pathlib
import signal
import time

import pytest

from ood_keras import engines

KILLED = "its process was killed, for want of memory perhaps"


def work(piece):
    """Squares 2, fails at 3, and dies at a path, the first two times or always."""
    if isinstance(piece, str):
        with open(piece, "a") as file:
            file.write("x")
        if os.path.getsize(piece) < 3 or piece.endswith("always"):
            os.kill(os.getpid(), signal.SIGKILL)
        return os.environ["OMP_NUM_THREADS"]
    if piece == 3:
        raise ValueError("three\nis too much")
    return piece**2


def slow_work(piece):
    """The same; numbers take longer than a process that kills itself."""
    if not isinstance(piece, str):
        time.sleep(0.5)
    return work(piece)


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


@pytest.mark.slow
def test_a_piece_that_kills_its_process_takes_no_other_with_it(tmp_path):
    dies = str(tmp_path / "always")
    found = list(engines.run(slow_work, [4, dies, *range(5, 9)], num_workers=2))
    assert found.pop() == (dies, None, KILLED)
    assert sorted(found) == [(number, number**2, None) for number in range(4, 9)]
    assert os.path.getsize(dies) == engines.MAX_ATTEMPTS


@pytest.mark.slow
def test_where_every_process_dies_the_rest_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "_HOPELESS", 2)
    pieces = [str(tmp_path / f"{number} always") for number in range(9)]
    found = dict(
        (piece, error) for piece, _, error in engines.run(work, pieces, num_workers=1)
    )
    assert [found[piece] for piece in pieces[:2]] == [KILLED] * 2
    assert all("not begun" in found[piece] for piece in pieces[2:])
    assert len(os.listdir(tmp_path)) == 2
    # One that can be done says that the others may be too.
    found = list(engines.run(work, [2, *pieces[:3], 4], num_workers=1))
    assert sorted(found, key=str) == sorted(
        [(2, 4, None), (4, 16, None), *((piece, None, KILLED) for piece in pieces[:3])],
        key=str,
    )


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
