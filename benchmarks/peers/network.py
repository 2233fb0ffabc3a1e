"""The classifier that all sides score with: one definition, one set of weights.

A small Sequential model, since that is the only kind that oodeel takes. It is built
here for our environment and for oodeel's; `side_pytorch_ood.py` builds its twin.
"""

import keras

INPUT_SHAPE = (28, 28, 1)
NUM_FEATURES = 128
LAYERS = ("conv_1", "conv_2", "features", "logits")
# What Gram reads: every layer with weights before the one that makes the logits.
INNER_LAYERS = LAYERS[:-1]
LAYER_BEFORE_FEATURES = "flat"


def build(num_classes):
    """Two convolutions with pooling, `NUM_FEATURES` features, linear logits."""
    return keras.Sequential(
        [
            keras.Input(INPUT_SHAPE),
            keras.layers.Conv2D(32, 3, activation="relu", name="conv_1"),
            keras.layers.MaxPooling2D(name="pool_1"),
            keras.layers.Conv2D(64, 3, activation="relu", name="conv_2"),
            keras.layers.MaxPooling2D(name="pool_2"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(NUM_FEATURES, activation="relu", name="features"),
            keras.layers.Dense(num_classes, name="logits"),
        ]
    )


def train(images, labels, num_classes, epochs, seed=0):
    """Plain cross-entropy on known images: the network never sees an unknown one."""
    keras.utils.set_random_seed(seed)
    model = build(num_classes)
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    model.fit(images, labels, batch_size=128, epochs=epochs, verbose=2)
    return model


def get_weights(model):
    """Flat dict of arrays, as they are exchanged between the environments."""
    return {
        f"{name}_{kind}": value
        for name in LAYERS
        for kind, value in zip(
            ("kernel", "bias"), model.get_layer(name).get_weights(), strict=True
        )
    }


def from_weights(weights):
    """The model that `get_weights` was taken from."""
    model = build(len(weights["logits_bias"]))
    for name in LAYERS:
        model.get_layer(name).set_weights(
            [weights[f"{name}_kernel"], weights[f"{name}_bias"]]
        )
    return model
