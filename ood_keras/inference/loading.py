"""Opens an exported model of any kind."""

import pathlib
from typing import TYPE_CHECKING, Literal

from ood_keras.types import Path

if TYPE_CHECKING:
    from ood_keras.inference.onnx_predictor import ONNXPredictor
    from ood_keras.inference.predictor import Predictor
    from ood_keras.inference.tflite_predictor import TFLitePredictor


def load(path: Path) -> "Predictor | TFLitePredictor | ONNXPredictor":
    """Opens an exported model after checking that it is whole.

    Args:
        path: `DIR/VERSION`, a folder that `saved_model` wrote; or a TFLite or ONNX
            file that `tflite` or `onnx` wrote, or its folder, which need no TensorFlow;
            or, where there is nothing of that name, the name of a model that comes with
            the package, see `shipped`.

    Returns:
        A `Predictor`, `TFLitePredictor` or `ONNXPredictor`.

    Raises:
        FileNotFoundError: `path` is not an exported model.
        ImportError: what it runs on is not installed.
        ValueError: it is damaged, or was changed after it was exported.

    Example:

    >>> predictor = export.load("saved_models/mnist/1")
    >>> predictor.predict(images)["label"]
    array(['7', '__unknown__', '2'], dtype=object)
    """
    kind = kind_of(path)
    if kind == "tflite":
        from ood_keras.inference.tflite_predictor import TFLitePredictor as Made
    elif kind == "onnx":
        from ood_keras.inference.onnx_predictor import ONNXPredictor as Made  # type: ignore[assignment]
    else:
        from ood_keras.inference.predictor import Predictor as Made  # type: ignore[assignment]
        from ood_keras.inference.shipped_models import locate

        path = locate(path)
    return Made(path)


def kind_of(path: Path) -> Literal["saved_model", "tflite", "onnx"]:
    """What `path` leads to: "tflite", "onnx", or else "saved_model"."""
    path = pathlib.Path(path)
    for kind in ("tflite", "onnx"):
        if path.suffix == f".{kind}" or (path / f"model.{kind}").is_file():
            return kind
    return "saved_model"
