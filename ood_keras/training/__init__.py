"""Training: objectives, recipes, exact resume, selection by validation FPR95."""

from ood_keras import _lazy

_lazy.check_tensorflow(__name__)

from ood_keras.training import objectives, recipes
from ood_keras.training.confident_classifier import ConfidentClassifier
from ood_keras.training.fit import fit
from ood_keras.training.fit_transfer import fit_transfer
from ood_keras.training.processes import join_processes
from ood_keras.training.reg_mixup import RegMixup
from ood_keras.training.set_seed import set_seed

__all__ = [
    "ConfidentClassifier",
    "RegMixup",
    "fit",
    "fit_transfer",
    "join_processes",
    "objectives",
    "recipes",
    "set_seed",
]
