"""Image files in the graph and without TensorFlow, against what training reads."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ood_keras import image_files, resizing
from ood_keras.export import graph_checks, graph_pixels, image_bytes
from ood_keras.inference import pillow_decoder
from ood_keras.pipelines.sources import pictures

_GENERATOR = np.random.default_rng(0)
# Smooth, so that JPEG keeps it, with sizes that are multiples of nothing.
_ROWS, _COLUMNS = np.mgrid[0:23, 0:31]
COLOUR = np.stack(
    [_ROWS * 9, _COLUMNS * 8, 255 - _ROWS * 4 - _COLUMNS * 5], axis=-1
).astype(np.uint8)
GREY = _GENERATOR.integers(0, 256, (23, 31)).astype(np.uint8)
ALPHA = _GENERATOR.integers(0, 256, (23, 31)).astype(np.uint8)


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def picture_of(pixels, mode=None):
    picture = Image.fromarray(pixels)
    return picture.convert(mode) if mode else picture


def png_chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    )


def png(width, height, data, bits=8, colour=0):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", data)
        + png_chunk(b"IEND", b"")
    )


GREY_PNG = encoded(picture_of(GREY))
GREY_JPEG = encoded(picture_of(COLOUR[..., 0]), "JPEG")
FILES = {
    "grey": GREY_PNG,
    "colour": encoded(picture_of(COLOUR)),
    "grey_alpha": encoded(
        Image.merge("LA", [picture_of(GREY), picture_of(ALPHA)]), "PNG"
    ),
    "colour_alpha": encoded(picture_of(np.dstack([COLOUR, ALPHA]))),
    "one_bit": encoded(picture_of(GREY > 127)),
    "palette": encoded(picture_of(COLOUR).quantize(200)),
    "palette_2_bits": encoded(picture_of(COLOUR).quantize(4), bits=2),
    "palette_transparent": encoded(picture_of(COLOUR).quantize(200), transparency=3),
    "grey_transparent": encoded(picture_of(GREY), transparency=int(GREY[0, 0])),
    "jpeg_grey": GREY_JPEG,
    "jpeg_colour": encoded(picture_of(COLOUR), "JPEG", quality=95),
    "jpeg_progressive": encoded(picture_of(COLOUR), "JPEG", progressive=True),
    "jpeg_cmyk": encoded(picture_of(COLOUR, "CMYK"), "JPEG", quality=95),
}
SHAPES = [(23, 31, 1), (23, 31, 3), (10, 12, 1), (40, 60, 3), (12, 40, 1), (1, 1, 1)]

_decoders = {}


def in_graph(files, image_shape=(23, 31, 1)):
    if image_shape not in _decoders:
        _decoders[image_shape] = tf.function(
            lambda contents: image_bytes.decode(contents, image_shape),
            input_signature=[tf.TensorSpec([None], tf.string)],
            autograph=False,
        )
    return _decoders[image_shape](tf.constant(files, tf.string)).numpy()


def by_pillow(files, image_shape=(23, 31, 1)):
    images = np.full((len(files), *image_shape), np.nan, np.float32)
    for row, content in enumerate(files):
        pixels = pillow_decoder.decode(content, image_shape)
        if pixels is not None:
            assert pixels.dtype == np.uint8
            images[row] = pixels.astype(np.float32) / 255
    return images


@pytest.fixture(params=[in_graph, by_pillow])
def decode(request):
    return request.param


@pytest.fixture
def is_refused(decode):
    def refused(files):
        rows = decode(files).reshape(len(files), -1)
        assert (np.isnan(rows).all(1) == np.isnan(rows).any(1)).all()
        return np.isnan(rows).all(1)

    return refused


@pytest.mark.parametrize("image_shape", SHAPES)
def test_files_become_the_pixels_that_training_reads(decode, image_shape):
    images = decode(list(FILES.values()), image_shape)
    assert images.dtype == np.float32
    for image, (name, content) in zip(images, FILES.items(), strict=True):
        pixels = pictures.decode(content, name)
        expected = resizing.adapt(pixels[None], image_shape)[0]
        levels = image * np.float32(255)
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
        difference = np.abs(np.rint(levels) - expected)
        # Where an average falls between two levels, rounding may differ.
        assert difference.max() <= 1, name
        assert (difference > 0).mean() < 0.02, name


def test_grey_pixels_are_exact(decode):
    (image,) = decode([GREY_PNG])
    np.testing.assert_array_equal(image[..., 0], GREY.astype(np.float32) / 255)


def test_sixteen_bits_are_reduced_to_eight(decode):
    deep = _GENERATOR.integers(0, 65536, (23, 31)).astype(np.uint16)
    (image,) = decode([encoded(picture_of(deep))])
    assert np.abs(image[..., 0] - deep / 65535).max() <= 1 / 255
    colour = _GENERATOR.integers(0, 65536, (23, 31, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in colour)
    content = png(31, 23, zlib.compress(rows), bits=16, colour=2)
    (image,) = decode([content], (23, 31, 3))
    assert np.abs(image - colour / 65535).max() <= 1 / 255


def test_an_interlaced_png_is_read(decode):
    # One pixel is one pass, whichever way it is laced.
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 1)
    content = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b"\0\x80"))
        + png_chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(decode([content], (1, 1, 1)), np.float32(128 / 255))


def test_no_files_give_no_images(decode):
    assert decode([]).shape == (0, 23, 31, 1)


def test_order_is_kept_around_broken_files(decode):
    pixels = _GENERATOR.integers(0, 256, (20, 23, 31)).astype(np.uint8)
    files = [encoded(picture_of(one)) for one in pixels]
    broken = [0, 3, 4, 11, 19]
    for row in broken:
        files[row] = files[row][: 30 + row]
    images = decode(files)
    good = np.setdiff1d(np.arange(20), broken)
    np.testing.assert_array_equal(images[good, ..., 0], pixels[good] / np.float32(255))
    assert np.isnan(images[broken]).all()


def test_truncated_files_are_refused_wherever_they_end(is_refused):
    for content in (GREY_PNG, FILES["jpeg_progressive"]):
        assert is_refused([content[:length] for length in range(len(content))]).all()


def test_a_png_with_any_byte_changed_is_refused(is_refused):
    changed = []
    for place in range(len(GREY_PNG)):
        content = bytearray(GREY_PNG)
        content[place] ^= 1 << place % 8
        changed.append(bytes(content))
    assert is_refused(changed).all()


def test_a_jpeg_with_any_byte_changed_is_refused_or_an_image(decode, is_refused):
    changed = []
    for place in range(len(GREY_JPEG)):
        content = bytearray(GREY_JPEG)
        content[place] ^= 1 << place % 8
        changed.append(bytes(content))
    images = decode(changed)[~is_refused(changed)]
    assert len(images) and (images >= 0).all() and (images <= 1).all()


def test_what_follows_the_image_does_not_matter(decode):
    files = [GREY_PNG + b"more", GREY_JPEG + b"more"]
    np.testing.assert_array_equal(decode(files), decode([GREY_PNG, GREY_JPEG]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"junk",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0" + bytes(1000),
        b"\xff\xda" * 500,
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + bytes(1000),
        b"GIF89a" + bytes(100),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        GREY_PNG[1:],
        b"\0" + GREY_JPEG,
        *(encoded(picture_of(COLOUR), kind) for kind in ("GIF", "BMP", "WEBP", "TIFF")),
    ],
)
def test_other_content_is_refused(is_refused, content):
    assert is_refused([content]).all()


@pytest.mark.parametrize(
    "content",
    [
        png(31, 23, b""),
        png(31, 23, b"no zlib stream"),
        png(31, 23, zlib.compress(bytes(32 * 23))[:-4]),
        png(31, 23, zlib.compress(bytes(32 * 22))),
        png(0, 23, zlib.compress(bytes(23))),
        png(31, 0, zlib.compress(b"")),
        png(31, 23, zlib.compress(bytes(32 * 23)), bits=7),
        png(31, 23, zlib.compress(bytes(32 * 23)), colour=5),
        png(31, 23, zlib.compress(bytes(32 * 23)), colour=3),
    ],
    ids=range(9),
)
def test_a_png_with_right_checksums_and_wrong_content_is_refused(is_refused, content):
    assert is_refused([content]).all()


def rearranged(colour):
    """PNG files of one colour type, whole or not in the order that PNG asks for."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    data = zlib.compress(bytes(23 * (1 + 31 * channels)))
    first, *others = png(31, 23, data, colour=colour).split(png_chunk(b"IDAT", data))
    rest = b"".join(others)
    pixels, palette = png_chunk(b"IDAT", data), png_chunk(b"PLTE", bytes(range(30)))
    halves = [png_chunk(b"IDAT", half) for half in (data[:9], data[9:])]
    size = png_chunk(b"IHDR", first[16:29])
    sized = [png_chunk(b"PLTE", bytes(n)) for n in (0, 3, 767, 768, 771)]
    bodies = [
        [palette, pixels],
        [palette, *halves],
        [palette, halves[0], png_chunk(b"tEXt", b"a\0b"), halves[1]],
        [palette, halves[0], palette, halves[1]],
        [palette, palette, pixels],
        [palette, pixels, palette],
        [pixels],
        [pixels, palette],
        [size, palette, pixels],
        *([one, pixels] for one in sized),
    ]
    return [first + b"".join(body) + rest for body in bodies]


@pytest.mark.parametrize("colour", [0, 2, 3, 4, 6])
def test_the_order_within_a_png_matters_alike(colour):
    files = rearranged(colour)
    expected = in_graph(files, (23, 31, 1))
    np.testing.assert_array_equal(by_pillow(files), expected)
    refused = np.isnan(expected).any((1, 2, 3))
    assert not refused[:2].any() and refused[2:6].all()


def resized_jpeg(width, height):
    start = GREY_JPEG.index(b"\xff\xc0") + 5
    return (
        GREY_JPEG[:start] + struct.pack(">HH", height, width) + GREY_JPEG[start + 4 :]
    )


def test_images_of_enormous_declared_size_are_refused_quickly(decode, is_refused):
    long = image_files.MAX_SIDE + 1
    enormous = [
        png(2**31 - 1, 2**31 - 1, zlib.compress(bytes(1000))),
        png(2**32 - 1, 1, zlib.compress(bytes(1000))),
        png(1, 2**31, zlib.compress(bytes(1000))),
        png(65536, 65536, zlib.compress(bytes(1000))),
        png(long, 1, zlib.compress(bytes(long + 1))),
        png(1, long, zlib.compress(bytes(2 * long))),
        png(8193, 4096, zlib.compress(bytes(8194 * 4096), 1)),
        resized_jpeg(65500, 65500),
        resized_jpeg(16000, 16000),
        resized_jpeg(0, 23),
    ]
    decode([])
    start = time.monotonic()
    assert is_refused(enormous).all()
    assert time.monotonic() - start < 2


def test_the_largest_allowed_image_is_read(decode):
    rows = b"".join(b"\0" + bytes([row % 2 * 255]) * 8192 for row in range(4096))
    assert image_files.MAX_PIXELS == 8192 * 4096
    (image,) = decode([png(8192, 4096, zlib.compress(rows, 1))])
    np.testing.assert_allclose(image, 0.5, atol=0.01)


def test_a_jpeg_of_many_scans_is_refused_quickly(decode, is_refused):
    content = encoded(
        picture_of(np.full((2048, 2048), 128, np.uint8)), "JPEG", progressive=True
    )
    last = content.rindex(b"\xff\xda")
    few, many = (
        content[:last] + content[last:-2] * times + content[-2:] for times in (2, 9000)
    )
    decode([])
    start = time.monotonic()
    assert is_refused([many]).all()
    assert time.monotonic() - start < 2
    assert not is_refused([few]).any()


def test_what_is_unpacked_beside_the_pixels_is_left_alone(decode):
    bomb = png_chunk(b"zTXt", b"text\0\0" + zlib.compress(bytes(2**26), 9))
    content = GREY_PNG[:33] + bomb + GREY_PNG[33:]
    np.testing.assert_array_equal(decode([content]), decode([GREY_PNG]))
    unknown = png_chunk(b"ABCD", b"")
    assert np.isnan(decode([GREY_PNG[:33] + unknown + GREY_PNG[33:]])).all()


def test_work_is_bounded_by_what_the_header_says(decode, is_refused):
    rows = bytes(32 * 23)
    behind = png(31, 23, zlib.compress(rows + bytes(2**30)))
    texts = png_chunk(b"tEXt", b"") * 40_000
    whole = png(31, 23, zlib.compress(rows))
    hostile = [
        behind,
        whole[:33] + texts + whole[33:],
        GREY_JPEG[:2] + b"\xff\xfe\0\2" * 120_000 + GREY_JPEG[2:],
        GREY_JPEG[:2] + b"\xff\xda" * 500_000,
        GREY_JPEG[:2] + b"\xff\xfe" * 500_000,
        b"\xff\xd8" + b"\xff" * 1_000_000,
    ]
    decode(hostile[:1])
    start = time.process_time()
    assert is_refused(hostile).all()
    assert time.process_time() - start < 2


def test_a_zlib_stream_is_no_longer_than_any_encoder_makes_it(decode, is_refused):
    # Even and odd bytes, so that no match is found: literals of fixed Huffman codes.
    noise = _GENERATOR.integers(144, 256, (23, 31)).astype(np.uint8)
    rows = [b"\0" + row.tobytes() for row in noise]
    fixed = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_FIXED)
    longest = fixed.compress(b"".join(rows)) + fixed.flush()
    one_by_one = zlib.compressobj(0)
    stored = b"".join(
        one_by_one.compress(row) + one_by_one.flush(zlib.Z_FULL_FLUSH) for row in rows
    )
    stored += one_by_one.flush()
    for packed in (longest, stored):
        assert len(packed) > len(b"".join(rows))
        (image,) = decode([png(31, 23, packed)])
        np.testing.assert_array_equal(image[..., 0], noise / np.float32(255))
    whole = zlib.compress(b"".join(rows))
    empty = b"\0\0\0\xff\xff"  # A stored block of no bytes.
    assert not is_refused([png(31, 23, whole[:2] + empty * 9 + whole[2:])]).any()
    packed = whole[:2] + empty * 300 + whole[2:]
    assert is_refused([png(31, 23, packed)]).all()


def test_scans_are_those_of_the_image_and_of_nothing_else(decode):
    motion = GREY_JPEG + b"MotionPhoto_Data" + b"\xff\xda" * 500 + bytes(100_000)
    words = b"\xff\xda" * 500
    comment = b"\xff\xfe" + struct.pack(">H", len(words) + 2) + words
    commented = GREY_JPEG[:2] + comment + GREY_JPEG[2:]
    expected = decode([GREY_JPEG])
    for content in (motion, commented):
        np.testing.assert_array_equal(decode([content]), expected)


@pytest.mark.parametrize("old", [(900, 7), (7, 900), (40, 50), (3, 4), (12, 10)])
@pytest.mark.parametrize("background", [None, 200])
def test_blocks_of_a_large_image_make_the_same_image(old, background, monkeypatch):
    monkeypatch.setattr(graph_pixels, "_BLOCK", 500)
    channels = 3 if background is None else 4
    pixels = _GENERATOR.integers(0, 256, (*old, channels)).astype(np.uint8)
    at_once, in_blocks = (
        graph_pixels.adapt((12, 10, 3), resized, tf.constant(pixels), background)
        for resized in (graph_pixels.resize, graph_pixels.resize_in_blocks)
    )
    difference = np.abs(at_once.numpy().astype(int) - in_blocks.numpy())
    # Where an average falls between two levels, rounding may differ.
    assert difference.max() <= 1 and (difference > 0).mean() < 0.02


def test_large_images_are_read_as_in_training(monkeypatch):
    monkeypatch.setattr(graph_checks, "_FEW_PIXELS", 100)
    monkeypatch.setattr(graph_pixels, "_BLOCK", 500)
    decode = tf.function(
        lambda contents: image_bytes.decode(contents, (10, 12, 3)), autograph=False
    )
    files = [*FILES.values(), b"junk", FILES["colour"][:-20], FILES["jpeg_colour"][:99]]
    images = decode(tf.constant(files)).numpy()
    expected = by_pillow(files, (10, 12, 3))
    assert np.isnan(images[-3:]).all() and np.isnan(expected[-3:]).all()
    np.testing.assert_allclose(images, expected, atol=1.01 / 255)


def test_levels_are_those_of_a_division():
    levels = np.arange(256, dtype=np.uint8)
    scaled = tf.function(image_bytes.scaled)(tf.constant(levels))
    np.testing.assert_array_equal(scaled, levels.astype(np.float32) / np.float32(255))
