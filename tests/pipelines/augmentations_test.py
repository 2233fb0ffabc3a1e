"""Augmentations by name."""

import numpy as np
import pytest
import tensorflow as tf

from ood_keras import pipelines
from ood_keras.pipelines import augmentations


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(
        augmentations, "_AUGMENTATIONS", dict(augmentations._AUGMENTATIONS)
    )


def darken(images, seed, *, share=0.5):
    """Halves all pixels."""
    return images * share


def test_what_is_registered_is_run_in_training():
    assert augmentations.register(darken) is darken
    augmentations.register(darken)  # Again, as where a module is reloaded.
    assert "darken" in augmentations.names()
    known, unknown = pipelines.load("digits"), pipelines.load("glyphs")
    plain, augmented = (
        pipelines.Interleave(known.train, unknown.train, 10, augment=name)
        for name in (None, "darken")
    )
    images, _ = next(iter(plain.epoch(0)))
    darker, _ = next(iter(augmented.epoch(0)))
    np.testing.assert_allclose(darker, 0.5 * images.numpy(), rtol=1e-6)
    assert augmented.get_config()["augment"] == "darken"


def test_a_name_belongs_to_one_function():
    def random_affine(images, seed):
        return images

    with pytest.raises(ValueError, match=r"'random_affine' is ood_keras\..* already"):
        augmentations.register(random_affine)
    assert augmentations.get("random_affine") is not random_affine


@pytest.mark.parametrize("given", [tf.abs, lambda images: images, None, "darken"])
def test_what_is_no_augmentation_is_refused(given):
    if given is tf.abs:
        given = tf.keras.layers.RandomFlip()
    with pytest.raises(TypeError, match=r"function \(images, seed\)"):
        augmentations.register(given)


@pytest.mark.parametrize("name", ["random_afine", 5, None, ["random_affine"]])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(ValueError, match=r"expected one of: cutout, .*--plugin"):
        augmentations.get(name)
