"""Rows for any number of images, from anywhere, and after any interruption."""

import csv
import errno
import glob
import gzip
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import tensorflow as tf
from brightness import Brightness, idx, png
from PIL import Image
from small_export import IMAGE_SHAPE

from ood_keras import calibration, export, files, image_files, transcoding
from ood_keras.inference import answer_files, batch_scoring, inputs, partial_output
from ood_keras.names import printable

NUM_FILES = 12


def example(**values):
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
        for name, value in values.items()
    }
    features["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[3]))
    return tf.train.Example(
        features=tf.train.Features(feature=features)
    ).SerializeToString()


def write_records(path, records, compression=""):
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)


@pytest.fixture(scope="module")
def predictor(exported):
    return export.load(exported.path)


@pytest.fixture
def images(exported, tmp_path):
    """A folder of images as files, and what stands between them."""
    folder = tmp_path / "images"
    (folder / "inner.png").mkdir(parents=True)
    for row in range(NUM_FILES):
        place = folder / "inner.png" if row % 2 else folder
        (place / f"{row:02d}.png").write_bytes(png(exported.pixels[row]))
    (folder / "junk.JPG").write_bytes(b"junk")
    (folder / "notes.txt").write_bytes(b"not an image")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "nowhere.png").symlink_to("gone")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "pipe.png")
    return folder


@pytest.fixture
def many(tmp_path):
    """An IDX file of small random images for `Brightness`, and the folder of it."""
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 3, 2)).astype(np.uint8)
    path = tmp_path / "many-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(pixels)))
    return path


def test_a_folder_is_answered_as_its_files_are(predictor, exported, images):
    rows = {row["path"]: row for row in export.score(predictor, [str(images)])}
    expected = predictor.predict(exported.images[:NUM_FILES])
    errors = {
        "junk.JPG": batch_scoring.UNDECODABLE,
        "nowhere.png": "No such file or directory",
        "loop.png": "Too many levels of symbolic links",
        "pipe.png": "it is no regular file",
    }
    assert list(rows) == sorted(rows)
    assert len(rows) == NUM_FILES + len(errors)
    for number in range(NUM_FILES):
        place = images / "inner.png" if number % 2 else images
        row = rows[str(place / f"{number:02d}.png")]
        assert row["error"] is None and row["index"] is None and row["valid"] is True
        for name in ("class_id", "label", "accepted"):
            assert row[name] == expected[name][number]
        assert np.float32(row["ood_score"]) == pytest.approx(
            expected["ood_score"][number], abs=1e-6
        )
        np.testing.assert_allclose(
            row["probabilities"], expected["probabilities"][number], atol=1e-6
        )
    for name, error in errors.items():
        row = rows[str(images / name)]
        assert row["error"] == error
        assert not row["valid"] and not row["accepted"] and row["class_id"] == -1
        assert row["label"] == "__unknown__" and row["ood_score"] is None


@pytest.mark.parametrize("threshold", ["strict", np.inf, -1.0])
def test_another_threshold_holds_for_every_kind_of_file(
    predictor, exported, tmp_path, threshold
):
    (tmp_path / "a.png").write_bytes(png(exported.pixels[0]))
    (tmp_path / "b-idx4-ubyte").write_bytes(idx(exported.pixels))
    write_records(tmp_path / "c.tfrecord", [example(image=[png(exported.pixels[1])])])
    rows = list(export.score(predictor, [str(tmp_path)], threshold=threshold))
    expected = predictor.predict(exported.images, threshold=threshold)["accepted"]
    accepted = [row["accepted"] for row in rows]
    assert accepted == [expected[0], *expected, expected[1]]
    assert [row["index"] for row in rows] == [None, *range(50), 0]


def test_records_of_tfrecord_files_are_images(predictor, exported, tmp_path):
    contents = [png(pixels) for pixels in exported.pixels[:6]]
    write_records(
        tmp_path / "a.tfrecord-00000-of-00002",
        [example(image=[content]) for content in contents],
    )
    write_records(
        tmp_path / "a.tfrecord-00001-of-00002",
        [
            example(**{"image/encoded": [contents[0]], "image": [b""]}),
            example(picture=[contents[1]]),
            example(image=[contents[2], contents[3]]),
            b"\xff" * 20,
            contents[4],
        ],
    )
    write_records(tmp_path / "raw.tfrecords.gz", contents, "GZIP")
    expected = predictor.predict(exported.images[:6])["label"]
    first = export.score(predictor, [str(tmp_path / "a.tfrecord-00000-of-00002")])
    assert [row["label"] for row in first] == list(expected)
    rows = list(export.score(predictor, [str(tmp_path / "a*1-of*")]))
    assert rows[0]["label"] == expected[0] and rows[0]["error"] is None
    assert "it has: picture" in rows[1]["error"] and "--feature" in rows[1]["error"]
    assert "with one value" in rows[2]["error"]
    for row in rows[3:]:
        assert "no tf.train.Example" in row["error"]
    rows = list(export.score(predictor, [str(tmp_path / "a*1-of*")], feature="picture"))
    assert [row["valid"] for row in rows] == [False, True, False, False, False]
    raw = export.score(predictor, [str(tmp_path / "raw.*")], raw_records=True)
    assert [row["label"] for row in raw] == list(expected)
    with pytest.raises(ValueError, match="either"):
        list(export.score(predictor, ["*"], feature="a", raw_records=True))


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
@pytest.mark.parametrize("name", ["a.tfrec", "b.tfrecords", "shard-00000", "c"])
def test_records_are_told_by_their_bytes(
    compression, name, predictor, exported, tmp_path
):
    contents = [png(pixels) for pixels in exported.pixels[:6]]
    folder = tmp_path / "records"
    folder.mkdir()
    records = [example(image=[content]) for content in contents]
    write_records(folder / name, records, compression)
    expected = list(predictor.predict(exported.images[:6])["label"])
    for path in (folder, folder / name, folder / "*"):
        rows = list(export.score(predictor, [str(path)]))
        assert [row["label"] for row in rows] == expected
        assert [row["index"] for row in rows] == list(range(6))
    # A damaged end is a row, and what was read before it stays.
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-9])
    *good, bad = export.score(predictor, [str(folder / name)])
    assert [row["label"] for row in good] == expected[: len(good)]
    assert bad["error"] and not bad["valid"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zlib.compress])
@pytest.mark.parametrize("name", ["train-images.idx3-ubyte", "digits.bin", "digits.gz"])
def test_idx_files_are_told_by_their_bytes(pack, name, many, tmp_path):
    expected = list(export.score(Brightness(), [str(many)]))
    path = tmp_path / "renamed" / name
    path.parent.mkdir()
    path.write_bytes(pack(gzip.decompress(many.read_bytes())))
    (path.parent / "labels").write_bytes(pack(idx(np.zeros(1000, np.uint8))))
    left_out = {}
    rows = list(export.score(Brightness(), [str(path.parent)], left_out=left_out))
    assert [row["ood_score"] for row in rows] == [row["ood_score"] for row in expected]
    assert left_out == {"without extension (IDX labels)": 1}


def test_a_resumed_run_passes_over_what_is_packed_by_zlib(many, tmp_path):
    path = tmp_path / "packed"
    path.write_bytes(zlib.compress(gzip.decompress(many.read_bytes())))
    expected = export.score_to_file(Brightness(), [str(path)], tmp_path / "whole.csv")
    model = Brightness()
    model.stops_after = 2
    with pytest.raises(KeyboardInterrupt):
        export.score_to_file(model, [str(path)], tmp_path / "out.csv")
    counts = export.score_to_file(Brightness(), [str(path)], tmp_path / "out.csv")
    assert counts["images"] == expected["images"] == 1000
    whole = (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "out.csv").read_bytes() == whole


def test_files_of_other_kinds_are_counted_and_named(
    predictor, exported, tmp_path, monkeypatch
):
    # As without what reads HEIC and AVIF.
    monkeypatch.setattr(
        transcoding, "formats", lambda: (*transcoding.FIRST_FORMATS, "TIFF")
    )
    folder = tmp_path / "mixed"
    (folder / "__MACOSX").mkdir(parents=True)
    picture = Image.fromarray(exported.pixels[0].squeeze())
    for name, kind in (
        *(("a.PNG", "PNG"), ("b.jfif", "JPEG"), ("c", "PNG"), ("d.jpe", "JPEG")),
        *(("e.gif", "GIF"), ("f.tif", "TIFF"), ("g.TIF", "TIFF"), ("h.webp", "WEBP")),
        *(("i.bmp", "BMP"), ("j.png", "GIF"), ("k.avif", "AVIF")),
    ):
        picture.convert("L" if kind != "AVIF" else "RGB").save(folder / name, kind)
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    (folder / "l.heic").write_bytes(heic)
    (folder / "m.txt").write_text("no picture")
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "__MACOSX/._a.PNG"):
        (folder / name).write_bytes(b"left by a system")
    left_out = {}
    rows = list(export.score(predictor, [str(folder)], left_out=left_out))
    named = {os.path.basename(row["path"]): row["error"] for row in rows}
    assert "".join(name[0] for name in named) == "abcdefghij"
    assert set(named.values()) == {None}
    scores = {
        os.path.basename(row["path"])[0]: row["ood_score"]
        for row in rows
        if not row["path"].endswith((".jfif", ".jpe", ".webp"))
    }
    # What loses nothing has the same pixels, and so the same score.
    assert len(set(scores.values())) == 1 and set(scores) == set("acefgij")
    assert left_out == {
        **{".avif (AVIF)": 1, ".heic (HEIC)": 1, ".txt (no picture)": 1},
    }
    counts = export.score_to_file(predictor, [str(folder)], tmp_path / "out.csv")
    assert counts["left_out"] == left_out
    assert "left out 3 other files: 1 .avif (AVIF), " in batch_scoring.summary(counts)
    # Named by the user, each is a row that says why.
    (row,) = export.score(predictor, [str(folder / "l.heic")])
    assert row["error"].startswith("is a HEIC picture, which is not read here. pip")
    with pytest.raises(FileNotFoundError, match=r"It has 1 other file: 1 \.avif"):
        list(export.score(predictor, [str(folder / "*.[aA]vif")]))


@pytest.mark.parametrize("raw_records", [False, True])
def test_pictures_in_records_are_read_as_those_in_files(
    raw_records, tmp_path, monkeypatch
):
    """Also what no graph reads: other formats, and a large photograph."""
    monkeypatch.setattr(transcoding, "formats", lambda: ("PNG", "JPEG", "BMP", "TIFF"))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3), np.uint8)
    exif = Image.Exif()
    exif[image_files.ORIENTATION_TAG] = 6
    contents = []
    for kind, scale in (("PNG", 1), ("BMP", 1), ("TIFF", 1), ("JPEG", 1), ("JPEG", 2)):
        file = io.BytesIO()
        picture = Image.fromarray(pixels).resize((12 * scale, 16 * scale))
        picture.save(file, kind, exif=exif)
        contents.append(file.getvalue())
    monkeypatch.setattr(image_files, "MAX_PIXELS", 200)
    contents += [b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), b"junk"]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.png").write_bytes(content)
    write_records(
        tmp_path / "all.tfrecord",
        contents if raw_records else [example(image=[each]) for each in contents],
    )

    def read(paths):
        listing = tmp_path / "listing.jsonl"
        inputs.write_listing(listing, paths)
        items = inputs.items(listing, (0, 0), (9, 9, 3), raw_records=raw_records)
        return [(item.content, item.error) for item in items]

    of_files = read([str(tmp_path / "*.png")])
    assert read([str(tmp_path / "all.tfrecord")]) == of_files
    for content, error in of_files[:5]:
        assert error is None and content.startswith((image_files.PNG, image_files.JPEG))
    sizes = [image_files.read(content).shape[:2] for content, _ in of_files[:5]]
    # A BMP and a PNG say nothing of which side is up.
    assert sizes == [(16, 12)] * 2 + [(12, 16)] * 3
    assert "is a HEIC picture" in of_files[5][1]
    assert of_files[6] == (b"junk", None)  # The model says that it is none.


def test_any_extensions_are_counted_in_bounded_memory(predictor, tmp_path):
    for number in range(300):
        (tmp_path / f"a.{number}").write_bytes(b"text")
    (tmp_path / "a.png").write_bytes(b"junk")
    left_out = {}
    list(export.score(predictor, [str(tmp_path)], left_out=left_out))
    assert sum(left_out.values()) == 300 and len(left_out) <= 101


def test_a_packed_giant_is_never_unpacked_whole(tmp_path):
    pixels = bytes([0, 0, 8, 3]) + struct.pack(">3I", 10**8, 3, 2)
    packer = zlib.compressobj(9, wbits=31)
    with open(tmp_path / "giant", "wb") as file:
        file.write(packer.compress(pixels))
        for _ in range(128):
            file.write(packer.compress(bytes(2**20)))
        file.write(packer.flush())
    tracemalloc.start()
    rows = export.score(Brightness(), [str(tmp_path / "giant")])
    for _ in range(5000):
        assert next(rows)["error"] is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    rows.close()
    assert peak < 2**24


def test_every_format_says_the_same(predictor, images, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for suffix in answer_files.FORMATS:
        counts = export.score_to_file(
            predictor,
            [str(images)],
            tmp_path / f"out{suffix}",
            probabilities=True,
        )
        assert counts["images"] == 16 and counts["unreadable"] == 4
        assert counts["accepted"] + counts["rejected"] == NUM_FILES
        assert not list(tmp_path.glob("*.partial"))
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    objects = [json.loads(line) for line in lines]
    assert list(objects[0]) == [*answer_files.COLUMNS, "probabilities"]
    with open(tmp_path / "out.csv", newline="") as file:
        table = list(csv.DictReader(file))
    stored = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert len(objects) == len(table) == len(stored) == 16
    for one, cells, kept in zip(objects, table, stored, strict=True):
        for name in answer_files.COLUMNS:
            value = "" if one[name] is None else one[name]
            value = str(value).lower() if isinstance(value, bool) else str(value)
            assert cells[name] == value
        for number, label in enumerate(predictor.class_names):
            share = float(cells[f"probability_{label}"])
            assert share == one["probabilities"][number]
            assert np.float32(share) == kept["probabilities"][number]
        for name in set(answer_files.COLUMNS) - {"ood_score"}:
            assert kept[name] == one[name]
        if one["ood_score"] is not None:
            assert np.float32(one["ood_score"]) == kept["ood_score"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_the_written_score_is_the_one_that_decided(
    predictor, exported, images, tmp_path, suffix
):
    """Even at a threshold that is a score, in whatever precision it is read."""
    scores = predictor.predict(exported.images[:NUM_FILES])["ood_score"]
    for number, limit in enumerate(np.sort(scores).tolist()):
        output = tmp_path / f"{number}{suffix}"
        export.score_to_file(predictor, [str(images)], output, threshold=limit)
        if suffix == ".csv":
            with open(output, newline="") as file:
                rows = list(csv.DictReader(file))
            rows = [(row["ood_score"], row["accepted"] == "true") for row in rows]
        else:
            rows = map(json.loads, output.read_text().splitlines())
            rows = [(row["ood_score"], row["accepted"]) for row in rows]
        rows = [
            (score, accepted) for score, accepted in rows if score not in ("", None)
        ]
        assert len(rows) == NUM_FILES
        texts, accepted = zip(*rows, strict=True)
        at = calibration.Threshold(limit, "a score", "None.", NUM_FILES, None)
        for read in (texts, np.array(texts, np.float64), np.array(texts, np.float32)):
            assert at.accepts(read).tolist() == list(accepted)
        plain = [float(text) <= limit for text in texts]
        assert plain == list(accepted)


def test_strange_names_stay_one_row_each(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    names = [
        b"new\nline.png",
        b"re\rturn.png",
        b'quo"te,.png',
        "ünï.png".encode(),
        b"raw\xff.png",
    ]
    names += [b"[a]*.png", b"-flag.png", b" .png", b"back\\slash.png"]
    names += [b"new\\nline.png", rb"raw\udcff.png"]
    for name in names:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(b"junk")
    model = Brightness()
    model.predict_bytes = lambda contents, threshold: {
        name: value[: len(contents)]
        for name, value in {
            **model.predict(np.zeros((len(contents), 3, 2, 1), np.float32)),
            "valid": np.zeros(len(contents), bool),
            "probabilities": np.zeros((len(contents), 3)),
        }.items()
    }
    for suffix in (".csv", ".jsonl"):
        output = tmp_path / f"out{suffix}"
        export.score_to_file(model, [str(folder)], output)
        with open(output, newline="", encoding="utf-8") as file:
            rows = (
                list(csv.DictReader(file))
                if suffix == ".csv"
                else [json.loads(line) for line in file]
            )
        found = {os.path.basename(row["path"]) for row in rows}
        expected = {printable(os.fsdecode(name)) for name in names}
        assert found == expected and len(found) == len(rows) == len(names)
        assert {r"raw\udcff.png", r"new\nline.png", r"new\\nline.png"} <= found


def listed(listing):
    with open(listing) as file:
        return [json.loads(line)[0] for line in file]


def test_globs_find_what_the_standard_library_finds(tmp_path, monkeypatch):
    for name in ("a/1.png", "a/2.jpg", "a/b/3.png", "a/b/c/4.png", "a/.h/5.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a/[x].png").write_bytes(b"")
    (tmp_path / "a/loop").symlink_to(tmp_path, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    # Names are sorted in pieces of two, so that the pieces are merged too.
    monkeypatch.setattr(inputs, "_SORTED_AT_ONCE", 2)
    for pattern in ("a/*.png", "a/?.*", "a/[x].png", "a/b/**/*.png", "*/b/*", "a/.h/*"):
        for full in (pattern, str(tmp_path / pattern)):
            inputs.write_listing("listing", [full])
            lines = listed("listing")
            if glob.escape(full) != full and os.path.exists(full):
                expected = [full]
            else:
                expected = [
                    inner
                    for path in glob.glob(full, recursive=True)
                    for inner in (
                        glob.glob(f"{path}/**/*.png", recursive=True)
                        if os.path.isdir(path)
                        else [path]
                    )
                ]
            assert lines == sorted(set(expected), key=json.dumps)
    inputs.write_listing("listing", ["a"])
    assert len(listed("listing")) == 5
    with pytest.raises(FileNotFoundError, match=r"no images in b/\*"):
        inputs.write_listing("listing", ["b/*"])


def test_globs_leave_out_what_folders_do_and_name_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/b/1.png", "b/notes.txt", "b/t10k-labels-idx1-ubyte", "b/2.PNG"):
        pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(name).write_bytes(b"")
    pathlib.Path("b/linked").symlink_to("b", target_is_directory=True)
    pathlib.Path("b/4.png").symlink_to("4.png")
    found = ["b/2.PNG", "b/4.png", "b/b/1.png"]
    inputs.write_listing("listing", ["b"])
    assert listed("listing") == found
    assert inputs.read_left_out("listing") == {
        ".txt (no picture)": 1,
        "without extension (IDX labels)": 1,
        "without extension (link to a folder)": 1,
    }
    pathlib.Path("b/3.png").symlink_to("b", target_is_directory=True)
    for pattern in ("b/*", "**/b/**/*.[pP]*"):
        inputs.write_listing("listing", [pattern])
        assert listed("listing") == found
    inputs.write_listing("listing", ["b/notes.txt", "b/b/*", "b/b/1.png"])
    assert listed("listing") == ["b/notes.txt", "b/b/1.png", "b/b/1.png"]
    for pattern in ("b/*.txt", "b/*idx1*", "b/link*"):
        with pytest.raises(FileNotFoundError, match="no images in"):
            inputs.write_listing("listing", [pattern])


def test_what_is_no_file_is_closed_again(tmp_path):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    listing, before = tmp_path / "listing", descriptors()
    entries = [[str(tmp_path), "image"], [str(tmp_path / "gone"), "image"]]
    listing.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    for _ in range(5):
        one, other = inputs.items(listing, (0, 0), (3, 2, 1))
        assert (one.error, other.error) == (
            "Is a directory",
            "No such file or directory",
        )
    assert descriptors() == before


def test_paths_are_a_list_of_texts_or_of_path_objects(many, tmp_path):
    as_text, as_path = [str(many), str(tmp_path / "*")], [many, tmp_path / "*"]
    expected = list(export.score(Brightness(), as_text))
    assert len(expected) == 2000
    assert list(export.score(Brightness(), as_path)) == expected
    assert list(export.score(Brightness(), map(os.fsencode, as_text))) == expected
    output = tmp_path / "out.csv"
    assert export.score_to_file(Brightness(), iter(as_path), output)["images"] == 2000
    for one in (many, str(many), os.fsencode(many)):
        with pytest.raises(TypeError, match=r"a list of paths.*many-idx3-ubyte"):
            list(export.score(Brightness(), one))
        with pytest.raises(TypeError, match="a list of paths"):
            export.score_to_file(Brightness(), one, tmp_path / "other.csv")


def test_folders_take_idx_files_of_images_and_not_of_labels(many):
    labels = many.with_name("many-idx1-ubyte")
    labels.write_bytes(idx(np.zeros(1000, np.uint8)))
    rows = list(export.score(Brightness(), [str(many.parent)]))
    assert len(rows) == 1000 and {row["path"] for row in rows} == {str(many)}
    with pytest.raises(ValueError, match=r"shape \(1000,\).*\(3, 2, 1\)"):
        list(export.score(Brightness(), [str(labels)]))
    model = Brightness()
    model.image_shape = (2, 3, 1)
    with pytest.raises(ValueError, match=r"expected \(num_images, 2, 3, 1\)"):
        list(export.score(model, [str(many)]))
    # Met in a folder it must not end a run of hours.
    (row,) = export.score(model, [str(many.parent)])
    assert "expected (num_images, 2, 3, 1)" in row["error"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_damaged_containers_keep_what_is_whole(many, suffix, tmp_path):
    whole = gzip.decompress(many.read_bytes())
    path = tmp_path / f"damaged-idx3-ubyte{suffix}"
    content = whole[: 16 + 6 * 10 + 3]
    path.write_bytes(gzip.compress(content) if suffix else content)
    *good, bad = export.score(Brightness(), [str(path)])
    assert [row["index"] for row in good] == list(range(10))
    assert all(row["error"] is None for row in good)
    assert bad["index"] == 10 and "ends within number 10" in bad["error"]
    for content in (
        b"",
        b"\0\0\x08",
        b"\0\0\x08\x03\0",
        b"junk and more",
        whole + b"1",
    ):
        path.write_bytes(gzip.compress(content) if suffix else content)
        *_, bad = export.score(Brightness(), [str(path)])
        assert bad["valid"] is False and bad["error"]
    if suffix:
        path.write_bytes(many.read_bytes()[:-500])
        *good, bad = export.score(Brightness(), [str(path)])
        assert len(good) > 10 and bad["error"]
        # Not packed, whatever it is called.
        path.write_bytes(whole)
        rows = list(export.score(Brightness(), [str(path)]))
        assert len(rows) == 1000 and not any(row["error"] for row in rows)


@pytest.fixture
def in_small_steps(monkeypatch):
    monkeypatch.setattr(partial_output, "_SAVE_EVERY", 0)
    monkeypatch.setattr(batch_scoring, "_BATCH_SIZE", 64)


@pytest.mark.parametrize("suffix", answer_files.FORMATS)
@pytest.mark.parametrize("stops_after", [0, 1, 7, 15])
def test_an_interrupted_run_ends_with_the_same_file(
    many, tmp_path, in_small_steps, suffix, stops_after
):
    whole, resumed = (tmp_path / f"{name}{suffix}" for name in ("whole", "resumed"))
    paths = [str(many), str(many)]
    counts = export.score_to_file(Brightness(), paths, whole)
    stopped = Brightness()
    stopped.stops_after = stops_after
    with pytest.raises(KeyboardInterrupt):
        export.score_to_file(stopped, paths, resumed)
    assert not resumed.exists()
    with open(tmp_path / f"{resumed.name}.partial" / "rows", "ab") as file:
        file.write(b"half a ro")
    many.with_name("new.png").write_bytes(b"")
    again = export.score_to_file(Brightness(), paths, resumed)
    assert resumed.read_bytes() == whole.read_bytes()
    assert again["images"] == counts["images"] == 2000
    assert again["accepted"] == counts["accepted"]
    assert not list(tmp_path.glob("*.partial"))


def test_a_killed_process_ends_with_the_same_file(many, tmp_path):
    module = tmp_path / "slow.py"
    module.write_text(
        "import time\n"
        "import numpy as np\n"
        "from ood_keras import export\n"
        "from ood_keras.inference import batch_scoring, partial_output\n"
        "partial_output._SAVE_EVERY = 0\n"
        "batch_scoring._BATCH_SIZE = 64\n"
        "class Slow:\n"
        "    manifest = {'manifest_sha256': '0'}\n"
        "    class_names, image_shape, operating_points = 'ab', (3, 2, 1), {}\n"
        "    def predict(self, images, threshold):\n"
        "        time.sleep(0.02)\n"
        "        scores = images.mean(axis=(1, 2, 3))\n"
        "        ones = np.ones((len(images), 2), np.float32)\n"
        "        return {'class_id': ones[:, 0].astype(int), 'ood_score': scores,\n"
        "            'label': ['b'] * len(images), 'accepted': scores < 0.5,\n"
        "            'probabilities': ones / 2, 'valid': scores < 2}\n"
        f"export.score_to_file(Slow(), [{str(many)!r}], 'out.csv')\n"
    )
    command = [sys.executable, str(module)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    whole = (tmp_path / "out.csv").read_bytes()
    (tmp_path / "out.csv").unlink()
    kills = 0
    while not (tmp_path / "out.csv").exists():
        process = subprocess.Popen(command, cwd=tmp_path)
        state = tmp_path / "out.csv.partial" / "state.json"
        before = state.read_bytes() if state.exists() else b""
        while process.poll() is None and kills < 3:
            time.sleep(0.005)
            if state.exists() and state.read_bytes() not in (before, b""):
                time.sleep(0.03)
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
        process.wait(timeout=60)
    assert kills == 3
    assert (tmp_path / "out.csv").read_bytes() == whole


def test_a_run_goes_on_only_with_the_same_model_and_arguments(
    many, tmp_path, in_small_steps, monkeypatch
):
    output = tmp_path / "out.csv"
    stopped = Brightness()
    stopped.stops_after = 2
    with pytest.raises(KeyboardInterrupt):
        export.score_to_file(stopped, [str(many)], output)
    other = Brightness()
    other.manifest = {"manifest_sha256": "1"}
    with pytest.raises(ValueError, match=r"out\.csv\.partial.*the model was changed"):
        export.score_to_file(other, [str(many)], output)
    for arguments in (
        {"threshold": 0.4},
        {"threshold": "dark"},
        {"probabilities": True},
        {"raw_records": True},
    ):
        (name,) = arguments
        with pytest.raises(ValueError, match=rf"{name} was .* remove that folder"):
            export.score_to_file(Brightness(), [str(many)], output, **arguments)
    with pytest.raises(ValueError, match="paths was"):
        export.score_to_file(Brightness(), [str(many)] * 2, output)
    monkeypatch.chdir(tmp_path)
    lock = os.open(f"{output}.partial", os.O_RDONLY)
    assert files.lock(lock)
    with pytest.raises(BlockingIOError, match="another process is writing"):
        export.score_to_file(Brightness(), [str(many)], output)
    os.close(lock)
    os.truncate(f"{output}.partial/rows", 10)
    with pytest.raises(ValueError, match=r"shorter than it was.*received 10\. .*again"):
        export.score_to_file(Brightness(), [str(many)], output)


def test_a_second_process_takes_nothing_from_the_first(many, tmp_path, monkeypatch):
    output, listed, go_on = tmp_path / "out.csv", threading.Event(), threading.Event()
    write_listing, counts = inputs.write_listing, []

    def slow(listing, paths):
        listed.set()
        assert go_on.wait(60)
        return write_listing(listing, paths)

    monkeypatch.setattr(inputs, "write_listing", slow)
    first = threading.Thread(
        target=lambda: counts.append(
            export.score_to_file(Brightness(), [str(many)], output)
        )
    )
    first.start()
    assert listed.wait(60)
    try:
        with pytest.raises(BlockingIOError, match="another process is writing"):
            export.score_to_file(Brightness(), [str(many)], output)
    finally:
        go_on.set()
        first.join()
    assert counts[0]["images"] == 1000 and output.is_file()
    assert not list(tmp_path.glob("*.partial"))


def test_a_lock_on_a_folder_that_was_removed_is_none(many, tmp_path, monkeypatch):
    output = tmp_path / "out.csv"
    lock = files.lock

    def late(descriptor, **arguments):
        shutil.rmtree(f"{output}.partial")
        return lock(descriptor, **arguments)

    monkeypatch.setattr(files, "lock", late)
    with pytest.raises(BlockingIOError, match="another process is writing"):
        export.score_to_file(Brightness(), [str(many)], output)


@pytest.mark.parametrize("paths", ["gone.png", None])
def test_files_of_the_user_in_its_folder_are_left_alone(many, tmp_path, paths):
    output, own = tmp_path / "mine.csv", tmp_path / "mine.csv.partial" / "thesis.txt"
    own.parent.mkdir()
    own.write_text("mine")
    if paths is None:
        export.score_to_file(Brightness(), [str(many)], output)
    else:
        with pytest.raises(FileNotFoundError):
            export.score_to_file(Brightness(), [paths], output)
    assert os.listdir(own.parent) == [own.name] and own.read_text() == "mine"


@pytest.mark.parametrize("suffix", answer_files.FORMATS)
def test_a_kill_after_the_last_step_but_one_leaves_only_to_clean_up(
    many, tmp_path, monkeypatch, suffix
):
    output = tmp_path / f"out{suffix}"
    partial = tmp_path / f"{output.name}.partial"

    def finish_and_be_killed():
        with monkeypatch.context() as patch:
            patch.setattr(pathlib.Path, "unlink", interrupt)
            patch.setattr(pathlib.Path, "rmdir", interrupt)
            with pytest.raises(KeyboardInterrupt):
                export.score_to_file(Brightness(), [str(many)], output)
        assert output.is_file() and partial.is_dir()
        return output.read_bytes()

    def interrupt(path, *args, **kwargs):
        # Temporary files are removed before; what is left belongs to the folder.
        if path.parent == partial and not path.name.startswith("."):
            raise KeyboardInterrupt

    content = finish_and_be_killed()
    with pytest.raises(FileExistsError, match="never overwritten"):
        export.score_to_file(Brightness(), [str(many)], output, threshold=0.1)
    counts = export.score_to_file(Brightness(), [str(many)], output)
    assert counts["images"] == 1000 and counts["images_per_second"] == 0
    assert output.read_bytes() == content and not partial.exists()
    with pytest.raises(FileExistsError, match="never overwritten"):
        export.score_to_file(Brightness(), [str(many)], output)
    # A file of that name which the user put there is another.
    output.unlink()
    finish_and_be_killed()
    output.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="never overwritten"):
        export.score_to_file(Brightness(), [str(many)], output)
    # Without it, it is made again.
    output.unlink()
    export.score_to_file(Brightness(), [str(many)], output)
    assert output.read_bytes() == content and not partial.exists()


@pytest.mark.parametrize("threshold", [np.inf, -np.inf, np.float32(0.4), 1, "dark"])
def test_any_threshold_can_go_to_a_file_and_be_gone_on_with(
    many, tmp_path, in_small_steps, threshold
):
    whole, resumed = tmp_path / "whole.csv", tmp_path / "resumed.csv"
    options = {"threshold": threshold}
    export.score_to_file(Brightness(), [str(many)], whole, **options)
    stopped = Brightness()
    stopped.stops_after = 2
    with pytest.raises(KeyboardInterrupt):
        export.score_to_file(stopped, [str(many)], resumed, **options)
    for other in (0.3, np.float32(0.2)):
        with pytest.raises(ValueError, match="threshold was"):
            export.score_to_file(Brightness(), [str(many)], resumed, threshold=other)
    export.score_to_file(Brightness(), [str(many)], resumed, **options)
    assert resumed.read_bytes() == whole.read_bytes()


def test_bad_arguments_are_refused_and_leave_nothing(many, tmp_path):
    model, before = Brightness(), sorted(tmp_path.iterdir())
    for paths, name, arguments, error, message in (
        ([str(many)], "out.txt", {}, ValueError, r"\.csv, \.jsonl, \.parquet"),
        ([str(many)], many.name, {}, ValueError, "extension"),
        (["gone.png", "lost"], "out.csv", {}, FileNotFoundError, "gone.png, lost"),
        ([str(many)], "out.csv", {"threshold": "lax"}, ValueError, "has: dark"),
        ([str(many)], "out.csv", {"threshold": np.nan}, ValueError, "NaN"),
        ([str(many)], "out.csv", {"threshold": [0.1]}, TypeError, "one number.* list"),
        ([str(tmp_path / "*.bmp")], "out.csv", {}, FileNotFoundError, "no images"),
    ):
        with pytest.raises(error, match=message):
            export.score_to_file(model, paths, tmp_path / name, **arguments)
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "out.csv").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="never overwritten"):
        export.score_to_file(model, [str(many)], tmp_path / "out.csv")
    with pytest.raises(OSError, match=r"could not write .*in\.csv\.partial"):
        export.score_to_file(model, [str(many)], tmp_path / "out.csv" / "in.csv")


def test_a_full_disk_is_named_and_the_run_goes_on_after_it(many, tmp_path, monkeypatch):
    whole, output = tmp_path / "whole.csv", tmp_path / "out.csv"
    export.score_to_file(Brightness(), [str(many)], whole)
    stopped = Brightness()
    stopped.stops_after = 0
    with pytest.raises(KeyboardInterrupt):
        export.score_to_file(stopped, [str(many)], output)
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, "No space left on device")
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(full))
        with pytest.raises(OSError, match=r"rows: No space left .* goes on where"):
            export.score_to_file(Brightness(), [str(many)], output)
    export.score_to_file(Brightness(), [str(many)], output)
    assert output.read_bytes() == whole.read_bytes()


def test_a_folder_that_cannot_be_read_is_a_row(images, predictor):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (images / "inner.png").chmod(0)
    (images / "00.png").chmod(0)
    rows = {row["path"]: row for row in export.score(predictor, [str(images)])}
    for name in ("inner.png", "00.png"):
        assert rows[str(images / name)]["error"] == "Permission denied"


def test_a_socket_and_a_large_file_are_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "MAX_BYTES", 100)
    (tmp_path / "large.png").write_bytes(bytes(101))
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
        rows = list(export.score(Brightness(), ["."]))
    assert "more than the 100 bytes" in rows[0]["error"]
    assert rows[1]["error"] and not rows[1]["valid"]


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    def peak(num_images):
        pixels = np.zeros((num_images, 3, 2), np.uint8)
        path = tmp_path / f"{num_images}-idx3-ubyte"
        path.write_bytes(idx(pixels))
        del pixels
        tracemalloc.start()
        export.score_to_file(Brightness(), [str(path)], f"{path}.csv")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(300)
    assert peak(30000) < 1.3 * peak(3000)


def test_batches_end_at_bytes_and_at_another_kind():
    def stream(*contents):
        return [inputs.Item("a", None, content, None, (0, 0)) for content in contents]

    array = np.zeros(IMAGE_SHAPE, np.uint8)
    contents = [b"1", None, b"2", array, None, array, b"3", bytes(2**26), b"4", b"5"]
    sizes = [len(batch) for batch in inputs.group(stream(*contents), 2)]
    assert sizes == [2, 1, 2, 1, 1, 1, 2]
