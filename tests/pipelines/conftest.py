"""Tiny data sets on disk and in memory."""

import gzip
import io
import struct

import numpy as np
import pytest

from ood_keras.pipelines import Split


def idx_bytes(array):
    """The array as an IDX file, written from the format's description."""
    content = bytes([0, 0, 8, array.ndim])
    content += b"".join(struct.pack(">I", size) for size in array.shape)
    return content + array.astype(np.uint8).tobytes()


@pytest.fixture
def write_idx():
    def write(folder, part, images, labels, compress=True):
        folder.mkdir(parents=True, exist_ok=True)
        suffix = ".gz" if compress else ""
        pack = gzip.compress if compress else bytes
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{part}-{kind}-ubyte{suffix}"
            path.write_bytes(pack(idx_bytes(array)))
        return folder

    return write


@pytest.fixture
def png():
    """A function from pixels to the bytes of a PNG file."""

    def encode(pixels):
        from PIL import Image

        pixels = np.asarray(pixels, np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(
            file, "PNG"
        )
        return file.getvalue()

    return encode


@pytest.fixture
def make_split():
    """A function that makes a split of which every image holds its own number."""

    def make(count, num_classes=None, *, name="made", role="train", first=0, size=2):
        numbers = np.arange(first, first + count)
        images = np.zeros((count, size, size, 1), np.uint8)
        images[:, 0, 0, 0], images[:, 0, 1, 0] = numbers // 256, numbers % 256
        if num_classes is None:
            labels, names = np.full(count, -1), ()
        else:
            labels = np.arange(count) % num_classes
            names = [f"{name} {index}" for index in range(num_classes)]
        return Split(name, role, images, labels, names)

    return make
