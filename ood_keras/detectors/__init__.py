"""Post-hoc detectors: what a trained classifier knows about what it does not know."""

from ood_keras.detectors import output_scores
from ood_keras.detectors.base import Detector
from ood_keras.detectors.energy import Energy
from ood_keras.detectors.max_logit import MaxLogit
from ood_keras.detectors.msp import MSP
from ood_keras.detectors.network import Network
from ood_keras.detectors.objectosphere import Objectosphere
from ood_keras.detectors.registry import get, load, names, save
from ood_keras.detectors.unknown_probability import UnknownProbability

__all__ = [
    "MSP",
    "Detector",
    "Energy",
    "MaxLogit",
    "Network",
    "Objectosphere",
    "UnknownProbability",
    "get",
    "load",
    "names",
    "output_scores",
    "save",
]
