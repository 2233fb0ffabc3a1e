"""Feeds malformed input to a model and counts what becomes of it."""

import collections
import csv
import os
import pathlib
import struct
import subprocess
import sys

import malformed
import numpy as np
import tensorflow as tf

from ood_keras import names
from ood_keras.tfrecords import crc32c

NEVER_IMAGES = {"noise", "truncated", "chunks", "with_magic"}


def files(run, count, seed=0):
    """Sends `count` malformed files to `predict_bytes`.

    Args:
        run: `run(signature, **inputs)`.

    Returns:
        `{kind: {"invalid", "rejected", "accepted"}}`; the latter two are images.
    """
    kinds, contents = zip(*malformed.files(count, seed), strict=True)
    parts = [
        run("predict_bytes", image_bytes=np.array(contents[row : row + 50], object))
        for row in range(0, count, 50)
    ]
    answer = {
        name: np.concatenate([part[name] for part in parts])
        for name in ("valid", "class_id", "accepted")
    }
    np.testing.assert_array_equal(answer["class_id"] >= 0, answer["accepted"])
    counts = collections.defaultdict(collections.Counter)
    for row, (kind, content) in enumerate(zip(kinds, contents, strict=True)):
        counts[kind][outcome(answer["valid"][row], answer["accepted"][row])] += 1
        if answer["valid"][row]:
            assert malformed.may_be_an_image(content), (kind, content)
            assert kind not in NEVER_IMAGES
    return {kind: dict(counted) for kind, counted in sorted(counts.items())}


def images(run, count, image_shape, seed=0):
    """Sends `count` malformed tensors to `serving_default` and `predict_at`."""
    batch = np.stack(list(malformed.images(count, image_shape, seed)))
    answers = (
        run("serving_default", image=batch),
        run("predict_at", image=batch, threshold=np.full(count, np.inf, np.float32)),
    )
    for answer in answers:
        assert not answer["valid"].any() and not answer["accepted"].any()
        assert (answer["class_id"] == -1).all()
        assert np.isfinite(answer["ood_score"]).all()
        assert not answer["probabilities"].any()
    return {"tensor": {"invalid": 2 * count}}


def predict(model, top, count, image_shape, seed=0):
    """Runs `ood-predict` on a folder of `count` malformed inputs.

    Args:
        model: What `--model` takes.
        top: The folder to make.

    Returns:
        `{kind: {"error", "rejected", "accepted"}}`, rows of the output.
    """
    made = malformed.folder(top, count, image_shape, record_of, seed)
    output = pathlib.Path(f"{top}.csv")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ood_keras.tools.predict"),
            *(f"--model={model}", f"--output={output}", "--feature=image", str(top)),
        ],
        capture_output=True,
        timeout=0.2 * count + 120,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Traceback" not in done.stderr
    printed = {names.printable(path): path for path in made}
    missing = set(made)
    counts = collections.defaultdict(collections.Counter)
    with open(output, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = printed[row["path"]]
            missing.discard(path)
            kind, judge = made[path]
            valid, accepted = (row[name] == "true" for name in ("valid", "accepted"))
            assert valid == (row["error"] == "") == (row["ood_score"] != ""), row
            assert accepted == (row["class_id"] != "-1"), row
            assert accepted == (row["label"] != "__unknown__"), row
            assert valid or not accepted, row
            if valid:
                assert judge(int(row["index"] or 0)), (kind, row)
            counts[kind]["error" if not valid else outcome(valid, accepted)] += 1
    # A container may be whole and empty.
    assert all(made[path][0].startswith(("idx", "tfrecord")) for path in missing)
    return {kind: dict(counted) for kind, counted in sorted(counts.items())}


def outcome(valid, accepted):
    return ("accepted" if accepted else "rejected") if valid else "invalid"


def record_of(content):
    """One record of a TFRecord file: a `tf.train.Example` with the feature `image`."""
    values = tf.train.BytesList(value=[content])
    features = {"image": tf.train.Feature(bytes_list=values)}
    example = tf.train.Example(features=tf.train.Features(feature=features))
    data = example.SerializeToString()
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _masked(data):
    value = crc32c(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)
