"""Images of every container that Keras takes become the same split."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ood_keras import pipelines

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 5, 6, 3), np.uint8)
LABELS = np.array([0, 1, 2, -1] * 3)
FLOATS = (IMAGES / np.float32(255)).astype(np.float32)


class Batches(keras.utils.PyDataset):
    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels = images, labels

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return self.images[rows], self.labels[rows]


def pairs_of(split):
    """Its images with their labels, whatever their order."""
    return sorted(
        (image.tobytes(), int(label))
        for image, label in zip(split.images, split.labels, strict=True)
    )


EXPECTED = sorted(
    (image.tobytes(), int(x)) for image, x in zip(IMAGES, LABELS, strict=True)
)
FLAT = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
CONTAINERS = {
    "bytes": (IMAGES, LABELS),
    "floats": (FLOATS, LABELS[:, None]),
    "floats to 255": (IMAGES.astype(np.float32), LABELS.astype(np.float32)),
    "float64": (FLOATS.astype(np.float64), LABELS),
    "int64": (IMAGES.astype(np.int64), LABELS),
    "dataset": FLAT.batch(5),
    "dataset of single images": FLAT,
    "dataset of unknown size": FLAT.filter(lambda image, label: True).batch(5),
    "shuffled": FLAT.shuffle(12).batch(5),
    "float dataset": tf.data.Dataset.from_tensor_slices((FLOATS, LABELS)).batch(4),
    "PyDataset": Batches(IMAGES, LABELS),
    "shuffled PyDataset": Batches(IMAGES[::-1], LABELS[::-1]),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_container_gives_the_same_images_and_labels(kind):
    split = pipelines.as_split(CONTAINERS[kind], "mine")
    assert pairs_of(split) == EXPECTED
    assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
    assert (split.source, split.class_names) == ("mine", ("0", "1", "2"))
    assert pipelines.as_split(split, "other") is split


def test_the_order_of_a_dataset_decides_nothing():
    fingerprints = {
        pipelines.as_split(CONTAINERS[kind], "mine").fingerprint()
        for kind in CONTAINERS
        if "ataset" in kind or kind == "shuffled"
    }
    assert len(fingerprints) == 1
    # Arrays have an order of their own.
    np.testing.assert_array_equal(
        pipelines.as_split((IMAGES, LABELS), "mine").images, IMAGES
    )


@pytest.mark.parametrize(
    "data", [IMAGES, (IMAGES,), tf.data.Dataset.from_tensor_slices(IMAGES)]
)
def test_images_without_labels_are_unknown(data):
    split = pipelines.as_split(data, "mine")
    assert len(split) == 12 and set(split.labels) == {-1}
    assert split.class_names == ()


def test_a_folder_as_keras_reads_it(tmp_path):
    for row, name in enumerate(["cat", "dog"] * 3):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(IMAGES[row]).save(tmp_path / name / f"{row}.png")
    data = keras.utils.image_dataset_from_directory(
        tmp_path, image_size=(5, 6), batch_size=4, verbose=False
    )
    split = pipelines.as_split(data, "mine")
    assert split.class_names == ("cat", "dog")
    assert pairs_of(split) == sorted(
        (image.tobytes(), row % 2) for row, image in enumerate(IMAGES[:6])
    )


def test_interleave_takes_all_of_them():
    known = IMAGES[LABELS >= 0], LABELS[LABELS >= 0]
    unknown = IMAGES[LABELS < 0]
    as_arrays = pipelines.Interleave(known, unknown, 3, batch_size=4, seed=5)
    as_splits = pipelines.Interleave(
        pipelines.Split("a", "train", *known, ("0", "1", "2")),
        pipelines.Split("b", "train", unknown, np.full(3, -1)),
        3,
        batch_size=4,
        seed=5,
    )
    assert as_arrays.get_config() == as_splits.get_config()
    for (images, labels), (others, same) in zip(
        as_arrays.epoch(2), as_splits.epoch(2), strict=True
    ):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(labels, same)
    shuffled = tf.data.Dataset.from_tensor_slices(known).shuffle(9).batch(2)
    two = [tf.data.Dataset.from_tensor_slices(unknown).batch(2), (unknown[:1] // 2,)]
    mixed = pipelines.Interleave(shuffled, two, 3, batch_size=4)
    labels = np.concatenate([labels for _, labels in mixed.epoch(0)])
    assert sorted(labels) == [-1] * 3 + sorted(known[1])
    with pytest.raises(ValueError, match="unknown images 2"):
        pipelines.Interleave(known, [unknown, unknown[:, :4]], 3)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            2 * FLOATS - 1,
            ValueError,
            r"0 to 255, or floats from 0 to 1.*from -1.* to 1",
        ),
        (FLOATS * np.nan, ValueError, "from nan to nan"),
        (300 * FLOATS, ValueError, "to 300"),
        (FLOATS * 1.02 / FLOATS.max(), ValueError, r"up to 1\.02.*clip them"),
        (
            IMAGES.transpose(0, 3, 1, 2),
            ValueError,
            r"come first.*transpose\(0, 2, 3, 1",
        ),
        ((IMAGES, LABELS.astype(str)), ValueError, "integers.*'"),
        ((IMAGES, np.full(12, "cat")), ValueError, "integers.*'cat'"),
        ((IMAGES, np.full(12, np.nan)), ValueError, "integers.*nan"),
        (IMAGES[0], ValueError, r"\(batch, height, width, channels\)"),
        ((IMAGES, np.eye(12)), ValueError, "one-hot labels"),
        ((IMAGES, LABELS[:5]), ValueError, r"shape \(5,\) for 12 images"),
        ((IMAGES, LABELS + 0.5), ValueError, r"integers.*0\.5"),
        ((IMAGES, LABELS, LABELS), TypeError, "3 parts.*`class_weight`"),
        (FLAT.batch(5).repeat(), ValueError, r"without end.*\.take\("),
        (FLAT.batch(5).take(0), ValueError, "has no images"),
        (
            FLAT.batch(4).map(lambda x, y: {"image": x, "label": y}),
            TypeError,
            "dict with the keys image, label",
        ),
        (
            tf.data.Dataset.from_generator(
                lambda: (np.zeros((side, side, 3), np.uint8) for side in (4, 5)),
                output_signature=tf.TensorSpec((None, None, 3), tf.uint8),
            ),
            ValueError,
            r"one size.*\(4, 4, 3\), \(5, 5, 3\).*tf\.image\.resize",
        ),
        ("photos/", TypeError, "a str, 'photos/'"),
    ],
)
def test_what_is_no_data_is_explained(data, error, message):
    with pytest.raises(error, match=f"my images.*{message}"):
        pipelines.as_split(data, "my images")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_floats_of_any_precision_are_the_same_pixels(dtype):
    floats = tf.cast(IMAGES // 16 * 16, tf.float32) / 255
    split = pipelines.as_split(tf.cast(floats, dtype), "my images")
    # That has eight bits for all numbers up to 1, and none to spare.
    room = 1 if dtype == "bfloat16" else 0
    assert np.abs(split.images.astype(int) - IMAGES // 16 * 16).max() <= room


def test_true_is_white():
    masks = IMAGES > 100
    split = pipelines.as_split(masks, "my masks")
    np.testing.assert_array_equal(split.images, np.where(masks, 255, 0))


def test_a_pydataset_without_end_is_refused():
    class Endless(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return IMAGES

    with pytest.raises(ValueError, match="PyDataset without end"):
        pipelines.as_split(Endless(), "my images")


def test_a_dataset_that_takes_much_memory_is_said_to(monkeypatch):
    monkeypatch.setenv("OOD_KERAS_MEMORY_GB", "0")
    with pytest.warns(pipelines.DataWarning, match=r"mine takes more than .* folder:"):
        pipelines.as_split(Batches(IMAGES, LABELS), "mine")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipelines.as_split((IMAGES, LABELS), "mine")  # It is in memory already.
