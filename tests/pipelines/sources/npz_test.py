import io
import zipfile

import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.pipelines import DataNotFoundError
from ood_keras.pipelines.sources import idx

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (24, 5, 4), np.uint8)
LABELS = np.arange(24) % 2


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
