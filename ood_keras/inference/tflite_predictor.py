"""An exported TFLite file in Python, without TensorFlow."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ood_keras import batches, machine
from ood_keras.conventions import REJECTED_SCORE, UNKNOWN, UNKNOWN_LABEL
from ood_keras.inference import answers, manifest
from ood_keras.inference.edge_predictor import EdgePredictor
from ood_keras.inference.file_formats import TFLITE
from ood_keras.types import Answer, Images, Json, Path

FILE = TFLITE.file
FORMATS = TFLITE.roundings
_SIGNATURE = "serving_default"


class TFLitePredictor(EdgePredictor):
    """A TFLite model that rejects what it does not know.

    It needs `ai-edge-litert`, and neither TensorFlow nor Keras. The decision, with its
    threshold, is in the file.

    One predictor serves any number of threads. An interpreter can answer only one
    image at a time, so calls that come at the same time get interpreters of their own,
    at most as many as there are cores for `num_threads` each; further calls wait.

    Args:
        path: `DIR/model.tflite`, or the folder `DIR`, as `export.tflite` wrote it;
            `manifest.json` must lie beside the file.
        num_threads: Threads that one interpreter runs with.

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

    def __init__(self, path: Path, num_threads: int = 1) -> None:
        content = self._open(path, FILE)
        image = self.manifest["input"]["image"]
        self.dtype: str = image["dtype"]
        self._tolerance = image["tolerance"]
        self._run = Runners(content, num_threads)
        self._check_alike()

    def predict(self, images: Images, threshold: float | str | None = None) -> Answer:
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
        answer = answers.join([none, *parts])
        if threshold is None:
            return answer
        threshold = answers.threshold_value(threshold, self.operating_points)
        return answers.at_threshold(answer, threshold, self.class_names)

    def _check_alike(self):
        found = dict(self._read_stated_and_found(self._run.graph))
        manifest.check_alike(self._folder, found)

    def _read_stated_and_found(self, graph):
        """Yields what the manifest says and what the file is, see `check_alike`."""
        yield "format", (True, self.manifest.get("converted_to") in FORMATS)
        yield "outputs", (sorted(self._invalid()), sorted(graph["outputs"]))
        yield "shape of images", ((1, *self.image_shape), graph["shape"])
        yield "type of images", (self.dtype, graph["dtype"])
        count = graph["outputs"]["probabilities"][-1]
        yield "number of classes", (len(self.class_names), count)
        yield "class names", (self.class_names, graph["class_names"])
        yield "threshold", (self.threshold, graph["threshold"])

    def _answer_float(self, image: np.ndarray) -> Answer:
        if self.dtype != "uint8":
            return self._answer(image)
        if not self._in_range(image):
            return self._invalid()
        return self._answer(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))

    def _in_range(self, image: np.ndarray) -> bool:
        low, high = -self._tolerance, 1 + self._tolerance
        return bool(np.all((image >= low) & (image <= high)))

    def _answer(self, image: np.ndarray) -> Answer:
        answer = self._run(image=image[np.newaxis])
        answer["label"] = np.array([name.decode() for name in answer["label"]], object)
        return answer

    def _invalid(self) -> Answer:
        return {
            "class_id": np.array([UNKNOWN], np.int32),
            "label": np.array([UNKNOWN_LABEL], object),
            "probabilities": np.zeros((1, len(self.class_names)), np.float32),
            "ood_score": np.array([REJECTED_SCORE], np.float32),
            "accepted": np.array([False]),
            "valid": np.array([False]),
        }


class Runners:
    """A function from `image` to the outputs of a TFLite file, for many threads.

    An interpreter keeps its inputs and outputs in memory of its own, so that two
    threads in one of them get each other's answers. Here each call has one for itself.

    Args:
        content: The file, bytes.
        num_threads: Threads that one interpreter runs with.

    Attributes:
        graph: What the file says: `shape` and `dtype` of its input, `outputs`, their
            shapes by name, `threshold` and `class_names`; the last two may be `None`.

    Raises:
        ImportError, ValueError: as `runner`.
    """

    def __init__(self, content: bytes, num_threads: int = 1) -> None:
        self._make = lambda: runner(content, num_threads)
        # What the file says of itself is read before anything runs in it.
        with _as_value_errors():
            interpreter = _interpreter(content, num_threads)
            self.graph: Json = _description(interpreter)
            self._idle = [interpreter.get_signature_runner(_SIGNATURE)]
        most = max(1, machine.num_cores() // max(1, num_threads or 1))
        self._places = threading.BoundedSemaphore(most)

    def __call__(self, image: np.ndarray) -> Answer:
        """A dict of arrays that later calls leave alone."""
        with self._one() as run:
            return {name: np.array(value) for name, value in run(image=image).items()}

    @contextlib.contextmanager
    def _one(self) -> Iterator[Callable[..., Answer]]:
        with self._places:
            # Taking from a list and giving back to it are one step each in Python.
            try:
                run = self._idle.pop()
            except IndexError:
                run = self._make()
            yield run
            # One that failed is in no state to be used again.
            self._idle.append(run)


def runner(content: bytes, num_threads: int = 1) -> Callable[..., Answer]:
    """A function from `image`, a batch of one, to the outputs of a TFLite file.

    For one thread at a time; what it returns lives until it is called again.

    Raises:
        ImportError: `ai-edge-litert` is not installed.
        ValueError: `content` is no TFLite model that the builtin operators can run.
    """
    with _as_value_errors():
        return _interpreter(content, num_threads).get_signature_runner(_SIGNATURE)


def _interpreter(content: bytes, num_threads: int) -> Any:
    return interpreter_class()(model_content=content, num_threads=num_threads)


@contextlib.contextmanager
def _as_value_errors() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"this TFLite model cannot be run: {error}") from error


def _description(interpreter: Any) -> Json:
    """See `Runners.graph`."""
    if _SIGNATURE not in interpreter.get_signature_list():
        raise ValueError(f"it has no signature {_SIGNATURE}")
    interpreter.allocate_tensors()
    run = interpreter.get_signature_runner(_SIGNATURE)
    if list(run.get_input_details()) != ["image"]:
        raise ValueError(f"it takes {', '.join(run.get_input_details())}, not image")
    image = run.get_input_details()["image"]
    shapes = {
        name: tuple(map(int, details["shape"]))
        for name, details in run.get_output_details().items()
    }
    found: Json = {"threshold": None, "class_names": None}
    # No other tensor is called so, or has text for all classes and the unknown.
    num_labels = shapes.get("probabilities", (0,))[-1] + 1
    for tensor in interpreter.get_tensor_details():
        if tensor["name"] == "threshold":
            found["threshold"] = float(interpreter.get_tensor(tensor["index"]))
        elif tensor["dtype"] is np.bytes_ and list(tensor["shape"]) == [num_labels]:
            first, *names = interpreter.get_tensor(tensor["index"]).tolist()
            if first == UNKNOWN_LABEL.encode():
                found["class_names"] = tuple(name.decode() for name in names)
    return {
        "shape": tuple(map(int, image["shape"])),
        "dtype": np.dtype(image["dtype"]).name,
        "outputs": shapes,
        **found,
    }


def interpreter_class() -> Any:
    """The interpreter of `ai-edge-litert`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            "TFLite models run on ai-edge-litert, which is not installed: "
            "pip install ai-edge-litert"
        ) from error
    return Interpreter
