"""Checkpoints come back whole or not at all."""

import random
import warnings

import numpy as np

from ood_keras.training import checkpoints


def checkpoint(epoch, step):
    generator = np.random.default_rng(epoch)
    arrays = {
        "model/0/kernel": generator.random((3, 4)).astype(np.float32),
        "optimizer/0/iteration": np.array(epoch, np.int64),
        "empty": np.zeros((0, 2), np.float32),
    }
    return checkpoints.Checkpoint(epoch, step, arrays, {"history": [0.1, epoch]})


def assert_equal(left, right):
    assert (left.epoch, left.step, left.details) == (
        right.epoch,
        right.step,
        right.details,
    )
    assert left.arrays.keys() == right.arrays.keys()
    for name, array in left.arrays.items():
        assert array.dtype == right.arrays[name].dtype
        np.testing.assert_array_equal(array, right.arrays[name])


def test_the_newest_of_the_last_two_comes_back(tmp_path):
    assert checkpoints.read_newest(tmp_path / "absent") is None
    for epoch, step in ((0, 0), (0, 90), (0, 100), (1, 0)):
        checkpoints.write(tmp_path, checkpoint(epoch, step))
        assert_equal(checkpoints.read_newest(tmp_path), checkpoint(epoch, step))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["00000-00000100.npz", "00001-00000000.npz"]


def test_no_damage_goes_unseen(tmp_path):
    """A changed byte or a cut gives the same values, or the checkpoint before."""
    generator = random.Random(0)
    newest = tmp_path / "00002-00000000.npz"
    checkpoints.write(tmp_path, checkpoint(2, 0))
    intact = newest.read_bytes()
    fallen_back = 0
    for _ in range(100):
        checkpoints.write(tmp_path, checkpoint(1, 0))
        damaged = bytearray(intact)
        if generator.random() < 0.2:
            del damaged[generator.randrange(len(damaged)) :]
        else:
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        newest.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read = checkpoints.read_newest(tmp_path)
        assert_equal(read, checkpoint(read.epoch, 0))
        assert newest.exists() == (read.epoch == 2)
        assert any("is damaged" in str(w.message) for w in caught) == (read.epoch == 1)
        fallen_back += read.epoch == 1
    assert fallen_back > 60


def test_all_damaged_is_none(tmp_path):
    for epoch in (1, 2):
        checkpoints.write(tmp_path, checkpoint(epoch, 0))
        (tmp_path / f"{epoch:05d}-00000000.npz").write_bytes(b"")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert checkpoints.read_newest(tmp_path) is None
    assert len(caught) == 2
    assert not list(tmp_path.iterdir())
