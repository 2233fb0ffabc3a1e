"""The networks that `adopt.py` adopts, made as their users would make them.

Bodies of `keras.applications`, of a vision transformer and of KerasHub have their usual
size and random weights, and a last layer that is solved for the known classes by least
squares on their random features: no weights need to be had, and time, memory and
formats do not depend on them. How well they reject does, so nothing here says anything
about that. The small ones are trained, for few steps.

Importing this registers the subclassed network: `ood-adopt --plugin=adopt_networks`.
"""

import dataclasses
import math

import keras
import numpy as np
from keras import layers

# Kinds of pictures, which random features tell apart. Where they come from: a source of
# `pipelines.load`, and its class there.
KNOWN = ("digit", "flower", "vehicle")
UNKNOWN = ("animal", "letter")
ORIGINS = {
    "digit": ("mnist", "4"),
    "vehicle": ("cifar10", "automobile"),
    "animal": ("cifar10", "horse"),
    "letter": ("notmnist", "B"),
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """One network and how much it is given.

    Attributes:
        make: From pictures, uint8 `(n, side, side, 3)`, and labels to the network.
        side: Of the pictures, in pixels.
        num_known: Pictures of the known classes together; half of them are for
            training, and a quarter each for validation and test.
        num_unknown: Of the others, likewise.
        classes: The known classes.
        flags: Of `ood-adopt`, further ones.
        pixels: From uint8 pictures to what the network takes.
        preset: Whether it is kept as a KerasHub preset.
    """

    make: object
    side: int
    num_known: int
    num_unknown: int
    classes: tuple = KNOWN
    flags: tuple = ()
    pixels: object = staticmethod(lambda images: images.astype(np.float32))
    preset: bool = False


def make_tutorial(images, labels):
    """As in Keras' guide to image classification: pixels from 0 to 255."""
    network = keras.Sequential(
        [
            keras.Input(images.shape[1:]),
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(0.1),
            layers.Rescaling(1 / 255),
            *convolutions(),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(int(labels.max()) + 1, name="outputs"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile("adam", loss, metrics=["accuracy"])
    network.fit(images, labels, epochs=4, verbose=0)
    return network


def convolutions():
    for filters in (16, 32, 64):
        yield layers.Conv2D(filters, 3, padding="same", activation="relu")
        yield layers.MaxPooling2D()


def make_sigmoid(images, labels):
    """Two classes and one unit; takes pixels in [0, 1]."""
    network = keras.Sequential(
        [
            keras.Input(images.shape[1:]),
            *convolutions(),
            layers.BatchNormalization(momentum=0.8),
            layers.GlobalAveragePooling2D(),
            layers.Dense(64, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    network.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy")
    network.fit(images / np.float32(255), labels, epochs=6, verbose=0)
    return network


@keras.saving.register_keras_serializable("benchmarks")
class TwoOutputs(keras.Model):
    """Subclassed: the class, and how colourful the picture is."""

    def __init__(self, num_classes=3, **options):
        super().__init__(**options)
        self.num_classes = num_classes
        self.body = keras.Sequential(
            [
                *convolutions(),
                layers.BatchNormalization(momentum=0.8),
                layers.GlobalAveragePooling2D(),
            ]
        )
        self.hidden = layers.Dense(64, activation="relu")
        self.classify = layers.Dense(num_classes)
        self.measure = layers.Dense(1)

    def call(self, images, training=None):
        hidden = self.hidden(self.body(images, training=training))
        return {"classes": self.classify(hidden), "colour": self.measure(hidden)}

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


def make_two_outputs(images, labels):
    """Takes pixels from -1 to 1."""
    network = TwoOutputs()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(
        keras.optimizers.Adam(3e-3), {"classes": loss, "colour": "mean_squared_error"}
    )
    colour = np.ptp(images / 255, axis=-1).mean((1, 2))
    given = to_both_sides(images)
    network.fit(given, {"classes": labels, "colour": colour}, epochs=6, verbose=0)
    return network


def to_both_sides(images):
    return images.astype(np.float32) / 127.5 - 1


def make_application(name):
    """A maker of a network of `keras.applications`; its preprocessing is inside."""

    def make(images, labels):
        body = getattr(keras.applications, name)(
            input_shape=images.shape[1:],
            weights=None,
            include_top=False,
            pooling="avg",
        )
        return solve_head(body, images.astype(np.float32), labels)

    return make


def make_mobilenet(images, labels):
    """The one whose preprocessing is not inside: it takes pixels from -1 to 1."""
    body = keras.applications.MobileNetV2(
        images.shape[1:], weights=None, include_top=False, pooling="avg"
    )
    return solve_head(body, to_both_sides(images), labels)


def make_vit(images, labels, width=192, depth=12, heads=3, patch=16):
    """A ViT-Ti/16 (Dosovitskiy et al. 2021, Touvron et al. 2021)."""
    shape = images.shape[1:]
    inputs = keras.Input(shape)
    hidden = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    hidden = layers.Conv2D(width, patch, strides=patch)(hidden)
    count = (shape[0] // patch) ** 2
    hidden = layers.Reshape((count, width))(hidden)
    places = layers.Embedding(count, width)(keras.ops.arange(count)[None])
    hidden = hidden + places
    for _ in range(depth):
        normal = layers.LayerNormalization(epsilon=1e-6)(hidden)
        attended = layers.MultiHeadAttention(heads, width // heads)(normal, normal)
        hidden = layers.Add()([hidden, attended])
        normal = layers.LayerNormalization(epsilon=1e-6)(hidden)
        wide = layers.Dense(4 * width, activation="gelu")(normal)
        hidden = layers.Add()([hidden, layers.Dense(width)(wide)])
    hidden = layers.LayerNormalization(epsilon=1e-6)(hidden)
    body = keras.Model(inputs, layers.GlobalAveragePooling1D()(hidden))
    return solve_head(body, images.astype(np.float32), labels)


def make_hub(images, labels):
    """KerasHub's ResNet-18, with its preprocessor; random weights, a solved head."""
    import keras_hub

    side = images.shape[1]
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(side, side, 3),
    )
    converter = keras_hub.layers.ImageConverter(
        image_size=(side, side), scale=1 / 127.5, offset=-1.0
    )
    preprocessor = keras_hub.models.ResNetImageClassifierPreprocessor(converter)
    task = keras_hub.models.ResNetImageClassifier(
        backbone, num_classes=len(KNOWN), preprocessor=preprocessor
    )
    pooled = layers.GlobalAveragePooling2D()(backbone.output)
    body = keras.Model(backbone.input, pooled)
    solve(task.output_dense, body, to_both_sides(images), labels)
    return task


def solve_head(body, pixels, labels):
    """`body` with a softmax that is solved on its features of some known pictures."""
    last = layers.Dense(int(labels.max()) + 1, "softmax", name="predictions")
    network = keras.Model(body.inputs, last(body.output))
    solve(last, body, pixels, labels)
    return network


def solve(last, body, pixels, labels):
    for layer in body._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0  # Once over some pictures stands for training.
    body(pixels[:32], training=True)
    features = body.predict(pixels, batch_size=16, verbose=0)
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    columns = np.concatenate(
        [(features - mean) / deviation, np.ones((len(features), 1))], axis=1
    )
    ridge = 0.1 * len(columns) * np.eye(columns.shape[1])
    target = 8 * np.eye(int(labels.max()) + 1)[labels]
    solved = np.linalg.solve(columns.T @ columns + ridge, columns.T @ target)
    kernel = solved[:-1] / deviation[:, None]
    last.set_weights([kernel, solved[-1] - mean @ kernel])


def count_parameters(network):
    return sum(math.prod(weight.shape) for weight in network.weights)


KINDS = {
    "tutorial": Kind(make_tutorial, 128, 480, 120),
    "MobileNetV2": Kind(make_mobilenet, 224, 160, 48, pixels=to_both_sides),
    "EfficientNetV2B0": Kind(make_application("EfficientNetV2B0"), 224, 120, 40),
    "ViT-Ti/16": Kind(make_vit, 224, 120, 40),
    "ConvNeXtTiny": Kind(make_application("ConvNeXtTiny"), 224, 120, 40),
    "KerasHub ResNet-18": Kind(
        make_hub, 224, 120, 40, pixels=to_both_sides, preset=True
    ),
    "one sigmoid": Kind(
        make_sigmoid,
        128,
        480,
        120,
        classes=("flower", "vehicle"),
        pixels=lambda images: images.astype(np.float32) / 255,
    ),
    "subclassed, two outputs": Kind(
        make_two_outputs,
        128,
        480,
        120,
        flags=("--logits=classes", "--plugin=adopt_networks"),
        pixels=to_both_sides,
    ),
}
