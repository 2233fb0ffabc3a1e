"""Files of arrays: what was written comes back, and attacks are refused cheaply."""

import hashlib
import io
import json
import tracemalloc
import zipfile

import keras
import numpy as np
import pytest

from ood_keras import detectors, evaluation, npz
from ood_keras.inference import known_examples

GOOD = {
    "float": np.arange(6, dtype=np.float32).reshape(2, 3),
    "by_columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "text": np.array(["cat", "δύο", ""]),
    "none": np.zeros((0, 5), np.float16),
    "scalar": np.array(3.5),
    "with/slash": np.array([True, False]),
}


def array(value, **changes):
    """The bytes of an `.npy` file, whose header may say something else."""
    buffer = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(value) | changes
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + value.tobytes()


def archive(members, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as made:
        for name, content in members:
            made.writestr(name, content)
    return buffer.getvalue()


def pickled():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([{"an": "object"}], object))
    return buffer.getvalue()


def damaged():
    content = bytearray(archive([("a.npy", array(np.arange(500)))], zipfile.ZIP_STORED))
    content[600] ^= 1
    return bytes(content)


def lying_about_its_size():
    content = bytearray(archive([("a.npy", array(np.zeros(10**6)))]))
    # In the directory at the end, behind its signature.
    place = content.rindex(b"PK\x01\x02") + 24
    content[place : place + 4] = (100).to_bytes(4, "little")
    return bytes(content)


def with_encryption():
    content = bytearray(archive([("a.npy", array(np.arange(3)))]))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    return bytes(content)


MAGIC = b"\x93NUMPY\x01\x00"
ONE = np.arange(3.0)
ATTACKS = {
    "no zip": b"junk",
    "nothing": b"",
    "cut": archive([("a.npy", array(ONE))])[:-30],
    "objects": pickled(),
    "damaged": damaged(),
    "too short for its header": archive([("a.npy", array(ONE, shape=(10**12,)))]),
    "too long for its header": archive([("a.npy", array(ONE, shape=(2,)))]),
    "axes beyond counting": archive([("a.npy", array(ONE[:0], shape=(0, 10**30)))]),
    "no size": archive([("a.npy", array(ONE[:0], shape=(10**15,), descr="|V0"))]),
    "negative": archive([("a.npy", array(ONE, shape=(-1, -3)))]),
    "two alike": archive([("a.npy", array(ONE)), ("b.npy", array(2 * ONE))]).replace(
        b"b.npy", b"a.npy"
    ),
    "another file": archive([("a.npy", array(ONE)), ("../../evil.sh", b"rm -rf")]),
    "unknown version": archive([("a.npy", b"\x93NUMPY\x09\x00junk")]),
    "a header that is no Python": archive(
        [("a.npy", b"\x93NUMPY\x01\x00\x04\x00{{{{")]
    ),
    "a deep header": archive([("a.npy", MAGIC + b"\x00\x20" + b"(" * 0x2000)]),
    "a bomb": archive([("a.npy", array(np.zeros(3 * 10**7)))]),
    "a size that is a lie": lying_about_its_size(),
    "encrypted": with_encryption(),
}


def test_what_was_written_comes_back(tmp_path):
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "good.npz", **GOOD)
        found = npz.read(tmp_path / "good.npz", "arrays", required=("float", "text"))
        assert found.keys() == GOOD.keys()
        for name, value in GOOD.items():
            np.testing.assert_array_equal(found[name], value)
            assert found[name].dtype == value.dtype
            assert found[name].flags.writeable


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_refused_and_cost_little(name, tmp_path):
    (tmp_path / "bad.npz").write_bytes(ATTACKS[name])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"bad\.npz cannot be read as the arrays"):
            npz.read(tmp_path / "bad.npz", "the arrays", max_bytes=2**26)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2**22
    assert [child.name for child in tmp_path.iterdir()] == ["bad.npz"]


def test_a_name_that_leads_elsewhere_is_a_name(tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "file.npz"
    path.write_bytes(archive([("../../up.npy", array(ONE))]))
    assert list(npz.read(path, "arrays")) == ["../../up"]
    assert [child.name for child in tmp_path.iterdir()] == ["in"]


def test_a_missing_file_or_array_is_named(tmp_path):
    with pytest.raises(FileNotFoundError):
        npz.read(tmp_path / "none.npz", "arrays")
    np.savez(tmp_path / "good.npz", a=ONE)
    with pytest.raises(ValueError, match=r"it has no b, only \['a'\]"):
        npz.read(tmp_path / "good.npz", "arrays", required=("a", "b"))


@pytest.mark.parametrize("name", ["objects", "too short for its header", "no zip"])
def test_every_reader_refuses_them(name, tmp_path):
    path = tmp_path / known_examples.NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(ATTACKS[name])
    with pytest.raises(ValueError, match="the known examples of an exported model"):
        known_examples.read(tmp_path)
    with pytest.raises(ValueError, match="the examples of an evaluation"):
        evaluation.load_examples(path)
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(2))
    data = np.random.default_rng(0).uniform(size=(8, 4, 4, 1)).astype("float32")
    detector = detectors.get("knn", num_classes=2).fit(model, (data, np.arange(8) % 2))
    file = detectors.save(detector, tmp_path / "detector")
    # Checksums made anew do not help.
    saved = json.loads(file.read_text())
    saved["arrays_sha256"] = hashlib.sha256(ATTACKS[name]).hexdigest()
    file.write_text(json.dumps(saved))
    file.with_suffix(".npz").write_bytes(ATTACKS[name])
    with pytest.raises(ValueError, match="cannot be read as a detector"):
        detectors.load(file, model)


def test_examples_of_wrong_types_are_no_examples(tmp_path):
    path = tmp_path / known_examples.NAME
    path.parent.mkdir(parents=True)
    good = {
        "images": np.zeros((2, 4, 4, 1), np.uint8),
        "labels": np.array([0, 1]),
        "known_scores": np.zeros(3),
        "unknown_scores": np.zeros(0),
    }
    np.savez(path, **good)
    assert len(known_examples.read(tmp_path).images) == 2
    for name, value in {
        "images": np.zeros((2, 4, 4, 1)),
        "labels": np.array(["a", "b"]),
        "known_scores": np.array(["x"]),
        "unknown_scores": np.array(["x"]),
    }.items():
        np.savez(path, **{**good, name: value})
        with pytest.raises(ValueError, match=r"is not the known examples"):
            known_examples.read(tmp_path)
