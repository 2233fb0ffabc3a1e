"""Pictures of every format become PNG files of the pixels that Pillow finds in them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ood_keras import image_files, transcoding
from ood_keras.inference import pillow_decoder
from ood_keras.pipelines.sources import pictures

RANDOM = np.random.default_rng(0)


def encode(pixels, format, **options):
    file = io.BytesIO()
    array = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    Image.fromarray(array).save(file, format, **options)
    return file.getvalue()


def smooth(height=48, width=64, channels=3):
    """Pixels that lossy formats hardly change."""
    rows, columns = np.mgrid[:height, :width]
    planes = [rows * 3, columns * 3, rows + columns][:channels]
    return np.stack(planes, -1).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("format", ["TIFF", "BMP", "GIF", "WEBP"])
def test_what_loses_nothing_keeps_its_pixels(format, channels):
    pixels = RANDOM.integers(0, 256, (7, 9, channels), np.uint8)
    options = {"lossless": True} if format == "WEBP" else {}
    content = encode(pixels, format, **options)
    read = transcoding.as_read(content)
    assert read.startswith(image_files.PNG)
    found = image_files.read(read)
    if channels == 1 and found.shape[-1] == 3:
        # WebP knows no grey, and GIF none of other levels than its palette.
        assert format in ("WEBP", "GIF")
        pixels = np.repeat(pixels, 3, axis=-1)
    np.testing.assert_array_equal(found, pixels)
    np.testing.assert_array_equal(pictures.decode(content, "x"), pixels)


def test_what_is_no_picture_is_refused_without_words_of_the_decoder():
    with pytest.raises(image_files.Refused, match="of none of PNG, JPEG") as refused:
        transcoding.as_read(b"no picture at all")
    assert "Error" not in str(refused.value)


@pytest.mark.parametrize("format", ["AVIF", "HEIC"])
def test_what_phones_write_is_read_with_the_right_package(format):
    if format not in transcoding.formats():
        pytest.skip(f"nothing here reads {format}: {transcoding.find_cure(format)}")
    if format == "HEIC":
        import pillow_heif

        pillow_heif.register_heif_opener()
    pixels = smooth()
    content = encode(pixels, "HEIF" if format == "HEIC" else format, quality=95)
    found = image_files.read(transcoding.as_read(content))
    assert found.shape == pixels.shape
    assert np.abs(found.astype(int) - pixels).mean() < 4


def test_alpha_is_kept_for_the_background():
    pixels = RANDOM.integers(0, 256, (5, 6, 4), np.uint8)
    content = encode(pixels, "TIFF")
    for background in (255, 0, 99):
        expected = image_files.compose(pixels[..., :3], pixels[..., 3], background)
        read = transcoding.as_read(content)
        np.testing.assert_array_equal(image_files.read(read, background), expected)
        np.testing.assert_array_equal(
            pictures.decode(content, "x", background), expected
        )


def test_sixteen_bits_become_the_upper_eight():
    deep = RANDOM.integers(0, 2**16, (4, 5)).astype(np.uint16)
    found = image_files.read(transcoding.as_read(encode(deep, "TIFF")))
    np.testing.assert_array_equal(found[..., 0], deep >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["TIFF", "WEBP"])
def test_a_turned_camera_is_heeded(format, orientation):
    pixels = RANDOM.integers(0, 256, (4, 6, 3), np.uint8)
    exif = Image.Exif()
    exif[image_files.ORIENTATION_TAG] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    content = encode(pixels, format, exif=exif, **options)
    turned = image_files.read(transcoding.as_read(content))
    np.testing.assert_array_equal(turned, image_files.turn(pixels, orientation))
    if format == "WEBP":  # Pillow turns a TIFF in any case.
        left = image_files.read(transcoding.as_read(content, exif_orientation=False))
        np.testing.assert_array_equal(left, pixels)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_what_is_read_as_it_is_stays_as_it_is(format):
    content = encode(smooth(), format)
    assert transcoding.as_read(content) is content
    assert transcoding.as_read(b"") == b""


@pytest.mark.parametrize(
    ("most", "scale"), [(3072, 1), (3071, 2), (768, 2), (767, 4), (100, 8), (47, 16)]
)
def test_large_jpegs_are_reduced_as_libjpeg_does(most, scale, monkeypatch):
    content = encode(smooth(), "JPEG", quality=95)
    monkeypatch.setattr(image_files, "MAX_PIXELS", most)
    if scale > 8:
        with pytest.raises(image_files.Refused, match="at most 47 are read"):
            image_files.read(transcoding.as_read(content))
        return
    found = image_files.read(transcoding.as_read(content))
    with Image.open(io.BytesIO(content)) as picture:
        picture.draft("RGB", (64 // scale, 48 // scale))
        expected = np.asarray(picture)
    assert found.shape == (48 // scale, 64 // scale, 3)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(pictures.decode(content, "x"), expected)


def test_a_large_jpeg_is_turned_and_one_that_is_too_large_refused(monkeypatch):
    exif = Image.Exif()
    exif[image_files.ORIENTATION_TAG] = 6
    content = encode(smooth(), "JPEG", exif=exif)
    monkeypatch.setattr(image_files, "MAX_PIXELS", 1000)
    assert image_files.read(transcoding.as_read(content)).shape == (32, 24, 3)
    left = image_files.read(transcoding.as_read(content, exif_orientation=False))
    assert left.shape == (24, 32, 3)
    pictures.check(content, "x")
    assert pillow_decoder.decode(content, (8, 8, 3)) is None  # As the graph does.
    monkeypatch.setattr(image_files, "MAX_REDUCED_PIXELS", 3000)
    with pytest.raises(ValueError, match=r"x says .* 64x48 pixels; at most 1000"):
        pictures.decode(content, "x")


def test_what_is_not_read_here_says_what_would(monkeypatch):
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    avif = b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(40)
    monkeypatch.setattr(transcoding, "formats", lambda: transcoding.FIRST_FORMATS)
    with pytest.raises(image_files.Refused, match=r"HEIC.*pip install pillow-heif"):
        transcoding.as_read(heic)
    with pytest.raises(image_files.Refused, match=r"AVIF.*Pillow 11\.3"):
        transcoding.as_read(avif)
    with pytest.raises(image_files.Refused, match=r"is a TIFF picture.*Convert it"):
        transcoding.as_read(encode(smooth(), "TIFF"))
    with pytest.raises(image_files.Refused, match=r"of none of PNG.*WEBP\. "):
        transcoding.as_read(b"no picture at all")


@pytest.mark.parametrize("format", ["TIFF", "WEBP", "GIF", "BMP"])
def test_half_a_file_is_refused(format):
    content = encode(smooth(), format)
    with pytest.raises(image_files.Refused, match="no readable picture"):
        transcoding.as_read(content[: len(content) // 3])


def test_the_camera_s_heic_is_read(real_data_dir):
    if "HEIC" not in transcoding.formats():
        pytest.skip("pillow-heif, which reads HEIC, is not installed")
    content = (real_data_dir / "camera_photos" / "IMG_5195.HEIC").read_bytes()
    found = pictures.decode(content, "x")
    assert sorted(found.shape) == [3, 2566, 3313]
    assert found.std() > 20


def tiff(content, tags):
    """A grey TIFF file; of the tags, `None` is where the content begins."""
    start = 8 + 2 + 12 * len(tags) + 4
    entries = (
        struct.pack("<HHII", tag, 4, 1, start if value is None else value)
        for tag, value in sorted(tags.items())
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + b"".join(entries) + bytes(4) + content


def tiled_tiff(picture_side, tile_side):
    """One deflated tile, of which only a corner is shown."""
    tile = zlib.compress(bytes(tile_side**2), 9)
    tags = {256: picture_side, 257: picture_side, 258: 8, 259: 8, 262: 1, 277: 1}
    tile_tags = {322: tile_side, 323: tile_side, 324: None, 325: len(tile)}
    return tiff(tile, tags | tile_tags)


@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_grey_of_any_depth_goes_from_black_to_white(bits, white_is_zero):
    content = {8: b"\0\xff", 12: b"\0\x0f\xff", 16: b"\0\0\xff\xff"}[bits]
    tags = {256: 2, 257: 1, 258: bits, 259: 1, 262: 0 if white_is_zero else 1}
    strip = {273: None, 277: 1, 278: 1, 279: len(content)}
    if bits == 12 and white_is_zero:
        with pytest.raises(image_files.Refused, match="no readable picture"):
            transcoding.as_read(tiff(content, tags | strip))
        return
    found = image_files.read(transcoding.as_read(tiff(content, tags | strip)))
    assert found.ravel().tolist() == ([255, 0] if white_is_zero else [0, 255])


def test_a_tile_is_not_far_larger_than_its_picture():
    assert transcoding.as_read(tiled_tiff(16, 1024))
    bomb = tiled_tiff(16, 4096)
    assert len(bomb) < 20_000
    with pytest.raises(image_files.Refused, match="16x16 pixels in tiles of 4096x4096"):
        transcoding.as_read(bomb)
