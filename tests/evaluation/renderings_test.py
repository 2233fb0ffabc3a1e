"""The suite of renderings: deterministic, graded, in range."""

import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.evaluation import renderings


@pytest.fixture(scope="module")
def drawings():
    return pipelines.load("glyphs").test.images[:12].astype(np.float32) / 255


@pytest.mark.parametrize("name", renderings.names())
def test_a_rendering_is_deterministic_in_range_and_graded(name, drawings):
    rendering = renderings._RENDERINGS[name]
    colour = np.repeat(drawings, 3, axis=-1) * np.float32([1.0, 0.8, 0.6])
    for images in (drawings, colour):
        before = images.copy()
        distances = []
        for strength in rendering.strengths:
            rendered = rendering(images, strength)
            np.testing.assert_array_equal(rendered, rendering(images, strength))
            assert rendered.shape == images.shape and rendered.dtype == np.float32
            assert rendered.min() >= 0 and rendered.max() <= 1
            distances.append(np.abs(rendered - images).mean())
        np.testing.assert_array_equal(images, before)
        if images is colour or name != "warm":
            assert distances[0] > 0 and distances == sorted(distances)


def test_each_image_is_rendered_alone(drawings):
    """JPEG packs pictures side by side; a neighbour must not show."""
    for step in renderings.suite("drawing"):
        if step.rendering.name != "noise":
            alone = np.concatenate([step(drawings[i : i + 1]) for i in range(12)])
            np.testing.assert_allclose(step(drawings), alone, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        *("thicker", "thinner", "turn_left", "turn_right"),
        *("zoom_in", "zoom_out", "shear", "shift"),
    ],
)
def test_ink_is_rendered_alike_on_black_and_on_white(name, drawings):
    rendering = renderings._RENDERINGS[name]
    for images in (drawings, np.repeat(drawings, 3, axis=-1)):
        # A mixed batch: each picture has a ground of its own.
        mixed = np.concatenate([images[:6], 1 - images[6:]])
        for strength in rendering.strengths:
            rendered = rendering(images, strength)
            expected = np.concatenate([rendered[:6], 1 - rendered[6:]])
            np.testing.assert_allclose(rendering(mixed, strength), expected, atol=1e-6)


def test_a_thicker_pen_leaves_more_ink_on_any_ground(drawings):
    for images, ink in ((drawings, np.sum), (1 - drawings, lambda x: np.sum(1 - x))):
        thicker, thinner = (
            renderings._RENDERINGS[name](images, 0.6) for name in ("thicker", "thinner")
        )
        assert ink(thinner) < ink(images) < ink(thicker)


def test_left_is_against_the_clock():
    images = np.zeros((1, 21, 21, 1), np.float32)
    images[0, 10, 18] = 1.0  # To the right of the centre.
    for name, is_up in (("turn_left", True), ("turn_right", False)):
        rows = renderings._RENDERINGS[name](images, 15).sum(axis=(0, 2, 3))
        row = np.average(np.arange(21), weights=rows)
        assert (row < 9) if is_up else (row > 11)


def test_resampling_to_the_same_size_changes_nothing(drawings):
    for name in ("nearest", "bilinear", "bicubic"):
        same = renderings._resize(drawings, (28, 28), name)
        np.testing.assert_allclose(same, drawings, atol=1e-6)


def test_the_short_suite_has_the_strongest_mild_step_of_each():
    short = renderings.suite("drawing", short=True)
    assert all(step.mild for step in short)
    assert len({step.rendering.name for step in short}) == len(short)
    blur = next(step for step in short if step.rendering.name == "blur")
    assert (blur.strength, blur.name, blur.title) == (
        0.8,
        "blur=0.8",
        "blur, sigma 0.8 px",
    )
    photo = {step.rendering.name for step in renderings.suite("photo")}
    assert "warm" in photo and not {"thicker", "thinner", "binary"} & photo


def test_kinds_of_pictures():
    generator = np.random.default_rng(0)
    for source in ("glyphs", "digits"):
        strokes = pipelines.load(source, image_shape=(28, 28, 1)).test.images[:50]
        for images in (strokes, 255 - strokes, strokes / np.float32(255)):
            assert renderings.kind_of(images) == "drawing"
    block = np.zeros((9, 28, 28, 1), np.uint8)
    block[:, 4:24, 8:20] = 200
    assert renderings.kind_of(block) == "photo"
    assert renderings.kind_of(np.zeros((9, 28, 28, 1), np.uint8)) == "photo"
    grey = generator.integers(0, 256, (9, 28, 28, 1), np.uint8)
    assert renderings.kind_of(grey) == "photo"
    assert renderings.kind_of(np.zeros((2, 8, 8, 3), np.uint8)) == "photo"
    with pytest.raises(ValueError, match="'drawing' or 'photo'"):
        renderings.suite("picture")


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_images_that_no_picture_file_can_be_are_rendered_without_one(channels):
    steps = renderings.suite("photo", colour=False, files=False)
    whole = {step.rendering.name for step in renderings.suite("photo", colour=False)}
    assert whole - {step.rendering.name for step in steps} == {"jpeg"}
    images = np.random.default_rng(0).random((2, 9, 8, channels), np.float32)
    for step in steps:
        assert step(images).shape == images.shape


def test_one_of_ones_own_is_registered(monkeypatch):
    monkeypatch.setattr(renderings, "_RENDERINGS", dict(renderings._RENDERINGS))
    mine = renderings.Rendering(
        "mirror", "mirrored {}", (1.0,), 0, lambda x, _: x[:, :, ::-1]
    )
    assert renderings.register(mine) is mine
    assert "mirror" in renderings.names()
    with pytest.raises(ValueError, match=r"'mirror' is .*already"):
        renderings.register(
            renderings.Rendering("mirror", "", (2.0,), 0, lambda x, _: x)
        )
    with pytest.raises(TypeError, match="Rendering"):
        renderings.register("mirror")
    cut = renderings.Rendering("cut", "cut", (1.0,), 0, lambda x, _: x[:, 1:])
    with pytest.raises(ValueError, match="must keep the shape"):
        cut(np.zeros((1, 4, 4, 1), np.float32), 1.0)
