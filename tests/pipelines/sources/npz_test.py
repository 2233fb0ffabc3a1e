import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.pipelines import DataNotFoundError
from ood_keras.pipelines.sources import idx

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (24, 5, 4), np.uint8)
LABELS = np.arange(24) % 2
KINDS = ("images", "labels")


def load(path, **arrays):
    if arrays:
        np.savez(path, **arrays)
    return pipelines.load(f"npz:{path}")


def test_train_and_test_arrays_as_in_keras(tmp_path):
    path = tmp_path / "data.npz"
    source = load(
        path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:5], y_test=LABELS[:5]
    )
    assert [len(source.split(role)) for role in source.roles] == [22, 2, 5]
    assert source.class_names == ("0", "1")
    np.testing.assert_array_equal(source.test.images[..., 0], IMAGES[:5])
    assert source.test.labels.tolist() == [0, 1, 0, 1, 0]
    chosen = pipelines.load(f"npz:{path}[1]")
    assert chosen.test.labels.tolist() == [0, 0]


def test_splits_of_several_shapes_are_refused(tmp_path):
    path = tmp_path / "set.npz"
    arrays = {"x_train": IMAGES, "y_train": LABELS}
    arrays |= {"x_test": IMAGES[:5, 1:], "y_test": LABELS[:5]}
    source = load(path, **arrays)
    assert source.train.image_shape == (5, 4, 1)
    with pytest.raises(ValueError, match=r"train \(5, 4, 1\), test \(4, 4, 1\)"):
        source.image_shape  # noqa: B018
    source = pipelines.load(f"npz:{path}", image_shape=(6, 6, 1))
    assert {source.split(role).image_shape for role in source.roles} == {(6, 6, 1)}


def test_classes_are_those_of_all_parts(tmp_path):
    labels = np.arange(24, dtype=np.uint8) % 10
    source = load(
        tmp_path / "data.npz",
        **{"x_train": IMAGES, "y_train": labels},
        **{"x_test": IMAGES[:5], "y_test": np.array([1, 3, 9, 7, 2])},
    )
    assert source.num_classes == 10
    assert source.test.labels.tolist() == [1, 3, 9, 7, 2]


def test_one_array_is_dealt_out_and_may_have_no_labels(tmp_path):
    colours = np.stack([IMAGES] * 3, axis=-1)
    source = load(tmp_path / "data.npz", images=colours)
    assert [len(source.split(role)) for role in source.roles] == [14, 5, 5]
    assert source.image_shape == (5, 4, 3)
    assert set(source.train.labels.tolist()) == {-1}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": IMAGES}, "expected `images`.*Received: pictures"),
        ({"images": IMAGES, "x_test": IMAGES}, "expected `images`"),
        ({"images": IMAGES / 255, "labels": LABELS}, "images must be uint8.*float64"),
        ({"images": IMAGES[0], "labels": LABELS}, r"axes.*shape \(5, 4\)"),
        ({"images": IMAGES, "labels": LABELS[:9]}, "24 images .* and 9 labels"),
        ({"images": IMAGES, "labels": LABELS - 2}, "-2 at index 0"),
        ({"images": IMAGES, "labels": LABELS * 1.0}, "integers.*float64"),
        ({"images": IMAGES, "labels": LABELS * 99}, "24 labels, so.* 99 at"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}, "x_test but no y_t"),
        (
            {"images": IMAGES, "labels": np.array([object()] * 24)},
            "Python objects, which are never loaded",
        ),
    ],
)
def test_wrong_arrays_are_explained(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        _ = load(tmp_path / "data.npz", **arrays).train


@pytest.mark.parametrize("image_shape", [None, (8, 8, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_that_come_first_are_named(tmp_path, channels, image_shape):
    first = np.stack([IMAGES] * channels, axis=1)
    np.savez(tmp_path / "data.npz", images=first, labels=LABELS)
    with pytest.raises(ValueError, match=r"come first; turn .*transpose\(0, 2, 3, 1\)"):
        _ = pipelines.load(
            f"npz:{tmp_path / 'data.npz'}", image_shape=image_shape
        ).train
    turned = load(tmp_path / "data.npz", images=first.transpose(0, 2, 3, 1))
    assert turned.image_shape == (5, 4, channels)


@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_may_be_transparency_are_named(tmp_path, channels):
    path = tmp_path / "data.npz"
    with pytest.warns(pipelines.DataWarning, match=f"{channels} channels.*background"):
        source = load(path, images=np.stack([IMAGES] * channels, axis=-1))
        assert source.image_shape == (5, 4, channels)


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c[: len(c) // 2],
        lambda c: b"junk",
        lambda c: b"",
        lambda c: c[:200] + bytes([c[200] ^ 255]) + c[201:],
    ],
)
def test_damaged_files_are_named(tmp_path, damage):
    path = tmp_path / "data.npz"
    np.savez(path, images=IMAGES)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"data.npz is a corrupt, truncated"):
        _ = load(path).train


def test_a_lying_header_is_refused_before_memory_is_reserved(tmp_path):
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (2**40, 28, 28)}
    np.lib.format.write_array_header_1_0(file, header)
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", file.getvalue() + bytes(1000))
    with pytest.raises(ValueError, match="another size than its header"):
        _ = load(path).train


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "MAX_BYTES", 10_000)
    path = tmp_path / "data.npz"
    np.savez_compressed(path, images=np.zeros((30, 28, 28), np.uint8))
    with pytest.raises(ValueError, match="too many"):
        _ = load(path).train


def test_a_missing_file_is_explained(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"no file .*nothing.npz"):
        load(tmp_path / "nothing.npz")


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
        ("X_train", "Y_train", "X_valid", "Y_valid", "X_test", "Y_test"),
        ("train_x", "train_y", "val_x", "val_y", "test_x", "test_y"),
        ("xtrain", "ytrain", "xval", "yval", "xtest", "ytest"),
        ("trainX", "trainY", "devX", "devY", "testX", "testY"),
        [f"{part}_{kind}" for part in ("train", "val", "test") for kind in KINDS],
        [f"{kind}_{part}" for part in ("training", "dev", "testing") for kind in KINDS],
    ],
)
def test_usual_names_of_arrays_are_understood(tmp_path, names):
    sizes = np.repeat((24, 6, 9), 2)
    arrays = {
        name: (LABELS if number % 2 else IMAGES)[:size]
        for number, (name, size) in enumerate(zip(names, sizes, strict=True))
    }
    source = load(tmp_path / "data.npz", **arrays)
    assert [len(source.split(role)) for role in source.roles] == [24, 6, 9]
    np.testing.assert_array_equal(source.validation.labels, LABELS[:6])


def test_labels_may_have_a_second_axis_of_one(tmp_path):
    source = load(tmp_path / "data.npz", images=IMAGES, labels=LABELS[:, None])
    assert np.bincount(source.train.labels).tolist() == [7, 7]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"x_holdout": IMAGES}, "x_holdout would be left out"),
        ({"extra": IMAGES}, "extra would be left out"),
        ({"val": IMAGES}, "val would be left out"),
        ({"arr_0": IMAGES}, "arr_0 would be left out"),
        ({"X_train": IMAGES}, "both X_train and x_train for the images of train"),
        ({"y_val": LABELS}, "has y_val, but no images of validation"),
        ({"x_val": IMAGES}, "has x_val but no y_val"),
        ({"images": IMAGES, "labels": LABELS}, "expected `images`"),
    ],
)
def test_nothing_that_may_be_data_is_left_out(tmp_path, extra, message):
    arrays = {"x_train": IMAGES, "y_train": LABELS, **extra}
    with pytest.raises(ValueError, match=rf"{message}.*Received: .*x_train"):
        load(tmp_path / "data.npz", **arrays)


def test_what_is_no_data_is_named(tmp_path):
    with pytest.warns(pipelines.DataWarning, match="mean, note in .* are not used"):
        source = load(
            tmp_path / "data.npz", images=IMAGES, mean=np.zeros(3), note=np.array("a")
        )
    assert len(source.train) == 14


def npy(array, **changes):
    """An array as an .npy file whose header may lie."""
    file = io.BytesIO()
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header | changes)
    return file.getvalue() + array.tobytes()


def raw_header(text):
    text = text.encode() + b"\n"
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("../images.npy", npy(IMAGES), "lies outside the folder"),
        ("/images.npy", npy(IMAGES), "lies outside the folder"),
        ("a/../../images.npy", npy(IMAGES), "lies outside the folder"),
        ("..\\images.npy", npy(IMAGES), "lies outside the folder|expected `images`"),
        ("images", npy(IMAGES), "corrupt, truncated or unreadable .npz"),
        ("images.npy", pickle.dumps([IMAGES]), "corrupt, truncated or unreadable .npz"),
        ("images.npy", npy(IMAGES, descr="|O"), "Python objects"),
        ("images.npy", npy(IMAGES, descr=[("a", "|u1")]), "no plain numbers"),
        ("images.npy", npy(IMAGES, descr=[("a", "|O")]), "Python objects"),
        ("images.npy", npy(IMAGES, shape=(-24, -5, 4)), "has the shape"),
        ("images.npy", npy(IMAGES, shape=(0, 2**62, 2**62)), "another size"),
        ("images.npy", npy(IMAGES[:0], shape=(0, 2**62, 2**62)), "corrupt|no images"),
        ("images.npy", npy(IMAGES, shape=(2**62, 5, 4)), "another size"),
        ("images.npy", npy(IMAGES, shape=(24, 5, 3)), "another size"),
        ("images.npy", raw_header("[" * 9000), "corrupt, truncated"),
        ("images.npy", raw_header("-" * 9000 + "1"), "corrupt, truncated"),
        ("images.npy", raw_header("{" + "'a':" * 2000), "corrupt, truncated"),
        ("images.npy", raw_header("x" * 60_000), "corrupt, truncated"),
        ("images.npy", b"", "corrupt, truncated"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_attacks_are_errors(tmp_path, name, content, message, method):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, content)
    with pytest.raises(ValueError, match=message):
        _ = load(path).train


@pytest.mark.parametrize("says", [0, 100, IMAGES.size + 1000, 2**31])
def test_a_member_that_lies_about_its_size(tmp_path, says):
    path = tmp_path / "data.npz"
    content = npy(IMAGES)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", content)
    size = struct.pack("<I", len(content))
    whole = path.read_bytes()
    assert whole.count(size) == 2
    path.write_bytes(whole.replace(size, struct.pack("<I", says)))
    with pytest.raises(ValueError, match=r"data.npz is a corrupt, truncated"):
        _ = load(path).train


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_unpacks_at_once_is_refused(tmp_path, method):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("images.npy", npy(IMAGES))
    with pytest.raises(ValueError, match="compressed by method"):
        load(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_for_two_arrays_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", npy(IMAGES))
        archive.writestr("images.npy", npy(IMAGES[::-1]))
    with pytest.raises(ValueError, match=r"holds 'images.npy' twice"):
        load(path)


def test_arrays_in_fortran_order_are_read(tmp_path):
    images = np.asfortranarray(IMAGES)
    source = load(tmp_path / "data.npz", x_test=images, y_test=LABELS)
    np.testing.assert_array_equal(source.test.images[..., 0], IMAGES)
