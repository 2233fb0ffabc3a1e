"""Shards: every image in one part, whatever happens on the way."""

import dataclasses
import gzip
import json
import os
import pathlib
from typing import ClassVar

import fsspec
import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf
from brightness import Brightness, idx, png
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from ood_keras import engines, storage
from ood_keras.evaluation import score_files
from ood_keras.inference import batch_scoring, inputs, loading, shards

NUM_IMAGES = 23


@pytest.fixture
def stand_in(monkeypatch):
    """Whatever is opened is this model."""
    monkeypatch.setattr(loading, "load", lambda path: Brightness())
    shards._open.cache_clear()
    yield
    shards._open.cache_clear()


@pytest.fixture
def pictures(tmp_path):
    """Images as files, in IDX files, packed and not, and in a TFRecord file."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (NUM_IMAGES, 3, 2), np.uint8)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(png(pixels[number]))
    (folder / "junk.png").write_bytes(b"junk")
    (folder / "notes.txt").write_bytes(b"")
    (folder / "many.idx").write_bytes(idx(pixels))
    (folder / "packed.idx.gz").write_bytes(gzip.compress(idx(pixels[:7])))
    with tf.io.TFRecordWriter(str(folder / "all.tfrecord")) as writer:
        for image in pixels:
            writer.write(png(image))
    return folder


def read(output):
    rows = []
    for path in sorted((output / shards.PARTS).glob("*.parquet")):
        rows += pyarrow.parquet.read_table(path).to_pylist()
    return rows


def listed(folder, paths):
    path = folder / "listing"
    inputs.write_listing(path, [str(path) for path in paths])
    return path


def walk(path):
    return [
        (item.path, item.index, item.error, np.array(item.content).tobytes())
        for item in inputs.items(path, (0, 0), (3, 2, 1), raw_records=True)
    ]


@pytest.mark.parametrize("num_parts", [1, 2, 3, 7, 20, 58, 59, 1000])
def test_parts_of_a_listing_are_the_whole(pictures, tmp_path, num_parts):
    whole = listed(tmp_path, [pictures])
    expected = walk(whole)
    assert len(expected) == 6 + NUM_IMAGES + 7 + NUM_IMAGES
    parts = inputs.split_listing(whole, tmp_path / "parts", num_parts)
    size = -(-len(expected) // num_parts)
    assert len(parts) == -(-len(expected) // size) <= num_parts
    assert [row for part in parts for row in walk(part)] == expected
    sizes = [len(walk(part)) for part in parts]
    assert set(sizes[:-1]) <= {size}


@pytest.mark.parametrize(
    "damage",
    [
        *("truncated", "longer", "no_header", "packed_truncated", "records", "length"),
        *("huge", "packed_huge"),
    ],
)
def test_a_damaged_file_makes_the_same_rows_in_parts(pictures, tmp_path, damage):
    many, packed = pictures / "many.idx", pictures / "packed.idx.gz"
    records = pictures / "all.tfrecord"
    if damage == "truncated":
        many.write_bytes(many.read_bytes()[:-20])
    elif damage == "longer":
        many.write_bytes(many.read_bytes() + b"x")
    elif damage == "no_header":
        many.write_bytes(many.read_bytes()[:9])
    elif damage == "packed_truncated":
        packed.write_bytes(packed.read_bytes()[:-20])
    elif damage == "huge":  # By its header, more bytes than there are addresses.
        many.write_bytes(b"\0\0\x08\x04" + b"\xff" * 16 + many.read_bytes())
    elif damage == "packed_huge":
        content = gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12 + bytes(99))
        packed.write_bytes(content)
    elif damage == "records":
        records.write_bytes(records.read_bytes()[:-30])
    else:
        content = bytearray(records.read_bytes())
        (length,) = np.frombuffer(content[:8], np.uint64)
        second = 16 + int(length)
        content[second] ^= 1
        records.write_bytes(content)
    whole = listed(tmp_path, [pictures])
    expected = walk(whole)
    assert sum(error is not None for _, _, error, _ in expected) >= 1
    for num_parts in (2, 9, 40):
        folder = tmp_path / str(num_parts)
        parts = inputs.split_listing(whole, folder, num_parts)
        assert [row for part in parts for row in walk(part)] == expected


@pytest.mark.parametrize(
    "content",
    [
        idx(np.zeros((9, 4, 5), np.uint8)),
        # Four thousand million images, which its header can say in 16 bytes.
        b"\0\0\x08\x03" + np.array([4_000_000_000, 0, 28], ">u4").tobytes(),
        b"\0\0\x08\x03" + np.array([0, 4, 5], ">u4").tobytes(),
    ],
    ids=["another shape", "nothing of many", "none of another shape"],
)
def test_a_file_of_others_is_one_row_in_parts_too(pictures, tmp_path, content):
    (pictures / "a.idx").write_bytes(content)
    whole = tmp_path / "listing"
    num_pictures = 6 + NUM_IMAGES + 7
    (pictures / "all.tfrecord").unlink()
    assert inputs.write_listing(whole, [str(pictures)]) <= num_pictures + 9
    expected = walk(whole)
    assert len(expected) == num_pictures + 1
    parts = inputs.split_listing(whole, tmp_path / "parts", 6, (3, 2, 1))
    assert [row for part in parts for row in walk(part)] == expected
    assert max(len(walk(part)) for part in parts) <= 7


@pytest.mark.parametrize("name", ["none.tfrecord", "none.idx"])
def test_files_without_images_make_an_empty_answer(
    stand_in, tmp_path, monkeypatch, name
):
    monkeypatch.setitem(
        engines.ENGINES,
        "local",
        lambda work, pieces, _: [(piece, work(piece), None) for piece in pieces],
    )
    path = tmp_path / name
    path.write_bytes(b"" if "tf" in name else idx(np.zeros((0, 3, 2), np.uint8)))
    counts = batch_scoring.score_to_file(Brightness(), [path], tmp_path / "a.csv")
    output = tmp_path / "answers"
    manifest = shards.score_shards("m", [path], output, num_shards=2)
    assert counts["images"] == manifest["images"] == 0
    assert read(output) == [] and len(manifest["parts"]) == 1
    # What earlier versions left, which failed after that.
    plan = output / "PLAN.json"
    found = json.loads(plan.read_text())
    plan.write_text(json.dumps({**found, "shards": []}))
    assert shards.score_shards("m", [path], output, num_shards=2) == manifest


def test_parts_hold_what_one_file_would(stand_in, pictures, tmp_path, monkeypatch):
    paths = [pictures / "many.idx", pictures / "packed.idx.gz"]
    output = tmp_path / "answers"
    planned = shards.plan("model", paths, output, num_shards=4, threshold=0.4)
    for shard in reversed(planned):  # In any order.
        counts = shards.score_shard(shard)
        assert counts["images"] in (8, 6)
    manifest = shards.finish(planned, output)
    expected = list(batch_scoring.score(Brightness(), paths, threshold=0.4))
    for row in expected:
        row.pop("probabilities")
    found = read(output)
    assert [(row["path"], row["index"]) for row in found] == [
        (row["path"], row["index"]) for row in expected
    ]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["ood_score"] == np.float32(theirs["ood_score"])
        assert ours["accepted"] == theirs["accepted"]
    assert manifest["images"] == len(expected) == 30
    assert manifest["accepted"] == sum(row["accepted"] for row in expected) > 0
    assert [part["images"] for part in manifest["parts"]] == [8, 8, 8, 6]
    assert json.loads((output / shards.MANIFEST).read_text()) == manifest


def test_a_part_that_is_there_is_not_made_again(stand_in, pictures, tmp_path):
    output = tmp_path / "answers"
    planned = shards.plan("model", [pictures / "many.idx"], output, num_shards=3)
    first = shards.score_shard(planned[0])
    before = os.stat(planned[0].output).st_mtime_ns
    assert shards.score_shard(planned[0]) == first
    assert os.stat(planned[0].output).st_mtime_ns == before
    # The same call plans the same shards, though the folder has changed since.
    assert (
        shards.plan("model", [pictures / "many.idx"], output, num_shards=3) == planned
    )
    with pytest.raises(FileNotFoundError, match=r"2 of 3 parts are missing.*shard-0"):
        shards.finish(planned, output)


def test_what_another_model_wrote_is_refused(stand_in, pictures, tmp_path, monkeypatch):
    output = tmp_path / "answers"
    planned = shards.plan("model", [pictures / "many.idx"], output, num_shards=2)
    shards.score_shard(planned[0])
    other = dataclasses.replace(planned[0], model_sha256="1" * 64)
    with pytest.raises(ValueError, match="no part of this plan"):
        shards.score_shard(other)
    other = dataclasses.replace(planned[1], model_sha256="1" * 64)
    with pytest.raises(ValueError, match="not the model that the shards were planned"):
        shards.score_shard(other)
    assert not os.path.exists(other.output)
    with pytest.raises(ValueError, match="begun with other settings: num_shards"):
        shards.plan("model", [pictures / "many.idx"], output, num_shards=3)
    with pytest.raises(ValueError, match="at least one shard"):
        shards.plan("model", [pictures / "many.idx"], output, num_shards=0)


def test_a_shard_that_fails_leaves_nothing_and_the_others(
    stand_in, pictures, tmp_path, monkeypatch
):
    output = tmp_path / "answers"

    def run_here(work, waiting, num_workers):
        for number, shard in enumerate(waiting):
            if number == 1:
                yield shard, None, "OSError: no"
                continue
            yield shard, work(shard), None

    monkeypatch.setitem(engines.ENGINES, "local", run_here)
    with pytest.raises(RuntimeError, match=r"1 of 3 shards failed \(shard-00001: OSE"):
        shards.score_shards("m", [pictures / "many.idx"], output, num_shards=3)
    assert not (output / shards.MANIFEST).exists()
    assert len(read(output)) == 15
    monkeypatch.setitem(
        engines.ENGINES,
        "local",
        run_in_turn,
    )
    done = shards.score_shards("m", [pictures / "many.idx"], output, num_shards=3)
    assert done["images"] == len(read(output)) == NUM_IMAGES
    with pytest.raises(ValueError, match=r"one of local, ray.*'spark'"):
        shards.score_shards("m", [pictures], output, num_shards=3, engine="spark")


def run_in_turn(work, waiting, num_workers):
    for shard in waiting:
        yield shard, work(shard), None


def test_shares_are_the_whole_and_the_last_one_writes_the_manifest(
    stand_in, pictures, tmp_path, monkeypatch
):
    monkeypatch.setitem(engines.ENGINES, "local", run_in_turn)
    whole, output = tmp_path / "whole", tmp_path / "answers"
    arguments = ("m", [pictures / "many.idx"])
    expected = shards.score_shards(*arguments, whole, num_shards=5)
    found = []
    for share in ("1/3", "0/3"):
        done = shards.score_shards(*arguments, output, num_shards=5, share=share)
        found += done["parts"]
        assert done["images"] == sum(part["images"] for part in done["parts"])
        assert done["missing"] == 5 - len(found)
        assert not (output / shards.MANIFEST).exists()
    assert [part["name"] for part in found] == [
        f"shard-{number:05d}" for number in (1, 4, 0, 3)
    ]
    # Whichever share ends last, also where it has nothing left to do.
    shards.score_shards(*arguments, output, num_shards=5, share="2/3")
    assert json.loads((output / shards.MANIFEST).read_text()) == expected
    (output / shards.MANIFEST).unlink()
    again = shards.score_shards(*arguments, output, num_shards=5, share="0/3")
    assert again == expected
    # More machines than shards: some have nothing to do.
    idle = shards.score_shards(*arguments, tmp_path / "idle", num_shards=5, share="7/8")
    assert (idle["images"], idle["parts"], idle["missing"]) == (0, [], 5)


@pytest.mark.parametrize("share", ["3/3", "0/0", "1", "-1/3", "a/b", "1/3/4"])
def test_a_share_that_is_none_is_refused(stand_in, pictures, tmp_path, share):
    with pytest.raises(ValueError, match=r"a share is K/N.*Received: '"):
        shards.score_shards("m", [pictures], tmp_path / "a", num_shards=3, share=share)
    assert not (tmp_path / "a").exists()


def test_the_cost_of_all_is_said_after_the_first_shard(
    stand_in, pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(engines.ENGINES, "local", run_in_turn)
    clock = iter(range(0, 1000, 2))  # Two seconds from one look to the next.
    monkeypatch.setattr(shards.time, "monotonic", lambda: next(clock))
    arguments = ("m", [pictures / "many.idx"])
    options = {"num_shards": 5, "num_workers": 4, "progress": True}
    shards.score_shards(*arguments, tmp_path / "a", **options)
    # 5 images of each shard in 2 seconds; as if all five were so long.
    assert capsys.readouterr().err.splitlines() == [
        "about 25 images; the first shard took 2.5 a second, so all take about "
        "0.2 minutes of one worker, 0.0 minutes with 4"
    ]
    shards.score_shards(*arguments, tmp_path / "a", **options)
    assert capsys.readouterr().err == ""
    first = {"images": 100_000, "seconds": 100.0}
    assert shards._describe_cost(first, 1000, None) == (
        "about 100,000,000 images; the first shard took 1,000.0 a second, so all take "
        "about 27.8 hours of one worker"
    )


class Bucket(MemoryFileSystem):
    """As an object store: no folders, no renaming, no writing but by whole puts."""

    protocol = "bucket"
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]

    def _refuse(self, *arguments, **options):
        raise NotImplementedError("an object store cannot do this")

    mv = move = rename = cp_file = copy = touch = pipe_file = _refuse

    def makedirs(self, path, exist_ok=False):
        pass

    def open(self, path, mode="rb", **options):
        return super().open(path, mode, **options) if mode == "rb" else self._refuse()

    def put_file(self, here, there, **options):
        content = pathlib.Path(here).read_bytes()
        self.store[self._strip_protocol(there)] = MemoryFile(self, there, content)

    def exists(self, path, **options):
        path = self._strip_protocol(path)
        return any(f"{key}/".startswith(f"{path}/") for key in self.store)


@pytest.mark.parametrize("scheme", ["memory", "file", "bucket"])
def test_parts_are_put_to_a_store(stand_in, pictures, tmp_path, monkeypatch, scheme):
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    url = f"{scheme}://{tmp_path.name}/answers"
    if scheme == "file":
        url = f"file://{tmp_path}/answers/"
    short = pictures / "short.idx"
    short.write_bytes((pictures / "many.idx").read_bytes()[:-3])
    paths = [pictures / "many.idx", short]
    put = []
    system = fsspec.filesystem(scheme)
    really_put = type(system).put_file

    def put_file(self, here, there):
        put.append(there.rpartition("/")[2])
        really_put(self, here, there)

    monkeypatch.setattr(type(system), "put_file", put_file)
    planned = shards.plan("model", paths, url, num_shards=3)
    assert put.count("PLAN.json") == 1 and put[-1] == "PLAN.json"
    shards.score_shard(planned[1])
    with pytest.raises(FileNotFoundError, match="2 of 3 parts are missing"):
        shards.finish(planned, url)
    # The same again plans the same, and makes no part twice.
    assert shards.plan("model", paths, url, num_shards=3) == planned
    for shard in planned:
        shards.score_shard(shard)
    manifest = shards.finish(planned, url)
    parts = [name for name in put if name.endswith(".parquet")]
    assert sorted(parts) == [f"shard-{number:05d}.parquet" for number in range(3)]
    here = tmp_path / "here"
    planned = shards.plan("model", paths, here, num_shards=3)
    for shard in planned:
        shards.score_shard(shard)
    assert shards.finish(planned, here) == manifest
    found, expected = score_files.read([url]), score_files.read([here])
    np.testing.assert_array_equal(found.sketch.counts, expected.sketch.counts)
    assert found.left_out == expected.left_out == {"known": 1, "unknown": 0}
    system.rm(f"{url.rstrip('/')}/{shards.PARTS}/shard-00002.parquet")
    with pytest.raises(FileNotFoundError, match="1 of 3 parts are missing"):
        score_files.read([url])
    with pytest.raises(ValueError, match="begun with other settings"):
        shards.plan("model", paths, url, num_shards=2)


def test_a_put_that_fails_leaves_no_part(stand_in, pictures, tmp_path, monkeypatch):
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    url = f"bucket://{tmp_path.name}/answers"
    (shard,) = shards.plan("model", [pictures / "many.idx"], url, num_shards=1)

    def lose(self, here, there, **options):
        raise OSError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "put_file", lose)
        with pytest.raises(OSError, match="connection lost"):
            shards.score_shard(shard)
    assert not storage.exists(shard.output)
    with pytest.raises(FileNotFoundError, match="1 of 1 parts are missing"):
        shards.finish([shard], url)
    shards.score_shard(shard)
    assert shards.finish([shard], url)["images"] == NUM_IMAGES
    with pytest.raises(NotImplementedError):
        fsspec.filesystem("bucket").mv(shard.output, url)


def test_a_killed_write_leaves_no_part(stand_in, pictures, tmp_path, monkeypatch):
    output = tmp_path / "answers"
    (shard,) = shards.plan("model", [pictures / "many.idx"], output, num_shards=1)
    monkeypatch.setattr(Brightness, "stops_after", 0)
    with pytest.raises(KeyboardInterrupt):
        shards.score_shard(shard, Brightness())
    assert not os.path.exists(shard.output)
    monkeypatch.setattr(Brightness, "stops_after", None)
    assert shards.score_shard(shard, Brightness())["images"] == NUM_IMAGES
