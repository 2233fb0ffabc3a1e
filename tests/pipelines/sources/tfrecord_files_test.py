"""TFRecord files of pictures, written by TensorFlow and read without it."""

import collections
import gzip
import struct
import threading
import zlib

import numpy as np
import pytest
import tensorflow as tf

from ood_keras import machine, pipelines, tfrecords
from ood_keras.pipelines import DataNotFoundError, audit
from ood_keras.pipelines.sources import records, tfrecord_files
from ood_keras.pipelines.sources.base import Request
from ood_keras.workflows import data_check, run_data

RANDOM = np.random.default_rng(0)
PACKS = {"": bytes, "GZIP": gzip.compress, "ZLIB": zlib.compress}


def example(**features):
    """A serialised Example; `__` in a name stands for `/`."""
    made = {}
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        if isinstance(values[0], (bytes, str)):
            values = [one.encode() if isinstance(one, str) else one for one in values]
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif isinstance(values[0], float):
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            feature = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        made[name.replace("__", "/")] = feature
    features = tf.train.Features(feature=made)
    return tf.train.Example(features=features).SerializeToString()


@pytest.fixture
def picture(png):
    """A function that makes a picture, the bytes of a PNG file."""
    return lambda: png(RANDOM.integers(0, 256, (6, 5, 3), np.uint8))


@pytest.fixture
def write(tmp_path):
    """A function that writes records into a file of the folder `data`."""

    def write(name, some, pack=""):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path), pack or None) as writer:
            for record in some:
                writer.write(record)
        return path

    return write


@pytest.fixture
def labelled(picture):
    """A function that makes records of classes, by any names of features."""

    def make(labels, image="image__encoded", label="image__class__label", **others):
        return [example(**{image: picture(), label: one, **others}) for one in labels]

    return make


def labels_of(source):
    return {
        role: [source.class_names[label] for label in source.split(role).labels]
        for role in source.roles
    }


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("image", ["image/encoded", "image"])
@pytest.mark.parametrize("label", ["image/class/label", "image/class/text", "label"])
def test_pictures_and_classes_are_those_that_were_written(
    write, picture, pack, image, label
):
    names = ["dog", "cat"] if label == "image/class/text" else [7, 3]
    contents = [picture() for _ in range(40)]
    for part, some in (("train", contents[:30]), ("test", contents[30:])):
        rows = [
            example(**{image: content, label: names[row % 2], "image/height": 6})
            for row, content in enumerate(some)
        ]
        path = write(f"pets-{part}.tfrecord-00000-of-00001", rows, pack)
    source = pipelines.load(f"tfrecord:{path.parent}")
    classes = ("cat", "dog") if label == "image/class/text" else ("3", "7")
    assert source.class_names == classes
    assert [len(source.split(role)) for role in source.roles] == [28, 2, 10]
    expected = [tf.io.decode_png(content).numpy() for content in contents[30:]]
    np.testing.assert_array_equal(source.test.images, expected)
    assert source.test.labels.tolist() == [1, 0] * 5
    assert source.test.files[1] == "pets-test.tfrecord-00000-of-00001[1]"


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (["train-00000-of-00002", "train-00001-of-00002", "validation", "test-0"], 3),
        (["Training.tfrecord", "val.tfrecord", "testing.tfrecord"], 3),
        (["trainset.tfrec", "devset.tfrec", "test2017.tfrec"], 3),
        (["train/a", "train/b", "valid/a", "test/a"], 3),
        (["a-00000-of-00002", "a-00001-of-00002"], 0),
        (["trains", "attest", "valley"], 0),
    ],
)
def test_files_are_for_the_split_that_their_names_say(write, labelled, names, sizes):
    for number, name in enumerate(names):
        path = write(name, labelled([number] * 4 + [9] * 4))
    folder = path.parents[len(name.split("/")) - 1]
    source = pipelines.load(f"tfrecord:{folder}")
    assert source.roles == ("train", "validation", "test")
    assert source.is_dealt_out == (not sizes)
    if sizes:
        assert set(labels_of(source)["validation"]) == {str(len(names) - 2), "9"}
        assert set(labels_of(source)["test"]) == {str(len(names) - 1), "9"}


def test_a_file_and_a_pattern_may_be_given(write, labelled, tmp_path, monkeypatch):
    for part in ("train", "test"):
        for number in range(2):
            write(f"{part}-0000{number}-of-00002", labelled([1, 2] * 12))
    folder = tmp_path / "data"
    source = pipelines.load(f"tfrecord:{folder}/test-*")
    assert source.roles == ("test",) and len(source.test) == 48
    one = pipelines.load(f"tfrecord:{folder}/test-00001-of-00002")
    np.testing.assert_array_equal(one.test.images, source.test.images[24:])
    chosen = pipelines.load(f"tfrecord:{folder}/test-*[2]")
    assert chosen.class_names == ("2",) and len(chosen.test) == 24
    monkeypatch.chdir(tmp_path)
    assert len(pipelines.load("tfrecord:data/*").test) == 48
    assert pipelines.load("tfrecord:*/train-*").roles == ("train", "validation")
    (folder / "train-00000-of-00002").rename(tmp_path / "pets.tfrecord")
    with pytest.raises(ValueError, match=r"Did you mean tfrecord:pets\.tfrecord\?"):
        pipelines.load("pets.tfrecord")
    with pytest.raises(DataNotFoundError, match=r"write tfrecord:pets\.tfrecord"):
        pipelines.load("folder:pets.tfrecord")
    (tmp_path / "pets.tfrecord").rename(folder / "plain")
    with pytest.raises(ValueError, match=r"test-00000.*and others, for example plain"):
        pipelines.load("tfrecord:data")


@pytest.mark.parametrize("name", ["train-test-0", "eval-00000-of-00001", "holdout"])
def test_a_split_in_doubt_is_an_error(write, labelled, name):
    path = write(name, labelled([1, 2]))
    with pytest.raises(ValueError, match=r"seems to be for .*Name files after one of"):
        pipelines.load(f"tfrecord:{path}")


def test_no_classes_are_unknown_pictures(write, picture):
    about = {"image__height": 6, "image__format": "PNG", "image__filename": "1.png"}
    path = write("a.tfrecord", [example(image=picture(), **about) for _ in range(10)])
    source = pipelines.load(f"tfrecord:{path}")
    assert source.class_names == () and source.test.labels.tolist() == [-1, -1]
    path = write("b.tfrecord", [example(image=picture(), label=-1) for _ in range(10)])
    assert pipelines.load(f"tfrecord:{path}").class_names == ()


@pytest.mark.parametrize(
    ("features", "forms", "message"),
    [
        (
            {"jpeg": b"1", "label": 1},
            "",
            r"in 'image/encoded' or 'image'.*jpeg \(bytes\)",
        ),
        ({"jpeg": b"1", "label": 1}, "", r"tfrecord:PATH@image=NAME"),
        ({"image": [1.0, 2.0], "label": 1}, "", r"'image', which holds float.*@image="),
        ({"image": [1, 2], "label": 1}, "", r"'image', which holds int64"),
        ({"image": b"1", "species": 1}, "", r"species \(int64\)"),
        ({"image": b"1", "species": 1}, "", r"@label=NAME; @label=none if the"),
        ({"image": b"1", "label": 1, "image/class/text": b"a"}, "", r"text and label"),
        ({"image": b"1", "label": 1}, "@image=photo", r"a picture in 'photo'"),
        ({"image": b"1", "label": 1}, "@label=photo", r"a class in 'photo', int64 or"),
        (
            {"image": b"1", "label": 1.5},
            "@label=label",
            r"a class in 'label', int64 or",
        ),
        ({"image": b"1", "label": 1}, "@label=a@label=b", r"name each form once"),
        ({"image": b"1", "label": 1}, "@lable=a", r"no TFRecord files at"),
    ],
)
def test_doubt_is_an_error_that_lists_the_features(write, features, forms, message):
    path = write("a.tfrecord", [example(**features)])
    with pytest.raises(
        ValueError if "no TF" not in message else OSError, match=message
    ):
        pipelines.load(f"tfrecord:{path}{forms}")


def test_features_are_named_behind_the_path(write, picture):
    rows = [
        example(jpeg=picture(), species=n % 3, label=n % 2, image=b"1")
        for n in range(30)
    ]
    spec = f"tfrecord:{write('a.tfrecord', rows)}@image=jpeg@label=species"
    source = pipelines.load(spec)
    assert source.name == spec and source.class_names == ("0", "1", "2")
    negative = pipelines.load(f"{spec}@negative[1-2]")
    assert negative.num_classes == 2
    expected = 255 - source.select([1, 2]).test.images
    np.testing.assert_array_equal(negative.test.images, expected)
    unknown = pipelines.load(spec.replace("species", "none"))
    assert unknown.class_names == () and len(unknown.whole_test()) == 30
    assert [*pipelines.forms(spec)][:2] == ["image=", "label="]
    assert run_data.find_seen([spec], ["digits", spec.partition("@")[0]]) == [spec]


def test_records_in_general_forms_are_checked_as_they_lie_there(write, picture):
    rows = [example(jpeg=picture(), label=n % 2) for n in range(20)]
    path = write("a.tfrecord", rows)
    for spec in (f"{path}@image=jpeg@negative", f"{path}@transposed@image=jpeg[1]"):
        spec = f"tfrecord:{spec}"
        expected = pipelines.load(spec).class_names
        assert data_check.check_data(spec, []) == {}
        (source,) = audit.gather([spec]).sources
        assert (source.spec, source.class_names) == (spec, expected)


def test_a_pattern_is_seen_where_one_of_its_files_was(write, labelled, tmp_path):
    for name in ("train-0", "train-1", "test-0"):
        write(name, labelled([1, 2]))
    shown = [f"tfrecord:{tmp_path}/data/train-*"]
    for name, seen in (("train-1", 1), ("test-0", 0), ("*", 1), ("none-*", 0)):
        spec = f"tfrecord:{tmp_path}/data/{name}"
        assert len(run_data.find_seen([spec], shown)) == seen, name
    assert run_data.find_seen([f"tfrecord:{tmp_path}/data"], shown)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", "0:hen\n2:cat\n7:dog\n"),
        ("labels.txt", "hen\n\ncat\n4\n5\n6\n\ndog\n\n"),
        ("image-class-label.labels.txt", "hen\nx\ncat\ny\nz\nu\nv\ndog\n"),
    ],
)
def test_names_of_numbers_lie_beside_the_files(write, labelled, name, text):
    path = write("a.tfrecord", labelled([7, 2] * 10))
    (path.parent / name).write_text(text)
    source = pipelines.load(f"tfrecord:{path}")
    assert source.class_names == ("cat", "dog")
    assert labels_of(source)["test"] == ["dog", "cat", "dog", "cat"]
    write("a.tfrecord", labelled([7, 2, 6, 1]))
    if name == "labels.txt":
        with pytest.raises(ValueError, match=r"class 1, which .*labels.txt does not"):
            _ = pipelines.load(f"tfrecord:{path}").train


def test_names_within_records_go_before_those_of_a_file(write, picture):
    rows = [
        example(
            image__encoded=picture(),
            image__class__label=5 - number % 2,
            image__class__text=["tench, Tinca tinca", "hen"][number % 2],
        )
        for number in range(10)
    ]
    path = write("a.tfrecord", rows)
    (path.parent / "labels.txt").write_text("wrong\n")
    source = pipelines.load(f"tfrecord:{path}")
    assert source.class_names == ("hen", "tench, Tinca tinca")
    alike = [
        example(
            image__encoded=picture(), image__class__label=n, image__class__text="crane"
        )
        for n in (134, 517)
    ]
    both = pipelines.load(f"tfrecord:{write('b', [*rows, *alike])}")
    assert both.class_names[2:] == ("crane (134)", "crane (517)")
    rows[7] = example(
        image__encoded=picture(), image__class__label=4, image__class__text="cow"
    )
    with pytest.raises(ValueError, match=r"a\[7\] has the name 'cow' for class 4"):
        _ = pipelines.load(f"tfrecord:{write('a', rows)}").train


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["__unknown__", "cat"], "rejected images are called"),
        (["Cat", "cat"], "'Cat' and 'cat', which differ in case"),
    ],
)
def test_classes_that_cannot_be(write, labelled, labels, message):
    path = write("a.tfrecord", labelled(labels, label="label"))
    with pytest.raises(ValueError, match=message):
        pipelines.load(f"tfrecord:{path}")


@pytest.mark.parametrize("pack", PACKS)
def test_bad_records_are_named_together_and_may_be_left_out(
    write, picture, labelled, pack
):
    good = labelled([1, 2] * 10)
    bad = {
        3: b"no Example",
        5: example(image__encoded=b"no picture", image__class__label=1),
        6: example(image__class__label=1),
        8: example(image__encoded=picture()),
        9: example(image__encoded=picture(), image__class__label="one"),
        11: example(image__encoded=picture(), image__class__label=[1, 2]),
        12: example(image__encoded=[picture(), picture()], image__class__label=1),
        14: example(image__encoded=picture(), image__class__label=-2),
    }
    rows = [bad.get(number, record) for number, record in enumerate(good)]
    path = write("a.tfrecord", rows, pack)
    # A flipped bit of a picture, which its checksum tells.
    content = bytearray(b"".join(map(framed, rows)))
    place = sum(len(framed(row)) for row in rows[:17])
    content[place + len(rows[17]) // 2] ^= 4
    path.write_bytes(PACKS[pack](bytes(content)))
    spec = f"tfrecord:{path}"
    with pytest.raises(ValueError, match="9 pictures cannot be read") as error:
        _ = pipelines.load(spec).train
    for part in (
        "[3] the record is no tf.train.Example",
        "[5] is no readable picture",
        "[6] has no picture in its feature 'image/encoded'",
        "[8] has no class in its feature 'image/class/label'",
        "[9] has the class 'one', where others have 1",
        "[11] has no class in its feature",
        "[12] has no picture in its feature",
        "[14] has the class -2",
        "[17] is damaged: its checksum is wrong",
    ):
        assert f"{path}{part}" in str(error.value)
    found = audit.gather([spec])
    left_out = audit.leave_out.choose(found)[spec]
    assert left_out.keys() == {f"a.tfrecord[{number}]" for number in (*bad, 17)}
    source = pipelines.load(spec, leave_out=left_out)
    assert sum(len(source.split(role)) for role in source.roles) == 11
    assert source.class_names == ("1", "2")


def framed(record):
    """A record as the format has it."""

    def checksum(content):
        value = tfrecords.crc32c(content)
        return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) % 2**32)

    length = struct.pack("<Q", len(record))
    return length + checksum(length) + record + checksum(record)


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("damage", ["truncated", "length"])
def test_a_file_that_is_damaged_is_named_with_the_place(write, labelled, pack, damage):
    rows = labelled([1, 2] * 10)
    write("a", rows, pack)
    path = write("b", rows, pack)
    content = bytearray(b"".join(map(framed, rows)))
    place = sum(len(framed(row)) for row in rows[:12])
    if damage == "length":
        content[place + 1] ^= 1
        path.write_bytes(PACKS[pack](bytes(content)))
    elif pack:
        path.write_bytes(path.read_bytes()[:-40])
    else:
        path.write_bytes(content[: place + 30])
    with pytest.raises(ValueError, match=r"b\[\d+\] is where the file is damaged"):
        _ = pipelines.load(f"tfrecord:{path.parent}").train
    spec = f"tfrecord:{path.parent}"
    left_out = audit.leave_out.choose(audit.gather([spec], decode=False))[spec]
    (name,) = left_out
    source = pipelines.load(spec, leave_out=left_out)
    number = int(name[2:-1])
    assert number == 12 or (pack and damage == "truncated" and number > 12)
    assert sum(len(source.split(role)) for role in source.roles) == 20 + number


@pytest.mark.parametrize(
    "content",
    [b"no records", b"", bytes(100), gzip.compress(b"no records", mtime=0)],
    ids=["text", "empty", "zeros", "packed"],
)
def test_files_without_any_record(tmp_path, content):
    (tmp_path / "a.tfrecord").write_bytes(content)
    (tmp_path / "notes.txt").write_text("no records")
    with pytest.raises((ValueError, DataNotFoundError), match=r"record"):
        pipelines.load(f"tfrecord:{tmp_path}")
    (tmp_path / "a.tfrecord").rename(tmp_path / "a")
    with pytest.raises(DataNotFoundError, match=r"1 \.txt \(no TFRecords\)"):
        pipelines.load(f"tfrecord:{tmp_path}")
    with pytest.raises(DataNotFoundError, match=r"a pattern as in tfrecord:data/train"):
        pipelines.load(f"tfrecord:{tmp_path}/nowhere*")


def test_no_record_is_an_example(write):
    path = write("a.tfrecord", [b"one", b"two"])
    with pytest.raises(ValueError, match=r"none is. The first: a\.tfrecord\[0\]"):
        pipelines.load(f"tfrecord:{path}")


def test_a_class_behind_records_without_one_is_an_error(write, picture):
    rows = [example(image=picture()), example(image=picture(), label=1)]
    path = write("a.tfrecord", rows)
    with pytest.raises(ValueError, match=r"a\.tfrecord\[1\] has a class, in 'label'"):
        pipelines.load(f"tfrecord:{path}")
    assert pipelines.load(f"tfrecord:{path}@label=none").class_names == ()


def test_files_of_tensorflow_datasets_are_understood(write, labelled, tmp_path):
    for part in ("train", "test"):
        write(
            f"pets-{part}.tfrecord-00000-of-00001",
            labelled([0, 1] * 6, "image", "label"),
        )
    (tmp_path / "data" / "label.labels.txt").write_text("cat\ndog\n")
    for name in ("dataset_info.json", "features.json"):
        (tmp_path / "data" / name).write_text("{}")
    assert pipelines.load(f"tfrecord:{tmp_path}/data").class_names == ("cat", "dog")
    (tmp_path / "data" / "readme.md").write_text("notes")
    with pytest.warns(pipelines.DataWarning, match=r"1 files \(1 \.md \(no TFRecords"):
        pipelines.load(f"tfrecord:{tmp_path}/data")


@pytest.mark.parametrize("pack", PACKS)
def test_records_are_read_by_threads_in_any_order(write, labelled, pack, monkeypatch):
    monkeypatch.setattr(records, "_KEPT_BYTES", 1000)
    monkeypatch.setattr(records, "_OPEN_FILES", 2)
    paths = [write(f"{name}.tfrecord", labelled([1, 2] * 5), pack) for name in "abcd"]
    request = Request("tfrecord:data", str(paths[0].parent))
    found = tfrecord_files.list_records(request)
    files = [file for file, _ in found.pictures["all"]]
    expected = [
        tfrecords.image_in(record.numpy())
        for record in tf.data.TFRecordDataset(list(map(str, paths)), pack)
    ]
    wrong = []

    def read(seed):
        for index in np.random.default_rng(seed).permutation(len(files))[:20]:
            if files[index].read_bytes() != expected[index]:
                wrong.append(index)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_packed_files_are_unpacked_once_and_not_all_kept(write, labelled, monkeypatch):
    for name in "abcdefgh":
        write(f"{name}.tfrecord", labelled([1, 2] * 20), "GZIP")
    path = write("i.tfrecord", labelled([1, 2] * 20), "ZLIB").parent
    monkeypatch.setattr(records, "_KEPT_BYTES", 5000)
    walk, walks = records.Shard.walk, collections.Counter()

    def counted(shard, place=0):
        walks[shard.name] += 1
        return walk(shard, place)

    monkeypatch.setattr(records.Shard, "walk", counted)
    monkeypatch.setattr(machine, "num_cores", lambda: 4)
    made, init = [], records.Unpacked.__init__
    monkeypatch.setattr(
        records.Unpacked, "__init__", lambda self: (made.append(self), init(self))[1]
    )
    source = pipelines.load(f"tfrecord:{path}")
    assert len(source.train) == 216
    (unpacked,) = made
    assert sum(map(len, unpacked._kept.values())) <= 5000
    assert len(unpacked._open) <= records._OPEN_FILES
    # Once, but for the look at the shape of the first.
    assert len(walks) == 9 and sum(walks.values()) <= 12


def test_copies_and_names_of_files_keep_records_together(write, picture):
    contents = [picture() for _ in range(12)]
    rows = [
        example(
            image__encoded=contents[number % 12],
            image__class__text=["cat", "dog"][number % 2],
            image__filename=f"cat/patient{number % 6}_{number}.png",
        )
        for number in range(36)
    ]
    spec = f"tfrecord:{write('a.tfrecord', rows)}"
    for group_by, together in ((r"patient(\d+)_", 6), ("copies", 12)):
        source = pipelines.load(spec, group_by=group_by)
        places = {}
        for role in source.roles:
            for name in source.split(role).files:
                number = int(name.split("[")[1][:-1])
                places.setdefault(number % together, set()).add(role)
        assert len(places) == together and all(len(one) == 1 for one in places.values())


def test_large_ones_are_read_from_the_pixel_cache(
    write, labelled, tmp_path, monkeypatch
):
    path = write("a.tfrecord", labelled([1, 2] * 20), "GZIP")
    expected = pipelines.load(f"tfrecord:{path}", image_shape=(4, 4, 3))
    monkeypatch.setenv("OOD_KERAS_MEMORY_GB", "0")
    monkeypatch.setenv("OOD_KERAS_CACHE_DIR", str(tmp_path / "cache"))
    source = pipelines.load(f"tfrecord:{path}", image_shape=(4, 4, 3))
    assert isinstance(source.train.images, pipelines.StoredImages)
    assert source.train.fingerprint() == expected.train.fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(records.Shard, "read", None)
        again = pipelines.load(f"tfrecord:{path}", image_shape=(4, 4, 3))
        assert again.test.fingerprint() == expected.test.fingerprint()
    write("a.tfrecord", labelled([1, 2] * 20), "GZIP")
    changed = pipelines.load(f"tfrecord:{path}", image_shape=(4, 4, 3))
    assert changed.test.fingerprint() != expected.test.fingerprint()
