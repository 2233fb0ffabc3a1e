"""Random renderings keep what an image shows, and are the same again."""

import numpy as np
import pytest
import tensorflow as tf

from ood_keras import pipelines
from ood_keras.pipelines.rendering import (
    mild_photo_rendering,
    mild_rendering,
    random_photo_rendering,
    random_rendering,
)


@pytest.fixture(scope="module")
def letters():
    return pipelines.load("glyphs").test.take(64, seed=1)


@pytest.fixture(scope="module")
def images(letters):
    return letters.images.astype(np.float32) / 255


@pytest.mark.parametrize("render", [random_rendering, random_photo_rendering])
def test_it_is_stateless_and_in_range(render, images):
    first = render(images, [1, 2]).numpy()
    np.testing.assert_array_equal(first, render(images, [1, 2]))
    assert (first != render(images, [1, 3]).numpy()).any(axis=(1, 2, 3)).mean() > 0.9
    assert first.shape == images.shape and first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 1 and np.isfinite(first).all()


def test_every_image_is_rendered_in_its_own_way(images):
    alike = np.repeat(images[:1], 64, axis=0)
    distinct = len(np.unique(random_rendering(alike, [4, 5]).numpy(), axis=0))
    # One in five stays as it is.
    assert 40 < distinct < 64


def test_ink_is_rendered_alike_on_black_and_on_white(images):
    rendered = random_rendering(images, [1, 2]).numpy()
    on_white = random_rendering(1 - images, [1, 2]).numpy()
    np.testing.assert_allclose(on_white, 1 - rendered, atol=1e-5)


def test_photographs_are_mirrored_and_colours_change_apart():
    generator = np.random.default_rng(0)
    colour = generator.uniform(0.2, 0.7, (1, 16, 16, 3)).astype(np.float32)
    alike = np.repeat(colour, 128, axis=0)
    rendered = random_photo_rendering(alike, [1, 2]).numpy()
    unchanged = (rendered == alike).all(axis=(1, 2, 3)).mean()
    mirrored = (rendered == alike[:, :, ::-1]).all(axis=(1, 2, 3)).mean()
    assert 0.05 < unchanged < 0.25 and 0.05 < mirrored < 0.25
    means = rendered.mean(axis=(1, 2)) / alike.mean(axis=(1, 2))
    assert np.std(means[:, 0] - means[:, 2]) > 0.02


def test_without_strength_only_sampling_is_left(images):
    """What is left is what no strength scales: reduced and enlarged again."""
    rendered = random_rendering(images, [1, 2], strength=1e-6).numpy()
    changed = np.abs(rendered - images).mean(axis=(1, 2, 3))
    assert np.median(changed) < 0.02


@pytest.mark.parametrize(
    ("mild", "whole"),
    [
        (mild_rendering, random_rendering),
        (mild_photo_rendering, random_photo_rendering),
    ],
)
def test_a_mild_rendering_changes_less(mild, whole, images):
    less, more = (
        np.abs(render(images, [1, 2]).numpy() - images).mean(axis=(1, 2, 3))
        for render in (mild, whole)
    )
    assert 0 < less.mean() < more.mean()
    # The same images are touched.
    np.testing.assert_array_equal(less > 0, more > 0)


def test_a_letter_stays_most_like_its_own_kind(letters, images):
    rendered = random_rendering(images, [7, 8]).numpy().reshape(64, -1)
    plain = images.reshape(64, -1)
    likeness = np.corrcoef(rendered, plain)[:64, 64:]
    found = letters.labels[likeness.argmax(axis=1)]
    # By chance it would be one in twenty; moved and turned strokes overlap little.
    assert np.mean(found == letters.labels) > 0.25


def test_it_runs_in_a_dataset_and_on_colour():
    generator = np.random.default_rng(0)
    colour = generator.uniform(size=(4, 20, 24, 3)).astype(np.float32)
    dataset = tf.data.Dataset.from_tensors(colour).map(
        lambda batch: random_rendering(batch, [1, 2])
    )
    (rendered,) = list(dataset)
    assert rendered.shape == (4, 20, 24, 3)
    np.testing.assert_allclose(rendered, random_rendering(colour, [1, 2]), atol=1e-5)
