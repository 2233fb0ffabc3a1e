"""Opens an exported model of any kind."""

import pathlib
from typing import TYPE_CHECKING

from ood_keras.inference import shipped_models
from ood_keras.inference.file_formats import FILE_FORMATS
from ood_keras.types import Path

if TYPE_CHECKING:
    from ood_keras.inference.edge_predictor import EdgePredictor
    from ood_keras.inference.predictor import Predictor


def load(path: Path) -> "Predictor | EdgePredictor":
    """Opens an exported model after checking that it is whole.

    Args:
        path: `DIR/VERSION`, a folder that `saved_model` wrote; or a TFLite or ONNX
            file that `tflite` or `onnx` wrote, or its folder, which need no TensorFlow;
            or, where there is nothing of that name, the name of a model that comes with
            the package, see `shipped`.

    Returns:
        A `Predictor`; or of a file the `EdgePredictor` of its format, a
        `TFLitePredictor` or `ONNXPredictor`.

    Raises:
        FileNotFoundError: `path` is not an exported model.
        ImportError: what it runs on is not installed.
        ValueError: it is damaged, or was changed after it was exported.

    Example:

    >>> predictor = export.load("mnist")
    >>> predictor.predict(images)["label"]
    array(['7', '__unknown__', '2'], dtype=object)
    """
    from ood_keras import inference

    kind = kind_of(path)
    for each in FILE_FORMATS:
        if each.name == kind:
            return getattr(inference, each.predictor)(path)
    return inference.Predictor(shipped_models.locate(path))


def kind_of(path: Path) -> str:
    """What `path` leads to: the name of a file format, or else "saved_model"."""
    path = pathlib.Path(path)
    for each in FILE_FORMATS:
        if path.suffix == f".{each.name}" or (path / each.file).is_file():
            return each.name
    return "saved_model"
