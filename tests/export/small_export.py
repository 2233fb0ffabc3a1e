"""A small classifier, its export, and two ways to run what was exported."""

import keras
import numpy as np
import tensorflow as tf

from ood_keras import calibration, detectors, export

IMAGE_SHAPE = (12, 10, 1)
NUM_CLASSES = 3


def classifier(image_shape=IMAGE_SHAPE, num_logits=NUM_CLASSES + 1):
    """A network with everything that export could get wrong, and random weights."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(6, activation="relu"),
            keras.layers.Dense(num_logits, kernel_initializer="random_normal"),
        ]
    )


class Session:
    """Opens a SavedModel as the C++ server does."""

    def __init__(self, path):
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
        self.signatures = graph.signature_def

    def __call__(self, signature, **inputs):
        signature = self.signatures[signature]
        outputs = {name: tensor.name for name, tensor in signature.outputs.items()}
        feed = {signature.inputs[name].name: value for name, value in inputs.items()}
        return self._session.run(outputs, feed)


class Python:
    """Opens a SavedModel as a Python program does."""

    def __init__(self, path):
        self._model = tf.saved_model.load(str(path))

    def __call__(self, signature, **inputs):
        inputs = {name: tf.constant(value) for name, value in inputs.items()}
        outputs = self._model.signatures[signature](**inputs)
        return {name: output.numpy() for name, output in outputs.items()}


class Exported:
    """A live model and what was exported from it."""

    def __init__(self, folder):
        self.model = classifier()
        self.config = self.model.get_config()
        self.weights = self.model.get_weights()
        self.detector = detectors.get("unknown_probability", num_classes=NUM_CLASSES)
        self.detector.fit(self.model)
        generator = np.random.default_rng(0)
        shape = (50, *IMAGE_SHAPE)
        # Multiples of 1/255, so that image files can hold them.
        self.pixels = generator.integers(0, 256, shape).astype(np.uint8)
        self.images = self.pixels.astype(np.float32) / 255
        scores = self.detector.score(self.images)
        self.threshold = calibration.quantile(scores, 0.6)
        self.operating_points = {"strict": calibration.quantile(scores, 0.2)}
        self.class_names = ["zero", "eins", "δύο"]
        self.metrics = {"known": {"source": "noise", "accuracy": 0.5}}
        self.path = export.saved_model(
            self.model,
            self.detector,
            self.threshold,
            folder / "1",
            class_names=self.class_names,
            operating_points=self.operating_points,
            metrics=self.metrics,
            sample_images=self.images,
        )
