"""Batch normalisation by a fused operation does what Keras' own does."""

import keras
import numpy as np
import pytest

from ood_keras.layers import BatchNormalization

tf = pytest.importorskip("tensorflow")
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="needs TensorFlow's gradients"
)


def take_step(layer, images, targets, **call):
    """Output, gradients and moving statistics of one step of training."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        output = layer(images, training=True, **call)
        loss = tf.reduce_sum(tf.cast(output, "float32") * targets)
    variables = [each.value for each in layer.trainable_variables]
    gradients = tape.gradient(loss, [images, *variables])
    return [output, *gradients, *layer.non_trainable_variables]


def is_fused(layer, images, **call):
    step = tf.function(lambda x: layer(x, training=True, **call))
    operations = step.get_concrete_function(images).graph.get_operations()
    return any(each.type == "FusedBatchNormV3" for each in operations)


def pair(**arguments):
    arguments = {
        "momentum": 0.9,
        "gamma_initializer": keras.initializers.RandomUniform(0.5, 2, seed=1),
        "beta_initializer": keras.initializers.RandomUniform(-1, 1, seed=2),
        **arguments,
    }
    return BatchNormalization(**arguments), keras.layers.BatchNormalization(**arguments)


FUSED = [
    ((16, 7, 5, 6), {}),
    ((16, 7, 5, 6), {"axis": 3}),
    ((16, 7, 5, 6), {"scale": False}),
    ((16, 7, 5, 6), {"center": False, "epsilon": 0.1}),
    ((1, 2, 1, 3), {}),
    ((1, 1, 1, 3), {}),
]
NOT_FUSED = [
    ((16, 6), {}),
    ((16, 7, 6), {}),
    ((3, 2, 4, 4, 6), {}),
    ((16, 6, 7, 5), {"axis": 1}),
    ((16, 7, 5, 6), {"dtype": "float64"}),
]


@on_tensorflow
@pytest.mark.parametrize(
    ("shape", "arguments", "fused"),
    [(*case, True) for case in FUSED] + [(*case, False) for case in NOT_FUSED],
)
def test_training_is_that_of_keras(shape, arguments, fused):
    random = np.random.default_rng(0)
    dtype = arguments.get("dtype", "float32")
    images = random.normal(3, 2, shape).astype(dtype)
    targets = random.normal(size=shape).astype("float32")
    ours, theirs = pair(**arguments)
    for _ in range(2):  # The moving statistics of two steps.
        of_ours = take_step(ours, images, targets)
        for one, other in zip(of_ours, take_step(theirs, images, targets), strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4)
    assert is_fused(ours, images) == fused


@on_tensorflow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_counts_in_full(precision):
    images = np.random.default_rng(0).normal(40, 1, (32, 6, 6, 4)).astype("float32")
    ours, theirs = (layer(images, training=True) for layer in pair(dtype=precision))
    assert ours.dtype == theirs.dtype == precision.removeprefix("mixed_")
    np.testing.assert_allclose(
        *(np.array(keras.ops.cast(each, "float32")) for each in (ours, theirs)),
        atol=0.02,
    )


@on_tensorflow
def test_what_is_not_the_batch_is_left_to_keras():
    random = np.random.default_rng(0)
    images = random.normal(3, 2, (8, 4, 4, 2)).astype("float32")
    ours, theirs = pair()
    mask = random.random((8, 4, 4)) < 0.5
    np.testing.assert_allclose(
        ours(images, training=True, mask=mask),
        theirs(images, training=True, mask=mask),
        rtol=1e-5,
    )
    for training in (False, None):
        np.testing.assert_array_equal(
            ours(images, training=training), theirs(images, training=training)
        )
    ours.trainable = False
    before = np.array(ours.moving_mean)
    np.testing.assert_array_equal(ours(images, training=True), ours(images))
    np.testing.assert_array_equal(ours.moving_mean, before)


def test_weights_are_under_the_names_of_keras(tmp_path):
    """So that a layer that keeps it in a list reads what earlier versions saved."""
    ours, theirs = pair()
    assert type(ours).__name__ == type(theirs).__name__
    for layer in (ours, theirs):
        layer.build((None, 4, 4, 3))
    assert [each.name for each in ours.weights] == [
        each.name for each in theirs.weights
    ]
    model = keras.Sequential([keras.Input((4, 4, 3)), ours])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[0], BatchNormalization)
    images = np.ones((2, 4, 4, 3), "float32")
    np.testing.assert_array_equal(loaded(images), model(images))
