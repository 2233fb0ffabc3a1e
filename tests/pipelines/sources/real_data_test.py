"""The real data sets, as their README describes them."""

import time

import numpy as np
import pytest

from ood_keras import pipelines

pytestmark = pytest.mark.real_data


def test_mnist_has_the_official_parts(real_data_dir):
    mnist = pipelines.load("mnist", data_dir=real_data_dir)
    sizes = [len(mnist.split(role)) for role in mnist.roles]
    assert sizes == [55_000, 5_000, 10_000]
    assert mnist.test.labels[0] == 7
    assert abs(mnist.test.images.mean() - 33.791) < 1e-3
    whole = np.concatenate([mnist.train.images, mnist.validation.images])
    assert abs(whole.mean() - 33.318) < 1e-3
    shares = np.bincount(mnist.validation.labels) / np.bincount(mnist.train.labels)
    np.testing.assert_allclose(shares, 1 / 11, rtol=0.01)


@pytest.mark.parametrize(
    ("spec", "size", "shape", "classes"),
    [
        ("fashion_mnist", 10_000, (28, 28, 1), 10),
        ("emnist/letters", 17_600, (28, 28, 1), 26),
        ("kmnist", 10_000, (28, 28, 1), 10),
        ("notmnist", 10_000, (28, 28, 1), 10),
        ("kannada_mnist", 10_000, (28, 28, 1), 10),
        ("dig_mnist", 10_240, (28, 28, 1), 10),
        ("omniglot", 13_180, (28, 28, 1), 659),
        ("cifar10", 9_966, (32, 32, 3), 10),
    ],
)
def test_test_parts(real_data_dir, spec, size, shape, classes):
    test = pipelines.load(spec, data_dir=real_data_dir).test
    assert (len(test), test.image_shape) == (size, shape)
    assert set(test.labels.tolist()) == set(range(classes))


def test_classes_of_real_sets_meet_where_they_should(real_data_dir):
    def test_split(spec):
        return pipelines.load(spec, data_dir=real_data_dir).test

    mnist, letters = test_split("mnist"), test_split("emnist/letters")
    apart = ["fashion_mnist", "kmnist", "notmnist", "omniglot", "glyphs", "cifar10"]
    pipelines.check_roles({"test": mnist}, {"test": [letters, *map(test_split, apart)]})
    for known, spec in ((mnist, "digits"), (letters, "notmnist"), (letters, "glyphs")):
        with pytest.raises(ValueError, match="both known and unknown"):
            pipelines.check_roles({"test": known}, {"test": [test_split(spec)]})


def test_omniglot_as_distributed_is_the_negative_of_the_inverted_one(real_data_dir):
    """But for the rounding of the filter: one level, and seldom."""
    one, other = (
        pipelines.load(spec, data_dir=real_data_dir).test.images.astype(int)
        for spec in ("omniglot@as_distributed", "omniglot@negative")
    )
    assert np.abs(one - other).max() <= 1
    assert (one != other).any(axis=(1, 2, 3)).mean() < 0.15


def test_the_input_never_holds_training_back(real_data_dir):
    mnist = pipelines.load("mnist", data_dir=real_data_dir)
    letters = pipelines.load("emnist/letters", data_dir=real_data_dir)
    mixed = pipelines.Interleave(mnist.train, letters.train, 10)
    for epoch in range(2):
        start = time.monotonic()
        images = sum(len(labels) for _, labels in mixed.epoch(epoch))
        rate = images / (time.monotonic() - start)
    # Two cores train at most a few thousand images per second.
    assert rate > 20_000
