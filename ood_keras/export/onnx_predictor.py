"""An exported ONNX file in Python, without TensorFlow."""

import pathlib

import numpy as np

from ood_keras import batches
from ood_keras.conventions import UNKNOWN_LABEL
from ood_keras.export import manifest

FILE = "model.onnx"


class ONNXPredictor:
    """An ONNX model that rejects what it does not know.

    It needs `onnxruntime`, and neither TensorFlow nor Keras.

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

    def __init__(self, path, num_threads=1):
        runtime = onnxruntime()
        path = pathlib.Path(path)
        folder = path.parent if path.suffix == ".onnx" else path
        file = path if path.suffix == ".onnx" else folder / FILE
        self.manifest = manifest.read(folder)
        if file.name not in self.manifest["files"]:
            raise ValueError(
                f"the manifest of {folder} does not list {file.name}; expected a "
                f"folder that ood_keras.export.onnx wrote, with {FILE}"
            )
        self.class_names = tuple(self.manifest["class_names"])
        self.threshold = self.manifest["threshold"]["value"]
        self.image_shape = tuple(self.manifest["input"]["image"]["shape"][1:])
        options = runtime.SessionOptions()
        options.intra_op_num_threads = num_threads
        self._session = runtime.InferenceSession(
            file.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in self._session.get_outputs()]

    def predict(self, images, threshold=None, batch_size=256):
        """Decides for each image: a known class, or unknown.

        Args:
            images: Float images `(num_images, height, width, channels)` in [0, 1], or a
                dataset of batches of them. NaN, infinite and out-of-range pixels make
                an image invalid; it is then rejected.
            threshold: Largest accepted `ood_score`; `None` takes the manifest's.
            batch_size: Images per run, for arrays.

        Returns:
            A dict of arrays with one row for each image, as `export.load(...).predict`
            returns it: `class_id`, `label`, `probabilities`, `ood_score`, `accepted`,
            `valid`.

        Raises:
            TypeError: images are integers.
            ValueError: images have another shape than the model takes.
        """
        limit = np.float32(self.threshold if threshold is None else threshold)
        labels = np.array([*self.class_names, UNKNOWN_LABEL], object)
        answers = []
        for batch, _ in batches.iterate(images, batch_size):
            if batch.shape[1:] != self.image_shape:
                raise ValueError(
                    "expected images of shape (num_images, "
                    f"{', '.join(map(str, self.image_shape))}). Received: {batch.shape}"
                )
            answers.append(self._run(batch, limit))
        if not answers:
            answers = [self._run(np.zeros((0, *self.image_shape), np.float32), limit)]
        answer = {
            name: np.concatenate([part[name] for part in answers])
            for name in answers[0]
        }
        # The unknown has the id -1, and so the last label.
        return {**answer, "label": labels[answer["class_id"]]}

    def _run(self, batch, limit):
        inputs = {"image": batch, "threshold": np.array(limit)}
        values = self._session.run(self._outputs, inputs)
        return dict(zip(self._outputs, values, strict=True))


def onnxruntime():
    """The package `onnxruntime`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import onnxruntime as package
    except ImportError as error:
        raise ImportError(
            "ONNX models run on onnxruntime, which is not installed: "
            "pip install 'ood_keras[onnx]' (or pip install onnxruntime)"
        ) from error
    return package
