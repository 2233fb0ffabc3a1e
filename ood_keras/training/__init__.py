"""Training with exact resume and selection by validation FPR95; training baselines."""

from ood_keras.training.confident_classifier import ConfidentClassifier
from ood_keras.training.fit import fit
from ood_keras.training.set_seed import set_seed

__all__ = ["ConfidentClassifier", "fit", "set_seed"]
