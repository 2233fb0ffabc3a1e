"""Makes malformed image files and image tensors, by the thousand and reproducibly."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def files(count, seed=0):
    """Yields `(kind, content)`: `count` files that are no images, or damaged ones."""
    generator = np.random.default_rng(seed)
    good = list(_good(generator))
    kinds = (_noise, _truncated, _flipped, _spliced, _header, _chunks, _with_magic)
    for index in range(count):
        kind = kinds[index % len(kinds)]
        yield kind.__name__[1:], kind(generator, good)


def images(count, image_shape, seed=0):
    """Yields `count` float32 images of the right shape that no model may accept."""
    generator = np.random.default_rng(seed)
    bad = np.array(
        [
            np.nan,
            -np.nan,
            np.inf,
            -np.inf,
            255,
            -1,
            1.5,
            -0.01,
            1e30,
            -3.4e38,
            1e-2 + 1,
        ],
        np.float32,
    )
    for index in range(count):
        image = generator.uniform(size=image_shape).astype(np.float32)
        where = generator.uniform(size=image_shape) < 10.0 ** -generator.uniform(0, 3)
        where.flat[generator.integers(where.size)] = True
        image[where] = bad[index % len(bad)]
        yield image


def _good(generator):
    for mode, channels in (("L", ()), ("RGB", (3,)), ("RGBA", (4,))):
        pixels = generator.integers(0, 256, (17, 13, *channels)).astype(np.uint8)
        picture = Image.fromarray(pixels)
        for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
            if mode == "RGBA" and kind == "JPEG":
                continue
            buffer = io.BytesIO()
            picture.save(buffer, kind)
            yield buffer.getvalue()


def _pick(generator, good):
    return good[generator.integers(len(good))]


def _noise(generator, good):
    return generator.bytes(int(10 ** generator.uniform(0, 4)) - 1)


def _truncated(generator, good):
    content = _pick(generator, good)
    return content[: generator.integers(len(content))]


def _flipped(generator, good):
    content = bytearray(_pick(generator, good))
    for _ in range(generator.integers(1, 20)):
        content[generator.integers(len(content))] = generator.integers(256)
    return bytes(content)


def _spliced(generator, good):
    left, right = _pick(generator, good), _pick(generator, good)
    return (
        left[: generator.integers(len(left))] + right[generator.integers(len(right)) :]
    )


def _header(generator, good):
    """A PNG whose header has random fields and the right checksum."""
    sides = [int(2 ** generator.uniform(0, 32)) - 1 for _ in range(2)]
    fields = [int(field) for field in generator.integers(0, 20, 5)]
    header = struct.pack(">IIBBBBB", *sides, *fields)
    data = zlib.compress(generator.bytes(int(generator.integers(2000))))
    return _png((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))


def _chunks(generator, good):
    """A PNG of random chunks with right checksums."""
    kinds = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"zTXt", b"acTL")
    header = struct.pack(
        ">IIBBBBB", 17, 13, 8, int(generator.choice([0, 2, 3])), 0, 0, 0
    )
    chunks = [
        (kinds[generator.integers(len(kinds))], generator.bytes(generator.integers(64)))
        for _ in range(generator.integers(1, 8))
    ]
    return _png((b"IHDR", header), *chunks)


def _with_magic(generator, good):
    """Noise behind the first bytes of a format."""
    magic = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xda", b"GIF89a")
    return magic[generator.integers(len(magic))] + generator.bytes(500)


def _png(*chunks):
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        content += struct.pack(">I", len(data)) + kind + data
        content += struct.pack(">I", zlib.crc32(kind + data))
    return content
