"""Makes PNG files of every kind, whole, odd and damaged; chunk by chunk, by hand."""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = [
    (slice(0, None, 8), slice(0, None, 8)),
    (slice(0, None, 8), slice(4, None, 8)),
    (slice(4, None, 8), slice(0, None, 4)),
    (slice(0, None, 4), slice(2, None, 4)),
    (slice(2, None, 4), slice(0, None, 2)),
    (slice(0, None, 2), slice(1, None, 2)),
    (slice(1, None, 2), slice(0, None, 1)),
]


def variant(generator, width, height):
    """Returns `(kind, content)`: a PNG file, half of the time damaged or odd.

    The kind is the name of what was done to it; "whole" is a file of the standard.
    """
    chunks, spare = _whole(generator, width, height)
    if generator.random() < 0.4:
        return "whole", join(chunks)
    change = _CHANGES[generator.integers(len(_CHANGES))]
    changed = change(generator, chunks, spare)
    content = changed if isinstance(changed, bytes) else join(changed)
    return change.__name__[1:], content


def chunk(kind, data=b"", flip=0):
    """One chunk; `flip` are the bits of its checksum to be wrong."""
    checksum = zlib.crc32(kind + data) ^ flip
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def join(chunks):
    """The file of `(kind, data)` or of chunks that are bytes already."""
    return SIGNATURE + b"".join(
        one if isinstance(one, bytes) else chunk(*one) for one in chunks
    )


def header(width, height, bits=8, colour=0, laced=0, packing=0, filtering=0):
    return b"IHDR", struct.pack(
        ">IIBBBBB", width, height, bits, colour, packing, filtering, laced
    )


def rows_of(samples, bits, laced, generator=None):
    """The rows of an image as PNG stores them, filtered at random.

    Args:
        samples: Integers `(height, width, channels)` below `2**bits`.
        bits: Of one sample.
        laced: Whether in the seven passes of Adam7.
        generator: Chooses the filters; `None` filters nothing.
    """
    passes = _PASSES if laced else [(slice(None), slice(None))]
    return b"".join(
        _filtered(samples[part], bits, generator)
        for part in passes
        if samples[part].size
    )


def _filtered(samples, bits, generator):
    height, width, channels = samples.shape
    flat = samples.reshape(height, width * channels)
    if bits == 16:
        rows = flat.astype(">u2").view(np.uint8)
    elif bits == 8:
        rows = flat.astype(np.uint8)
    else:
        ones = (flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        rows = np.packbits(ones.reshape(height, -1).astype(np.uint8), axis=1)
    rows = rows.astype(np.int16)
    step = max(1, bits * channels // 8)
    left, up, corner = (np.zeros_like(rows) for _ in range(3))
    left[:, step:], up[1:] = rows[:, :-step], rows[:-1]
    corner[1:, step:] = rows[:-1, :-step]
    guesses = [0 * rows, left, up, (left + up) // 2, _paeth(left, up, corner)]
    stored = []
    for index, row in enumerate(rows):
        kind = 0 if generator is None else int(generator.integers(5))
        stored += [bytes([kind]), ((row - guesses[kind][index]) % 256).astype("u1")]
    return b"".join(map(bytes, stored))


def _paeth(left, up, corner):
    guess = left + up - corner
    far = [np.abs(guess - one) for one in (left, up, corner)]
    return np.where(
        (far[0] <= far[1]) & (far[0] <= far[2]),
        left,
        np.where(far[1] <= far[2], up, corner),
    )


def _whole(generator, width, height):
    """The chunks of a PNG of the standard, and what was put into them."""
    colour = int(generator.choice(list(BITS)))
    bits = int(generator.choice(BITS[colour]))
    laced = int(generator.random() < 0.25)
    colours = int(generator.integers(1, 2**bits + 1)) if colour == 3 else 2**bits
    shape = (height, width, SAMPLES[colour])
    samples = generator.integers(0, colours, shape)
    if generator.random() < 0.3:
        samples[:] = samples[0, 0]
    rows = rows_of(samples, bits, laced, generator)
    packed = deflated(generator, rows)
    chunks = [header(width, height, bits, colour, laced)]
    if colour == 3 or (colour in (2, 6) and generator.random() < 0.2):
        chunks.append((b"PLTE", generator.bytes(3 * colours if colour == 3 else 30)))
    if colour in (0, 2, 3) and generator.random() < 0.4:
        chunks.append((b"tRNS", _transparency(generator, samples, colour, colours)))
    chunks += _split(generator, packed)
    chunks.append((b"IEND", b""))
    spare = {
        **{"rows": rows, "packed": packed, "colour": colour, "bits": bits},
        **{"size": (width, height), "laced": laced},
    }
    return _with_extras(generator, chunks), spare


def deflated(generator, rows):
    """Rows as a zlib stream of some level, window and strategy."""
    # zlib makes no window of 256 bytes.
    window = int(generator.choice([15, 15, 15, 9, 10, 12, 14]))
    packing = zlib.compressobj(
        int(generator.integers(0, 10)),
        zlib.DEFLATED,
        window,
        int(generator.integers(1, 10)),
        int(generator.integers(0, 5)),
    )
    return packing.compress(rows) + packing.flush()


def _transparency(generator, samples, colour, colours):
    if colour == 3:
        return generator.bytes(int(generator.integers(1, colours + 1)))
    key = samples[0, 0].astype(np.uint16)
    if generator.random() < 0.2:
        key = key ^ generator.integers(0, 2**16, key.shape).astype(np.uint16)
    return key.astype(">u2").tobytes()


def _split(generator, packed):
    count = int(generator.choice([1, 1, 1, 2, 5, min(100, len(packed))]))
    cuts = np.sort(generator.integers(0, len(packed) + 1, count - 1)).tolist()
    return [
        (b"IDAT", packed[start:stop])
        for start, stop in zip([0, *cuts], [*cuts, len(packed)], strict=True)
    ]


def _extras(generator):
    """Chunks that must change nothing, right and wrong ones."""
    noise = generator.bytes(int(generator.integers(0, 40)))
    profile = b"name\0\0" + zlib.compress(generator.bytes(200))
    return [
        (b"gAMA", struct.pack(">I", int(generator.integers(0, 300000)))),
        (b"cHRM", struct.pack(">8I", *generator.integers(0, 100000, 8).tolist())),
        (b"sRGB", bytes([int(generator.integers(0, 6))])),
        (b"iCCP", profile),
        (b"cICP", bytes([9, 16, 0, 1])),
        (b"sBIT", bytes([5] * int(generator.integers(1, 5)))),
        (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
        (b"bKGD", bytes(int(generator.choice([1, 2, 6])))),
        (b"hIST", noise),
        (b"sPLT", noise),
        (b"tIME", bytes([7, 233, 1, 1, 1, 1, 1])),
        (b"tEXt", b"Comment\0" + noise),
        (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**5))),
        (b"iTXt", noise),
        (b"eXIf", b"MM\0*" + noise),
        (b"acTL", struct.pack(">II", 2, 0)),
        (b"fcTL", noise),
        (b"fdAT", noise),
        (b"xyZw", noise),
        chunk(b"tEXt", noise, flip=1),
        chunk(b"gAMA", noise, flip=1 << 31),
        chunk(b"xyZw", noise, flip=1 << 7),
    ]


def _with_extras(generator, chunks):
    if generator.random() < 0.5:
        return chunks
    found = _extras(generator)
    chunks = list(chunks)
    for _ in range(int(generator.integers(1, 5))):
        place = int(generator.integers(1, len(chunks)))
        # Nothing may stand among the pixels of a whole file.
        if chunks[place - 1][0] != b"IDAT" or chunks[place][0] != b"IDAT":
            chunks.insert(place, found[generator.integers(len(found))])
    return chunks


def _is(one, kind):
    return not isinstance(one, bytes) and one[0] == kind


def _replaced(chunks, kind, make):
    """Chunks with `make(data)` in place of the data of each of a kind."""
    return [(kind, make(one[1])) if _is(one, kind) else one for one in chunks]


def _with_pixels(chunks, packed):
    """Chunks with one IDAT chunk in place of all."""
    first = next(place for place, one in enumerate(chunks) if _is(one, b"IDAT"))
    chunks = [one for one in chunks if not _is(one, b"IDAT")]
    return [*chunks[:first], (b"IDAT", packed), *chunks[first:]]


def _any_place(generator, chunks):
    return int(generator.integers(len(chunks)))


def _wrong_checksum(generator, chunks, spare):
    place = _any_place(generator, chunks)
    if not isinstance(chunks[place], bytes):
        chunks[place] = chunk(*chunks[place], flip=1 << int(generator.integers(32)))
    return chunks


def _dropped(generator, chunks, spare):
    del chunks[_any_place(generator, chunks)]
    return chunks


def _twice(generator, chunks, spare):
    place = _any_place(generator, chunks)
    chunks.insert(place, chunks[place])
    return chunks


def _moved(generator, chunks, spare):
    one = chunks.pop(_any_place(generator, chunks))
    chunks.insert(int(generator.integers(len(chunks) + 1)), one)
    return chunks


def _among_the_pixels(generator, chunks, spare):
    found = _extras(generator)
    half = len(spare["packed"]) // 2
    return [
        *(one for one in chunks[:-1] if not _is(one, b"IDAT")),
        (b"IDAT", spare["packed"][:half]),
        found[generator.integers(len(found))],
        (b"IDAT", spare["packed"][half:]),
        chunks[-1],
    ]


def _rows_missing(generator, chunks, spare):
    rows = spare["rows"]
    rows = rows[: int(generator.integers(len(rows)))]
    return _with_pixels(chunks, zlib.compress(rows))


def _rows_too_many(generator, chunks, spare):
    more = bytes(int(10 ** generator.uniform(0, 6)))
    return _with_pixels(chunks, zlib.compress(spare["rows"] + more))


def _zlib_cut(generator, chunks, spare):
    packed = spare["packed"]
    cut = len(packed) - int(generator.integers(1, min(12, len(packed))))
    return _with_pixels(chunks, packed[:cut])


def _zlib_checksum_wrong(generator, chunks, spare):
    packed = bytearray(spare["packed"])
    packed[-1 - int(generator.integers(4))] ^= 1 << int(generator.integers(8))
    return _with_pixels(chunks, bytes(packed))


def _behind_the_zlib_stream(generator, chunks, spare):
    more = generator.bytes(int(generator.choice([1, 5, 100, 5000])))
    return _with_pixels(chunks, spare["packed"] + more)


def _two_zlib_streams(generator, chunks, spare):
    half = len(spare["rows"]) // 2
    packed = zlib.compress(spare["rows"][:half]) + zlib.compress(spare["rows"][half:])
    return _with_pixels(chunks, packed)


def _zlib_header(generator, chunks, spare):
    first = int(generator.integers(256))
    second = int(generator.integers(256))
    if generator.random() < 0.5:
        # One that its own check finds right, without a dictionary.
        second &= 0b11000000
        second += 31 - (first * 256 + second) % 31
    return _with_pixels(chunks, bytes([first, second]) + spare["packed"][2:])


def _no_zlib(generator, chunks, spare):
    packing = zlib.compressobj(wbits=int(generator.choice([-15, 31])))
    return _with_pixels(chunks, packing.compress(spare["rows"]) + packing.flush())


def _stored_row_by_row(generator, chunks, spare):
    packing, packed = zlib.compressobj(0), b""
    for start in range(0, len(spare["rows"]), 9):
        packed += packing.compress(spare["rows"][start : start + 9])
        packed += packing.flush(zlib.Z_FULL_FLUSH)
    return _with_pixels(chunks, packed + packing.flush())


def _byte_of_the_stream(generator, chunks, spare):
    packed = bytearray(spare["packed"])
    packed[int(generator.integers(len(packed)))] ^= 1 << int(generator.integers(8))
    return _with_pixels(chunks, bytes(packed))


def _filter_unknown(generator, chunks, spare):
    rows = bytes([int(generator.integers(5, 256))]) + spare["rows"][1:]
    return _with_pixels(chunks, zlib.compress(rows))


def _header_field(generator, chunks, spare):
    data = bytearray(header(*spare["size"], spare["bits"], spare["colour"])[1])
    data[12] = spare["laced"]
    data[int(generator.integers(8, 13))] = int(generator.integers(0, 18))
    return _replaced(chunks, b"IHDR", lambda _: bytes(data))


def _other_size(generator, chunks, spare):
    sizes = (0, 1, 2, 40, 16384, 16385, 65536, 2**31 - 1, 2**31, 2**32 - 1)
    width, height = spare["size"]
    if generator.random() < 0.5:
        width = int(generator.choice(sizes))
    else:
        height = int(generator.choice(sizes))
    size = struct.pack(">II", width, height)
    return _replaced(chunks, b"IHDR", lambda data: size + data[8:])


def _header_length(generator, chunks, spare):
    length = int(generator.choice([0, 8, 12, 14, 100]))
    return _replaced(chunks, b"IHDR", lambda data: (data + bytes(100))[:length])


def _palette_length(generator, chunks, spare):
    length = int(generator.choice([0, 1, 2, 3, 4, 6, 765, 767, 768, 769, 771, 1000]))
    if not any(_is(one, b"PLTE") for one in chunks):
        chunks.insert(1, (b"PLTE", b""))
    return _replaced(chunks, b"PLTE", lambda _: generator.bytes(length))


def _transparency_length(generator, chunks, spare):
    length = int(generator.choice([0, 1, 2, 3, 5, 6, 7, 16, 255, 256, 257]))
    chunks = [one for one in chunks if not _is(one, b"tRNS")]
    first = next(place for place, one in enumerate(chunks) if _is(one, b"IDAT"))
    chunks.insert(first, (b"tRNS", generator.bytes(length)))
    return chunks


def _transparency_misplaced(generator, chunks, spare):
    length = {0: 2, 2: 6}.get(spare["colour"], 1)
    chunks.insert(
        int(generator.integers(1, len(chunks))), (b"tRNS", generator.bytes(length))
    )
    return chunks


def _unknown_critical(generator, chunks, spare):
    kind = (b"ABCD", b"IDOT", b"CgBI", b"IdAT")[int(generator.integers(4))]
    chunks.insert(int(generator.integers(len(chunks) + 1)), (kind, b"abc"))
    return chunks


def _name_of_no_letters(generator, chunks, spare):
    kind = bytearray(b"teXt")
    kind[int(generator.integers(4))] = int(generator.integers(256))
    chunks.insert(int(generator.integers(1, len(chunks))), (bytes(kind), b"abc"))
    return chunks


def _end_with_data(generator, chunks, spare):
    return [*chunks[:-1], (b"IEND", generator.bytes(5))]


def _behind_the_end(generator, chunks, spare):
    kinds = [header(1, 1), (b"IDAT", b"junk"), (b"IEND", b""), generator.bytes(99)]
    return [*chunks, kinds[int(generator.integers(4))], kinds[3]]


def _empty_idats(generator, chunks, spare):
    first = next(place for place, one in enumerate(chunks) if _is(one, b"IDAT"))
    return [*chunks[:first], (b"IDAT", b""), (b"IDAT", b""), *chunks[first:]]


def _many_chunks(generator, chunks, spare):
    count = int(generator.choice([100, 240, 260, 300, 2000]))
    kind = (b"tEXt", b"IDAT", b"abCd")[int(generator.integers(3))]
    first = next(place for place, one in enumerate(chunks) if _is(one, b"IDAT"))
    return [*chunks[:first], *[(kind, b"")] * count, *chunks[first:]]


def _chunk_length(generator, chunks, spare):
    content = bytearray(join(chunks))
    place = 8 + sum(
        len(one if isinstance(one, bytes) else chunk(*one))
        for one in chunks[: _any_place(generator, chunks)]
    )
    length = (0, 1, 12, 2**31 - 1, 2**31, 2**32 - 1)[int(generator.integers(6))]
    content[place : place + 4] = struct.pack(">I", length)
    return bytes(content)


def _truncated(generator, chunks, spare):
    content = join(chunks)
    return content[: int(generator.integers(len(content)))]


def _bits_flipped(generator, chunks, spare):
    content = bytearray(join(chunks))
    for _ in range(int(generator.integers(1, 4))):
        content[int(generator.integers(len(content)))] ^= 1 << int(
            generator.integers(8)
        )
    return bytes(content)


def _signature(generator, chunks, spare):
    content = bytearray(join(chunks))
    content[int(generator.integers(8))] ^= 1 << int(generator.integers(8))
    return bytes(content)


_CHANGES = (
    *(_wrong_checksum, _dropped, _twice, _moved, _among_the_pixels, _rows_missing),
    *(_rows_too_many, _zlib_cut, _zlib_checksum_wrong, _behind_the_zlib_stream),
    *(_two_zlib_streams, _zlib_header, _no_zlib, _stored_row_by_row),
    *(_byte_of_the_stream, _filter_unknown, _header_field, _other_size),
    *(_header_length, _palette_length, _transparency_length, _unknown_critical),
    *(_transparency_misplaced, _name_of_no_letters, _end_with_data, _behind_the_end),
    *(_empty_idats, _many_chunks, _chunk_length, _truncated, _bits_flipped),
    _signature,
)
