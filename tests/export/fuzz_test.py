"""Malformed input by the thousand: no crash, no hang, no class for garbage."""

import io
import time

import malformed
import numpy as np
import pytest
from PIL import Image
from small_export import IMAGE_SHAPE, Session

NEVER_IMAGES = {"noise", "truncated", "chunks", "with_magic"}
COUNTS = [350, pytest.param(3500, marks=pytest.mark.slow)]


def is_png(content):
    """Whether Pillow, which also checks the checksums, reads it as a PNG."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            picture.load()
    except Exception:
        return False
    return True


@pytest.mark.parametrize("count", COUNTS)
def test_malformed_files_get_no_class(exported, count):
    run = Session(exported.path)
    kinds, contents = zip(*malformed.files(count), strict=True)
    start = time.monotonic()
    answers = [
        run("predict_bytes", image_bytes=np.array(contents[row : row + 50], object))
        for row in range(0, count, 50)
    ]
    assert time.monotonic() - start < 0.1 * count
    valid = np.concatenate([answer["valid"] for answer in answers])
    class_id = np.concatenate([answer["class_id"] for answer in answers])
    accepted = np.concatenate([answer["accepted"] for answer in answers])
    np.testing.assert_array_equal(class_id[~valid], -1)
    assert not accepted[~valid].any()
    assert valid.mean() < 0.1
    for kind, content, is_valid in zip(kinds, contents, valid, strict=True):
        if is_valid:
            # A JPEG can be damaged and still decode.
            assert content[:3] == b"\xff\xd8\xff" or is_png(content), (kind, content)
            assert kind not in NEVER_IMAGES


@pytest.mark.parametrize("count", COUNTS)
def test_malformed_images_get_no_class(exported, count):
    run = Session(exported.path)
    images = np.stack(list(malformed.images(count, IMAGE_SHAPE)))
    answers = (
        run("serving_default", image=images),
        run("predict_at", image=images, threshold=np.full(count, np.inf, np.float32)),
    )
    for answer in answers:
        assert not answer["valid"].any() and not answer["accepted"].any()
        assert (answer["class_id"] == -1).all()
        assert np.isfinite(answer["ood_score"]).all()
        assert not answer["probabilities"].any()
