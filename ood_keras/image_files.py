"""What is read of an image file, and how it becomes pixels: one set of rules for all.

Training, the runtimes without TensorFlow and the graph of a SavedModel
(`export.image_bytes`) read the same PNG and JPEG files, make the same pixels of them
and refuse the same ones. A file is checked from its own words before anything of it is
unpacked, so that time and memory grow with its bytes and with the pixels that it
declares, never with what else it holds.

Both formats:

* at least 1 and at most `MAX_SIDE` rows and columns, at most `MAX_PIXELS` pixels;
* at most `MAX_PARTS` chunks or segments and one more for each `PART_BYTES` bytes;
* what follows the end of the image is ignored.

PNG:

* the signature; chunks up to IEND, whose names are letters and whose lengths fit;
  IHDR once, first, 13 bytes long, with a combination of bits and colour type that the
  standard has;
* IDAT chunks one behind the other; PLTE at most once and before them; a palette image
  has one, of 1 to 256 colours, others ignore it, but it is never empty;
* IHDR, PLTE, IDAT, IEND and tRNS have the right checksum; any other critical chunk is
  refused, any other ancillary one ignored unread: gamma and profiles change nothing;
* tRNS at most once, before IDAT, behind PLTE, never beside an alpha channel, and of the
  length that its colour type asks for (for a palette 1 to as many bytes as it has
  colours, and the bits can name);
* the zlib stream of the IDAT chunks is whole, with its checksum, and holds exactly the
  rows that IHDR declares; it is not longer than `max_packed_bytes` of them, and not too
  short to hold them (deflate packs 1,032 bytes into one at best);
* 16 bits become the upper 8; a colour of the palette that does not exist is black.

JPEG:

* segments up to EOI; a segment starts at the next 0xFF whose follower is no 0x00, 0x01
  (TEM), 0xD0 to 0xD7 (restart) or 0xFF (filling); what lies before it belongs to a
  scan, or is skipped;
* only DHT, DQT, DRI, APPn, COM, DNL (ignored), SOS and one frame: SOF0, SOF1 or SOF2
  before the first scan, of 8 bits and 1, 3 or 4 components of different names. So no
  arithmetic coding, no lossless or hierarchical frames, and a height that stands in the
  frame;
* at least 1 and at most `MAX_JPEG_SCANS` scans; those of a progressive JPEG give all 64
  coefficients of every component in full, at the latest by their last scan, since
  decoders guess at what is left out, each in its own way;
* at most `JPEG_PIXELS_A_BYTE` pixels for each byte of the file, twice what any Huffman
  code can reach;
* a camera's note on which side is up (EXIF's orientation, `orientation_of`) is heeded:
  that of the first APP1 segment before the first scan that begins with "Exif"; one
  that makes no sense says nothing. A PNG's is ignored, since cameras write no PNG;
* no APP0 and no APP14 (JFIF's and Adobe's segment, which say how colours are stored)
  behind the first scan, where some decoders heed them and others have decided;
* four components are C, M, Y and K (or are converted to them from YCCK), which Adobe's
  segment says are stored as 255 - ink; red is `(255 - C) (255 - K) // 255` of the inks,
  green and blue likewise of M and Y.

A JPEG has no checksum: one whose damage still decodes cannot be told from a good one.

Alpha of either depth, of a palette, or of a transparent colour is laid on a grey
`background`, on 8 bits: `compose`.
"""

import io
import re
import struct
import typing
import zlib

import numpy as np

from ood_keras.conventions import is_integer

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"

# A photograph of 24 megapixels is read; 2 GB of memory decode the largest file.
MAX_PIXELS = 2**25
MAX_SIDE = 2**14
# A JPEG of up to so many, such as the 108 megapixels of a phone, is reduced while it is
# decoded, before a graph sees it: see `transcoding`.
MAX_REDUCED_PIXELS = 2**27
MAX_PARTS = 256
PART_BYTES = 512
# A progressive JPEG has about ten scans; each one, however short, costs a pass over the
# image, so that a small file with thousands would hold a server for minutes.
MAX_JPEG_SCANS = 64
JPEG_PIXELS_A_BYTE = 1024
# Deflate writes at most 258 bytes for two bits.
DEFLATE_RATIO = 1032
# White: most drawings with a transparent ground were made to stand on it.
BACKGROUND = 255

# The bits that each colour type of a PNG may have, and its samples in a pixel.
PNG_BITS = {
    0: (1, 2, 4, 8, 16),
    2: (8, 16),
    3: (1, 2, 4, 8),
    4: (8, 16),
    6: (8, 16),
}
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# The first column and row of each pass, and the steps between them.
PNG_PASSES = {
    0: [(0, 0, 1, 1)],
    1: [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ],
}
JPEG_FRAMES = (0xC0, 0xC1, 0xC2)
# For each orientation of EXIF, from 1 on: whether rows and columns change places, and
# then the order of rows, and of columns, is reversed.
TURNS = (
    (False, False, False),
    (False, False, True),
    (False, True, True),
    (False, True, False),
    (True, False, False),
    (True, False, True),
    (True, True, True),
    (True, True, False),
)
# JFIF's and Adobe's, which say how colours are stored.
JPEG_COLOURS = (0xE0, 0xEE)
# DHT, DQT, DNL, DRI, COM and APP0 to APP15.
JPEG_SEGMENTS = (0xC4, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0))

EXIF = b"Exif\0\0"
ORIENTATION_TAG, SHORT = 0x0112, 3
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_NAMED_BACKGROUNDS = {"white": 255, "black": 0}
_SLICE = 2**16


class Refused(ValueError):
    """An image file is not read. The message goes on where the file's name ends."""


class _Png(typing.NamedTuple):
    width: int
    height: int
    bits: int
    colour: int
    laced: int
    palette: bytes | None
    transparency: bytes | None
    packed: bytes


def read(
    content: bytes,
    background: int | None = BACKGROUND,
    exif_orientation: bool = True,
) -> np.ndarray:
    """Returns the pixels of a PNG or JPEG file.

    Args:
        content: The bytes of the file.
        background: Grey level from 0 to 255 on which transparent pixels are laid;
            `None` drops alpha, as models do that were exported before there was one.
        exif_orientation: Whether to turn a JPEG as its camera's note says. Models that
            were exported before there was this argument do not.

    Returns:
        uint8 `(height, width, channels)`: 1 channel where the file is grey, else RGB.

    Raises:
        Refused: by one of the rules above, with the reason and what to do.
    """
    if content.startswith(PNG):
        return _read_png(content, background)
    if content.startswith(JPEG):
        return _read_jpeg(content, exif_orientation)
    raise _format_error(content)


def check(content: bytes) -> None:
    """Raises `Refused` if a file's own words say that it is not read.

    All that `read` checks before it decodes: most damage is found, in a small part of
    the time.
    """
    if content.startswith(PNG):
        _check_rows(_walk_png(content))
    elif content.startswith(JPEG):
        _walk_jpeg(content)
    else:
        raise _format_error(content)


def compose(
    colour: np.ndarray, alpha: np.ndarray, background: int | None = BACKGROUND
) -> np.ndarray:
    """Lays colour on a background: `(a c + (255 - a) b + 127) // 255`, on integers.

    Args:
        colour: uint8 `(height, width, channels)`.
        alpha: uint8 `(height, width)`: 0 is transparent, 255 opaque.
        background: Grey level from 0 to 255; `None` returns `colour`.
    """
    if background is None:
        return colour
    # No sum exceeds 255 * 255 + 127.
    alpha = alpha[..., np.newaxis].astype(np.uint16)
    laid = alpha * colour + (255 - alpha) * np.uint16(background)
    return ((laid + np.uint16(127)) // 255).astype(np.uint8)


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns and mirrors an image so that it stands as EXIF's orientation says.

    Args:
        pixels: `(height, width, ...)`.
        orientation: From 1 (as it is) to 8; see the EXIF standard.
    """
    swapped, rows_back, columns_back = TURNS[orientation - 1]
    if swapped:
        pixels = pixels.swapaxes(0, 1)
    if rows_back:
        pixels = pixels[::-1]
    if columns_back:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def orientation_of(tiff: bytes) -> int:
    """Returns the orientation, 1 to 8, that the TIFF block of an EXIF segment states.

    1, as it is, if it states none: the first entry of the first directory with the tag
    0x0112 decides, and must be one number of 16 bits from 1 to 8.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    if len(tiff) < start + 2:
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for entry in range(min(count, (len(tiff) - start - 2) // 12)):
        tag, kind, number, value = struct.unpack_from(
            order + "HHIH", tiff, start + 2 + 12 * entry
        )
        if tag == ORIENTATION_TAG:
            is_one = (kind, number) == (SHORT, 1) and 1 <= value <= len(TURNS)
            return value if is_one else 1
    return 1


def check_background(value: str | int) -> int:
    """Returns the grey level of a background, or raises.

    Args:
        value: "white", "black", or an integer from 0 to 255, which may be text.
    """
    level = _NAMED_BACKGROUNDS.get(value, value) if isinstance(value, str) else value
    if isinstance(level, str) and level.isascii() and level.isdecimal():
        level = int(level)
    if isinstance(level, str) or not is_integer(level) or not 0 <= level <= 255:
        raise ValueError(
            "`background` is what transparent pixels are laid on: white, black, or a "
            f"grey level from 0 to 255. Received: background={value!r}"
        )
    return int(level)


def check_size(width: int, height: int, most: int | None = None) -> None:
    """Raises `Refused` unless an image of this size is read.

    Args:
        width: In pixels.
        height: In pixels.
        most: The most pixels; `None` is `MAX_PIXELS`.
    """
    most = MAX_PIXELS if most is None else most
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise Refused(
            f"says that it is {width} pixels wide and {height} high; expected 1 to "
            f"{MAX_SIDE}. Resize it"
        )
    if width * height > most:
        raise Refused(
            f"says that it has {width}x{height} pixels; at most {most} are read. "
            "Make it smaller"
        )


def is_large_jpeg(content: bytes) -> bool:
    """Whether a JPEG has more than `MAX_PIXELS`, and is otherwise one that is read."""
    # No smaller file can hold so many pixels.
    if len(content) * JPEG_PIXELS_A_BYTE <= MAX_PIXELS:
        return False
    try:
        _walk_jpeg(content)
    except Refused:
        try:
            _walk_jpeg(content, MAX_REDUCED_PIXELS)
        except Refused:
            return False
        return True
    return False


def reduce_jpeg(content: bytes, exif_orientation: bool = True) -> np.ndarray:
    """Returns a JPEG at the largest of 1/2, 1/4 and 1/8 that has few enough pixels.

    Args:
        content: The bytes of a JPEG file of at most `MAX_REDUCED_PIXELS`.
        exif_orientation: Whether to turn it as its camera's note says.

    Returns:
        uint8 `(height, width, channels)`, at most `MAX_PIXELS`.

    Raises:
        Refused: by one of the rules above.
    """
    return _read_jpeg(content, exif_orientation, MAX_REDUCED_PIXELS)


def most_parts(num_bytes: int) -> int:
    """How many chunks or segments a file of so many bytes may have."""
    return MAX_PARTS + num_bytes // PART_BYTES


def max_packed_bytes(num_bytes: int, height: int) -> int:
    """How long the zlib stream of so many bytes of rows may be.

    No encoder takes more: fixed Huffman codes are nine bits for eight, and rows that
    are stored one by one take five bytes more each (a laced image has twice as many).
    """
    return num_bytes + num_bytes // 8 + 16 * height + 64


def _read_png(content: bytes, background: int | None) -> np.ndarray:
    png = _walk_png(content)
    _check_rows(png)
    if png.colour == 3:
        return _of_palette(png, background)
    pixels = _png_pixels(png)
    if png.colour in (4, 6):
        # Pillow repeats a grey of 16 bits with alpha three times.
        colour = pixels[..., : PNG_SAMPLES[png.colour] - 1]
        return compose(colour, pixels[..., -1], background)
    if png.transparency is None or background is None:
        return pixels
    return compose(pixels, _alpha_of_key(png, pixels), background)


def _walk_png(content):
    """The `_Png` that a file is, after all checks but those of the rows."""
    if content[8:16] != b"\0\0\0\rIHDR":
        raise _damage_error("a PNG file starts with the chunk IHDR of 13 bytes")
    view, position = memoryview(content), len(PNG)
    found = {b"IHDR": [], b"PLTE": [], b"tRNS": [], b"IDAT": []}
    last, most = b"", most_parts(len(content))
    for _ in range(most):
        if len(content) < position + 12:
            raise _damage_error("truncated, it has no chunk IEND")
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if len(content) < end:
            raise _damage_error(f"truncated in its chunk {_show(kind)}")
        if not (kind.isascii() and kind.isalpha()):
            raise _damage_error(f"a chunk is called {kind!r}")
        if kind in found or kind == b"IEND":
            (checksum,) = struct.unpack_from(">I", content, end - 4)
            if zlib.crc32(view[position + 4 : end - 4]) != checksum:
                raise _damage_error(f"the checksum of its chunk {_show(kind)} is wrong")
            if kind == b"IEND":
                break
            _check_place(kind, last, found)
            found[kind].append(view[position + 8 : end - 4])
        elif kind[0] & 0x20 == 0:
            raise Refused(
                f"needs the chunk {_show(kind)}, which is not of the PNG standard. "
                "Save it again as a plain PNG, or remove it"
            )
        last, position = kind, end
    else:
        raise Refused(
            f"has more than {most} chunks, the most for a file of {len(content)} "
            "bytes. Save it again, or remove it"
        )
    return _check_png(found)


def _check_place(kind, last, found):
    """Raises if a chunk may not stand where it does."""
    if kind == b"IDAT":
        if found[kind] and last != kind:
            raise _damage_error("another chunk stands among its IDAT chunks")
    elif found[kind]:
        raise _damage_error(f"it has two {_show(kind)} chunks")
    elif found[b"IDAT"]:
        raise _damage_error(f"its chunk {_show(kind)} stands behind the pixels")
    elif kind == b"PLTE" and found[b"tRNS"]:
        raise _damage_error("its chunk tRNS stands before the palette")


def _check_png(found):
    """The `_Png` of the content of its chunks."""
    (header,) = found[b"IHDR"]
    width, height, bits, colour, packing, filtering, laced = struct.unpack(
        ">IIBBBBB", header
    )
    check_size(width, height)
    if (
        bits not in PNG_BITS.get(colour, ())
        or (packing, filtering) != (0, 0)
        or laced not in PNG_PASSES
    ):
        raise _damage_error(
            f"{bits} bits, colour type {colour}, compression {packing}, filter "
            f"{filtering} and interlace {laced} do not go together in a PNG file"
        )
    palette, transparency = (
        bytes(found[kind][0]) if found[kind] else None for kind in (b"PLTE", b"tRNS")
    )
    if colour == 3 and palette is None:
        raise _damage_error("it has no palette")
    colours = len(palette) // 3 if palette is not None else 0
    if palette == b"" or (colour == 3 and (len(palette) % 3 or colours > 256)):
        raise _damage_error(f"its palette has {len(palette)} bytes")
    if transparency is not None:
        most = min(colours, 2**bits)
        expected = {0: (2,), 2: (6,), 3: range(1, most + 1)}.get(colour, ())
        if len(transparency) not in expected:
            raise _damage_error(
                f"its chunk tRNS has {len(transparency)} bytes, for colour type "
                f"{colour}" + f" of {colours} colours" * (colour == 3)
            )
    packed = b"".join(found[b"IDAT"])
    return _Png(width, height, bits, colour, laced, palette, transparency, packed)


def _check_rows(png: _Png) -> None:
    """Raises unless the zlib stream is whole and holds the rows, and nothing else.

    Pillow would fill up with black what is missing.
    """
    size = 0
    for left, top, right, down in PNG_PASSES[png.laced]:
        columns, rows = -((left - png.width) // right), -((top - png.height) // down)
        if columns > 0 and rows > 0:
            bits = columns * png.bits * PNG_SAMPLES[png.colour]
            size += rows * (1 + -(-bits // 8))
    if len(png.packed) * DEFLATE_RATIO < size:
        raise _damage_error("pixels are missing")
    if len(png.packed) > max_packed_bytes(size, png.height):
        raise Refused(
            f"has {len(png.packed)} bytes of compressed pixels for {size} bytes of "
            "pixels. Save it again, or remove it"
        )
    # In slices, so that neither the pixels nor what is left of the input is copied
    # again and again.
    unpacking, found = zlib.decompressobj(), 0
    try:
        for start in range(0, len(png.packed), _SLICE):
            rest = png.packed[start : start + _SLICE]
            while rest and found <= size and not unpacking.eof:
                found += len(unpacking.decompress(rest, 16 * _SLICE))
                rest = unpacking.unconsumed_tail
    except zlib.error as error:
        raise _damage_error(f"its pixels cannot be unpacked ({error})") from None
    if found > size:
        raise _damage_error("there is more behind its last row")
    if found < size:
        raise _damage_error("pixels are missing")
    if not unpacking.eof:
        raise _damage_error("the end and the checksum of its pixels are missing")


def _of_palette(png, background):
    indices = _png_pixels(png)[..., 0]
    colours = np.zeros((256, 3), np.uint8)
    given = np.frombuffer(png.palette, np.uint8).reshape(-1, 3)
    colours[: len(given)] = given
    if png.transparency is not None:
        alpha = np.full((1, 256), 255, np.uint8)
        alpha[0, : len(png.transparency)] = np.frombuffer(png.transparency, np.uint8)
        colours = compose(colours[np.newaxis], alpha, background)[0]
    return colours[indices]


def _alpha_of_key(png, pixels):
    """Alpha of an image in which one colour is transparent: of all bits, not the 8."""
    key = np.frombuffer(png.transparency, ">u2") & (2**png.bits - 1)
    if png.bits == 16:
        pixels = pixels.astype(np.uint16) << 8 | _png_pixels(png, low=True)
    else:
        key = key * (255 // (2**png.bits - 1))
    return np.where((pixels == key).all(-1), 0, 255).astype(np.uint8)


def _png_pixels(png: _Png, low: bool = False) -> np.ndarray:
    """What Pillow makes of the rows: uint8 `(height, width, channels)`.

    Args:
        low: Whether to take the lower 8 of 16 bits.
    """
    from PIL import PngImagePlugin

    header = (png.width, png.height, png.bits, png.colour, 0, 0, png.laced)
    chunks = {b"IHDR": struct.pack(">IIBBBBB", *header), b"IDAT": png.packed}
    content = [PNG]
    for kind, data in (*chunks.items(), (b"IEND", b"")):
        checksum = zlib.crc32(data, zlib.crc32(kind))
        content += [
            struct.pack(">I", len(data)),
            kind,
            data,
            struct.pack(">I", checksum),
        ]

    def load(picture):
        if low and png.colour == 2:
            # As if the lower byte came last.
            picture.tile = [tile._replace(args="RGB;16L") for tile in picture.tile]
        pixels = np.asarray(picture)
        if pixels.dtype == bool:
            pixels = pixels * np.uint8(255)
        elif pixels.dtype != np.uint8:  # 16 bits, grey.
            pixels = (pixels & 255 if low else pixels >> 8).astype(np.uint8)
        return pixels

    pixels = _by_pillow(PngImagePlugin.PngImageFile, b"".join(content), load)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _read_jpeg(
    content: bytes, exif_orientation: bool, most: int | None = None
) -> np.ndarray:
    from PIL import JpegImagePlugin

    content, orientation = _walk_jpeg(content, most)

    def load(picture):
        width, height = picture.size
        scale = 1
        while -(-width // scale) * -(-height // scale) > MAX_PIXELS:
            scale *= 2
        if scale > 1:
            picture.draft(picture.mode, (width // scale, height // scale))
        pixels = np.asarray(picture)
        if picture.mode == "CMYK":
            # Pillow takes each file for one of Adobe's, and has inverted it.
            light = 255 - pixels if "adobe" in picture.info else pixels
            light = light.astype(np.uint16)
            pixels = (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)
        return pixels

    pixels = _by_pillow(JpegImagePlugin.JpegImageFile, content, load)
    if exif_orientation:
        pixels = turn(pixels, orientation)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _walk_jpeg(content, most_pixels=None):
    """The JPEG file with nothing but its image, after all checks; its orientation."""
    view, position, scans, frame = memoryview(content), 2, [], None
    orientation = None
    kept, most = [content[:2]], most_parts(len(content))
    for _ in range(most):
        marker = _MARKER.search(content, position)
        if marker is None:
            raise _damage_error("truncated, it has no end marker")
        start, kind = marker.start(), content[marker.start() + 1]
        if scans:
            kept.append(view[position:start])
        position = start + 2
        if kind == 0xD9:
            break
        _check_segment(kind, frame, scans)
        end = position + int.from_bytes(view[position : position + 2], "big")
        if end < position + 2 or len(content) < end:
            raise _damage_error("truncated in a segment")
        if kind in JPEG_FRAMES:
            frame = kind, content[position + 2 : end]
            _check_frame(frame[1], len(content), most_pixels)
        elif kind == 0xDA:
            scans.append(content[position + 2 : end])
        elif kind == 0xE1 and orientation is None and not scans:
            segment = content[position + 2 : end]
            if segment.startswith(EXIF):
                orientation = orientation_of(segment[len(EXIF) :])
        if len(scans) > MAX_JPEG_SCANS:
            raise Refused(
                f"has more than {MAX_JPEG_SCANS} scans. Save it again, or remove it"
            )
        if _changes_pixels(kind, content, position, end):
            kept.append(view[start:end])
        position = end
    else:
        raise Refused(
            f"has more than {most} segments, the most for a file of {len(content)} "
            "bytes. Save it again, or remove it"
        )
    if not scans:
        raise _damage_error("it holds no pixels")
    _check_scans(*frame, scans)
    return b"".join([*kept, b"\xff\xd9"]), orientation or 1


def _check_segment(kind: int, frame: tuple[int, bytes] | None, scans: list) -> None:
    if kind in JPEG_FRAMES:
        if frame or scans:
            raise _damage_error("it states its size twice")
    elif kind == 0xDA:
        if not frame:
            raise _damage_error("its pixels come before its size")
    elif kind in JPEG_COLOURS and scans:
        raise _damage_error("how its colours are stored stands behind its pixels")
    elif kind not in JPEG_SEGMENTS:
        raise Refused(
            f"has the marker 0xFF{kind:02X}: it is damaged, or no baseline or "
            "progressive JPEG with Huffman codes. Save it again, or remove it"
        )


def _check_frame(frame: bytes, num_bytes: int, most: int | None = None) -> None:
    if len(frame) < 6:
        raise _damage_error("its frame header is too short")
    bits, height, width, components = struct.unpack_from(">BHHB", frame)
    if bits != 8 or components not in (1, 3, 4):
        raise Refused(
            f"has {components} components of {bits} bits; expected 1, 3 or 4 of 8. "
            "Convert it"
        )
    if len(frame) != 6 + 3 * components:
        raise _damage_error("its frame header has the wrong length")
    if len(set(frame[6::3])) < components:
        raise _damage_error("two of its components have one name")
    check_size(width, height, most)
    if width * height > JPEG_PIXELS_A_BYTE * num_bytes:
        raise _damage_error(f"{num_bytes} bytes cannot hold {width}x{height} pixels")


def _check_scans(kind: int, frame: bytes, scans: list[bytes]) -> None:
    """Raises if a progressive JPEG lacks coefficients, or a scan is malformed."""
    names = frame[6::3]
    complete = np.zeros((len(names), 64), bool)
    for scan in scans:
        count = scan[0] if scan else 0
        if not 1 <= count <= 4 or len(scan) != 4 + 2 * count:
            raise _damage_error("the header of a scan has the wrong length")
        first, last, bits = scan[-3:]
        rows = [name in scan[1:-3:2] for name in names]
        # In full, or, where scans are out of order, again only in part.
        complete[rows, first : last + 1] = bits & 15 == 0
    if kind == 0xC2 and not complete.all():
        raise _damage_error("scans are missing")


def _changes_pixels(kind: int, content: bytes, position: int, end: int) -> bool:
    """Whether a segment is one that decoders need: no text, no profile, no preview."""
    if kind == 0xE0:
        return content.startswith(b"JFIF\0", position + 2) and end - position >= 16
    if kind == 0xEE:
        return content.startswith(b"Adobe", position + 2) and end - position >= 14
    return kind not in (0xDC, 0xFE) and not 0xE0 <= kind <= 0xEF


def _by_pillow(open_file, content, load):
    """What `load` makes of a file that Pillow opens; not by `Image.open`.

    That also reads other formats and warns of large images.
    """
    try:
        with open_file(io.BytesIO(content)) as picture:
            return load(picture)
    except MemoryError:
        raise
    # Pillow's decoders raise many types on broken content; each means the same to us.
    except Exception as error:
        raise _damage_error(f"{type(error).__name__}: {error}") from error


def _format_error(content: bytes) -> Refused:
    if not content:
        return _damage_error("it is empty")
    return Refused(
        "is no readable picture: neither PNG nor JPEG. Convert it, or remove it"
    )


def _damage_error(what: str) -> Refused:
    return Refused(
        f"is no readable picture: {what}. Fetch or save it again, or remove it"
    )


def _show(kind: bytes) -> str:
    return kind.decode("latin-1")
