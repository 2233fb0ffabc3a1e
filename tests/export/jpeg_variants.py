"""Makes JPEG files of every kind, whole, odd and damaged; segment by segment."""

import io
import struct

import numpy as np
from PIL import Image

# The markers that stand alone.
_ALONE = {0xD8, 0xD9, 0x01, *range(0xD0, 0xD8)}


def variant(generator, width, height):
    """Returns `(kind, content)`: a JPEG file, half of the time damaged or odd.

    The kind is the name of what was done to it; "whole" is what Pillow wrote.
    """
    content = _whole(generator, width, height)
    if generator.random() < 0.35:
        return "whole", content
    change = _CHANGES[generator.integers(len(_CHANGES))]
    changed = change(generator, parse(content))
    return change.__name__[1:], changed if isinstance(changed, bytes) else join(changed)


def parse(content):
    """The segments of a JPEG that Pillow wrote: `[marker, data, scan]` each.

    Args:
        content: A whole file, without anything that Pillow would not write.
    """
    segments, place = [], 0
    while place < len(content):
        kind = content[place + 1]
        place += 2
        data = b""
        if kind not in _ALONE:
            (length,) = struct.unpack_from(">H", content, place)
            data = content[place + 2 : place + length]
            place += length
        end = place
        if kind == 0xDA:
            while not (content[end] == 0xFF and content[end + 1] not in _IN_A_SCAN):
                end += 1
        segments.append([kind, data, content[place:end]])
        place = end
    return segments


_IN_A_SCAN = (0, *range(0xD0, 0xD8))


def join(segments):
    """The file of `[marker, data, scan]`, or of segments that are bytes already."""
    return b"".join(
        one if isinstance(one, bytes) else segment(*one) for one in segments
    )


def segment(kind, data=b"", scan=b""):
    length = b"" if kind in _ALONE else struct.pack(">H", len(data) + 2)
    return bytes([0xFF, kind]) + length + data + scan


def _whole(generator, width, height):
    mode = str(generator.choice(["L", "RGB", "RGB", "CMYK"]))
    shape = (height, width, *{"L": (), "RGB": (3,), "CMYK": (4,)}[mode])
    pixels = generator.integers(0, 256, shape).astype(np.uint8)
    if generator.random() < 0.5:
        pixels = (np.cumsum(pixels % 9, axis=0) % 256).astype(np.uint8)
    options = {
        "quality": int(generator.integers(1, 101)),
        "progressive": bool(generator.random() < 0.4),
        "optimize": bool(generator.random() < 0.3),
    }
    if mode == "RGB":
        if generator.random() < 0.2:
            options["keep_rgb"] = True
        else:
            options["subsampling"] = int(generator.integers(0, 3))
    if generator.random() < 0.2:
        options["restart_marker_blocks"] = int(generator.integers(1, 5))
    if generator.random() < 0.2:
        options["restart_marker_rows"] = 1
    if generator.random() < 0.2:
        options["comment"] = generator.bytes(int(generator.integers(0, 300)))
    if generator.random() < 0.2:
        options["icc_profile"] = generator.bytes(int(generator.integers(1, 70_000)))
    if generator.random() < 0.2:
        exif = Image.Exif()
        exif[0x0112] = int(generator.integers(1, 9))
        options["exif"] = exif
    for chosen in (options, {"quality": options["quality"]}):
        out = io.BytesIO()
        try:
            Image.fromarray(pixels, mode=mode).save(out, "JPEG", **chosen)
        except OSError:
            # Its buffer is too small for some options together.
            continue
        return out.getvalue()
    raise RuntimeError(f"Pillow writes no JPEG of quality {options['quality']}")


def _places(segments, *kinds):
    return [place for place, one in enumerate(segments) if one[0] in kinds]


def _any_of(generator, places):
    return int(places[int(generator.integers(len(places)))])


def _between(generator, segments):
    """A place to put something: behind SOI, before EOI."""
    return int(generator.integers(1, len(segments)))


def _frame(segments):
    return segments[_places(segments, 0xC0, 0xC1, 0xC2)[0]]


def _scans_in_a_comment(generator, segments):
    data = b"\xff\xda" * int(generator.integers(1, 200))
    kind = int(generator.choice([0xFE, 0xE1, 0xED]))
    segments.insert(_between(generator, segments), [kind, data, b""])
    return segments


def _ends_in_a_comment(generator, segments):
    data = bytes([0xFF, int(generator.choice([0xD9, 0xD8, 0xC0, 0xD0, 0x00]))]) * 9
    segments.insert(_between(generator, segments), [0xFE, data, b""])
    return segments


def _behind_the_end(generator, segments):
    more = [
        generator.bytes(1000),
        b"\xff\xda" * 100,
        b"MotionPhoto_Data" + generator.bytes(5000),
        join(segments),
    ]
    return join(segments) + more[int(generator.integers(4))]


def _application_segment(generator, segments):
    kind = int(generator.integers(0xE0, 0xF0))
    start = (
        b"",
        b"JFIF\0",
        b"JFXX\0",
        b"Exif\0\0",
        b"Adobe",
        b"ICC_PROFILE\0",
        b"MPF\0",
    )
    data = start[int(generator.integers(7))] + generator.bytes(
        int(generator.integers(0, 30))
    )
    segments.insert(_between(generator, segments), [kind, data, b""])
    return segments


def _camera_note(generator, segments):
    """A note on which side is up, in either order of bytes, that may make no sense."""
    order = "<>"[int(generator.integers(2))]
    entries = [
        struct.pack(
            order + "HHIHH",
            int(generator.choice([0x0112, 0x0112, 0x0110, 0x0113])),
            int(generator.choice([3, 3, 3, 3, 4, 1])),
            int(generator.choice([1, 1, 1, 1, 2, 0])),
            int(generator.choice([*range(1, 9), *range(1, 9), 0, 9, 0x0600])),
            int(generator.integers(0, 3)),
        )
        for _ in range(int(generator.integers(0, 5)))
    ]
    plain = generator.random() < 0.5
    if plain:
        value = int(generator.integers(1, 9))
        entries.insert(0, struct.pack(order + "HHIHH", 0x0112, 3, 1, value, 0))
    start = int(generator.choice([8, 8, 8, 20]))
    said = len(entries) + int(generator.choice([0, 0, 0, 1, -1, 5000])) % 65536
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    tiff += (
        bytes(start - 8) + struct.pack(order + "H", said % 65536) + b"".join(entries)
    )
    cut = 0 if plain else int(generator.choice([0, 0, 0, 0, 1, 9, 30]))
    data = b"Exif\0\0" + tiff[: len(tiff) - cut]
    if generator.random() < 0.1:
        data = data.replace(b"*", b"+")
    # Twice, at times, or behind the first scan: the first before it counts.
    for _ in range(int(generator.choice([1, 1, 2]))):
        segments.insert(_between(generator, segments), [0xE1, data, b""])
    return segments


def _adobe_transform(generator, segments):
    segments = [one for one in segments if one[0] != 0xEE]
    data = b"Adobe" + struct.pack(">HHH", 100, 0, 0)
    data += bytes([int(generator.choice([0, 1, 2, 3, 255]))])
    data += generator.bytes(int(generator.choice([0, 0, 5])))
    segments.insert(1, [0xEE, data[: int(generator.choice([12, 12, 99, 11, 5]))], b""])
    return segments


def _no_application_segment(generator, segments):
    return [one for one in segments if not 0xE0 <= one[0] <= 0xEF]


def _component_names(generator, segments):
    """Other names of the components, which decoders guess colours from."""
    names = (b"RGB", b"rgb", b"\0\1\2", b"\1\2\3", b"YCc", b"CMYK", b"\1\1\1")
    names = names[int(generator.integers(7))]
    frame = _frame(segments)
    data = bytearray(frame[1])
    renamed = {}
    for component in range(min(data[5], len(names))):
        renamed[data[6 + 3 * component]] = names[component]
        data[6 + 3 * component] = names[component]
    frame[1] = bytes(data)
    for place in _places(segments, 0xDA):
        data = bytearray(segments[place][1])
        for component in range(data[0]):
            old = data[1 + 2 * component]
            data[1 + 2 * component] = renamed.get(old, old)
        segments[place][1] = bytes(data)
    if generator.random() < 0.7:
        segments = _no_application_segment(generator, segments)
    return segments


def _filling(generator, segments):
    place = _between(generator, segments)
    segments.insert(place, b"\xff" * int(generator.integers(1, 50)))
    return segments


def _garbage(generator, segments):
    place = _between(generator, segments)
    segments.insert(place, generator.bytes(int(generator.integers(1, 20))))
    return segments


def _restart_outside(generator, segments):
    marker = bytes([0xFF, int(generator.choice([0xD0, 0xD3, 0xD7, 0x01, 0x00]))])
    segments.insert(_between(generator, segments), marker)
    return segments


def _marker(generator, segments):
    """A segment of any kind."""
    kind = int(generator.integers(0x02, 0xFF))
    data = generator.bytes(int(generator.integers(0, 20)))
    segments.insert(_between(generator, segments), [kind, data, b""])
    return segments


def _height_behind_the_scan(generator, segments):
    """DNL, right or wrong, with or without a height in the frame."""
    data = bytearray(_frame(segments)[1])
    lines = bytes(data[1:3])
    if generator.random() < 0.5:
        data[1:3] = bytes(2)
        _frame(segments)[1] = bytes(data)
    segments.insert(_places(segments, 0xDA)[0] + 1, [0xDC, lines, b""])
    return segments


def _colours_behind_the_scan(generator, segments):
    """How colours are stored, by JFIF or Adobe, behind the first or the last scan."""
    for place in reversed(_places(segments, 0xE0, 0xEE)):
        one = segments.pop(place)
        scan = _places(segments, 0xDA)[int(generator.choice([0, -1]))]
        segments.insert(scan + 1, one)
    return segments


def _arithmetic_tables(generator, segments):
    segments.insert(_between(generator, segments), [0xCC, b"\0\x10", b""])
    return segments


def _frame_kind(generator, segments):
    _frame(segments)[0] = int(generator.integers(0xC0, 0xD0))
    return segments


def _frame_field(generator, segments):
    frame = _frame(segments)
    data = bytearray(frame[1])
    data[int(generator.choice([0, *range(5, len(data))]))] = int(
        generator.choice([0, 1, 2, 3, 4, 8, 12, 16, 0x11, 0x12, 0x21, 0x22, 0x41, 0x44])
    )
    frame[1] = bytes(data)
    return segments


def _frame_length(generator, segments):
    frame = _frame(segments)
    length = int(generator.integers(0, len(frame[1]) + 4))
    frame[1] = (frame[1] + bytes(4))[:length]
    return segments


def _other_size(generator, segments):
    frame = _frame(segments)
    data = bytearray(frame[1])
    size = int(generator.choice([0, 1, 2, 8, 50, 16384, 16385, 65535]))
    place = 1 + 2 * int(generator.integers(2))
    data[place : place + 2] = struct.pack(">H", size)
    frame[1] = bytes(data)
    return segments


def _twice(generator, segments):
    place = int(generator.integers(len(segments)))
    segments.insert(place, segments[place])
    return segments


def _dropped(generator, segments):
    del segments[int(generator.integers(len(segments)))]
    return segments


def _moved(generator, segments):
    one = segments.pop(int(generator.integers(len(segments))))
    segments.insert(int(generator.integers(len(segments) + 1)), one)
    return segments


def _many_scans(generator, segments):
    last = _places(segments, 0xDA)[-1]
    times = int(generator.choice([1, 2, 40, 70, 300]))
    return [*segments[:last], *[segments[last]] * times, *segments[last:]]


def _many_segments(generator, segments):
    count = int(generator.choice([50, 200, 240, 300, 2000]))
    kind = int(generator.choice([0xFE, 0xE5]))
    place = _between(generator, segments)
    return [*segments[:place], *[[kind, b"", b""]] * count, *segments[place:]]


def _scan_field(generator, segments):
    place = _any_of(generator, _places(segments, 0xDA))
    data = bytearray(segments[place][1])
    data[int(generator.integers(len(data)))] = int(
        generator.choice([0, 1, 2, 3, 4, 5, 16, 63, 64, 255])
    )
    segments[place][1] = bytes(data)
    return segments


def _segment_length(generator, segments):
    content = bytearray(join(segments))
    place = len(join(segments[: _between(generator, segments)]))
    length = int(generator.choice([0, 1, 2, 3, 65535]))
    content[place + 2 : place + 4] = struct.pack(">H", length)
    return bytes(content)


def _segment_cut(generator, segments):
    place = _between(generator, segments)
    data = segments[place][1]
    length = int(generator.integers(0, len(data) + 2))
    segments[place][1] = (data + b"\0")[:length]
    return segments


def _restart_interval(generator, segments):
    interval = struct.pack(">H", int(generator.choice([0, 1, 2, 7, 65535])))
    segments.insert(_places(segments, 0xDA)[0], [0xDD, interval, b""])
    return segments


def _no_end(generator, segments):
    return segments[:-1]


def _scan_cut(generator, segments):
    """A scan that ends early, and the file goes on."""
    place = _any_of(generator, _places(segments, 0xDA))
    scan = segments[place][2]
    segments[place][2] = scan[: int(generator.integers(len(scan) + 1))]
    return segments


def _scan_longer(generator, segments):
    place = _any_of(generator, _places(segments, 0xDA))
    more = generator.bytes(int(generator.integers(1, 300))).replace(b"\xff", b"\xff\0")
    segments[place][2] += more
    return segments


def _marker_in_a_scan(generator, segments):
    place = _any_of(generator, _places(segments, 0xDA))
    scan = segments[place][2]
    cut = int(generator.integers(len(scan) + 1))
    marker = bytes([0xFF, int(generator.integers(256))])
    segments[place][2] = scan[:cut] + marker + scan[cut:]
    return segments


def _filling_in_a_scan(generator, segments):
    place = _any_of(generator, _places(segments, 0xDA))
    segments[place][2] = segments[place][2].replace(b"\xff", b"\xff\xff\xff", 1)
    return segments


def _scan_flipped(generator, segments):
    place = _any_of(generator, _places(segments, 0xDA))
    scan = bytearray(segments[place][2])
    for _ in range(int(generator.integers(1, 6))):
        if scan:
            scan[int(generator.integers(len(scan)))] ^= 1 << int(generator.integers(8))
    segments[place][2] = bytes(scan)
    return segments


def _table_flipped(generator, segments):
    place = _any_of(generator, _places(segments, 0xC4, 0xDB))
    data = bytearray(segments[place][1])
    data[int(generator.integers(len(data)))] ^= 1 << int(generator.integers(8))
    segments[place][1] = bytes(data)
    return segments


def _truncated(generator, segments):
    content = join(segments)
    return content[: int(generator.integers(len(content)))]


def _truncated_and_ended(generator, segments):
    return _truncated(generator, segments) + b"\xff\xd9"


def _bits_flipped(generator, segments):
    content = bytearray(join(segments))
    for _ in range(int(generator.integers(1, 4))):
        content[int(generator.integers(len(content)))] ^= 1 << int(
            generator.integers(8)
        )
    return bytes(content)


_CHANGES = (
    *(_scans_in_a_comment, _ends_in_a_comment, _behind_the_end, _application_segment),
    *(
        _camera_note,
        _camera_note,
        _adobe_transform,
        _no_application_segment,
        _component_names,
        _filling,
        _garbage,
    ),
    *(_restart_outside, _marker, _height_behind_the_scan, _arithmetic_tables),
    _colours_behind_the_scan,
    *(_frame_kind, _frame_field, _frame_length, _other_size, _twice, _dropped, _moved),
    *(_many_scans, _many_segments, _scan_field, _segment_length, _segment_cut),
    *(_restart_interval, _no_end, _scan_cut, _scan_longer, _marker_in_a_scan),
    *(_filling_in_a_scan, _scan_flipped, _table_flipped, _truncated),
    *(_truncated_and_ended, _bits_flipped),
)
