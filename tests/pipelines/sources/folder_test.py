import os

import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.pipelines import DataNotFoundError

RANDOM = np.random.default_rng(0)


@pytest.fixture
def write_pictures(png):
    def write(folder, count, shape=(6, 5, 1)):
        folder.mkdir(parents=True, exist_ok=True)
        images = RANDOM.integers(0, 256, (count, *shape), np.uint8)
        for number, image in enumerate(images):
            (folder / f"{number:03}.png").write_bytes(png(image))
        return images

    return write


def test_sub_folders_are_classes_and_all_is_dealt_out(tmp_path, write_pictures):
    images = {name: write_pictures(tmp_path / name, 10) for name in ("10", "9", "cat")}
    (tmp_path / ".cache").mkdir()
    (tmp_path / "readme.txt").write_text("notes")
    source = pipelines.load(f"folder:{tmp_path}")
    assert source.class_names == ("9", "10", "cat")
    assert [len(source.split(role)) for role in source.roles] == [18, 6, 6]
    rows = []
    for role in source.roles:
        split = source.split(role)
        assert len(set(np.bincount(split.labels))) == 1
        for image, label in zip(split.images, split.labels, strict=True):
            rows.append(bytes(image))
            name = source.class_names[label]
            assert any(np.array_equal(image, other) for other in images[name])
    assert len(set(rows)) == 30


def test_a_folder_without_sub_folders_is_one_unknown_class(tmp_path, write_pictures):
    write_pictures(tmp_path, 10, (4, 4, 3))
    source = pipelines.load(f"folder:{tmp_path}")
    assert source.class_names == ()
    assert source.test.labels.tolist() == [-1, -1]
    assert source.image_shape == (4, 4, 3)


def test_folders_of_splits_are_kept(tmp_path, write_pictures):
    for role, count in (("train", 24), ("test", 3)):
        for name in ("cat", "dog"):
            write_pictures(tmp_path / role / name, count)
    source = pipelines.load(f"folder:{tmp_path}")
    sizes = [len(source.split(role)) for role in ("train", "validation", "test")]
    assert sizes == [44, 4, 6]
    write_pictures(tmp_path / "validation" / "cat", 2)
    source = pipelines.load(f"folder:{tmp_path}")
    assert [len(source.split(role)) for role in source.roles] == [48, 2, 6]
    assert source.validation.class_names == ("cat", "dog")


def test_a_folder_of_unknown_test_pictures_only(tmp_path, write_pictures):
    images = write_pictures(tmp_path / "test", 7)
    source = pipelines.load(f"folder:{tmp_path}")
    assert source.roles == ("test",)
    np.testing.assert_array_equal(source.test.images, images)


def test_different_sizes_name_two_files_and_the_cure(tmp_path, write_pictures):
    write_pictures(tmp_path / "cat", 5)
    write_pictures(tmp_path / "dog", 5, (8, 8, 1))
    spec = f"folder:{tmp_path}"
    with pytest.raises(ValueError) as error:
        _ = pipelines.load(spec).train
    for part in (
        "cat/000.png (6, 5, 1)",
        "dog/000.png (8, 8, 1)",
        "--image_shape=H,W,C",
    ):
        assert part in str(error.value)
    resized = pipelines.load(spec, image_shape=(7, 7, 3))
    assert resized.train.image_shape == (7, 7, 3)


def test_resizing_one_by_one_and_together_agree(tmp_path, write_pictures):
    images = write_pictures(tmp_path / "test", 5, (9, 9, 1))
    write_pictures(tmp_path / "test" / "..", 0)
    from ood_keras import resizing

    source = pipelines.load(f"folder:{tmp_path}", image_shape=(4, 5, 3))
    expected = resizing.adapt(images, (4, 5, 3))
    np.testing.assert_array_equal(source.test.images, expected)


def test_a_mix_of_grey_and_colour_is_a_difference(tmp_path, write_pictures):
    write_pictures(tmp_path / "cat", 5)
    write_pictures(tmp_path / "dog", 5, (6, 5, 3))
    with pytest.raises(ValueError, match="all be grey or all RGB"):
        _ = pipelines.load(f"folder:{tmp_path}").train


def test_a_truncated_picture_is_named(tmp_path, write_pictures):
    write_pictures(tmp_path / "cat", 5, (40, 40, 1))
    path = tmp_path / "cat" / "003.png"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"003.png is no readable picture"):
        _ = pipelines.load(f"folder:{tmp_path}").train


def test_an_empty_class_folder_is_named(tmp_path, write_pictures):
    write_pictures(tmp_path / "cat", 5)
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"class folder .*dog has no pictures"):
        pipelines.load(f"folder:{tmp_path}")


def test_confusing_layouts_are_explained(tmp_path, write_pictures):
    spec = f"folder:{tmp_path}"
    with pytest.raises(DataNotFoundError, match="no pictures in"):
        pipelines.load(spec)
    with pytest.raises(DataNotFoundError, match="there is no folder"):
        pipelines.load(spec + "/nowhere")
    write_pictures(tmp_path / "train" / "cat", 2)
    write_pictures(tmp_path / "val" / "cat", 2)
    with pytest.raises(ValueError, match=r"splits \(train\) and other ones \(val\)"):
        pipelines.load(spec)
    (tmp_path / "val").rename(tmp_path / "validation")
    write_pictures(tmp_path / "test", 2)
    with pytest.raises(ValueError, match=r"not all of train, validation, test have"):
        pipelines.load(spec)
    nested = f"folder:{tmp_path / 'train'}"
    write_pictures(tmp_path / "train" / "cat" / "persian", 2)
    with pytest.raises(ValueError, match=r"pictures only.*persian"):
        pipelines.load(nested)
    write_pictures(tmp_path / "train", 1)
    with pytest.raises(ValueError, match=r"beside its class folders.*000.png"):
        pipelines.load(nested)


def test_classes_called_by_numbers_are_chosen_by_them(tmp_path, write_pictures):
    for name in ("1", "2", "03"):
        write_pictures(tmp_path / name, 5)

    def chosen(classes):
        return pipelines.load(f"folder:{tmp_path}[{classes}]").class_names

    assert chosen("1") == ("1",)
    assert chosen("2, 1") == ("2", "1")
    assert chosen("1-2") == ("1", "2")
    assert chosen("03") == ("03",)
    for classes in ("0", "3", "1-3"):
        with pytest.raises(ValueError, match=r"is no class.*1, 2, 03"):
            chosen(classes)
    write_pictures(tmp_path / "cat", 5)
    assert chosen("0,cat") == ("1", "cat")
    with pytest.raises(ValueError, match=r"2 may mean the class called 2 or .*place 2"):
        chosen("0,2")


def test_a_folder_may_have_brackets_in_its_name(tmp_path, write_pictures):
    write_pictures(tmp_path / "pets[1]" / "cat", 5)
    write_pictures(tmp_path / "pets[1]" / "dog", 5)
    spec = f"folder:{tmp_path}/pets[1]"
    assert pipelines.load(spec).class_names == ("cat", "dog")
    assert pipelines.load(f"{spec}[dog]").class_names == ("dog",)
    many = [f"class {number}" for number in range(50)]
    for name in many:
        write_pictures(tmp_path / "many" / name, 1)
    chosen = pipelines.load(f"folder:{tmp_path}/many[{','.join(many)}]")
    assert chosen.class_names == tuple(many)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"__unknown__", "rejected images are called.*Rename"),
        (b"caf\xe9", r"not UTF-8: b'caf\\xe9'.*Rename"),
    ],
)
def test_folders_that_no_class_can_be_called_after(
    name, message, tmp_path, write_pictures
):
    write_pictures(tmp_path / "cat", 5)
    write_pictures(tmp_path / os.fsdecode(name), 5)
    with pytest.raises(ValueError, match=message):
        pipelines.load(f"folder:{tmp_path}")
