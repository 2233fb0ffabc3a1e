"""Weights for `--backbone`, trained here, for where ImageNet's cannot be downloaded.

  python benchmarks/pretrain_backbone.py --data_dir=DATA --output=small.weights.h5

MobileNet of alpha 0.25 learns to classify CIFAR-10, enlarged to 48 x 48 pixels: a
stand-in for the usual file of weights, far weaker than that.
"""

import argparse
import json
import pathlib
import time

import keras
import tensorflow as tf

from ood_keras import pipelines
from ood_keras.files import write_json

NETWORK, SIDE = "MobileNet:alpha=0.25", 48


def build_model():
    backbone = keras.applications.MobileNet(
        input_shape=(SIDE, SIDE, 3), alpha=0.25, include_top=False, weights=None
    )
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Its own 0.999 is for epochs of ten thousand steps.
            layer.momentum = 0.95
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    x = keras.layers.Dropout(0.2)(x)
    outputs = keras.layers.Dense(10)(x)
    return keras.Model(backbone.input, outputs), backbone


def batches(split, *, batch_size, training):
    data = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
    if training:
        data = data.shuffle(len(split), seed=0)

    def prepare(images, labels):
        images = tf.cast(images, tf.float32) / 127.5 - 1
        if training:
            images = tf.image.random_flip_left_right(images)
            images = tf.pad(images, [[0, 0], [4, 4], [4, 4], [0, 0]], "REFLECT")
            images = tf.image.random_crop(images, [tf.shape(images)[0], 32, 32, 3])
        return tf.image.resize(images, (SIDE, SIDE)), labels

    return data.batch(batch_size).map(prepare).prefetch(2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    source = pipelines.load("cifar10", data_dir=arguments.data_dir)
    model, backbone = build_model()
    steps = arguments.epochs * -(-len(source.train) // 128)
    model.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(
                0.0, steps, warmup_target=3e-3, warmup_steps=steps // 10
            ),
            weight_decay=1e-3,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    start = time.monotonic()
    model.fit(
        batches(source.train, batch_size=128, training=True),
        validation_data=batches(source.validation, batch_size=256, training=False),
        epochs=arguments.epochs,
        verbose=2,
    )
    seconds, processor = time.monotonic() - start, time.process_time()
    _, accuracy = model.evaluate(
        batches(source.test, batch_size=256, training=False), verbose=0
    )
    backbone.save_weights(arguments.output)
    result = {
        "network": NETWORK,
        "trained_on": "cifar10/train",
        "epochs": arguments.epochs,
        "side": SIDE,
        "seconds": round(seconds),
        "processor_seconds": round(processor),
        "test_accuracy": round(accuracy, 4),
    }
    write_json(arguments.output.with_name("backbone.json"), result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
