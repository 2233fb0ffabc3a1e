"""An exported TFLite file in Python, without TensorFlow."""

import numpy as np

from ood_keras import batches
from ood_keras.conventions import REJECTED_SCORE, UNKNOWN, UNKNOWN_LABEL
from ood_keras.inference import answers
from ood_keras.inference.edge_predictor import EdgePredictor

FILE = "model.tflite"


class TFLitePredictor(EdgePredictor):
    """A TFLite model that rejects what it does not know.

    It needs `ai-edge-litert`, and neither TensorFlow nor Keras. The decision, with its
    threshold, is in the file.

    Args:
        path: `DIR/model.tflite`, or the folder `DIR`, as `export.tflite` wrote it;
            `manifest.json` must lie beside the file.
        num_threads: Threads to run it with.

    Attributes:
        manifest: The content of `manifest.json`, a dict.
        threshold: Largest accepted `ood_score`, as the manifest states it.
        class_names: Labels of the known classes, by class id.
        image_shape: `(height, width, channels)` of the images it takes.
        dtype: What the file takes: float32 images in [0, 1], or uint8.

    Raises:
        FileNotFoundError: there is no exported model.
        ImportError: `ai-edge-litert` is not installed.
        ValueError: it is damaged, was changed after it was exported, or is no TFLite
            model.

    Example:

    >>> predictor = export.TFLitePredictor("edge/mnist/int8/model.tflite")
    >>> predictor.predict(images)["label"]
    array(['7', '__unknown__', '2'], dtype=object)
    """

    def __init__(self, path, num_threads=1):
        content = self._open(path, FILE)
        image = self.manifest["input"]["image"]
        self.dtype = image["dtype"]
        self._tolerance = image["tolerance"]
        self._run = runner(content, num_threads)

    def predict(self, images, threshold=None):
        """Decides for each image: a known class, or unknown.

        Images run one at a time, as the file takes them.

        Args:
            images: Float images `(num_images, height, width, channels)` in [0, 1], or a
                dataset of batches of them; for a uint8 file also uint8 images. NaN,
                infinite and out-of-range pixels make an image invalid; it is then
                rejected. A uint8 file cannot be handed them: they are found before.
            threshold: Largest accepted `ood_score`, a number or the name of an
                operating point; `None` takes the one in the file.

        Returns:
            A dict of arrays with one row for each image, as `export.load(...).predict`
            returns it: `class_id`, `label`, `probabilities`, `ood_score`, `accepted`,
            `valid`.

        Raises:
            TypeError: images are integers, other than uint8 for a uint8 file.
            ValueError: images have another shape than the model takes.
        """
        if self.dtype == "uint8" and getattr(images, "dtype", None) == np.uint8:
            images = answers.check_shape(np.asarray(images), self.image_shape)
            parts = [self._answer(image) for image in images]
        else:
            parts = [
                self._answer_float(image)
                for batch, _ in batches.iterate(images)
                for image in answers.check_shape(batch, self.image_shape)
            ]
        none = {name: value[:0] for name, value in self._invalid().items()}
        answer = answers.joined([none, *parts])
        if threshold is None:
            return answer
        threshold = answers.threshold_value(threshold, self.operating_points)
        return answers.at_threshold(answer, threshold, self.class_names)

    def _answer_float(self, image):
        if self.dtype != "uint8":
            return self._answer(image)
        if not self._in_range(image):
            return self._invalid()
        return self._answer(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))

    def _in_range(self, image):
        low, high = -self._tolerance, 1 + self._tolerance
        return bool(np.all((image >= low) & (image <= high)))

    def _answer(self, image):
        # The results live in the interpreter's memory, and the next run overwrites it.
        answer = {
            name: np.array(value)
            for name, value in self._run(image=image[np.newaxis]).items()
        }
        answer["label"] = np.array([name.decode() for name in answer["label"]], object)
        return answer

    def _invalid(self):
        return {
            "class_id": np.array([UNKNOWN], np.int32),
            "label": np.array([UNKNOWN_LABEL], object),
            "probabilities": np.zeros((1, len(self.class_names)), np.float32),
            "ood_score": np.array([REJECTED_SCORE], np.float32),
            "accepted": np.array([False]),
            "valid": np.array([False]),
        }


def runner(content, num_threads=1):
    """A function from `image`, a batch of one, to the outputs of a TFLite file.

    Raises:
        ImportError: `ai-edge-litert` is not installed.
        ValueError: `content` is no TFLite model that the builtin operators can run.
    """
    make = interpreter_class()
    try:
        interpreter = make(model_content=content, num_threads=num_threads)
        return interpreter.get_signature_runner("serving_default")
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"this TFLite model cannot be run: {error}") from error


def interpreter_class():
    """The interpreter of `ai-edge-litert`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            "TFLite models run on ai-edge-litert, which is not installed: "
            "pip install 'ood_keras[tflite]' (or pip install ai-edge-litert)"
        ) from error
    return Interpreter
