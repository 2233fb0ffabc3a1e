import gzip
import struct
import zlib

import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.pipelines import DataNotFoundError
from ood_keras.pipelines.sources import idx, idx_sets, tfds

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (60, 5, 4), np.uint8)
LABELS = np.arange(60) % 3


@pytest.mark.parametrize("compress", [True, False])
def test_a_folder_of_idx_files_is_read_and_carved(tmp_path, write_idx, compress):
    write_idx(tmp_path, "train", IMAGES, LABELS, compress)
    write_idx(tmp_path, "t10k", IMAGES[:9], LABELS[:9], compress)
    source = pipelines.load(f"idx:{tmp_path}")
    assert source.class_names == ("0", "1", "2")
    assert source.image_shape == (5, 4, 1)
    assert [len(source.split(role)) for role in source.roles] == [55, 5, 9]
    np.testing.assert_array_equal(source.test.images[..., 0], IMAGES[:9])
    np.testing.assert_array_equal(source.test.labels, LABELS[:9])
    both = np.concatenate([source.train.images, source.validation.images])[..., 0]
    assert sorted(map(bytes, both)) == sorted(map(bytes, IMAGES))
    for split in (source.train, source.validation):
        rows = [
            np.flatnonzero((image[..., 0] == IMAGES).all((1, 2))).item()
            for image in split.images
        ]
        np.testing.assert_array_equal(split.labels, LABELS[rows])


def test_colour_images_have_a_fourth_axis(tmp_path, write_idx):
    images = RANDOM.integers(0, 256, (9, 5, 4, 3), np.uint8)
    folder = write_idx(tmp_path, "t10k", images, np.zeros(9))
    (folder / "t10k-images-idx3-ubyte.gz").rename(folder / "t10k-images-idx4-ubyte.gz")
    np.testing.assert_array_equal(pipelines.load(f"idx:{folder}").test.images, images)


def test_only_a_test_part_explains_that_there_is_no_training_part(tmp_path, write_idx):
    write_idx(tmp_path / "kmnist", "t10k", IMAGES, LABELS)
    source = pipelines.load("kmnist", data_dir=tmp_path)
    assert source.roles == ("test",)
    for role in ("train", "validation"):
        with pytest.raises(ValueError, match=f"kmnist has no {role} split.*only test"):
            getattr(source, role)


def test_named_sets_know_their_classes_and_first_label(tmp_path, write_idx):
    write_idx(tmp_path / "emnist_letters", "t10k", IMAGES, LABELS + 24)
    (tmp_path / "emnist_letters" / "orientation.txt").write_text("upright")
    letters = pipelines.load("emnist/letters", data_dir=tmp_path).test
    assert set(letters.labels.tolist()) == {23, 24, 25}
    assert letters.class_names[25] == "Z"
    write_idx(tmp_path / "mnist", "t10k", IMAGES, LABELS)
    assert pipelines.load("mnist", data_dir=tmp_path).test.num_classes == 10


def test_a_choice_of_classes_keeps_the_splits(tmp_path, write_idx):
    write_idx(tmp_path / "mnist", "train", IMAGES, LABELS)
    whole = pipelines.load("mnist", data_dir=tmp_path)
    for spec, classes in (
        ("mnist[1-2]", [1, 2]),
        ("mnist[2,0]", [2, 0]),
        ("mnist[0-1,2]", [0, 1, 2]),
    ):
        chosen = pipelines.load(spec, data_dir=tmp_path)
        assert chosen.class_names == tuple(map(str, classes))
        for role in ("train", "validation"):
            split = chosen.split(role)
            assert (split.source, split.role) == (spec, role)
            expected = whole.split(role).select(classes)
            assert split.fingerprint() == expected.fingerprint()
            assert split.class_identities == expected.class_identities


def test_debian_has_fashion_mnist_elsewhere(tmp_path, write_idx, monkeypatch):
    monkeypatch.setattr(idx_sets, "_SYSTEM_DATA", tmp_path / "share")
    write_idx(tmp_path / "share" / "fashion-mnist", "t10k", IMAGES, LABELS)
    assert len(pipelines.load("fashion_mnist").test) == 60
    # What the user points to comes first.
    write_idx(tmp_path / "mine" / "fashion_mnist", "t10k", IMAGES[:5], LABELS[:5])
    mine = pipelines.load("fashion_mnist", data_dir=tmp_path / "mine")
    assert len(mine.test) == 5


def test_what_keras_has_fetched_is_read(tmp_path, write_idx, monkeypatch):
    monkeypatch.setattr(idx_sets, "_SYSTEM_DATA", tmp_path / "share")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    kept = tmp_path / "keras" / "datasets"
    for part in ("train", "t10k"):
        write_idx(kept / "fashion-mnist", part, IMAGES, LABELS)
        write_idx(tmp_path / "mine" / "mnist", part, IMAGES, LABELS)
    clothes = pipelines.load("fashion_mnist")
    assert clothes.class_names[9] == "Ankle boot"
    mine = pipelines.load("mnist", data_dir=tmp_path / "mine")
    # Other images, so that it is seen which ones are read.
    images = {"x_train": IMAGES, "x_test": 255 - IMAGES}
    labels = {"y_train": LABELS, "y_test": LABELS}
    np.savez(kept / "mnist.npz", **images, **labels)
    digits = pipelines.load("mnist", data_dir=tmp_path / "nothing")
    assert digits.class_names == mine.class_names
    assert digits.train.class_identities == mine.train.class_identities
    assert digits.train.fingerprint() == mine.train.fingerprint()
    assert digits.test.fingerprint() != mine.test.fingerprint()
    # What the user points to comes first.
    again = pipelines.load("mnist", data_dir=tmp_path / "mine")
    assert again.test.fingerprint() == mine.test.fingerprint()
    np.savez(kept / "mnist.npz", x_train=IMAGES, y_train=LABELS + 8)
    with pytest.raises(ValueError, match=r"mnist\.npz: y_train"):
        _ = pipelines.load("mnist").train


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "*t10k*"])
def test_what_keras_was_interrupted_in_is_not_read(
    name, tmp_path, write_idx, monkeypatch
):
    monkeypatch.setattr(idx_sets, "_SYSTEM_DATA", tmp_path / "share")
    monkeypatch.setattr(tfds, "_problem_with", lambda url: "none")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    kept = tmp_path / "datasets" / "fashion-mnist"
    for part in ("train", "t10k"):
        write_idx(kept, part, IMAGES, LABELS)
    for path in kept.glob(name):
        path.unlink()
    with pytest.raises(DataNotFoundError, match=rf"keras\.datasets keeps, {kept}"):
        pipelines.load("fashion_mnist", data_dir=tmp_path / "nothing")


def corrupt_gzip(content):
    return content[:60] + bytes([content[60] ^ 255]) + content[61:]


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("images-idx3-ubyte.gz", corrupt_gzip, "corrupt or truncated gzip"),
        ("images-idx3-ubyte.gz", lambda c: c[: len(c) // 2], "truncated gzip"),
        ("images-idx3-ubyte.gz", lambda c: c[:-4], "truncated gzip"),
        ("images-idx3-ubyte.gz", lambda c: b"", "no IDX file.*an empty file"),
        ("images-idx3-ubyte.gz", lambda c: b"<html>not found", "corrupt .* gzip"),
        ("labels-idx1-ubyte.gz", lambda c: c[:12], "truncated gzip"),
    ],
)
def test_damaged_gzip_files_are_named(tmp_path, write_idx, name, damage, message):
    write_idx(tmp_path / "mnist", "t10k", IMAGES, LABELS)
    path = tmp_path / "mnist" / f"t10k-{name}"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        _ = pipelines.load("mnist", data_dir=tmp_path).test
    assert str(path) in str(error.value)


def header(*sizes, kind=8):
    return bytes([0, 0, kind, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(2, 3, 4) + bytes(23), "truncated: expected 24 .*Received: 23"),
        (header(2, 3, 4) + bytes(25), "longer than its header"),
        (header(2, 3, 4)[:9], "truncated within its header"),
        (header(2, 3, 4, kind=13) + bytes(96), "expected it to start with 00 00 08"),
        (b"\x89PNG\r\n", "start with 00 00 08.*Received: 89 50 4e 47"),
        (header(2**31, 2**16, 2**16), "says that it holds"),
        (header(2**16, 2**8, 2**7) + bytes(99), "truncated: expected 2147483648"),
        (header(5) + bytes(5), "images need 3 axes.*file of labels"),
    ],
)
def test_wrong_idx_content_is_explained(tmp_path, content, message):
    for name, pack in (("images", bytes), ("images.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(content))
        with pytest.raises(ValueError, match=message):
            idx.read_images(tmp_path / name)


@pytest.mark.parametrize(
    "stem",
    [
        *("train-{}-ubyte", "train-{}-ubyte.gz", "train-{}-ubyte.z", "Train-{}.bin"),
        *("training.{}-ubyte", "train_{}-ubyte", "fashion-train-{}-ubyte.gz"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zlib.compress])
def test_files_are_told_by_their_bytes_and_parts_by_their_names(tmp_path, stem, pack):
    for kind, array in (("images{}idx3", IMAGES), ("labels{}idx1", LABELS)):
        for separator in "-.":
            folder = tmp_path / {"-": "hyphen", ".": "dot"}[separator]
            folder.mkdir(exist_ok=True)
            name = stem.format(kind.format(separator))
            content = header(*array.shape) + array.astype(np.uint8).tobytes()
            (folder / name).write_bytes(pack(content))
    for folder in ("hyphen", "dot"):
        source = pipelines.load(f"idx:{tmp_path / folder}")
        assert [len(source.split(role)) for role in source.roles] == [55, 5]


def test_a_validation_part_is_used(tmp_path, write_idx):
    write_idx(tmp_path, "train", IMAGES, LABELS)
    write_idx(tmp_path, "val", IMAGES[:7], LABELS[:7])
    write_idx(tmp_path, "test", IMAGES[:9], LABELS[:9])
    source = pipelines.load(f"idx:{tmp_path}")
    assert [len(source.split(role)) for role in source.roles] == [60, 7, 9]
    write_idx(tmp_path, "t10k", IMAGES[:9], LABELS[:9])
    with pytest.raises(ValueError, match="test under several names: t10k and test"):
        pipelines.load(f"idx:{tmp_path}")


def test_files_of_several_data_sets_are_not_mixed(tmp_path, write_idx):
    write_idx(tmp_path, "one-train", IMAGES, LABELS)
    write_idx(tmp_path, "two-train", IMAGES[:30], LABELS[:30])
    with pytest.raises(ValueError, match="several data sets: one, two"):
        pipelines.load(f"idx:{tmp_path}")
    write_idx(tmp_path, "t10k", IMAGES[:9], LABELS[:9])
    with pytest.warns(pipelines.DataWarning, match="those of one, two are left out"):
        source = pipelines.load(f"idx:{tmp_path}")
    assert source.roles == ("test",)


def test_images_in_place_of_labels_are_explained(tmp_path):
    (tmp_path / "labels").write_bytes(header(2, 1, 1) + bytes(2))
    with pytest.raises(ValueError, match=r"1 axis.*file of images"):
        idx.read_labels(tmp_path / "labels")


def test_more_images_than_labels(tmp_path, write_idx):
    write_idx(tmp_path / "mnist", "t10k", IMAGES, LABELS[:50])
    with pytest.raises(ValueError, match=r"60 images in .* and 50 labels in"):
        _ = pipelines.load("mnist", data_dir=tmp_path).test


def test_a_part_without_images(tmp_path, write_idx):
    write_idx(tmp_path, "train", IMAGES[:0], LABELS[:0])
    with pytest.raises(ValueError, match="train and validation has no images"):
        _ = pipelines.load(f"idx:{tmp_path}").train


def test_labels_out_of_range(tmp_path, write_idx):
    write_idx(tmp_path / "mnist", "t10k", IMAGES, LABELS * 6)
    with pytest.raises(ValueError, match=r"must be 0 to 9.*20 labels.* 12 at index 2"):
        _ = pipelines.load("mnist", data_dir=tmp_path).test
    write_idx(tmp_path / "emnist_letters", "t10k", IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"must be 1 to 26.* 0 at index 0"):
        _ = pipelines.load("emnist/letters", data_dir=tmp_path).test


def test_missing_files_and_folders(tmp_path, write_idx):
    with pytest.raises(DataNotFoundError, match=r"no folder .*nowhere"):
        pipelines.load(f"idx:{tmp_path / 'nowhere'}")
    with pytest.raises(DataNotFoundError, match=r"no IDX files.*train-images"):
        pipelines.load(f"idx:{tmp_path}")
    write_idx(tmp_path, "train", IMAGES, LABELS)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataNotFoundError, match="but no train-labels-idx1"):
        pipelines.load(f"idx:{tmp_path}")
