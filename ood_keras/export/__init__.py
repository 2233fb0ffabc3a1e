"""Exported models: written, proved, checked, opened and recalibrated."""

from ood_keras.export.parity import ParityError
from ood_keras.export.predictor import Predictor, load
from ood_keras.export.recalibration import recalibrate
from ood_keras.export.saved_model import next_version, saved_model

__all__ = [
    "ParityError",
    "Predictor",
    "load",
    "next_version",
    "recalibrate",
    "saved_model",
]
