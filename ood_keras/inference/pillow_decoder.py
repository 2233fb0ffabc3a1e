"""Image files to pixels without TensorFlow, as the graph of a SavedModel reads them.

What is read at all is decided here for both: `image_bytes` takes its limits from here.
"""

import io
import struct
import zlib

import numpy as np

from ood_keras import resizing

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
# Larger images are refused from their headers, before any memory is allocated.
MAX_PIXELS = 2**24
MAX_SIDE = 2**14
# A progressive JPEG has about ten scans; each one, however short, costs a pass over the
# image, so that a small file with thousands would hold a server for minutes.
MAX_JPEG_SCANS = 64

_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# The first column and row of each pass, and the steps between them.
_PASSES = {
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


def decode(content, image_shape):
    """Decodes a PNG or JPEG file to the pixels that training reads.

    Args:
        content: The bytes of the file.
        image_shape: `(height, width, channels)` to make, with 1 or 3 channels.

    Returns:
        uint8 `image_shape`; `None` for everything that `image_bytes.decode` makes NaN:
        what is empty, truncated, corrupt, of another format, or too large.

    Example:

    >>> decode(pathlib.Path("seven.png").read_bytes(), (28, 28, 1)).shape
    (28, 28, 1)
    """
    # Not by `Image.open`, which also reads other formats and warns of large images.
    from PIL import JpegImagePlugin, PngImagePlugin

    # Pillow's decoders raise many types on broken content; each means the same to us.
    try:
        if content.startswith(PNG):
            content = _without_extras(content)
            pixels = _pixels(PngImagePlugin.PngImageFile, content)
        elif content.startswith(JPEG) and content.count(b"\xff\xda") <= MAX_JPEG_SCANS:
            pixels = _pixels(JpegImagePlugin.JpegImageFile, content)
        else:
            return None
    except Exception:
        return None
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    return resizing.adapt(pixels[np.newaxis], image_shape)[0]


def _pixels(open_file, content):
    with open_file(io.BytesIO(content)) as picture:
        _check_size(*picture.size)
        if picture.mode.startswith("I"):  # 16 bits, grey.
            return (np.asarray(picture) >> 8).astype(np.uint8)
        grey = picture.mode in ("1", "L", "LA")
        return np.asarray(picture.convert("L" if grey else "RGB"))


def _without_extras(content):
    """The PNG with nothing but its pixels, after all that Pillow does not check.

    Texts and profiles can be as large, once unpacked, as their makers like; and Pillow
    fills up with black what is missing at the end.
    """
    if content[8:16] != b"\0\0\0\rIHDR":
        raise ValueError("a PNG file starts with its size")
    view, position = memoryview(content), len(PNG)
    kept, kinds = [], []
    while b"IEND" not in kinds:
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if kind in _CRITICAL:
            (checksum,) = struct.unpack_from(">I", content, end - 4)
            if zlib.crc32(view[position + 4 : end - 4]) != checksum:
                raise ValueError("a checksum is wrong")
            kept.append((kind, view[position:end]))
        elif not kind[0] & 0x20:
            raise ValueError("unknown, and needed for the pixels")
        kinds.append(kind)
        position = end
    _check_order(kinds)
    _check_complete(content[16:29], kept)
    return b"".join([PNG, *(chunk for _, chunk in kept)])


def _check_order(kinds):
    first, count = kinds.index(b"IDAT"), kinds.count(b"IDAT")
    if kinds[first : first + count] != [b"IDAT"] * count:
        raise ValueError("something stands among the pixels")
    if kinds.count(b"IHDR") > 1 or kinds.count(b"PLTE") > 1:
        raise ValueError("the size or the palette is given twice")


def _check_complete(header, chunks):
    width, height, bits, colour, _, _, laced = struct.unpack(">IIBBBBB", header)
    _check_size(width, height)
    _check_palette(colour, chunks)
    size = 0
    for left, top, right, down in _PASSES[laced]:
        columns, rows = -((left - width) // right), -((top - height) // down)
        if columns > 0 and rows > 0:
            size += rows * (1 + -(-columns * bits * _CHANNELS[colour] // 8))
    packed = [chunk[8:-4] for kind, chunk in chunks if kind == b"IDAT"]
    unpacking = zlib.decompressobj()
    found = len(unpacking.decompress(b"".join(packed), size + 1))
    if found < size or (found == size and not unpacking.eof):
        raise ValueError("pixels are missing")


def _check_palette(colour, chunks):
    for kind, chunk in chunks:
        if kind == b"PLTE":
            size = len(chunk) - 12
            if colour in (2, 3, 6) and size == 0:
                raise ValueError("the palette is empty")
            if colour == 3 and (size % 3 or size > 768):
                raise ValueError("the palette has no 256 colours at most")
            return
        if kind == b"IDAT" and colour == 3:
            raise ValueError("the palette is missing, or comes too late")


def _check_size(width, height):
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ValueError("empty or too long")
    if width * height > MAX_PIXELS:
        raise ValueError("too many pixels")
