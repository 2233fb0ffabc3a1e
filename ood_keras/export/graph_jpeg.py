"""JPEG files inside the graph, by the rules of `image_files`: a walk over segments."""

import numpy as np
import tensorflow as tf

from ood_keras.export import graph_checks
from ood_keras.image_files import (
    EXIF,
    JPEG_COLOURS,
    JPEG_FRAMES,
    JPEG_PIXELS_A_BYTE,
    JPEG_SEGMENTS,
    MAX_JPEG_SCANS,
    ORIENTATION_TAG,
    SHORT,
    TURNS,
    most_parts,
)
from ood_keras.types import Tensor


def check_file(content: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A JPEG file without what follows its end; it raises by the rules.

    Returns:
        `(file, small, orientation)`: string; bool; int32, from 1 to 8.
    """
    data = tf.io.decode_raw(content, tf.uint8)
    length = tf.size(data)
    starts, kinds, ends, stops = _markers(data)
    count, most = tf.size(starts), most_parts(length)
    # Where the walk goes on, from marker to marker; `count` is nowhere, for good.
    following = tf.where(stops, count, tf.searchsorted(starts, ends))
    following = tf.concat([following, [count]], axis=0)

    def walk(visited, following):
        # Twice as far as before.
        visited = tf.concat([visited, tf.gather(following, visited)], axis=0)
        return visited, tf.gather(following, following)

    visited = tf.zeros([1], tf.int32)
    for _ in range(4):
        visited, following = walk(visited, following)
    visited, _ = tf.while_loop(
        lambda visited, _: (visited[-1] < count) & (tf.size(visited) < most),
        walk,
        (visited, following),
        (tf.TensorShape([None]), tf.TensorShape([None])),
        parallel_iterations=1,
    )
    visited = tf.boolean_mask(visited, visited < count)
    with graph_checks.check((count > 0) & (tf.size(visited) <= most)):
        last = visited[-1]
    seen = tf.gather(kinds, visited)
    frames = tf.boolean_mask(visited, _is_one_of(seen, JPEG_FRAMES))
    scans = tf.boolean_mask(visited, seen == 0xDA)
    colours = tf.boolean_mask(visited, _is_one_of(seen, JPEG_COLOURS))
    with graph_checks.check(
        kinds[last] == 0xD9,
        tf.size(frames) == 1,
        (tf.size(scans) >= 1) & (tf.size(scans) <= MAX_JPEG_SCANS),
        tf.reduce_all(frames < tf.reduce_min(scans)),
        tf.reduce_all(colours < tf.reduce_min(scans)),
    ):
        frame = frames[0]
        start, end = starts[frame] + 4, ends[frame]
    with graph_checks.check(end - start >= 6):
        bits, *sides, components = tf.unstack(
            tf.cast(data[start : start + 6], tf.int64), num=6
        )
    sides = tf.stack([256 * sides[0] + sides[1], 256 * sides[2] + sides[3]])
    with graph_checks.check(
        bits == 8,
        (components == 1) | (components == 3) | (components == 4),
        tf.cast(end - start, tf.int64) == 6 + 3 * components,
        graph_checks.is_readable_size(sides),
        tf.reduce_prod(sides) <= JPEG_PIXELS_A_BYTE * tf.cast(length, tf.int64),
        _are_complete(
            data, start, kinds[frame] == 0xC2, components, starts, ends, scans
        ),
    ):
        file = tf.strings.substr(content, 0, starts[last] + 2)
        small = graph_checks.is_small(sides)
        before = tf.boolean_mask(visited, visited < tf.reduce_min(scans))
        return file, small, _orientation(data, starts, kinds, ends, before)


def _orientation(data, starts, kinds, ends, segments):
    """What the first EXIF segment among `segments` says: `image_files.orientation_of`.

    Returns:
        Scalar int32, from 1 to 8.
    """
    last = tf.size(data) - 1
    starts, ends = tf.gather(starts, segments) + 4, tf.gather(ends, segments)
    heads = tf.gather(data, tf.minimum(starts[:, tf.newaxis] + tf.range(6), last))
    found = (tf.gather(kinds, segments) == 0xE1) & (ends - starts >= len(EXIF))
    found &= tf.reduce_all(heads == list(EXIF), axis=1)
    # One more, empty, stands for none.
    starts = tf.concat([tf.boolean_mask(starts, found) + len(EXIF), [0]], axis=0)
    ends = tf.concat([tf.boolean_mask(ends, found), [0]], axis=0)
    tiff = tf.cast(data[starts[0] : ends[0]], tf.int64)
    length = tf.size(tiff, tf.int64)
    # Zeros, so that every place can be read; what lies behind the end is not used.
    tiff = tf.concat([tiff, tf.zeros(16, tf.int64)], axis=0)
    little = tf.reduce_all(tiff[:4] == list(b"II*\0"))
    good = (little | tf.reduce_all(tiff[:4] == list(b"MM\0*"))) & (length >= 8)

    def integer(place, size):
        digits = tf.gather(tiff, place[..., tf.newaxis] + np.arange(size))
        high_first, low_first = (
            tf.reduce_sum(digits * 256**powers, axis=-1)
            for powers in (np.arange(size)[::-1], np.arange(size))
        )
        return tf.where(little, low_first, high_first)

    start = integer(tf.constant(4, tf.int64), 4)
    good &= start + 2 <= length
    start = tf.where(good, start, 0)
    count = tf.minimum(integer(start, 2), (length - start - 2) // 12)
    entries = start + 2 + 12 * tf.range(tf.where(good, count, 0))
    entries = tf.boolean_mask(entries, integer(entries, 2) == ORIENTATION_TAG)
    # The first with the tag; none is an entry of zeros.
    entry = tf.concat([entries, [length]], axis=0)[0]
    value = integer(entry + 8, 2)
    good = (integer(entry + 2, 2) == SHORT) & (integer(entry + 4, 4) == 1)
    good &= (value >= 1) & (value <= len(TURNS)) & (tf.size(entries) > 0)
    return tf.cast(tf.where(good, value, 1), tf.int32)


def _are_complete(data, frame, progressive, components, starts, ends, scans):
    """Whether the scans are whole, and those of a progressive JPEG are all there."""
    last = tf.size(data) - 1

    def byte(places):
        return tf.cast(tf.gather(data, tf.minimum(places, last)), tf.int32)

    names = byte(frame + 6 + 3 * tf.range(4))
    absent = tf.range(4, dtype=tf.int64) >= components
    # The absent ones are called after nothing that a byte can be.
    names = tf.where(absent, 256 + tf.range(4), names)
    twice = tf.math.count_nonzero(names[:, tf.newaxis] == names) > 4
    heads = byte(tf.gather(starts, scans)[:, tf.newaxis] + 4 + tf.range(12))
    count = heads[:, 0]
    right = (count >= 1) & (count <= 4)
    right &= tf.gather(ends - starts, scans) == 8 + 2 * count
    count = tf.clip_by_value(count, 1, 4)[:, tf.newaxis]
    first, final, bits = (
        tf.gather(heads, 2 * count + place, batch_dims=1) for place in (1, 2, 3)
    )
    coefficients = tf.range(64)
    given = (coefficients >= first) & (coefficients <= final)
    in_full = tf.bitwise.bitwise_and(bits, 15) == 0
    named = (heads[:, 1:9:2, tf.newaxis] == names) & (tf.range(4) < count)[
        ..., tf.newaxis
    ]
    # (scans, components, coefficients)
    of_each = tf.reduce_any(named, axis=1)[..., tf.newaxis] & given[:, tf.newaxis]
    number = tf.range(1, tf.size(scans) + 1)[:, tf.newaxis, tf.newaxis]
    latest, latest_in_full = (
        tf.reduce_max(tf.where(chosen, number, 0), axis=0)
        for chosen in (of_each, of_each & in_full[..., tf.newaxis])
    )
    complete = tf.reduce_all((latest > 0) & (latest == latest_in_full), axis=1)
    complete = tf.reduce_all(complete | absent) | ~progressive
    return ~twice & tf.reduce_all(right) & complete


def _markers(data):
    """All that may be a marker of a segment, within the segments or not.

    Returns:
        `(starts, kinds, ends, stops)`, each `(markers,)`: where the marker is; its
        second byte; where its segment ends; whether the walk ends here, for better (at
        the end of the image) or worse.
    """
    follower = data[3:]
    # 0xD0 to 0xD7 differ in three bits.
    no_restart = tf.bitwise.bitwise_and(follower, np.uint8(0xF8)) != 0xD0
    is_marker = (data[2:-1] == 0xFF) & (follower > 1) & (follower < 0xFF) & no_restart
    starts = 2 + tf.cast(tf.where(is_marker)[:, 0], tf.int32)
    kinds = tf.cast(tf.gather(data, starts + 1), tf.int32)
    last = tf.size(data) - 1
    high, low = (
        tf.cast(tf.gather(data, tf.minimum(starts + place, last)), tf.int32)
        for place in (2, 3)
    )
    length = 256 * high + low
    ends = starts + 2 + length
    whole = (length >= 2) & (ends <= last + 1)
    known = _is_one_of(kinds, (0xDA, *JPEG_FRAMES, *JPEG_SEGMENTS))
    return starts, kinds, ends, ~(whole & known)


def _is_one_of(kinds, chosen):
    return tf.gather([kind in chosen for kind in range(256)], kinds)
