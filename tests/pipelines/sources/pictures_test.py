import io
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from ood_keras import image_files, pipelines
from ood_keras.inference import pillow_decoder
from ood_keras.pipelines import DataNotFoundError
from ood_keras.pipelines.sources import pictures, tfds

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_tfds(monkeypatch, tmp_path):
    monkeypatch.setattr(tfds, "_problem_with", lambda url: "no network in tests")


def pixels(height=6, width=5, channels=1):
    return RANDOM.integers(0, 256, (height, width, channels), np.uint8)


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def test_grey_and_colour_keep_their_channels(png):
    for channels in (1, 3):
        image = pixels(channels=channels)
        np.testing.assert_array_equal(pictures.decode(png(image), "x"), image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_common_modes_are_converted(mode):
    grey = Image.fromarray(pixels()[..., 0])
    decoded = pictures.decode(encoded(grey.convert(mode)), "x")
    assert decoded.shape == (6, 5, 1 if mode in ("1", "L", "LA") else 3)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("background", [255, 0, 99])
def test_transparent_pixels_are_laid_on_the_background(format, background):
    image = np.zeros((8, 9, 4), np.uint8)
    image[:4, :, 3] = 255
    options = {"lossless": True} if format == "WEBP" else {}
    content = encoded(Image.fromarray(image), format, **options)
    decoded = pictures.decode(content, "x", background)
    assert decoded.shape == (8, 9, 3)
    assert (decoded[:4] == 0).all()
    # Pillow writes a BMP of 32 bits whose fourth byte readers take for filling.
    assert (decoded[4:] == (0 if format == "BMP" else background)).all()
    assert not pictures.decode(content, "x", None).any() or format == "GIF"


def test_a_grey_gif_with_a_transparent_level_stays_grey():
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    decoded = pictures.decode(encoded(image, "GIF", transparency=7), "x", 200)
    expected = np.arange(64)
    expected[7] = 200
    assert np.unique(decoded).tolist() == sorted(set(expected.tolist()))


def test_all_kinds_of_jpeg_and_sixteen_bits_are_read():
    deep = RANDOM.integers(0, 2**16, (3, 4)).astype(np.uint16)
    decoded = pictures.decode(encoded(Image.fromarray(deep)), "x")
    np.testing.assert_array_equal(decoded[..., 0], deep >> 8)
    inks = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    decoded = pictures.decode(encoded(inks, "JPEG", quality=100), "x")
    np.testing.assert_allclose(decoded, np.full((8, 8, 3), [255, 0, 0]), atol=2)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_the_largest_size_is_one_for_all_formats(format, monkeypatch):
    # JPEG files up to that are reduced, see transcoding_test.py.
    monkeypatch.setattr(image_files, "MAX_REDUCED_PIXELS", 599)
    content = encoded(Image.fromarray(pixels(20, 30, 3)), format)
    monkeypatch.setattr(image_files, "MAX_PIXELS", 599)
    with pytest.raises(ValueError, match=r"big.file says that it has 30x20 pixels"):
        pictures.decode(content, "big.file")
    monkeypatch.setattr(image_files, "MAX_PIXELS", 600)
    assert pictures.decode(content, "big.file").shape == (20, 30, 3)


def test_a_turned_camera_is_read_as_it_is_served():
    image = Image.fromarray(pixels(8, 16, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(image, "JPEG", exif=exif)
    decoded = pictures.decode(content, "x")
    as_stored = np.asarray(Image.open(io.BytesIO(content)))
    # Row 0 of what is stored is the right side of what was seen.
    np.testing.assert_array_equal(decoded, np.rot90(as_stored, -1))
    np.testing.assert_array_equal(decoded, pillow_decoder.decode(content, (16, 8, 3)))
    for path in (
        pictures.decode(content, "x", exif_orientation=False),
        pillow_decoder.decode(content, (8, 16, 3), exif_orientation=False),
    ):
        np.testing.assert_array_equal(path, as_stored)


def test_a_turned_webp_is_turned_in_training():
    exif = Image.Exif()
    exif[0x0112] = 3
    image = pixels(8, 16, 3)
    content = encoded(Image.fromarray(image), "WEBP", exif=exif, lossless=True)
    np.testing.assert_array_equal(pictures.decode(content, "x"), image[::-1, ::-1])


def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def huge_png():
    """A hundred bytes that say they are 8,000 x 8,000 pixels."""
    size = struct.pack(">IIBBBBB", 8_000, 8_000, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + body


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: b"", "bad.png is no readable picture"),
        (lambda c: b"junk" * 20, "bad.png is no readable picture"),
        (lambda c: c[: len(c) // 2], "bad.png is no readable picture.*truncated"),
        (lambda c: c[:30], "bad.png is no readable picture"),
        (lambda c: c[:60] + bytes([c[60] ^ 255]) + c[61:], "bad.png is no readable"),
        (lambda c: huge_png(), "bad.png says that it has 8000x8000 pixels"),
        (lambda c: c[:-1], "bad.png is no readable picture: truncated"),
        (
            lambda c: encoded(Image.fromarray(pixels()[..., 0]), "GIF")[:40],
            "is no readable",
        ),
        (lambda c: encoded(Image.new("L", (3, 3)), "ICO"), "bad.png is an ICO picture"),
    ],
)
def test_bad_pictures_are_named(png, damage, message):
    with pytest.raises(ValueError, match=message):
        pictures.decode(damage(png(pixels(20, 20))), "bad.png")


def write_zip(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_omniglot_is_inverted_and_reduced(tmp_path, png):
    files = {}
    for character in ("Greek/character01", "Greek/character02"):
        for drawing in range(2):
            image = np.full((105, 105, 1), 255, np.uint8)
            image[:15, :15] = 0
            name = f"images_evaluation/{character}/{drawing}.png"
            files[name] = png(image)
    write_zip(tmp_path / "omniglot" / "images_evaluation.zip", files)
    source = pipelines.load("omniglot", data_dir=tmp_path)
    assert source.class_names == ("Greek/character01", "Greek/character02")
    assert source.roles == ("test",)
    images = source.test.images
    assert images.shape == (4, 28, 28, 1)
    # A triangle as wide as the reduction, 105 / 28 pixels to either side.
    centre = (np.arange(28)[:, None] + 0.5) * 3.75
    weights = (1 - np.abs(np.arange(105) + 0.5 - centre) / 3.75).clip(0)
    edge = (weights / weights.sum(axis=1, keepdims=True))[:, :15].sum(axis=1)
    expected = 255 * edge[:, None] * edge
    np.testing.assert_allclose(images[..., 0], [expected] * 4, atol=1.5)
    assert images[0, 0, 0, 0] == 255
    assert source.test.labels.tolist() == [0, 0, 1, 1]
    large = pipelines.load("omniglot", data_dir=tmp_path, image_shape=(105, 105, 3))
    assert large.test.images.shape == (4, 105, 105, 3)
    with pytest.raises(ValueError, match="omniglot has no train split"):
        _ = source.train


def test_cifar10_joins_its_training_zips(tmp_path, png):
    images = [pixels(4, 4, 3) for _ in range(30)]
    folder = tmp_path / "cifar10"
    for start, name in ((0, "train_0-14.zip"), (15, "train_15-29.zip")):
        rows = range(start, start + 15)
        write_zip(folder / name, {f"{i % 10}/{i:05}.png": png(images[i]) for i in rows})
    source = pipelines.load("cifar10[cat,dog]", data_dir=tmp_path)
    assert source.class_names == ("cat", "dog")
    received = np.concatenate([source.train.images, source.validation.images])
    expected = [images[i] for i in range(30) if i % 10 in (3, 5)]
    assert sorted(map(bytes, received)) == sorted(map(bytes, expected))


def test_the_training_images_of_cifar10_stand_for_all_of_it(tmp_path, png):
    images = [pixels(4, 4, 3) for _ in range(60)]
    folder = tmp_path / "cifar10"
    for rows, name in ((range(50), "train.zip"), (range(50, 60), "test.zip")):
        write_zip(folder / name, {f"{i % 2}/{i:05}.png": png(images[i]) for i in rows})
    source = pipelines.load("cifar10@training_images[0,1]", data_dir=tmp_path)
    splits = [source.train.images, source.validation.images, source.test.images]
    assert [*map(len, splits)] == [30, 10, 10]
    received = map(bytes, np.concatenate(splits))
    assert sorted(received) == sorted(map(bytes, images[:50]))
    assert len(source.whole_test()) == 50
    assert len(pipelines.load("cifar10[0,1]", data_dir=tmp_path).test) == 10
    with pytest.raises(FileNotFoundError, match=r"train\*\.zip in .*nowhere"):
        pipelines.load("cifar10@training_images", data_dir=tmp_path / "nowhere")


def test_cifar10_labels_are_checked(tmp_path, png):
    write_zip(tmp_path / "cifar10" / "test.zip", {"11/0.png": png(pixels(4, 4, 3))})
    with pytest.raises(ValueError, match=r"folders 0 to 9.*11/0.png"):
        _ = pipelines.load("cifar10", data_dir=tmp_path).test


def flip_in_picture(content):
    place = content.index(b"IDAT") + 12
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c[: len(c) // 2], "corrupt or unreadable zip"),
        (lambda c: b"<html>", "corrupt or unreadable zip"),
        (flip_in_picture, "corrupt or unreadable zip.*CRC"),
    ],
)
def test_damaged_zips_are_named(tmp_path, png, damage, message):
    path = tmp_path / "omniglot" / "images_evaluation.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Greek/character01/1.png", png(pixels(30, 30)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        _ = pipelines.load("omniglot", data_dir=tmp_path).test
    assert str(path) in str(error.value)


def test_a_truncated_picture_in_a_zip_is_named(tmp_path, png):
    path = tmp_path / "omniglot" / "images_evaluation.zip"
    write_zip(path, {"Greek/character01/1.png": png(pixels(30, 30))[:300]})
    with pytest.raises(ValueError, match=r"character01/1.png in .*zip is no readable"):
        _ = pipelines.load("omniglot", data_dir=tmp_path).test


def test_a_zip_without_pictures_is_explained(tmp_path):
    write_zip(tmp_path / "omniglot" / "images_evaluation.zip", {"notes.txt": b"hello"})
    with pytest.raises(ValueError, match="holds no pictures"):
        pipelines.load("omniglot", data_dir=tmp_path)


def test_a_huge_member_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 10_000)
    bomb = {"Greek/character01/1.png": bytes(20_000)}
    write_zip(tmp_path / "omniglot" / "images_evaluation.zip", bomb)
    with pytest.raises(ValueError, match="says that it has 20000 bytes"):
        pipelines.load("omniglot", data_dir=tmp_path)


def test_missing_zips_list_what_was_looked_for(tmp_path):
    with pytest.raises(DataNotFoundError) as error:
        pipelines.load("omniglot", data_dir=tmp_path)
    assert str(tmp_path / "omniglot" / "images_evaluation.zip") in str(error.value)
    with pytest.raises(DataNotFoundError, match=r"train\*.zip and test.zip"):
        pipelines.load("cifar10", data_dir=tmp_path)


def test_zips_leave_nothing_out_in_silence(tmp_path, png):
    path = tmp_path / "cifar10" / "test.zip"
    jpeg = encoded(Image.fromarray(pixels(4, 4, 3)), "JPEG")
    tiff = encoded(Image.fromarray(pixels(4, 4, 3)), "TIFF")
    files = {"3/0.png": png(pixels(4, 4, 3)), "3/1.jfif": jpeg, "3/2": jpeg}
    clutter = {"__MACOSX/3/._0.png": b"x", "3/.DS_Store": b"x", "3/Thumbs.db": b"x"}
    write_zip(path, files | clutter | {"3/3.tif": tiff, "3/4.TIF": tiff, "a.txt": b"x"})
    with pytest.warns(
        pipelines.DataWarning, match=r"3 files \(2 .tif \(TIFF\), 1 .txt"
    ):
        source = pipelines.load("cifar10", data_dir=tmp_path)
    assert source.test.labels.tolist() == [3, 3, 3]
    write_zip(path, files | clutter)
    assert len(pipelines.load("cifar10", data_dir=tmp_path).test) == 3


@pytest.mark.parametrize(
    "name", ["../3/0.png", "/3/0.png", "3/../../0.png", "C:/3/0.png"]
)
def test_names_that_climb_out_are_refused(tmp_path, png, name):
    write_zip(tmp_path / "cifar10" / "test.zip", {name: png(pixels(4, 4, 3))})
    with pytest.raises(ValueError, match="lies outside the folder"):
        pipelines.load("cifar10", data_dir=tmp_path)


def test_links_and_encrypted_members_are_refused(tmp_path, png):
    path = tmp_path / "cifar10" / "test.zip"
    write_zip(path, {})
    link = zipfile.ZipInfo("3/0.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="is a link"):
        pipelines.load("cifar10", data_dir=tmp_path)
    write_zip(path, {"3/0.png": png(pixels(4, 4, 3))})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is encrypted"):
        pipelines.load("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_unpack_at_once_are_refused(tmp_path, method):
    path = tmp_path / "cifar10" / "test.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("3/0.png", bytes(2**20))
    with pytest.raises(ValueError, match="compressed by method"):
        pipelines.load("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("says", [10, 100_000])
def test_a_member_that_lies_about_its_size_is_corrupt(tmp_path, png, says):
    path = tmp_path / "cifar10" / "test.zip"
    content = png(pixels(20, 20, 3))
    write_zip(path, {"3/0.png": content})
    size = struct.pack("<I", len(content))
    path.write_bytes(path.read_bytes().replace(size, struct.pack("<I", says)))
    with pytest.raises(ValueError, match="corrupt or unreadable zip"):
        _ = pipelines.load("cifar10", data_dir=tmp_path).test


def test_pictures_of_another_split_in_a_zip_are_refused(tmp_path, png):
    path = tmp_path / "cifar10" / "test.zip"
    write_zip(path, {"cifar/Testing/3/0.png": png(pixels(4, 4, 3))})
    assert len(pipelines.load("cifar10", data_dir=tmp_path).test) == 1
    write_zip(path, {"cifar/Training/3/0.png": png(pixels(4, 4, 3))})
    with pytest.raises(ValueError, match=r"Training/3/0.png in .* is for train.*test"):
        pipelines.load("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP"])
def test_pages_and_frames_that_are_left_out_are_named(tmp_path, format):
    first, *others = (
        Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (9, 99, 199)
    )
    first.save(tmp_path / "one", format, lossless=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pipelines.DataWarning)
        alone = pipelines.load(f"folder:{tmp_path}").whole_test().images
    options = {"save_all": True, "append_images": others, "lossless": True}
    first.save(tmp_path / "many", format, **options)
    with pytest.warns(pipelines.DataWarning, match=r"is used of .*many\. If"):
        both = pipelines.load(f"folder:{tmp_path}").whole_test().images
    np.testing.assert_array_equal(both, np.concatenate([alone, alone]))
