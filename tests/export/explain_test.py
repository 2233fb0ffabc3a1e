"""The signature `explain`: the heat maps of `inference.heat_maps`, in the graph."""

import types

import numpy as np
import patched_pictures
import pytest
import tensorflow as tf
from small_export import Python, Session

from ood_keras import export, inference
from ood_keras.export import graph_heat_map, serving
from ood_keras.inference import heat_map


def bright_pixels(images):
    """A score: how many pixels are brighter than any known one."""
    return (np.asarray(images) > 0.8).sum(axis=(1, 2, 3)).astype(np.float32)


def smooth(images):
    """A score that every pixel has a part in, each another one."""
    weights = np.linspace(-1, 2, np.prod(images.shape[1:]), dtype=np.float32)
    weights = weights.reshape(images.shape[1:])
    return tf.reduce_sum(tf.square(images) * weights, axis=(1, 2, 3))


@pytest.mark.parametrize("shape", [(12, 13, 2), (28, 28, 1), (7, 5, 3), (2, 9, 1)])
def test_the_graph_covers_and_takes_medians_as_numpy_does(shape):
    images = np.random.default_rng(1).uniform(size=(2, *shape)).astype(np.float32)
    windows = list(heat_map.list_windows(shape))
    # Some of each size, the first and the last corner among them.
    for top, left, side in [*windows[::-1][::17], windows[0]]:
        np.testing.assert_allclose(
            graph_heat_map.cover(
                tf.constant(images[0]), tf.constant([top, left]), side
            ),
            heat_map.cover(images[0], top, left, side),
            rtol=1e-5,
            atol=1e-6,
        )
    run = tf.function(lambda x: graph_heat_map.heat_maps(smooth, x, shape))
    found = run(tf.constant(images)).numpy()
    expected = inference.heat_maps(lambda x: smooth(x).numpy(), images)
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


SHAPE = (24, 30, 3)


@pytest.fixture(scope="module")
def pictures():
    return patched_pictures.draw()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A model that calls bright pixels strange, as a file."""

    def call(images):
        bright = tf.cast(images > 0.8, tf.float32)
        means = tf.reduce_mean(images, axis=(1, 2))
        return {
            "ood_score": tf.reduce_sum(bright, axis=(1, 2, 3)),
            "logits": means,
            "features": means,
        }

    folder = tmp_path_factory.mktemp("bright")
    serving.save(
        folder,
        types.SimpleNamespace(call=call),
        3.0,
        ["a", "b", "c"],
        SHAPE,
        explain=True,
    )
    return folder


@pytest.mark.parametrize("loader", [Session, Python])
def test_the_heat_lies_on_a_patch(loader, served, pictures):
    images, patch = pictures
    maps = loader(served)("explain", image=images)["heat"]
    assert maps.shape == (6, 24, 30) and maps.dtype == np.float32
    share = (maps * patch).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
    # Ten times the share of the area, a twentieth.
    assert share.min() > 0.5
    hottest = maps.reshape(6, -1).argmax(axis=1)
    assert np.all(patch.reshape(6, -1)[np.arange(6), hottest])
    expected = inference.heat_maps(bright_pixels, images)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)


def test_what_is_no_image_has_no_heat_and_harms_no_other(served, pictures):
    images = pictures[0][:3].copy()
    run = Python(served)
    clean = run("explain", image=images)["heat"]
    images[1, 5, 5, 0] = np.nan
    maps = run("explain", image=images)["heat"]
    np.testing.assert_array_equal(maps[1], 0.0)
    np.testing.assert_array_equal(maps[[0, 2]], clean[[0, 2]])
    assert run("explain", image=images[:0])["heat"].shape == (0, 24, 30)


def test_a_request_explains_few_images(served):
    """Each costs two hundred runs of the network, and few bytes."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 64 images"):
        Python(served)("explain", image=np.zeros((65, *SHAPE), np.float32))


def test_an_exported_model_explains_if_it_was_asked_to(
    exported, compared_in_this_process, tmp_path
):
    path = export.saved_model(
        exported.model,
        exported.detector,
        exported.threshold,
        tmp_path / "1",
        class_names=exported.class_names,
        sample_images=exported.images,
        explain=True,
    )
    predictor = export.load(path)
    assert predictor.explains
    assert predictor.manifest["output"]["heat"].startswith("float32 (batch, height")
    images = exported.images[:3]
    expected = inference.heat_maps(
        lambda batch: predictor.predict(batch)["ood_score"], images
    )
    np.testing.assert_allclose(predictor.explain(images), expected, atol=1e-6)
    assert expected.max() > 1e-4
    many = np.tile(images, (22, 1, 1, 1))
    np.testing.assert_allclose(
        predictor.explain(many, batch_size=66), np.tile(expected, (22, 1, 1)), atol=1e-6
    )
    without = export.load(exported.path)
    assert not without.explains
    with pytest.raises(ValueError, match="no signature explain"):
        without.explain(images)
