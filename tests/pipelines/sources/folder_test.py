import os

import numpy as np
import pytest
from PIL import Image

from ood_keras import pipelines, transcoding
from ood_keras.pipelines import DataNotFoundError
from ood_keras.pipelines.sources import pictures

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
    with pytest.warns(pipelines.DataWarning, match=r"1 files \(1 \.txt \(no picture"):
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


@pytest.mark.parametrize("other", [(6, 5, 1), (8, 8, 1)])
def test_splits_of_several_shapes_are_refused_before_all_is_decoded(
    tmp_path, write_pictures, monkeypatch, other
):
    for name in ("cat", "dog"):
        write_pictures(tmp_path / "train" / name, 12, (8, 8, 3))
        write_pictures(tmp_path / "test" / name, 3, other)
    (tmp_path / "train/cat/000.png").write_bytes(b"")
    decoded = []
    decode = pictures.decode

    def count(content, name, *options):
        pixels = decode(content, name, *options)
        decoded.append(name)
        return pixels

    monkeypatch.setattr(pictures, "decode", count)
    spec = f"folder:{tmp_path}"
    # Test pictures alone are nobody's harm, together with others they are.
    source = pipelines.load(spec, leave_out=["train/cat/000.png"])
    assert source.test.image_shape == other
    decoded.clear()
    with pytest.raises(ValueError, match=r"one size .*/test/cat/.*image_shape="):
        _ = source.train
    assert len(decoded) == 2
    source = pipelines.load(
        spec, leave_out=["train/cat/000.png"], image_shape=(8, 8, 3)
    )
    shapes = {source.split(role).image_shape for role in source.roles}
    assert shapes == {source.image_shape} == {(8, 8, 3)}


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


def test_all_pictures_that_cannot_be_read_are_named_at_once(tmp_path, write_pictures):
    write_pictures(tmp_path / "cat", 5, (40, 40, 1))
    for name in ("001.png", "003.png"):
        (tmp_path / "cat" / name).write_bytes(b"")
    with pytest.raises(ValueError, match="2 pictures cannot be read") as error:
        _ = pipelines.load(f"folder:{tmp_path}").train
    for name in ("001.png", "003.png"):
        assert f"{name} is no readable picture: it is empty" in str(error.value)


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
    write_pictures(tmp_path / "bird", 2)
    with pytest.raises(ValueError, match=r"\(train, val\) and other ones \(bird\)"):
        pipelines.load(spec)
    (tmp_path / "bird").rename(tmp_path / "test")
    with pytest.raises(ValueError, match=r"not all of train, validation, test have"):
        pipelines.load(spec)
    nested = f"folder:{tmp_path / 'train'}"
    write_pictures(tmp_path / "train" / "cat" / "persian", 2)
    with pytest.raises(ValueError, match=r"persian in it.*give .*train/cat"):
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


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("Train", "Val", "Test"),
        ("TRAIN", "VALID", "TEST"),
        ("training", "validation", "testing"),
        ("Training", "dev", "Testing"),
    ],
)
@pytest.mark.parametrize("nested", ["", "data"])
def test_folders_of_splits_have_many_names(
    tmp_path, write_pictures, train, validation, test, nested
):
    sizes = {train: 20, validation: 4, test: 6}
    for role, count in sizes.items():
        for name in ("cat", "dog"):
            write_pictures(tmp_path / nested / role / name, count)
    (tmp_path / "__MACOSX" / "train").mkdir(parents=True)
    for clutter in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / nested / clutter).write_bytes(b"left by a system")
    source = pipelines.load(f"folder:{tmp_path}")
    assert source.class_names == ("cat", "dog")
    assert [len(source.split(role)) for role in source.roles] == [40, 8, 12]


@pytest.mark.parametrize(
    "names",
    [
        ("train_set", "test_set"),
        ("trainset", "testset"),
        ("Training Images", "Test Images"),
        ("train2017", "val2017"),
        ("cat", "dog", "test_images"),
        ("train", "test", "eval"),
        ("train", "holdout"),
        ("seg_train", "seg_test", "seg_pred"),
        ("AlphabetTrain", "AlphabetTest"),
        ("leaves_train", "leaves_holdout"),
        ("cat_train", "cat_test", "dog_train", "dog_test"),
        ("photos 1 (dev)", "photos 1 (testing)"),
        ("Entrenamiento", "Prueba"),
        ("entrai\u0302nement", "VALIDAZIONE", "cat"),
        ("Trainingsdaten", "Testdaten"),
        ("\u8bad\u7ec3\u96c6", "\u6d4b\u8bd5\u96c6"),
        ("fold_0", "fold_1", "Fold 2"),
    ],
)
def test_what_seems_to_be_a_split_is_no_class(tmp_path, write_pictures, names):
    for name in names:
        write_pictures(tmp_path / name, 3)
    with pytest.raises(ValueError, match=r"seem to hold splits.*Call them train, val"):
        pipelines.load(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "trains",
            "test tube",
            "valley",
            "device",
            "dataset",
            "toy train",
            "cat_test",
        ),
        *("prueba", "fold", "fold_1"),
    ],
)
def test_names_that_only_begin_like_a_split_are_classes(tmp_path, write_pictures, name):
    for folder in (name, "cat"):
        write_pictures(tmp_path / folder, 5)
    assert name in pipelines.load(f"folder:{tmp_path}").class_names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Train", "train", "test"), "several folders for train: Train, train"),
        (("train", "val", "validation"), "several folders for validation"),
        (("Test", "cat", "dog"), r"splits \(Test\) and other ones \(cat, dog\)"),
        (("Cat", "cat"), "'Cat' and 'cat', which differ in case"),
        (("cat", "cat "), "which differ in case or spaces"),
        (("caf\u00e9", "Cafe\u0301"), r"Cafe\\u0301' and 'caf\\xe9', .*same letters"),
        (("cat", "c\u200bat"), r"c\\u200bat' and 'cat'|'cat' and 'c\\u200bat'"),
        (("hot dog", "hot\u00a0dog"), r"'hot dog' and 'hot\\xa0dog'"),
        (("train/Cat", "test/cat"), "'Cat' and 'cat', which differ in case"),
        (("cat/train", "dog/train"), r"Folders of splits come first.*train/cat"),
        (("all/cat", "all/dog"), r"give .*all"),
    ],
)
def test_layouts_that_would_mix_splits_or_classes(
    tmp_path, write_pictures, names, message
):
    for name in names:
        write_pictures(tmp_path / name, 3)
    with pytest.raises(ValueError, match=message):
        pipelines.load(f"folder:{tmp_path}")


def test_pictures_beside_folders_of_splits_are_named(tmp_path, write_pictures):
    write_pictures(tmp_path / "train" / "cat", 3)
    write_pictures(tmp_path, 1)
    with pytest.raises(ValueError, match=r"beside its folders of splits.*000\.png"):
        pipelines.load(f"folder:{tmp_path}")


def test_pictures_are_told_by_their_bytes_and_others_are_counted(
    tmp_path, write_pictures, monkeypatch
):
    # As without what reads HEIC.
    monkeypatch.setattr(
        transcoding, "formats", lambda: (*transcoding.FIRST_FORMATS, "TIFF")
    )
    write_pictures(tmp_path / "cat", 5, (6, 5, 3))
    for name, kind in (
        *(("a.jfif", "JPEG"), ("b.JPG", "JPEG"), ("c", "PNG"), ("d.jpe", "JPEG")),
        *(("e.tif", "TIFF"), ("f.TIFF", "TIFF"), ("g.webp", "WEBP")),
    ):
        image = Image.fromarray(RANDOM.integers(0, 256, (6, 5, 3), np.uint8))
        image.save(tmp_path / "cat" / name, kind)
    (tmp_path / "cat" / "h.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (tmp_path / "cat" / "gone").symlink_to("nowhere")
    write_pictures(tmp_path / "dog", 9, (6, 5, 3))
    with pytest.warns(pipelines.DataWarning) as caught:
        source = pipelines.load(f"folder:{tmp_path}")
    (warning,) = caught
    for part in (
        *("2 files", "1 .heic (HEIC)", "1 links to nothing"),
        "HEIC: pip install pillow-heif reads it",
    ):
        assert part in str(warning.message)
    labels = np.concatenate([source.split(role).labels for role in source.roles])
    assert np.bincount(labels).tolist() == [12, 9]
    # A run of before there was TIFF reads what it read.
    with pytest.warns(pipelines.DataWarning, match=r"1 \.tif \(TIFF\)"):
        earlier = pipelines.load(
            f"folder:{tmp_path}", formats=transcoding.FIRST_FORMATS
        )
    assert sum(len(earlier.split(role)) for role in earlier.roles) == 19
    os.rename(tmp_path / "dog", tmp_path / "cat" / ".dog")
    (tmp_path / "fox").mkdir()
    os.rename(tmp_path / "cat" / "h.heic", tmp_path / "fox" / "h.heic")
    with pytest.raises(ValueError, match=r"fox has no pictures .*1 \.heic \(HEIC\)"):
        pipelines.load(f"folder:{tmp_path}")


def test_a_picture_in_two_classes_is_named(tmp_path, write_pictures):
    for name in ("cat", "dog"):
        write_pictures(tmp_path / "train" / name, 20)
    copied = (tmp_path / "train" / "cat" / "007.png").read_bytes()
    (tmp_path / "train" / "dog" / "copy.png").write_bytes(copied)
    train = pipelines.load(f"folder:{tmp_path}").train
    with pytest.warns(
        pipelines.DataWarning,
        match=r"1 images .* several labels.*cat/007.png = dog/copy.png",
    ):
        pipelines.check_known(train)


def test_a_folder_of_one_use_is_one_whole_test_set(tmp_path, write_pictures):
    images = write_pictures(tmp_path / "any", 20)
    source = pipelines.load(f"folder:{tmp_path / 'any'}")
    assert len(source.test) == 4
    whole = source.whole_test()
    assert whole.role == "test" and set(whole.labels.tolist()) == {-1}
    np.testing.assert_array_equal(whole.images, images)
    write_pictures(tmp_path / "two" / "cat", 10)
    write_pictures(tmp_path / "two" / "dog", 10)
    chosen = pipelines.load(f"folder:{tmp_path / 'two'}[dog]")
    assert len(chosen.whole_test()) == 10 and chosen.whole_test().labels.max() == 0
    write_pictures(tmp_path / "parts" / "test", 3)
    write_pictures(tmp_path / "parts" / "train", 30)
    assert len(pipelines.load(f"folder:{tmp_path / 'parts'}").whole_test()) == 3


def test_a_path_in_place_of_a_spec_is_understood(tmp_path, write_pictures, monkeypatch):
    write_pictures(tmp_path / "photos", 2)
    monkeypatch.chdir(tmp_path)
    for path in ("photos", tmp_path / "photos"):
        with pytest.raises(ValueError, match=rf"Did you mean folder:{path}\?"):
            pipelines.load(path)
    np.savez("photos.npz", images=np.zeros((9, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"Did you mean npz:photos\.npz\?"):
        pipelines.load("photos.npz")


def test_folders_within_class_folders_count_for_the_class(tmp_path, write_pictures):
    write_pictures(tmp_path / "cat", 4)
    write_pictures(tmp_path / "cat" / "siamese" / "2024", 3)
    write_pictures(tmp_path / "cat" / "persian", 2)
    (tmp_path / "cat" / "__MACOSX").mkdir()
    (tmp_path / "cat" / "siamese" / "again").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "persian" / "notes.txt").write_text("no picture")
    write_pictures(tmp_path / "dog", 6)
    with pytest.warns(pipelines.DataWarning) as caught:
        source = pipelines.load(f"folder:{tmp_path}")
    said = [str(warning.message) for warning in caught]
    assert any("1 .txt (no picture)" in text for text in said)
    assert any("3 folders lie within class folders" in text for text in said)
    labels = np.concatenate([source.split(role).labels for role in source.roles])
    assert np.bincount(labels).tolist() == [9, 6]
    write_pictures(tmp_path / "dog" / "test", 1)
    with pytest.raises(ValueError, match=r"Folders of splits come first.*test/dog"):
        pipelines.load(f"folder:{tmp_path}")
