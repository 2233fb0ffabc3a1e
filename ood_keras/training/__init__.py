"""Training with checkpoints, exact resume and selection by validation FPR95."""

from ood_keras.training.fit import fit
from ood_keras.training.set_seed import set_seed

__all__ = ["fit", "set_seed"]
