"""Exported models: written, proved and recalibrated.

What reads them is `ood_keras.inference`; its names can be had from here too.
"""

from typing import TYPE_CHECKING

from ood_keras import _lazy

if TYPE_CHECKING:
    from ood_keras.export.browser_folder import browser
    from ood_keras.export.onnx_conversion import onnx
    from ood_keras.export.parity import ParityError
    from ood_keras.export.recalibration import recalibrate
    from ood_keras.export.rejecting_model import RejectingModel
    from ood_keras.export.servable import saved_model
    from ood_keras.export.tflite_conversion import tflite
    from ood_keras.inference import (
        KnownExamples,
        ONNXPredictor,
        Predictor,
        TFLitePredictor,
        load,
        next_version,
        pillow_decoder,
        score,
        score_shard,
        score_shards,
        score_to_file,
        shipped,
    )

__all__ = [
    "KnownExamples",
    "ONNXPredictor",
    "ParityError",
    "Predictor",
    "RejectingModel",
    "TFLitePredictor",
    "browser",
    "load",
    "next_version",
    "onnx",
    "pillow_decoder",
    "recalibrate",
    "saved_model",
    "score",
    "score_shard",
    "score_shards",
    "score_to_file",
    "shipped",
    "tflite",
]

_OWN = {
    "ParityError": "parity",
    "RejectingModel": "rejecting_model",
    "browser": "browser_folder",
    "onnx": "onnx_conversion",
    "recalibrate": "recalibration",
    "saved_model": "servable",
    "tflite": "tflite_conversion",
}
_HOMES = {name: f"ood_keras.inference:{name}" for name in __all__}
_HOMES |= {name: f"{__name__}.{home}:{name}" for name, home in _OWN.items()}
_HOMES["pillow_decoder"] = "ood_keras.inference.pillow_decoder"
# Type checkers would take it for leave to any name.
if not TYPE_CHECKING:
    __getattr__, __dir__ = _lazy.attach(__name__, _HOMES)
