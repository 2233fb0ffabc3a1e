"""ood_keras: Keras classifiers that know what they do not know.

The rooms load on first use, so that `import ood_keras` and every command's
`--help` are instant. Once Keras itself is loaded, in either order, every public Keras
object of this package is registered, so `keras.models.load_model` finds it.
"""

from ood_keras import _lazy
from ood_keras._version import __version__
from ood_keras.conventions import UNKNOWN, UNKNOWN_LABEL

__getattr__, __dir__ = _lazy.attach(globals())
_lazy.register_with_keras()

__all__ = [
    "UNKNOWN",
    "UNKNOWN_LABEL",
    "__version__",
    "calibration",
    "detectors",
    "evaluation",
    "export",
    "layers",
    "losses",
    "metrics",
    "models",
    "plugins",
    "training",
]
