"""Pixels on disk: whole or absent, of the files as they are, written once."""

import errno
import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from ood_keras import pipelines
from ood_keras.pipelines import StoredImages, pixel_cache, stored_images
from ood_keras.pipelines.sources import base, pictures

RANDOM = np.random.default_rng(0)
# What is forked must not use TensorFlow, and does not.
FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """All pixels go to disk, into a folder of the test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("OOD_KERAS_CACHE_DIR", str(folder))
    monkeypatch.setenv("OOD_KERAS_MEMORY_GB", "0")
    return folder


@pytest.fixture
def photos(tmp_path):
    """A folder of pictures of several sizes, grey and colour, PNG and JPEG."""
    root = tmp_path / "photos"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(15):
            shape = (20 + number, 40, 3) if number % 4 else (31, 28)
            pixels = RANDOM.integers(0, 256, shape, np.uint8)
            suffix = "jpg" if number % 3 else "png"
            Image.fromarray(pixels).save(root / name / f"{number:02}.{suffix}")
    return root


def load(root, **options):
    options = {"image_shape": (16, 12, 3), **options}
    source = pipelines.load(f"folder:{root}", **options)
    return [source.split(role) for role in source.roles]


def fingerprints(splits):
    return [split.fingerprint() for split in splits]


def in_memory(monkeypatch, root, **options):
    with monkeypatch.context() as context:
        context.setenv("OOD_KERAS_MEMORY_GB", "1")
        return load(root, **options)


def kept(cache):
    """The folders of pixels, by source, without what is hidden."""
    return sorted(path for path in cache.glob("*/[!.]*"))


def count_decoded(monkeypatch):
    decoded = []
    decode = pictures.decode

    def count(content, name, *arguments):
        decoded.append(name)
        return decode(content, name, *arguments)

    monkeypatch.setattr(pictures, "decode", count)
    return decoded


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"group_by": "copies"},
        {"group_by": ("copies", r"(\d)\.")},
        {"leave_out": ["cat/01.jpg"]},
        {"image_shape": (30, 40, 1), "background": "black"},
    ],
    ids=str,
)
def test_splits_are_those_in_memory(photos, monkeypatch, options):
    expected = in_memory(monkeypatch, photos, **options)
    assert all(isinstance(split.images, np.ndarray) for split in expected)
    for _ in range(2):  # Written, then found.
        found = load(photos, **options)
        assert all(isinstance(split.images, StoredImages) for split in found)
        assert fingerprints(found) == fingerprints(expected)
        assert [one.files for one in found] == [one.files for one in expected]


def test_pictures_of_one_size_need_no_shape(tmp_path, monkeypatch):
    (tmp_path / "one" / "cat").mkdir(parents=True)
    for number in range(9):
        pixels = RANDOM.integers(0, 256, (8, 9, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "one" / "cat" / f"{number}.png")
    expected = in_memory(monkeypatch, tmp_path / "one", image_shape=None)
    found = load(tmp_path / "one", image_shape=None)
    assert found[0].image_shape == (8, 9, 3)
    assert fingerprints(found) == fingerprints(expected)


def test_forms_and_classes_of_a_source_on_disk(photos, monkeypatch):
    def read():
        spec = f"folder:{photos}@negative@transposed[dog]"
        source = pipelines.load(spec, image_shape=(16, 12, 3))
        return [source.split(role) for role in source.roles]

    found = read()
    monkeypatch.setenv("OOD_KERAS_MEMORY_GB", "1")
    assert fingerprints(found) == fingerprints(read())
    assert found[0].image_shape == (16, 12, 3)


def test_pictures_are_decoded_once(photos, cache, monkeypatch, capsys):
    decoded = count_decoded(monkeypatch)
    load(photos)
    assert len(decoded) == 30
    said = capsys.readouterr().err
    assert "30 pictures of 16 x 12 x 3" in said and str(cache) in said
    load(photos)
    assert len(decoded) == 30 and not capsys.readouterr().err
    # Copies are found by what was noted while decoding; it serves both afterwards.
    load(photos, group_by="copies")
    load(photos, group_by="copies")
    load(photos)
    assert len(decoded) == 60
    assert len(kept(cache)) == 1
    load(photos, image_shape=(8, 8, 3))
    assert len(decoded) == 90 and len(kept(cache)) == 2


@pytest.mark.parametrize("change", ["content", "time", "new", "name"])
def test_a_change_of_a_file_makes_the_pixels_anew(photos, cache, monkeypatch, change):
    load(photos)
    before = kept(cache)
    path = photos / "cat" / "00.png"
    if change == "time":
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    elif change == "name":
        path.rename(path.with_name("000.png"))
    else:
        target = path if change == "content" else path.with_name("99.png")
        Image.fromarray(RANDOM.integers(0, 256, (9, 9, 3), np.uint8)).save(target)
    decoded = count_decoded(monkeypatch)
    found = load(photos)
    assert len(decoded) == 30 + (change == "new")
    assert fingerprints(found) == fingerprints(in_memory(monkeypatch, photos))
    # The earlier ones are gone.
    assert len(kept(cache)) == 1 and kept(cache) != before


def test_what_is_in_use_may_be_removed(photos, cache):
    found = load(photos)
    expected = np.asarray(found[0].images)
    shutil.rmtree(cache)
    np.testing.assert_array_equal(found[0].images, expected)
    assert fingerprints(load(photos)) == fingerprints(found)


def damage_pixels(folder):
    content = bytearray((folder / "pixels.npy").read_bytes())
    content[-5] ^= 1
    (folder / "pixels.npy").write_bytes(content)


def cut(folder):
    content = (folder / "pixels.npy").read_bytes()
    (folder / "pixels.npy").write_bytes(content[:-5])


@pytest.mark.parametrize(
    "damage",
    [
        damage_pixels,
        cut,
        lambda folder: (folder / "pixels.npy").unlink(),
        lambda folder: (folder / "about.json").write_text("{"),
        lambda folder: (folder / "about.json").write_text("[]"),
        lambda folder: np.save(folder / "pixels.npy", np.zeros((30, 2, 2, 1), "u1")),
    ],
)
def test_damaged_pixels_are_found_and_made_anew(photos, cache, damage):
    expected = fingerprints(load(photos))
    damage(kept(cache)[0])
    with pytest.warns(pipelines.DataWarning, match="is damaged .* decoded again"):
        assert fingerprints(load(photos)) == expected
    assert fingerprints(load(photos)) == expected


def test_pictures_that_cannot_be_read_leave_nothing(photos, cache):
    for name in ("01.jpg", "03.png"):
        (photos / "dog" / name).write_bytes(b"")
    with pytest.raises(ValueError, match="2 pictures cannot be read") as error:
        load(photos)
    assert "dog/01.jpg" in str(error.value) and "dog/03.png" in str(error.value)
    assert not kept(cache)


def test_pictures_of_different_sizes_are_named(photos, cache):
    with pytest.raises(ValueError, match=r"01\.jpg .* --image_shape=H,W,C"):
        load(photos, image_shape=None)
    assert not kept(cache)


KEY = pixel_cache.Key("folder:mine", {"folder": "/mine"}, [("a.png", 1, 2)])
SHAPE = (40, 100, 100, 3)


def make(number):
    return np.full(SHAPE[1:], number, np.uint8)


def read(pictures=lambda: map(make, range(40))):
    return pixel_cache.read(KEY, SHAPE, pictures)[0]


def in_child(function):
    """Runs a function in a child process; returns the process and what it sent."""
    receiver, sender = FORK.Pipe(duplex=False)

    def run():
        try:
            sender.send(function())
        except Exception as error:
            sender.send(error)

    process = FORK.Process(target=run)
    process.start()
    sender.close()
    return process, receiver


def test_a_kill_leaves_whole_pixels_or_none(cache):
    def pictures():
        for number in range(40):
            if number == 30:
                os.kill(os.getpid(), signal.SIGKILL)
            yield make(number)

    process, _ = in_child(lambda: read(pictures))
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not kept(cache)
    assert len(list(cache.glob("*/.*"))) == 1  # What it had written so far.
    assert read()[39, 0, 0, 0] == 39
    assert not list(cache.glob("*/.*")) and len(kept(cache)) == 1


def test_several_processes_decode_once(cache, tmp_path):
    def pictures():
        (tmp_path / f"decoded_by_{os.getpid()}").touch()
        for number in range(40):
            time.sleep(0.02)
            yield make(number)

    children = [in_child(lambda: int(read(pictures)[:].sum())) for _ in range(3)]
    sums = [receiver.recv() for _, receiver in children]
    for process, _ in children:
        process.join()
    assert sums == [sum(range(40)) * 30_000] * 3
    assert len(list(tmp_path.glob("decoded_by_*"))) == 1


def test_a_disk_that_runs_full_is_an_error_and_leaves_nothing(cache):
    def fill():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        read()

    process, receiver = in_child(fill)
    error = receiver.recv()
    process.join()
    assert isinstance(error, OSError) and error.errno == errno.EFBIG
    assert "could not write" in str(error) and "free space" in str(error)
    assert not list(cache.glob("*/*")) and not list(cache.glob("*/.*"))


def test_a_disk_that_is_too_small_is_said_before_anything_is_decoded(monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"40 pictures of 100 x 100 x 3 take 0\.00 GB"):
        read(lambda: pytest.fail("decoded"))
    with pytest.raises(OSError, match="--cache_dir"):
        pixel_cache.allocate(SHAPE)


def test_a_folder_that_cannot_be_is_an_error_with_the_cure(cache):
    cache.write_text("a file")
    for function in (read, lambda: pixel_cache.allocate(SHAPE)):
        with pytest.raises(OSError, match=r"cannot write into .* --cache_dir"):
            function()


def test_a_number_of_pictures_that_is_not_kept_is_an_error(cache, monkeypatch):
    for limit in ("0", "1"):
        monkeypatch.setenv("OOD_KERAS_MEMORY_GB", limit)
        for count, received in ((39, "39"), (41, "more")):
            with pytest.raises(
                ValueError, match=f"expected 40 .* Received: {received}"
            ):
                read(lambda count=count: map(make, range(count)))
    assert not kept(cache)


def test_batches_are_taken_as_single_pictures_are():
    batches = [np.stack([make(0), make(1)]), make(2), np.stack([make(3)] * 37)]
    expected = np.minimum(np.arange(40), 3)
    np.testing.assert_array_equal(read(lambda: batches)[:][:, 0, 0, 0], expected)


@pytest.mark.parametrize("text", ["much", "-1", "nan"])
def test_a_limit_that_is_no_number_is_an_error(monkeypatch, text):
    monkeypatch.setenv("OOD_KERAS_MEMORY_GB", text)
    with pytest.raises(ValueError, match=r"OOD_KERAS_MEMORY_GB .* number of gigabytes"):
        read()


def test_the_limit_decides_between_memory_and_disk(cache, monkeypatch):
    size = int(np.prod(SHAPE))
    monkeypatch.setenv("OOD_KERAS_MEMORY_GB", str(size / 1e9))
    assert type(read()) is np.ndarray and not cache.exists()
    monkeypatch.setenv("OOD_KERAS_MEMORY_GB", str((size - 1) / 1e9))
    assert type(read()) is StoredImages
    about = json.loads((kept(cache)[0] / "about.json").read_text())
    assert about["source"] == "folder:mine"


def test_made_pixels_leave_no_file(cache, monkeypatch):
    pixels = pixel_cache.allocate(SHAPE)
    pixels[3] = 7
    images = pixel_cache.finish(pixels)
    assert type(images) is StoredImages and (images[3] == 7).all()
    assert not list(cache.iterdir())
    monkeypatch.delenv("OOD_KERAS_MEMORY_GB")
    assert type(pixel_cache.finish(pixel_cache.allocate(SHAPE))) is np.ndarray


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("digits", (31, 29, 3)),
        ("uniform_noise", (31, 29, 3)),
        ("gaussian_noise@mean_0", (31, 29, 1)),
    ],
)
def test_other_sources_are_those_in_memory(cache, monkeypatch, spec, shape):
    # So that what is made or resized is so in several stretches.
    monkeypatch.setattr(stored_images, "CHUNK_BYTES", 5 * math.prod(shape))
    monkeypatch.setattr(base, "DEFAULT_COUNT", 97)

    def read():
        source = pipelines.load(spec, image_shape=shape)
        return [source.split(role) for role in source.roles]

    found = read()
    assert all(isinstance(split.images, StoredImages) for split in found)
    assert not list(cache.iterdir())  # What has no name is not kept.
    monkeypatch.undo()
    monkeypatch.setattr(base, "DEFAULT_COUNT", 97)
    assert fingerprints(found) == fingerprints(read())


def test_zips_of_pictures_are_those_in_memory(tmp_path, monkeypatch):
    path = tmp_path / "cifar10" / "train.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(40):
            shape = (20 + number % 3, 9, 3)
            pixels = RANDOM.integers(0, 256, shape, np.uint8)
            with archive.open(f"{number % 10}/{number}.png", "w") as file:
                Image.fromarray(pixels).save(file, "png")

    def read():
        source = pipelines.load("cifar10", data_dir=tmp_path, image_shape=(16, 16, 3))
        return [source.split(role) for role in source.roles]

    found = read()
    assert isinstance(found[0].images, StoredImages)
    monkeypatch.delenv("OOD_KERAS_MEMORY_GB")
    expected = read()
    assert isinstance(expected[0].images, np.ndarray)
    assert fingerprints(found) == fingerprints(expected)


def test_synthetic_outliers_are_those_in_memory(photos, monkeypatch):
    def make():
        source = pipelines.load(f"folder:{photos}", image_shape=(16, 12, 3))
        made = pipelines.load("synthetic", known=source, count=60)
        return [made.split(role) for role in made.roles]

    found = make()
    assert isinstance(found[0].images, StoredImages)
    monkeypatch.delenv("OOD_KERAS_MEMORY_GB")
    assert fingerprints(found) == fingerprints(make())
