"""Exported models: opened, checked and asked. Importing it loads no TensorFlow."""

from typing import TYPE_CHECKING

from ood_keras import _lazy

if TYPE_CHECKING:
    from ood_keras.inference.batch_scoring import score, score_to_file
    from ood_keras.inference.heat_map import heat_maps
    from ood_keras.inference.known_examples import KnownExamples
    from ood_keras.inference.loading import load
    from ood_keras.inference.onnx_predictor import ONNXPredictor
    from ood_keras.inference.predictor import Predictor
    from ood_keras.inference.shards import score_shard, score_shards
    from ood_keras.inference.shipped_models import shipped
    from ood_keras.inference.tflite_predictor import TFLitePredictor
    from ood_keras.inference.versions import next_version

__all__ = [
    "KnownExamples",
    "ONNXPredictor",
    "Predictor",
    "TFLitePredictor",
    "heat_maps",
    "load",
    "next_version",
    "score",
    "score_shard",
    "score_shards",
    "score_to_file",
    "shipped",
]

_HOMES = {
    "KnownExamples": "known_examples",
    "ONNXPredictor": "onnx_predictor",
    "Predictor": "predictor",
    "TFLitePredictor": "tflite_predictor",
    "heat_maps": "heat_map",
    "load": "loading",
    "next_version": "versions",
    "score": "batch_scoring",
    "score_shard": "shards",
    "score_shards": "shards",
    "score_to_file": "batch_scoring",
    "shipped": "shipped_models",
}
# Type checkers would take it for leave to any name.
if not TYPE_CHECKING:
    __getattr__, __dir__ = _lazy.attach(
        __name__, {name: f"{__name__}.{home}:{name}" for name, home in _HOMES.items()}
    )
