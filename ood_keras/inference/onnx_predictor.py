"""An exported ONNX file in Python, without TensorFlow."""

import json
import types
from typing import Any

import numpy as np

from ood_keras import batches
from ood_keras.inference import answers, manifest
from ood_keras.inference.edge_predictor import EdgePredictor
from ood_keras.types import Answer, Images, Path

FILE = "model.onnx"


class ONNXPredictor(EdgePredictor):
    """An ONNX model that rejects what it does not know.

    It needs `onnxruntime`, and neither TensorFlow nor Keras. Any number of threads may
    ask one predictor at the same time.

    Args:
        path: `DIR/model.onnx`, or the folder `DIR`, as `export.onnx` wrote it;
            `manifest.json` must lie beside the file.
        num_threads: Threads to run it with.

    Attributes:
        manifest: The content of `manifest.json`, a dict.
        threshold: Largest accepted `ood_score`, as the manifest states it.
        class_names: Labels of the known classes, by class id.
        image_shape: `(height, width, channels)` of the images it takes.

    Raises:
        FileNotFoundError: there is no exported model.
        ImportError: `onnxruntime` is not installed.
        ValueError: it is damaged, was changed after it was exported, or is no ONNX
            model.

    Example:

    >>> predictor = export.ONNXPredictor("edge/mnist_onnx/model.onnx")
    >>> predictor.predict(images)["label"]
    array(['7', '__unknown__', '2'], dtype=object)
    """

    def __init__(self, path: Path, num_threads: int = 1) -> None:
        onnxruntime()
        content = self._open(path, FILE)
        try:
            self._session = session(content, num_threads)
        except Exception as error:  # The runtime has a class for every kind of it.
            raise ValueError(f"this ONNX model cannot be run: {error}") from error
        self._outputs = [output.name for output in self._session.get_outputs()]
        manifest.check_alike(self._folder, dict(self._read_stated_and_found()))

    def predict(
        self,
        images: Images,
        threshold: float | str | None = None,
        batch_size: int = 256,
    ) -> Answer:
        """Decides for each image: a known class, or unknown.

        Args:
            images: Float images `(num_images, height, width, channels)` in [0, 1], or a
                dataset of batches of them. NaN, infinite and out-of-range pixels make
                an image invalid; it is then rejected.
            threshold: Largest accepted `ood_score`, a number or the name of an
                operating point; `None` takes the manifest's.
            batch_size: Images per run, for arrays.

        Returns:
            A dict of arrays with one row for each image, as `export.load(...).predict`
            returns it: `class_id`, `label`, `probabilities`, `ood_score`, `accepted`,
            `valid`.

        Raises:
            TypeError: images are integers, or `threshold` is no single number.
            ValueError: images have another shape than the model takes, `batch_size` is
                not positive, or there is no such operating point.
        """
        threshold = self.threshold if threshold is None else threshold
        limit = answers.threshold_value(threshold, self.operating_points)
        parts = [
            self._run(answers.check_shape(batch, self.image_shape), limit)
            for batch, _ in batches.iterate(images, batch_size)
        ]
        if not parts:
            parts = [self._run(np.zeros((0, *self.image_shape), np.float32), limit)]
        answer = answers.join(parts)
        labels = answers.labels_of(answer["class_id"], self.class_names)
        return {**answer, "label": labels}

    def _read_stated_and_found(self):
        """Yields what the manifest says and what the file is, see `check_alike`."""
        yield "format", (self.manifest.get("converted_to"), "onnx")
        inputs = {each.name: each for each in self._session.get_inputs()}
        yield "inputs", (["image", "threshold"], sorted(inputs))
        yield "outputs", (self._list_outputs(), sorted(self._outputs))
        yield "shape of images", (self.image_shape, _sizes(inputs["image"])[1:])
        type_ = inputs["image"].type.removeprefix("tensor(").removesuffix(")")
        stated = self.manifest["input"]["image"]["dtype"]
        yield "type of images", (stated, {"float": "float32"}.get(type_, type_))
        outputs = {each.name: each for each in self._session.get_outputs()}
        count = _sizes(outputs["probabilities"])[-1]
        yield "number of classes", (len(self.class_names), count)
        metadata = self._session.get_modelmeta().custom_metadata_map
        if "class_names" in metadata:
            names = tuple(json.loads(metadata["class_names"]))
            yield "class names", (self.class_names, names)
        if "threshold" in metadata:
            yield "threshold", (self.threshold, float(metadata["threshold"]))

    @staticmethod
    def _list_outputs() -> list[str]:
        return ["accepted", "class_id", "ood_score", "probabilities", "valid"]

    def _run(self, batch, limit):
        inputs = {"image": batch, "threshold": np.array(limit, np.float32)}
        values = self._session.run(self._outputs, inputs)
        return dict(zip(self._outputs, values, strict=True))


def session(content: bytes, num_threads: int = 1) -> Any:
    """A session of ONNX Runtime for the bytes of an ONNX file.

    Raises:
        ImportError: `onnxruntime` is not installed.
        Exception: of a class of the runtime's own, if it cannot run the file.
    """
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3  # Errors; they are raised too.
    return runtime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )


def _sizes(tensor: Any) -> tuple[int | None, ...]:
    """Its shape, a tuple; `None` for an axis without a fixed size."""
    return tuple(size if isinstance(size, int) else None for size in tensor.shape)


def onnxruntime() -> types.ModuleType:
    """The package `onnxruntime`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import onnxruntime as package
    except ImportError as error:
        raise ImportError(
            "ONNX models run on onnxruntime, which is not installed: "
            "pip install onnxruntime"
        ) from error
    return package
