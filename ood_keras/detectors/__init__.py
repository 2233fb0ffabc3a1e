"""Post-hoc detectors: what a trained classifier knows about what it does not know."""

from ood_keras.detectors import output_scores
from ood_keras.detectors.ash import ASH
from ood_keras.detectors.base import Detector
from ood_keras.detectors.collected import Collected, merge
from ood_keras.detectors.collected_files import read_collected, write_collected
from ood_keras.detectors.combood import CombOOD
from ood_keras.detectors.core import CORE
from ood_keras.detectors.dice import DICE
from ood_keras.detectors.differential_entropy import DifferentialEntropy
from ood_keras.detectors.energy import Energy
from ood_keras.detectors.ensemble import Ensemble
from ood_keras.detectors.entropy import Entropy
from ood_keras.detectors.fdbd import FDBD
from ood_keras.detectors.fitting import fit_together
from ood_keras.detectors.gen import GEN
from ood_keras.detectors.gram import Gram
from ood_keras.detectors.kl_matching import KLMatching
from ood_keras.detectors.knn import KNN
from ood_keras.detectors.learned_confidence import LearnedConfidence
from ood_keras.detectors.lts import LTS
from ood_keras.detectors.mahalanobis import Mahalanobis
from ood_keras.detectors.max_logit import MaxLogit
from ood_keras.detectors.msp import MSP
from ood_keras.detectors.nci import NCI
from ood_keras.detectors.network import Network
from ood_keras.detectors.nnguide import NNGuide
from ood_keras.detectors.objectosphere import Objectosphere
from ood_keras.detectors.odin import ODIN
from ood_keras.detectors.one_class_svm import OneClassSVM
from ood_keras.detectors.openmax import OpenMax
from ood_keras.detectors.probability_and_distances import (
    ProbabilityAndDistances,
    ProbabilityAndLogDistances,
)
from ood_keras.detectors.react import ReAct
from ood_keras.detectors.registry import get, names, register
from ood_keras.detectors.relative_mahalanobis import RelativeMahalanobis
from ood_keras.detectors.saving import load, save
from ood_keras.detectors.scale import Scale
from ood_keras.detectors.she import SHE
from ood_keras.detectors.unknown_probability import UnknownProbability
from ood_keras.detectors.vim import ViM
from ood_keras.detectors.vra import VRA
from ood_keras.detectors.weiper import WeiPer

__all__ = [
    "ASH",
    "CORE",
    "DICE",
    "FDBD",
    "GEN",
    "KNN",
    "LTS",
    "MSP",
    "NCI",
    "ODIN",
    "SHE",
    "VRA",
    "Collected",
    "CombOOD",
    "Detector",
    "DifferentialEntropy",
    "Energy",
    "Ensemble",
    "Entropy",
    "Gram",
    "KLMatching",
    "LearnedConfidence",
    "Mahalanobis",
    "MaxLogit",
    "NNGuide",
    "Network",
    "Objectosphere",
    "OneClassSVM",
    "OpenMax",
    "ProbabilityAndDistances",
    "ProbabilityAndLogDistances",
    "ReAct",
    "RelativeMahalanobis",
    "Scale",
    "UnknownProbability",
    "ViM",
    "WeiPer",
    "fit_together",
    "get",
    "load",
    "merge",
    "names",
    "output_scores",
    "read_collected",
    "register",
    "save",
    "write_collected",
]
