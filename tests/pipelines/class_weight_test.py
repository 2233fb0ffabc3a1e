"""`class_weight` where some labels are -1, with each kind of data that Keras takes."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from ood_keras import UNKNOWN, losses, pipelines

CLASS_WEIGHT = {0: 3.0, 1: 0.0, 2: 0.5}
LABELS = np.array([0, -1, 2, 1, -1, 3, 0, -1], np.int32)
# By hand: label 3 and unknown images are not named, and weigh 1.
WEIGHTS = np.array([3.0, 1.0, 0.5, 0.0, 1.0, 1.0, 3.0, 1.0])
RNG = np.random.default_rng(0)
IMAGES = RNG.random((8, 2, 2, 1)).astype("float32")


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return IMAGES[rows], LABELS[rows]


def build(loss):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    # A learning rate of 0: the loss of the epoch is that of one set of weights.
    model.compile(keras.optimizers.SGD(0.0), loss, jit_compile=False)
    return model


def fitted_loss(*data, **arguments):
    model = build(losses.OpenSetLoss(num_classes=4))
    history = model.fit(*data, epochs=1, verbose=0, shuffle=False, **arguments)
    return history.history["loss"][0]


def expected_loss(weights=WEIGHTS):
    logits = build("mse").predict(IMAGES, verbose=0)
    each = losses.OpenSetLoss(num_classes=4, reduction=None)(LABELS, logits)
    return float(np.mean(np.asarray(each) * weights))


def dataset(labels=LABELS, batch_size=4):
    return tf.data.Dataset.from_tensor_slices((IMAGES, labels)).batch(batch_size)


def test_the_weights_matter_here():
    assert abs(expected_loss() - expected_loss(np.ones(8))) > 0.1


@pytest.mark.parametrize("kind", ["arrays", "PyDataset", "dataset"])
def test_unknown_images_and_classes_without_a_weight_weigh_one(kind):
    if kind == "dataset":
        loss = fitted_loss(pipelines.weigh_classes(dataset(), CLASS_WEIGHT))
    elif kind == "PyDataset":
        loss = fitted_loss(Batches(), class_weight=CLASS_WEIGHT)
    else:
        loss = fitted_loss(IMAGES, LABELS, batch_size=4, class_weight=CLASS_WEIGHT)
    assert loss == pytest.approx(expected_loss(), rel=1e-5)


def test_minus_one_names_the_weight_of_unknown_images():
    weights = np.where(LABELS < 0, 0.25, 1.0)
    data = pipelines.weigh_classes(dataset(), {UNKNOWN: 0.25})
    assert fitted_loss(data) == pytest.approx(expected_loss(weights), rel=1e-5)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "float32"])
@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_labels_of_any_type_and_either_shape(dtype, shape):
    data = dataset(LABELS.astype(dtype).reshape(shape))
    for weigh in (data, data.unbatch().batch(3)):
        parts = list(pipelines.weigh_classes(weigh, CLASS_WEIGHT))
        weights = np.concatenate([part[2] for part in parts])
        np.testing.assert_array_equal(weights, WEIGHTS)
        assert weights.dtype == np.float32
    single = pipelines.weigh_classes(dataset().unbatch(), CLASS_WEIGHT)
    np.testing.assert_array_equal([weight for _, _, weight in single], WEIGHTS)


def test_a_label_that_is_far_away_costs_no_memory():
    data = pipelines.weigh_classes(dataset(), {2**40: 2.0, 0: 3.0})
    weights = np.concatenate([part[2] for part in data])
    np.testing.assert_array_equal(weights, np.where(LABELS == 0, 3.0, 1.0))


@pytest.mark.parametrize("epochs_of", ["dataset", "epoch"])
def test_interleave_weighs_classes(make_split, epochs_of):
    known, unknown = make_split(12, 3), make_split(5, first=90, name="unknown")
    mixed = pipelines.Interleave(
        known, unknown, 3, batch_size=5, class_weight={0: 2.0, -1: 0.5}
    )
    data = mixed.epoch(0) if epochs_of == "epoch" else mixed.dataset()
    plain = pipelines.Interleave(known, unknown, 3, batch_size=5).epoch(0)
    batches = list(data)
    assert len(batches) == mixed.steps_per_epoch
    for (images, labels, weights), (same, same_labels) in zip(
        batches, plain, strict=True
    ):
        np.testing.assert_array_equal(images, same)
        np.testing.assert_array_equal(labels, same_labels)
        by_hand = [{0: 2.0, -1: 0.5}.get(int(label), 1.0) for label in labels]
        np.testing.assert_array_equal(weights, by_hand)
    # Another run may not go on with other weights.
    other = pipelines.Interleave(known, unknown, 3, batch_size=5, class_weight={0: 3})
    configs = [json.loads(json.dumps(each.get_config())) for each in (mixed, other)]
    assert configs[0] != configs[1]
    model = build(losses.OpenSetLoss(num_classes=4))
    assert np.isfinite(model.fit(data, verbose=0).history["loss"]).all()


def test_without_weights_the_config_is_that_of_earlier_runs(make_split):
    mixed = pipelines.Interleave(make_split(12, 3), make_split(5, first=90), 3)
    assert "class_weight" not in mixed.get_config()


@pytest.mark.parametrize("kind", ["interleave", "epoch", "split"])
def test_the_argument_of_fit_is_refused_with_what_to_do(make_split, kind):
    known, unknown = make_split(12, 3), make_split(5, first=90, name="unknown")
    data = {
        "interleave": lambda: pipelines.interleave(known, unknown, 3, batch_size=5),
        "epoch": lambda: pipelines.Interleave(known, unknown, 3, batch_size=5).epoch(1),
        "split": unknown.dataset,
    }[kind]()
    model = build(losses.OpenSetLoss(num_classes=4))
    with pytest.raises(ValueError, match=r"interleave.*class_weight.*weigh_classes"):
        model.fit(data, class_weight={0: 2.0, 1: 1.0}, verbose=0)
    model.fit(data, verbose=0)


def test_known_images_alone_keep_the_argument_of_fit(make_split):
    known = make_split(12, 3)
    for data in (known.dataset(), pipelines.interleave(known, None, 3)):
        model = build(losses.ExtraClassCrossEntropy(num_classes=4))
        model.fit(data, class_weight={0: 2.0, 1: 1.0, 2: 1.0}, verbose=0)


@pytest.mark.parametrize(
    ("class_weight", "error", "message"),
    [
        ({}, ValueError, "leave it out"),
        ([1.0, 2.0], TypeError, r"dict.*\[1.0, 2.0\]"),
        ({-2: 1.0}, ValueError, r"0 to 2, or -1 .*-2"),
        ({3: 1.0}, ValueError, r"0 to 2, or -1 .*Received: 3"),
        ({"0": 1.0}, ValueError, r"integers.*'0'"),
        ({0.5: 1.0}, ValueError, r"integers.*0\.5"),
        ({True: 1.0}, ValueError, r"integers.*True"),
        ({0: -1.0}, ValueError, r"class_weight\[0\].*\[0, inf\).*-1\.0"),
        ({0: float("nan")}, ValueError, "nan"),
        ({0: "1"}, ValueError, "'1'"),
    ],
)
def test_bad_weights_are_explained(class_weight, error, message, make_split):
    known, unknown = make_split(12, 3), make_split(5, first=90, name="unknown")
    with pytest.raises(error, match=message):
        pipelines.interleave(known, unknown, 3, class_weight=class_weight)
    if class_weight != {3: 1.0}:
        with pytest.raises(error):
            pipelines.weigh_classes(dataset(), class_weight)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((IMAGES, LABELS), TypeError, "arrays"),
        (Batches(), TypeError, "PyDataset"),
        (
            tf.data.Dataset.from_tensor_slices(IMAGES).batch(4),
            ValueError,
            r"\(images, labels\)",
        ),
        (
            tf.data.Dataset.from_tensor_slices((IMAGES, LABELS, WEIGHTS)).batch(4),
            ValueError,
            "without sample weights",
        ),
        (
            tf.data.Dataset.from_tensor_slices((IMAGES, {"a": LABELS})).batch(4),
            ValueError,
            "one tensor of labels",
        ),
        (dataset(np.eye(8, 3, dtype="float32")), ValueError, "argmax"),
    ],
)
def test_other_data_are_explained(data, error, message):
    with pytest.raises(error, match=message):
        pipelines.weigh_classes(data, CLASS_WEIGHT)
