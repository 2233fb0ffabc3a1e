"""CIFAR-100 and flowers, from zip files that are made here."""

import zipfile

import numpy as np
import pytest

from ood_keras import pipelines, resizing
from ood_keras.pipelines import likeness
from ood_keras.pipelines.sources import class_zips

RNG = np.random.default_rng(0)


def pixels(side=32):
    return RNG.integers(0, 256, (side, side, 3), np.uint8)


def write(path, pictures, png):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, image in pictures.items():
            archive.writestr(name, png(image))


def test_cifar100_has_the_classes_of_its_folders(tmp_path, png):
    # One of its classes is called like a split.
    names = [f"{name}/{i:02}.png" for name in ("train", "bus", "apple") for i in (0, 1)]
    images = {name: pixels() for name in names}
    write(tmp_path / "cifar100" / "test.zip", images, png)
    source = pipelines.load("cifar100", data_dir=tmp_path)
    assert source.class_names == ("apple", "bus", "train") and source.roles == ("test",)
    assert source.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for name, image in zip(sorted(names), source.test.images, strict=True):
        np.testing.assert_array_equal(image, images[name])
    small = pipelines.load("cifar100[bus]", data_dir=tmp_path, image_shape=(16, 16, 1))
    assert small.test.images.shape == (2, 16, 16, 1)


def test_images_that_are_in_cifar10_too_are_left_out(tmp_path, png, monkeypatch):
    images = {f"bus/{i:02}.png": pixels() for i in range(4)}
    write(tmp_path / "cifar100" / "test.zip", images, png)
    shared = likeness.hash_pixels(images["bus/02.png"])
    monkeypatch.setattr(class_zips, "_IN_CIFAR10", (shared,))
    spec = "cifar100@without_cifar10"
    # Told by the pixels of the file, whatever shape is asked for.
    for shape in (None, (16, 16, 3)):
        kept = pipelines.load(spec, data_dir=tmp_path, image_shape=shape).test
        assert kept.files == ("bus/00.png", "bus/01.png", "bus/03.png")
        assert len(kept.images) == len(kept.labels) == 3
    assert len(pipelines.load("cifar100", data_dir=tmp_path).test) == 4
    with pytest.raises(FileNotFoundError, match=r"test\*\.zip in .*cifar100"):
        pipelines.load(spec, data_dir=tmp_path / "nowhere")


def test_pictures_without_a_folder_are_refused(tmp_path, png):
    write(tmp_path / "cifar100" / "test.zip", {"00.png": pixels()}, png)
    with pytest.raises(ValueError, match=r"one for each class\. Received: 00\.png"):
        pipelines.load("cifar100", data_dir=tmp_path)


def test_flowers_under_two_labels_are_out_and_copies_stay_together(tmp_path, png):
    rose = {f"rose/{i:02}.png": pixels(48) for i in range(20)}
    tulip = {f"tulip/{i:02}.png": pixels(48) for i in range(20)}
    both, copy = pixels(48), tulip["tulip/00.png"]
    extra = {"rose/both.png": both, "tulip/both.png": both}
    extra |= {f"tulip/copy_{i}.png": copy for i in range(3)}
    path = tmp_path / "flowers" / "images.zip"
    write(path, {**rose, **tulip, **extra}, png)
    source = pipelines.load("flowers", data_dir=tmp_path)
    assert source.class_names == ("rose", "tulip")
    files = {role: source.split(role).files for role in source.roles}
    every = [name for names in files.values() for name in names]
    assert sorted(every) == sorted({*rose, *tulip, *extra} - {*list(extra)[:2]})
    with_copies = [
        role
        for role, names in files.items()
        if any("copy" in name or name == "tulip/00.png" for name in names)
    ]
    assert len(with_copies) == 1
    assert len(source.whole_test()) == len(every)
    assert (
        len(pipelines.load("flowers[tulip]", data_dir=tmp_path).test.class_names) == 1
    )


def test_pictures_of_several_sizes_are_brought_to_one(tmp_path, png):
    images = {
        f"{name}/{i:02}.png": pixels(40 + i % 2) for name in "ab" for i in range(12)
    }
    # Told by the pixels as they lie there, whatever shape is asked for.
    images |= {"a/both.png": images["a/00.png"], "b/both.png": images["a/00.png"]}
    images["b/copy.png"] = images["b/01.png"]
    for spec, name in (("flowers", "images"), ("cifar100", "test")):
        write(tmp_path / spec / f"{name}.zip", images, png)
        with pytest.raises(ValueError, match=r"one size .*Give image_shape="):
            pipelines.load(spec, data_dir=tmp_path).test  # noqa: B018
    shape = (16, 16, 3)
    flowers = pipelines.load("flowers", data_dir=tmp_path, image_shape=shape)
    files = {role: flowers.split(role).files for role in flowers.roles}
    every = sorted(name for names in files.values() for name in names)
    assert every == sorted({*images} - {"a/00.png", "a/both.png", "b/both.png"})
    assert any({"b/01.png", "b/copy.png"} <= {*names} for names in files.values())
    test = pipelines.load("cifar100", data_dir=tmp_path, image_shape=shape).test
    for name, image in zip(test.files, test.images, strict=True):
        expected = resizing.adapt(images[name][np.newaxis], shape)[0]
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("spec", ["flowers", "cifar100@without_cifar10"])
def test_what_is_nowhere_says_where_it_was_looked_for(tmp_path, spec):
    with pytest.raises(FileNotFoundError, match=r"was not found\. Looked for"):
        pipelines.load(spec, data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="no data_dir was given"):
        pipelines.load(spec)


def test_the_real_sets(real_data_dir):
    cifar100 = pipelines.load("cifar100", data_dir=real_data_dir)
    apart = pipelines.load("cifar100@without_cifar10", data_dir=real_data_dir)
    assert (len(cifar100.test), len(apart.test)) == (10_000, 9_998)
    left_out = sorted({*cifar100.test.files} - {*apart.test.files})
    assert left_out == ["bus/18.png", "cattle/24.png"]
    flowers = pipelines.load("flowers", data_dir=real_data_dir)
    # Four photographs lie under two labels.
    assert len(flowers.whole_test()) == 4_317 - 8
