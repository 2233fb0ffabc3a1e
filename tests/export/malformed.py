"""Makes malformed image files, tensors and folders, by the thousand, reproducibly."""

import gzip
import io
import os
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


# What `ood-predict` makes PNG files of; these have no checksums.
_OTHERS = ("GIF", "BMP", "WEBP", "TIFF")


def may_be_an_image(content, formats=()):
    """Whether a file may be taken for an image: no PNG whose checksums are wrong."""
    # A JPEG can be damaged and still decode.
    if content.startswith(b"\xff\xd8\xff"):
        return True
    try:
        with Image.open(io.BytesIO(content), formats=["PNG", *formats]) as picture:
            picture.load()
    except Exception:
        return False
    return True


def folder(top, count, image_shape, write_record, seed=0):
    """Fills a folder with `count` malformed inputs for `ood-predict`.

    Args:
        top: The folder to make.
        count: How many files, links and folders.
        image_shape: `(height, width, 1)` of the model.
        write_record: Serialises bytes as one record of a TFRecord file.
        seed: Decides everything.

    Returns:
        `{path: (kind, judge)}`, the paths as text: `judge(index)` says whether image
        number `index` of the file may be taken for an image.
    """
    generator = np.random.default_rng(seed)
    top.mkdir()
    made = {}
    makers = (
        [_strangely_named] * 4
        + [_idx_file] * 2
        + [_record_file] * 2
        + [_no_file, _far_down]
    )
    for number, (kind, content) in enumerate(files(count, seed)):
        make = makers[number % len(makers)]
        name, kind, judge = make(
            generator, top, number, kind, content, image_shape, write_record
        )
        made[os.fsdecode(os.path.join(os.fsencode(top), name))] = (kind, judge)
    return made


_NAMES = (
    b"new\nline",
    b"car\rriage",
    "\u00fcn\u00ef \U0001f642".encode(),
    b"raw\xff\xfe",
    b"-flag",
    b"[a-z]*?",
    b"'quo\"te,;",
    b"=cmd|x",
    b"\x1b[31mred\x07",
    b" ",
    b"%s%n",
    b"long" * 55,
)


def _strangely_named(generator, top, number, kind, content, *_):
    name = _NAMES[generator.integers(len(_NAMES))] + b"%d" % number
    name += (b".png", b".jpg", b".JPEG", b".PnG")[generator.integers(4)]
    with open(os.path.join(os.fsencode(top), name), "wb") as file:
        file.write(content)
    return name, f"file_{kind}", lambda _: may_be_an_image(content, _OTHERS)


def _idx_file(generator, top, number, kind, content, image_shape, _):
    """An IDX file that is truncated, lies in its header, or is noise."""
    size = int(np.prod(image_shape))
    whole = int(generator.integers(4))
    shape = [whole, *image_shape[:2]]
    damage = ("truncated", "lying", "wrong_shape", "noise")[generator.integers(4)]
    if damage == "truncated":
        shape[0] += 1
    elif damage == "lying":
        shape[0] = int(generator.integers(whole + 1, 2**32))
    elif damage == "wrong_shape":
        shape[1 + generator.integers(2)] = int(generator.integers(2**32))
        whole = 0
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape)
    pixels = generator.bytes(whole * size + int(generator.integers(size)))
    content = content if damage == "noise" else header + pixels
    whole = 0 if damage == "noise" else whole
    name = b"%d-idx3-ubyte" % number
    if generator.integers(2):
        name += b".gz"
        content = gzip.compress(content)
        cut = int(generator.integers(2)) * int(generator.integers(1, len(content)))
        content = content[: len(content) - cut]
    with open(os.path.join(os.fsencode(top), name), "wb") as file:
        file.write(content)
    return name, f"idx_{damage}", lambda index: index < whole


def _record_file(generator, top, number, kind, content, _, write_record):
    """A TFRecord file with a flipped byte, a cut, a lying length, or of noise."""
    inside = [content, *(one for _, one in files(3, number))]
    stored = b"".join(map(write_record, inside))
    damage = ("flipped", "truncated", "noise", "malformed")[generator.integers(4)]
    if damage == "flipped":
        stored = bytearray(stored)
        stored[generator.integers(len(stored))] ^= 1 << int(generator.integers(8))
    elif damage == "truncated":
        stored = stored[: generator.integers(len(stored))]
    elif damage == "noise":
        stored = content
    name = b"%d.tfrecord" % number
    with open(os.path.join(os.fsencode(top), name), "wb") as file:
        file.write(stored)
    images = [may_be_an_image(one, _OTHERS) for one in inside] * (damage != "noise")
    return name, f"tfrecord_{damage}", lambda index: (images + [False] * 5)[index]


def _no_file(generator, top, number, *_):
    """Something else that has the name of an image."""
    name = f"{number}.png"
    path = top / name
    kind = ("empty", "loop", "dangling", "folder_link", "pipe", "huge", "unreadable")[
        generator.integers(7)
    ]
    if kind == "loop":
        path.symlink_to(name)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "folder_link":
        path.symlink_to(top, target_is_directory=True)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"")
        if kind == "huge":
            os.truncate(path, 2**40)
        elif kind == "unreadable":
            path.chmod(0)
    return name.encode(), f"no_file_{kind}", lambda _: False


def _far_down(generator, top, number, kind, content, *_):
    """A file in folders that are called like images."""
    inner = top.joinpath(*[f"{number}.png"] * int(generator.integers(1, 30)))
    inner.mkdir(parents=True)
    (inner / "a.jpg").write_bytes(content)
    name = os.fsencode((inner / "a.jpg").relative_to(top))
    return name, f"in_folders_{kind}", lambda _: may_be_an_image(content, _OTHERS)


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
