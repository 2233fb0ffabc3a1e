"""Image files against pixels that are known from how the file was made."""

import io
import pathlib
import struct
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from ood_keras import image_files

sys.path.insert(0, str(pathlib.Path(__file__).parent / "export"))

import jpeg_variants
import png_variants
from png_variants import chunk, header, join, rows_of

RANDOM = np.random.default_rng(0)
KINDS = [
    (colour, bits, laced)
    for colour, some in png_variants.BITS.items()
    for bits in some
    for laced in (0, 1)
]
GREY = RANDOM.integers(0, 256, (28, 28, 1)).astype(np.uint8)
ROWS = rows_of(GREY, 8, laced=0)
GREY_PNG = join([header(28, 28), (b"IDAT", zlib.compress(ROWS)), (b"IEND", b"")])


def png(samples, colour, bits, laced=0, *others):
    height, width = samples.shape[:2]
    packed = zlib.compress(rows_of(samples, bits, laced, RANDOM))
    return join(
        [
            header(width, height, bits, colour, laced),
            *others,
            (b"IDAT", packed),
            (b"IEND", b""),
        ]
    )


def jpeg(pixels, mode=None, **options):
    out = io.BytesIO()
    Image.fromarray(pixels, mode=mode).save(out, "JPEG", **options)
    return out.getvalue()


def composed(colour, alpha, background):
    """One value, by rounding the exact fraction."""
    return (2 * (alpha * colour + (255 - alpha) * background) + 255) // 510


def eight_bits(samples, bits):
    return samples >> 8 if bits == 16 else samples * (255 // (2**bits - 1))


@pytest.mark.parametrize(("colour", "bits", "laced"), KINDS)
@pytest.mark.parametrize("background", [None, 255, 0, 77])
def test_every_kind_of_png_has_the_pixels_that_were_stored(
    colour, bits, laced, background
):
    samples = RANDOM.integers(0, 2**bits, (11, 14, png_variants.SAMPLES[colour]))
    samples[2:5] = samples[0, 0]
    levels = eight_bits(samples, bits)
    others, alpha = [], np.full((11, 14, 1), 255)
    if colour in (4, 6):
        levels, alpha = levels[..., :-1], levels[..., -1:]
    elif colour == 3:
        palette = RANDOM.integers(0, 256, (2**bits, 3)).astype(np.uint8)
        transparent = RANDOM.integers(0, 256, 2**bits - 1).astype(np.uint8)
        others = [(b"PLTE", palette.tobytes()), (b"tRNS", transparent.tobytes())]
        levels = palette[samples[..., 0]].astype(int)
        alpha = np.append(transparent, 255)[samples[..., 0]][..., None].astype(int)
    else:
        others = [(b"tRNS", samples[0, 0].astype(">u2").tobytes())]
        alpha = np.where((samples == samples[0, 0]).all(-1, keepdims=True), 0, 255)
    expected = levels
    if background is not None:
        expected = composed(levels, alpha, background)
    received = image_files.read(png(samples, colour, bits, laced, *others), background)
    assert received.dtype == np.uint8
    np.testing.assert_array_equal(received, expected)


def test_a_transparent_colour_is_compared_in_all_of_its_bits():
    """Two colours of 16 bits that are one in 8."""
    samples = np.full((2, 2, 3), 0x4010)
    samples[0, 0, 2] = 0x4011
    key = (b"tRNS", np.array([0x4010] * 3, ">u2").tobytes())
    received = image_files.read(png(samples, 2, 16, 0, key))
    assert received[0, 0].tolist() == [0x40] * 3
    assert (received.reshape(4, 3)[1:] == 255).all()


def test_drawings_that_live_in_alpha_are_seen():
    alpha = RANDOM.integers(0, 256, (8, 9))
    samples = np.zeros((8, 9, 2), int)
    samples[..., 1] = alpha
    received = image_files.read(png(samples, 4, 8))
    np.testing.assert_array_equal(received[..., 0], 255 - alpha)
    assert not image_files.read(png(samples, 4, 8), 0).any()


def test_composing_rounds_every_pair_of_levels_right():
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    for background in (0, 1, 128, 254, 255):
        received = image_files.compose(
            colour[..., None].astype(np.uint8), alpha.astype(np.uint8), background
        )
        np.testing.assert_array_equal(
            received[..., 0], composed(colour, alpha, background)
        )


def test_a_colour_outside_the_palette_is_black():
    samples = np.array([[[0], [3]]])
    content = png(samples, 3, 2, 0, (b"PLTE", bytes([9, 8, 7])))
    assert image_files.read(content).tolist() == [[[9, 8, 7], [0, 0, 0]]]


def with_idat(*data, size=(28, 28), before=()):
    return join([header(*size), *before, *((b"IDAT", one) for one in data), (b"IEND",)])


PACKED = zlib.compress(ROWS)
DAMAGED = {
    "20 of 28 rows": (with_idat(zlib.compress(ROWS[: 20 * 29])), "pixels are missing"),
    "no rows": (with_idat(b""), "pixels are missing"),
    "no IDAT": (join([header(28, 28), (b"IEND",)]), "pixels are missing"),
    "a byte too many": (with_idat(zlib.compress(ROWS + b"\0")), "behind its last row"),
    "IDAT checksum": (
        join([header(28, 28), chunk(b"IDAT", PACKED, flip=1), (b"IEND",)]),
        "checksum of its chunk IDAT",
    ),
    "tRNS checksum": (
        with_idat(PACKED, before=[chunk(b"tRNS", b"\0\1", flip=1)]),
        "checksum of its chunk tRNS",
    ),
    "zlib checksum missing": (
        with_idat(PACKED[:-4]),
        "the end and the checksum of its pixels",
    ),
    "zlib checksum wrong": (with_idat(PACKED[:-1] + b"\0"), "cannot be unpacked"),
    "no IEND": (join([header(28, 28), (b"IDAT", PACKED)]), "truncated"),
    "IEND cut": (GREY_PNG[:-1], "truncated"),
    "cut": (GREY_PNG[:300], "truncated in its chunk IDAT"),
    "unknown critical": (with_idat(PACKED, before=[(b"CgBI", b"")]), "CgBI"),
    "name": (with_idat(PACKED, before=[(b"te t", b"")]), "is called"),
    "two IHDR": (with_idat(PACKED, before=[header(28, 28)]), "two IHDR"),
    "gap": (
        join(
            [
                header(28, 28),
                (b"IDAT", PACKED[:9]),
                (b"tEXt", b""),
                (b"IDAT", PACKED[9:]),
                (b"IEND",),
            ]
        ),
        "among its IDAT",
    ),
    "tRNS length": (with_idat(PACKED, before=[(b"tRNS", b"\0")]), "tRNS has 1 bytes"),
    "tRNS late": (
        join([header(28, 28), (b"IDAT", PACKED), (b"tRNS", b"\0\0"), (b"IEND",)]),
        "behind the pixels",
    ),
    "tRNS first": (
        join(
            [
                header(28, 28, 8, 3),
                (b"tRNS", b"\0"),
                (b"PLTE", bytes(3)),
                (b"IDAT", PACKED),
                (b"IEND",),
            ]
        ),
        "before the palette",
    ),
    "tRNS too long": (
        join(
            [
                header(28, 28, 8, 3),
                (b"PLTE", bytes(3)),
                (b"tRNS", bytes(2)),
                (b"IDAT", PACKED),
                (b"IEND",),
            ]
        ),
        "tRNS has 2 bytes, for colour type 3 of 1 colours",
    ),
    "no palette": (
        join([header(28, 28, 8, 3), (b"IDAT", PACKED), (b"IEND",)]),
        "no palette",
    ),
    "bits": (
        join([header(28, 28, 4, 2), (b"IDAT", PACKED), (b"IEND",)]),
        "do not go together",
    ),
    "filler": (
        with_idat(zlib.compress(ROWS, 0) + bytes(9000)),
        "bytes of compressed pixels",
    ),
    "too wide": (with_idat(PACKED, size=(16385, 1)), "expected 1 to 16384"),
    "empty": (with_idat(PACKED, size=(28, 0)), "expected 1 to 16384"),
    "too large": (with_idat(PACKED, size=(8192, 8192)), "at most 33554432 are read"),
    "nothing": (b"", "it is empty"),
    "text": (b"<svg/>", "neither PNG nor JPEG"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_no_whole_png_is_refused_with_its_reason(name):
    content, reason = DAMAGED[name]
    with pytest.raises(image_files.Refused, match=reason):
        image_files.read(content)


def test_stored_rows_and_what_follows_the_zlib_stream_are_read():
    packing, stored = zlib.compressobj(0), b""
    for start in range(0, len(ROWS), 29):
        stored += packing.compress(ROWS[start : start + 29])
        stored += packing.flush(zlib.Z_SYNC_FLUSH)
    for packed in (stored + packing.flush(), PACKED + b"more"):
        np.testing.assert_array_equal(image_files.read(with_idat(packed)), GREY)


def test_other_ancillary_chunks_change_nothing():
    extras = [
        (b"gAMA", struct.pack(">I", 220000)),
        (b"sRGB", b"\0"),
        (b"iCCP", b"junk"),
        (b"bKGD", b"\0\x80"),
        chunk(b"tEXt", b"wrong", flip=1),
    ]
    content = with_idat(PACKED[:7], b"", PACKED[7:], before=extras)
    np.testing.assert_array_equal(image_files.read(content), GREY)
    np.testing.assert_array_equal(image_files.read(content + b"\xff" * 99), GREY)


def seconds(content):
    start = time.process_time()
    with pytest.raises(image_files.Refused):
        image_files.read(content)
    return time.process_time() - start


def test_the_work_is_bounded_by_what_the_header_says():
    few = with_idat(PACKED, before=[(b"tEXt", b"")] * 250)
    np.testing.assert_array_equal(image_files.read(few), GREY)
    surplus = zlib.compressobj(9)
    packed = surplus.compress(ROWS) + b"".join(
        surplus.compress(bytes(2**20)) for _ in range(256)
    )
    assert seconds(with_idat(packed + surplus.flush())) < 0.1
    assert seconds(with_idat(PACKED, before=[(b"tEXt", b"")] * 40_000)) < 0.1
    # Says that it has 32 million pixels and holds none; few bytes that unpack to many.
    assert seconds(with_idat(PACKED, size=(8192, 4096))) < 0.1
    small = jpeg(np.zeros((8, 8), np.uint8))
    size = small.index(b"\xff\xc0") + 5
    large = small[:size] + struct.pack(">HH", 8192, 4096) + small[size + 4 :]
    assert seconds(large) < 0.1
    assert seconds(small[:2] + b"\xff\xfe\0\2" * 10_000 + small[2:]) < 0.1
    assert seconds(small[:-2] + b"\xff\x00" * 10**6) < 0.1


PIXELS = RANDOM.integers(0, 256, (24, 40, 3)).astype(np.uint8)
JPEG = jpeg(PIXELS, quality=90, progressive=True)


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def inserted(content, *, kind=0xFE, data=b"", place=2):
    return content[:place] + jpeg_variants.segment(kind, data) + content[place:]


@pytest.mark.parametrize(
    "content",
    [
        JPEG,
        JPEG + b"MotionPhoto_Data" + b"\xff\xda" * 500,
        JPEG + JPEG,
        inserted(JPEG, data=b"\xff\xda" * 70),
        inserted(JPEG, data=b"\xff\xd9\xff\xd8"),
        inserted(JPEG, kind=0xE1, data=b"Exif\0\0junk"),
        inserted(JPEG, kind=0xE0, data=b"JFIF\0"),
        inserted(JPEG, kind=0xEE, data=b"Adobe"),
        inserted(JPEG, place=JPEG.rindex(b"\xff\xc4")),
        JPEG[:2] + b"\xff" * 20 + JPEG[2:],
        JPEG[:20] + b"\0garbage\xff\0\xff\xd3" + JPEG[20:],
        JPEG[:-2] + b"\xff" * 20 + JPEG[-1:],
    ],
    ids=range(12),
)
def test_a_jpeg_is_read_whatever_lies_beside_its_image(content):
    np.testing.assert_array_equal(image_files.read(content), decoded(JPEG))


def exif(*entries, order=">", start=8, count=None, magic=None):
    """An EXIF segment's content; entries are `(tag, type, count, value)`."""
    magic = magic or {">": b"MM\0*", "<": b"II*\0"}[order]
    count = len(entries) if count is None else count
    tiff = magic + struct.pack(order + "I", start) + bytes(max(0, min(start, 99) - 8))
    tiff += struct.pack(order + "H", count)
    tiff += b"".join(struct.pack(order + "HHIHxx", *entry) for entry in entries)
    return b"Exif\0\0" + tiff


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_s_note_turns_the_image_as_pillow_does(orientation, order):
    note = exif((0x010F, 2, 3, 0), (0x0112, 3, 1, orientation), order=order)
    content = inserted(JPEG, kind=0xE1, data=note)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(image_files.read(content), np.asarray(upright))
    np.testing.assert_array_equal(
        image_files.read(content, exif_orientation=False), decoded(JPEG)
    )


SIDEWAYS = (0x0112, 3, 1, 6)


@pytest.mark.parametrize(
    "note",
    [
        exif(),
        exif((0x0112, 3, 1, 0)),
        exif((0x0112, 3, 1, 9)),
        exif((0x0112, 4, 1, 6)),
        exif((0x0112, 3, 2, 6)),
        exif((0x0112, 3, 1, 1), SIDEWAYS),
        exif(SIDEWAYS, magic=b"MM\0+"),
        exif(SIDEWAYS)[:-1],
        exif(SIDEWAYS, start=2**31),
        exif(SIDEWAYS, count=0),
        exif(SIDEWAYS).replace(b"Exif\0\0", b"Exif\0x"),
        exif(SIDEWAYS)[:13],
    ],
    ids=range(12),
)
def test_a_note_that_makes_no_sense_says_nothing(note):
    content = inserted(JPEG, kind=0xE1, data=note)
    np.testing.assert_array_equal(image_files.read(content), decoded(JPEG))


def test_a_note_in_a_png_is_ignored():
    note = exif(SIDEWAYS).removeprefix(b"Exif\0\0") + bytes(4)
    head, *others = [header(28, 28), (b"IDAT", zlib.compress(ROWS)), (b"IEND", b"")]
    content = join([head, (b"eXIf", note), *others])
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.getexif()[0x0112] == 6
    np.testing.assert_array_equal(image_files.read(content), GREY)


def test_the_first_note_before_the_pixels_counts():
    turned = np.rot90(decoded(JPEG), -1)
    first = inserted(
        inserted(JPEG, kind=0xE1, data=exif((0x0112, 3, 1, 3))),
        kind=0xE1,
        data=exif(SIDEWAYS),
    )
    np.testing.assert_array_equal(image_files.read(first), turned)
    for content in (
        inserted(JPEG, kind=0xE1, data=exif(SIDEWAYS), place=JPEG.rindex(b"\xff\xda")),
        inserted(JPEG, kind=0xE2, data=exif(SIDEWAYS)),
    ):
        np.testing.assert_array_equal(image_files.read(content), decoded(JPEG))
    # More entries are said than there are: those that are there count.
    content = inserted(JPEG, kind=0xE1, data=exif(SIDEWAYS, count=500))
    np.testing.assert_array_equal(image_files.read(content), turned)


def frame(content, kind=None, **fields):
    start = next(
        content.index(bytes([0xFF, one]))
        for one in (0xC2, 0xC0)
        if bytes([0xFF, one]) in content
    )
    content = bytearray(content)
    if kind is not None:
        content[start + 1] = kind
    for place, value in fields.items():
        content[start + int(place[1:])] = value
    return bytes(content)


PLAIN = jpeg(PIXELS)
LAST_SCAN = JPEG.rindex(b"\xff\xda")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (JPEG[:-2], "no end marker"),
        (JPEG[:LAST_SCAN], "no end marker"),
        (JPEG[:700], "truncated"),
        (JPEG[:LAST_SCAN] + b"\xff\xd9", "scans are missing"),
        (PLAIN.replace(b"\xff\xda\0\x0c\3", b"\xff\xda\0\x0c\4"), "a scan has"),
        (JPEG[:-2] + JPEG[LAST_SCAN:-2] * 65 + JPEG[-2:], "more than 64 scans"),
        (b"\xff\xd8" + jpeg_variants.segment(0xFE) * 300 + JPEG[2:], "more than 2"),
        (frame(PLAIN, 0xC9), "0xFFC9"),
        (frame(PLAIN, 0xC3), "0xFFC3"),
        (frame(PLAIN, p4=12), "of 12 bits"),
        (frame(PLAIN, p9=2), "2 components"),
        (frame(PLAIN, p5=0, p6=0), "expected 1 to 16384"),
        (frame(PLAIN, p3=18), "wrong length"),
        (frame(PLAIN, p13=1), "have one name"),
        (inserted(PLAIN, kind=0xCC, data=b"\0\x10"), "0xFFCC"),
        (inserted(PLAIN, kind=0x02), "0xFF02"),
        (PLAIN[:2] + b"\xff\xd8" + PLAIN[2:], "0xFFD8"),
        (PLAIN[:2] + b"\xff\xfe\0\1" + PLAIN[2:], "truncated in a segment"),
        (PLAIN[: PLAIN.index(b"\xff\xda")] + b"\xff\xd9", "no pixels"),
        (b"\xff\xd8" + PLAIN[PLAIN.index(b"\xff\xda") :], "before its size"),
        (PLAIN[:-2] + PLAIN[PLAIN.index(b"\xff\xc0") :], "its size twice"),
    ],
    ids=range(21),
)
def test_what_is_no_whole_jpeg_is_refused_with_its_reason(content, reason):
    with pytest.raises(image_files.Refused, match=reason):
        image_files.read(content)


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_becomes_rgb_by_products(adobe):
    """Of even inks, which JPEG keeps; Pillow writes them as Adobe does."""
    for inks in ((0, 0, 0, 0), (255, 0, 100, 30), (10, 20, 30, 40), (0, 0, 0, 255)):
        pixels = np.full((8, 8, 4), inks, np.uint8)
        content = jpeg(pixels, "CMYK", quality=100)
        if not adobe:
            content = jpeg_variants.join(
                [one for one in jpeg_variants.parse(content) if one[0] != 0xEE]
            )
            # What is stored is 255 - ink, and now is taken for the ink.
            inks = [255 - ink for ink in inks]
        expected = [(255 - inks[3]) * (255 - ink) // 255 for ink in inks[:3]]
        received = image_files.read(content).astype(int)
        assert np.abs(received - expected).max() <= 1
        assert received.shape == (8, 8, 3)


def test_backgrounds_are_named_or_levels():
    for value, level in {"white": 255, "black": 0, "77": 77, 0: 0, 255: 255}.items():
        assert image_files.check_background(value) == level
    for value in ("red", "-1", "256", 256, -1, True, 1.5, None, "", [255]):
        with pytest.raises(ValueError, match="white, black, or a grey level"):
            image_files.check_background(value)
