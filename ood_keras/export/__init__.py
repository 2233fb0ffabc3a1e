"""Exported models: written, proved, checked, opened and recalibrated."""

import importlib
import sys
import types

# Loaded on first use, so that TFLite and ONNX models need no TensorFlow.
_HOMES = {
    "KnownExamples": "known_examples",
    "ONNXPredictor": "onnx_predictor",
    "ParityError": "parity",
    "Predictor": "predictor",
    "TFLitePredictor": "tflite_predictor",
    "load": "loading",
    "next_version": "saved_model",
    "onnx": "onnx",
    "recalibrate": "recalibration",
    "saved_model": "saved_model",
    "score": "batch_scoring",
    "score_to_file": "batch_scoring",
    "shipped": "shipped",
    "tflite": "tflite",
}
__all__ = [
    "KnownExamples",
    "ONNXPredictor",
    "ParityError",
    "Predictor",
    "TFLitePredictor",
    "load",
    "next_version",
    "onnx",
    "recalibrate",
    "saved_model",
    "score",
    "score_to_file",
    "shipped",
    "tflite",
]


class _Room(types.ModuleType):
    """A file that is named as its function stands for the function."""

    def __getattr__(self, name):
        if name not in _HOMES:
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r}; it has: "
                f"{', '.join(__all__)}"
            )
        home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
        return getattr(home, name)

    def __setattr__(self, name, value):
        # Python sets every imported file as an attribute of its package.
        if name in _HOMES and isinstance(value, types.ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self):
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Room
