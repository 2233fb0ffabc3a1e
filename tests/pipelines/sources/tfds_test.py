import dataclasses
import socket
import sys
import time

import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.pipelines import DataNotFoundError
from ood_keras.pipelines.sources import idx_sets, tfds

IMAGES = np.random.default_rng(0).integers(0, 256, (48, 6, 6, 1), np.uint8)
LABELS = np.arange(48) % 3


@pytest.fixture(autouse=True)
def nothing_on_this_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(idx_sets, "_SYSTEM_DATA", tmp_path / "share")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.fixture
def library(monkeypatch, tmp_path):
    library = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(library.core.constants, "DATA_DIR", str(tmp_path / "own"))
    return library


@pytest.fixture
def offline(monkeypatch):
    asked = []
    monkeypatch.setattr(tfds, "_problem_with", lambda url: asked.append(url) or "none")
    return asked


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with the data set `tiny_pictures`, prepared."""
    library = pytest.importorskip("tensorflow_datasets")

    import tensorflow as tf

    features = {
        "image": library.features.Image(shape=(6, 6, 1)),
        "label": library.features.ClassLabel(names=["ant", "bee", "cow"]),
    }
    folder = tmp_path_factory.mktemp("prepared")
    library.dataset_builders.store_as_tfds_dataset(
        name="tiny_pictures",
        version="1.0.0",
        features=library.features.FeaturesDict(features),
        split_datasets={
            split: tf.data.Dataset.from_tensor_slices(
                {"image": IMAGES[:size], "label": LABELS[:size]}
            )
            for split, size in (("train", 48), ("test", 9))
        },
        data_dir=folder,
    )
    return folder


def test_a_prepared_data_set_is_read(prepared, library, offline):
    source = pipelines.load("tfds:tiny_pictures", data_dir=prepared)
    assert source.class_names == ("ant", "bee", "cow")
    assert [len(source.split(role)) for role in source.roles] == [44, 4, 9]
    by_pixels = {
        bytes(image): label for image, label in zip(IMAGES, LABELS, strict=True)
    }
    for role in source.roles:
        split = source.split(role)
        expected = [by_pixels[bytes(image)] for image in split.images]
        assert split.labels.tolist() == expected
    assert not offline
    again = pipelines.load("tfds:tiny_pictures", data_dir=prepared)
    assert again.train.fingerprint() == source.train.fingerprint()


def test_a_large_data_set_is_read_from_disk(prepared, library, monkeypatch, tmp_path):
    def read():
        source = pipelines.load(
            "tfds:tiny_pictures", data_dir=prepared, image_shape=(5, 4, 3)
        )
        return [source.split(role) for role in source.roles]

    expected = read()
    monkeypatch.setenv("OOD_KERAS_MEMORY_GB", "0")
    monkeypatch.setenv("OOD_KERAS_CACHE_DIR", str(tmp_path / "cache"))
    for _ in range(2):
        found = read()
        assert all(isinstance(one.images, pipelines.StoredImages) for one in found)
        for one, other in zip(found, expected, strict=True):
            assert one.fingerprint() == other.fingerprint()
    assert len(list((tmp_path / "cache").glob("*/[!.]*"))) == 2


@pytest.mark.parametrize("version", ["", ":1.0.0", ":1.*.*"])
def test_differences_of_tfds_are_put_right(version, prepared, library, monkeypatch):
    quirk = tfds._Quirk(
        class_names=("a", "b"), first_label=1, transposed=True, inverted=True
    )
    monkeypatch.setitem(tfds._QUIRKS, "tiny_pictures", quirk)
    spec = f"tfds:tiny_pictures{version}"
    source = pipelines.load(spec, data_dir=prepared)
    # The label 0 of the file is none of the named classes, but unknown.
    expected = {
        bytes(255 - image.transpose(1, 0, 2)): label - 1
        for image, label in zip(IMAGES[:9], LABELS[:9], strict=True)
    }
    received = zip(source.test.images, source.test.labels, strict=True)
    assert {bytes(image): label for image, label in received} == expected
    small = pipelines.load(spec, data_dir=prepared, image_shape=(3, 3, 3))
    assert small.test.image_shape == (3, 3, 3)


def store_emnist(library, config, folder):
    """Writes one picture of each class of a config of EMNIST; returns the pictures."""
    import tensorflow as tf

    builder = library.builder(f"emnist/{config}", data_dir=folder)
    count = builder.info.features["label"].num_classes
    images = np.random.default_rng(1).integers(0, 256, (count, 28, 28, 1), np.uint8)
    rows = {"image": images, "label": np.arange(count)}
    library.dataset_builders.store_as_tfds_dataset(
        name="emnist",
        config=config,
        version=str(builder.version),
        features=builder.info.features,
        split_datasets={"test": tf.data.Dataset.from_tensor_slices(rows)},
        data_dir=folder,
    )
    return images


# The codes of the small letters in emnist-balanced-mapping.txt.
MERGED = (97, 98, 100, 101, 102, 103, 104, 110, 113, 114, 116)


@pytest.mark.parametrize(
    ("name", "config", "small"),
    [
        ("emnist", "byclass", range(97, 123)),
        ("emnist/byclass:3.1.0", "byclass", range(97, 123)),
        ("emnist/bymerge", "bymerge", MERGED),
        ("emnist/balanced:3.*.*", "balanced", MERGED),
    ],
)
def test_emnist_is_turned_and_its_digits_are_digits(
    name, config, small, library, tmp_path
):
    images = store_emnist(library, config, tmp_path)
    source = pipelines.load(f"tfds:{name}", data_dir=tmp_path)
    codes = [*range(48, 58), *range(65, 91), *small]
    assert source.class_names == tuple(map(chr, codes))
    turned = dict(enumerate(images.transpose(0, 2, 1, 3)))
    for image, label in zip(source.test.images, source.test.labels, strict=True):
        np.testing.assert_array_equal(image, turned.pop(label))
    assert not turned
    chosen = pipelines.load(f"tfds:{name}[a,B,c]", data_dir=tmp_path)
    assert chosen.class_names == ("a", "B", "c" if config == "byclass" else "C")
    three = pipelines.Split(
        "mnist", "test", images[:1] // 2, np.array([0]), ("3",), namespace="digit"
    )
    with pytest.raises(ValueError, match=r"both known and unknown.*both have 3\."):
        pipelines.check_roles({"test": three}, {"test": [source.test]})


def test_omniglot_of_tfds_is_reduced_as_that_of_the_zips(prepared, monkeypatch):
    from PIL import Image

    monkeypatch.setitem(tfds._QUIRKS, "tiny_pictures", tfds._QUIRKS["omniglot"])
    source = pipelines.load(
        "tfds:tiny_pictures", data_dir=prepared, image_shape=(3, 3, 1)
    )
    expected = {
        Image.fromarray(255 - image[..., 0])
        .resize((3, 3), Image.Resampling.BILINEAR)
        .tobytes()
        for image in IMAGES[:9]
    }
    assert len(expected) == 9
    assert {bytes(image) for image in source.test.images} == expected


@pytest.mark.parametrize("spec", ["mnist", "cifar10", "emnist/letters", "tfds:kmnist"])
def test_what_cannot_be_had_fails_at_once_and_says_why(
    spec, library, offline, tmp_path
):
    start = time.monotonic()
    with pytest.raises(DataNotFoundError) as error:
        pipelines.load(spec, data_dir=tmp_path / "data")
    assert time.monotonic() - start < 5
    assert isinstance(error.value, FileNotFoundError)
    message = str(error.value)
    for part in (tmp_path / "data", tmp_path / "own", "a download from http"):
        assert str(part) in message
    assert "or run once with a network" in message
    assert len(offline) == 1


@pytest.mark.parametrize(
    ("spec", "looked_for"),
    [
        ("notmnist", "IDX files in .*notmnist"),
        ("kannada_mnist", "IDX files in .*kannada_mnist"),
        ("flowers", "images.zip in .*flowers"),
        ("cifar100@without_cifar10", "zip in .*cifar100"),
    ],
)
def test_what_is_not_in_tfds_is_not_said_to_be(spec, looked_for, offline, tmp_path):
    with pytest.raises(DataNotFoundError, match=looked_for) as error:
        pipelines.load(spec, data_dir=tmp_path)
    assert not offline
    assert "network" not in str(error.value)
    assert str(error.value).endswith("(--data_dir)")


@pytest.mark.parametrize(
    "spec", ["notmnist", "kannada_mnist", "flowers", "cifar10@training_images"]
)
def test_no_network_is_advised_for_what_none_has(spec, offline, tmp_path):
    with pytest.raises(DataNotFoundError) as error:
        pipelines.load(spec, data_dir=tmp_path)
    assert str(error.value).endswith("(--data_dir)")


def test_what_keras_has_fetched_comes_after_what_is_prepared(
    prepared, library, monkeypatch, tmp_path
):
    kept = tmp_path / "keras" / "datasets"
    kept.mkdir(parents=True)
    np.savez(kept / "mnist.npz", x_train=IMAGES, y_train=LABELS)
    builder = library.builder("tiny_pictures", data_dir=prepared)
    found = [builder, None]
    monkeypatch.setattr(tfds, "_find_prepared", lambda *_: found.pop(0))
    assert pipelines.load("mnist").class_names == ("ant", "bee", "cow")
    assert pipelines.load("mnist").class_names == tuple("0123456789")


def test_no_data_dir_is_said(library, offline):
    with pytest.raises(DataNotFoundError, match="no data_dir was given"):
        pipelines.load("mnist")


def test_without_the_package_the_install_line_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataNotFoundError, match="pip install tensorflow-datasets"):
        pipelines.load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        ("mnist", "keras/datasets/mnist.npz"),
        ("fashion_mnist", "keras/datasets/fashion-mnist"),
        ("cifar10", None),
    ],
)
def test_without_the_package_a_network_alone_is_not_enough(
    spec, kept, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataNotFoundError) as error:
        pipelines.load(spec, data_dir=tmp_path)
    message = str(error.value)
    assert "or install TensorFlow Datasets and run once with a network" in message
    assert f"/{spec}, see docs/data.md" in message
    if kept:
        assert f"{tmp_path / kept}\n" in message
        end = f"with a network (keras.datasets.{spec}.load_data() fetches it too)"
        assert message.endswith(end)
    else:
        assert message.endswith("with a network")


def test_an_unknown_name_is_explained(library, tmp_path):
    with pytest.raises(ValueError, match="knows no 'no_such_data'"):
        pipelines.load("tfds:no_such_data", data_dir=tmp_path)


def test_text_is_no_image(library, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "_prepare", lambda *_: library.builder("ag_news_subset"))
    with pytest.raises(ValueError, match=r"expected images.*description"):
        pipelines.load("tfds:ag_news_subset", data_dir=tmp_path)


def test_wrong_files_for_tfds_are_reported(library, offline, tmp_path):
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (manual / f"{part}-{kind}-ubyte.gz").write_bytes(b"not the file")
    with pytest.raises(DataNotFoundError, match="NonMatchingChecksumError"):
        pipelines.load("mnist", data_dir=tmp_path)
    assert not offline


def test_servers_that_refuse_or_stay_silent_are_noticed(monkeypatch):
    monkeypatch.setattr(tfds, "_TIMEOUT_SECONDS", 0.2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file"
        assert "refused" in tfds._problem_with(url)
        server.listen()
        start = time.monotonic()
        assert "timed out" in tfds._problem_with(url)
        assert time.monotonic() - start < 2


def test_a_server_that_answers_is_no_problem():
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/good" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert tfds._problem_with(f"{url}/good") is None
        assert "404" in tfds._problem_with(f"{url}/bad")
        server.shutdown()


def test_tfds_heeds_the_forms_of_omniglot(prepared, monkeypatch):
    """Without the publisher's zips, `omniglot` and its forms come from TFDS."""
    monkeypatch.setitem(tfds._QUIRKS, "tiny_pictures", tfds._QUIRKS["omniglot"])
    open_dataset = tfds.open_dataset

    def open_tiny(request, name, **settings):
        request = dataclasses.replace(request, data_dir=prepared)
        return open_dataset(request, "tiny_pictures", **settings)

    monkeypatch.setattr(tfds, "open_dataset", open_tiny)
    images = pipelines.load(
        "omniglot@as_distributed@nearest", image_shape=(3, 3, 1)
    ).test.images
    # Of two pixels, Pillow takes the one behind the middle.
    expected = {image.tobytes() for image in IMAGES[:9, 1::2, 1::2]}
    assert {image.tobytes() for image in images} == expected
