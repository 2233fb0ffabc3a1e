"""An exported TFLite file in Python, without TensorFlow."""

import pathlib

import numpy as np

from ood_keras import batches
from ood_keras.conventions import UNKNOWN, UNKNOWN_LABEL
from ood_keras.export import manifest

FILE = "model.tflite"


class TFLitePredictor:
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
        path = pathlib.Path(path)
        folder = path.parent if path.suffix == ".tflite" else path
        self.manifest = manifest.read(folder)
        file = path if path.suffix == ".tflite" else folder / FILE
        if file.name not in self.manifest["files"]:
            raise ValueError(
                f"the manifest of {folder} does not list {file.name}; expected a "
                f"folder that ood_keras.export.tflite wrote, with {FILE}"
            )
        self.class_names = tuple(self.manifest["class_names"])
        self.threshold = self.manifest["threshold"]["value"]
        image = self.manifest["input"]["image"]
        self.image_shape = tuple(image["shape"][1:])
        self.dtype = image["dtype"]
        self._tolerance = image["tolerance"]
        self._run = runner(file.read_bytes(), num_threads)

    def predict(self, images):
        """Decides for each image: a known class, or unknown.

        Images run one at a time, as the file takes them.

        Args:
            images: Float images `(num_images, height, width, channels)` in [0, 1], or a
                dataset of batches of them; for a uint8 file also uint8 images. NaN,
                infinite and out-of-range pixels make an image invalid; it is then
                rejected. A uint8 file cannot be handed them: they are found before.

        Returns:
            A dict of arrays with one row for each image, as `export.load(...).predict`
            returns it: `class_id`, `label`, `probabilities`, `ood_score`, `accepted`,
            `valid`.

        Raises:
            TypeError: images are integers, other than uint8 for a uint8 file.
            ValueError: images have another shape than the model takes.
        """
        if self.dtype == "uint8" and getattr(images, "dtype", None) == np.uint8:
            return joined(
                [self._answer(image) for image in self._shaped(np.asarray(images))],
                len(self.class_names),
            )
        answers = []
        for batch, _ in batches.iterate(images):
            for image in self._shaped(batch):
                if self.dtype != "uint8":
                    answers.append(self._answer(image))
                elif self._in_range(image):
                    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
                    answers.append(self._answer(pixels))
                else:
                    answers.append(self._invalid())
        return joined(answers, len(self.class_names))

    def _shaped(self, images):
        if images.shape[1:] != self.image_shape:
            raise ValueError(
                "expected images of shape (num_images, "
                f"{', '.join(map(str, self.image_shape))}). Received: {images.shape}"
            )
        return images

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
            "ood_score": np.array([np.finfo(np.float32).max]),
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


def joined(answers, num_classes):
    """The answers for single images as arrays with one row for each."""
    shapes = {
        "class_id": ((0,), np.int32),
        "label": ((0,), object),
        "probabilities": ((0, num_classes), np.float32),
        "ood_score": ((0,), np.float32),
        "accepted": ((0,), bool),
        "valid": ((0,), bool),
    }
    return {
        name: np.concatenate(
            [np.zeros(shape, dtype), *(answer[name] for answer in answers)]
        ).astype(dtype, copy=False)
        for name, (shape, dtype) in shapes.items()
    }
