"""Trains on one and on two logical CPUs; `replicas_test.py` runs it."""

import json
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

from ood_keras import losses, metrics, models, pipelines, training

(cpu,) = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)


def build():
    training.set_seed(0)
    model = models.se_alexnet(
        input_shape=(28, 28, 1),
        num_classes=3,
        filters=(4, 4),
        hidden_size=8,
        feature_size=4,
        dropout=0.0,
    )
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        loss=losses.OpenSetLoss(num_classes=3),
        metrics=[metrics.StreamingRanking(num_classes=3)],
    )
    return model


def make_data():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2, -1], 24).astype(np.int32)
    images = rng.uniform(size=(96, 28, 28, 1)).astype(np.float32) / 2
    for label in range(3):
        images[labels == label, 9 * label : 9 * label + 9] += 0.5
    order = rng.permutation(96)
    return images[order], labels[order]


def fit_plainly(strategy):
    images, labels = make_data()
    with strategy.scope():
        model = build()
        data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(32)
        history = model.fit(data, epochs=3, verbose=0).history
    return model, {name: values[-1] for name, values in history.items()}


def fit_with_resume(strategy):
    images, labels = make_data()
    pixels = (images * 255).astype(np.uint8)
    known = pipelines.Split(
        images=pixels[labels >= 0],
        labels=labels[labels >= 0],
        class_names=("a", "b", "c"),
        source="made",
        role="train",
    )
    unknown = pipelines.Split(
        images=pixels[labels < 0],
        labels=labels[labels < 0],
        source="other",
        role="train",
    )
    mix = pipelines.Interleave(known, unknown, num_classes=3, batch_size=32)
    with strategy.scope():
        model = build()
    with tempfile.TemporaryDirectory() as folder:
        rows = training.fit(
            model,
            mix,
            epochs=2,
            run_dir=folder,
            num_classes=3,
            validation=((images[labels >= 0], labels[labels >= 0]), images[labels < 0]),
            progress=False,
        )
    return model, rows[-1]


def main(path):
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    found = {}
    for name, fit in (("plain", fit_plainly), ("fit", fit_with_resume)):
        one, of_one = fit(tf.distribute.get_strategy())
        both, of_both = fit(mirrored)
        found[name] = {
            "one": of_one,
            "two": of_both,
            "largest_difference": max(
                float(np.abs(a - b).max())
                for a, b in zip(one.get_weights(), both.get_weights(), strict=True)
            ),
        }
    found["errors"] = []
    with mirrored.scope():
        for metric in (metrics.AUROC, metrics.Ranking):
            try:
                metric(num_classes=3)
            except ValueError as error:
                found["errors"].append(str(error))
    outside = metrics.AUROC(num_classes=3)
    try:
        mirrored.run(lambda: outside.update_state([0, -1], np.eye(4)[[0, 3]]))
    except ValueError as error:
        found["errors"].append(str(error))
    with open(path, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(sys.argv[1])
