"""TFRecord files without TensorFlow, against TensorFlow."""

import io
import struct
import time

import numpy as np
import pytest
import tensorflow as tf

from ood_keras import tfrecords


def read(content, **options):
    options = {"max_bytes": 10**6, **options}
    return list(tfrecords.read(io.BytesIO(content), "a.tfrecord", **options))


@pytest.fixture
def written(tmp_path):
    generator = np.random.default_rng(0)
    sizes = [0, 1, 3, 4, 5, 4095, 4096, 4097, 4099, 20000]
    records = [generator.bytes(size) for size in sizes]
    with tf.io.TFRecordWriter(str(tmp_path / "a")) as writer:
        for record in records:
            writer.write(record)
    return records, (tmp_path / "a").read_bytes()


def test_checksums_are_those_of_the_standard():
    # RFC 3720, B.4.
    assert tfrecords.crc32c(b"123456789") == 0xE3069283
    assert tfrecords.crc32c(bytes(32)) == 0x8A9136AA
    assert tfrecords.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert tfrecords.crc32c(b"") == 0


def test_records_are_those_that_tensorflow_wrote(written):
    records, content = written
    assert read(content) == records
    assert read(content, start=4) == records[4:]
    assert read(b"") == []


def test_a_changed_byte_is_found(written):
    records, content = written
    generator = np.random.default_rng(1)
    for place in [*range(40), *generator.integers(len(content), size=100)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(ValueError, match="corrupt or truncated at record"):
            read(bytes(damaged))
    ends = np.cumsum([0, *(len(record) + 16 for record in records)])
    for length in {*generator.integers(len(content), size=100)} - {*ends}:
        with pytest.raises(ValueError, match="corrupt or truncated"):
            read(content[:length])


def test_a_length_that_lies_reserves_nothing():
    length = struct.pack("<Q", 2**62)
    value = tfrecords.crc32c(length)
    masked = ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
    with pytest.raises(ValueError, match=f"{2**62} bytes; at most 1000000"):
        read(length + struct.pack("<I", masked) + b"rest")


def test_damaged_examples_are_errors_or_images():
    values = tf.train.BytesList(value=[b"content"])
    features = {
        "image": tf.train.Feature(bytes_list=values),
        "size": tf.train.Feature(float_list=tf.train.FloatList(value=[1, 2])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    record = example.SerializeToString()
    assert tfrecords.image_in(record) == b"content"
    assert tfrecords.image_in(record, "image") == b"content"
    with pytest.raises(ValueError, match="'size' with one value; it has: image"):
        tfrecords.image_in(record, "size")
    for place in range(len(record)):
        for bit in range(8):
            damaged = bytearray(record)
            damaged[place] ^= 1 << bit
            for content in (bytes(damaged), record[:place]):
                try:
                    assert isinstance(tfrecords.image_in(content), bytes)
                except ValueError as error:
                    assert "Example" in str(error)


def field(number, content):
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def test_examples_that_cost_more_than_they_hold_are_refused():
    start = time.monotonic()
    image = field(1, b"image") + field(2, field(1, field(1, b"content")))
    many = {
        "values": field(1, b"image") + field(2, field(1, b"\x0a\0" * 10**7)),
        "fields": image + b"\x1a\0" * 10**7,
        "names": field(1, b"i") + b"\x0a\0" * 10**7,
    }
    for entry in many.values():
        with pytest.raises(ValueError, match="Example"):
            tfrecords.image_in(field(1, field(1, entry)))
    with pytest.raises(ValueError, match="Example"):
        tfrecords.image_in(field(1, field(1, image) + b"\x0a\0" * 10**7))
    assert time.monotonic() - start < 5
    long_names = b"".join(
        field(1, field(1, b"%05d" % number + b"n" * 1000) + field(2, field(1, b"")))
        for number in range(1000)
    )
    with pytest.raises(ValueError, match="and 980 more") as error:
        tfrecords.image_in(field(1, long_names))
    assert len(str(error.value)) < 2000


def test_a_list_of_many_words_is_no_matter():
    words = tf.train.BytesList(value=[b"word"] * 100_000)
    image = tf.train.BytesList(value=[b"content"])
    features = {
        "image": tf.train.Feature(bytes_list=image),
        "words": tf.train.Feature(bytes_list=words),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    assert tfrecords.image_in(example.SerializeToString()) == b"content"
