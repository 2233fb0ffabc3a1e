"""The history on disk when the disk is full."""

import pytest
import tensorflow as tf

from ood_keras.training import logs


def test_event_files_that_cannot_be_written(tmp_path, monkeypatch):
    writer = tf.io.TFRecordWriter
    monkeypatch.setattr(tf.io, "TFRecordWriter", lambda path: writer("/dev/full"))
    with pytest.raises(OSError, match=r"logs/train/.*No space left.*free space"):
        logs.write(tmp_path, [{"epoch": 1, "loss": 0.5, "val_auroc": 0.9}])
    assert not list((tmp_path / "logs" / "train").iterdir())
