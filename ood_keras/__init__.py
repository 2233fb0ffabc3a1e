"""ood_keras: Keras classifiers that know what they do not know.

The rooms load on first use, so that `import ood_keras` and every command's
`--help` are instant. Once Keras itself is loaded, in either order, every public Keras
object of this package is registered, so `keras.models.load_model` finds it.
"""

from typing import TYPE_CHECKING

from ood_keras import _lazy
from ood_keras._version import __version__
from ood_keras.conventions import UNKNOWN, UNKNOWN_LABEL

if TYPE_CHECKING:
    from ood_keras import (
        calibration,
        detectors,
        evaluation,
        export,
        inference,
        layers,
        losses,
        metrics,
        models,
        pipelines,
        plugins,
        training,
        workflows,
    )
    from ood_keras.workflows.adoption.adopt import adopt

__all__ = [
    "UNKNOWN",
    "UNKNOWN_LABEL",
    "__version__",
    "adopt",
    "calibration",
    "detectors",
    "evaluation",
    "export",
    "inference",
    "layers",
    "losses",
    "metrics",
    "models",
    "pipelines",
    "plugins",
    "training",
    "workflows",
]

_ROOMS = {name: f"ood_keras.{name}" for name in __all__ if name.islower()}
_ROOMS["adopt"] = "ood_keras.workflows.adoption.adopt:adopt"
# Type checkers would take any name for one that it knows.
if not TYPE_CHECKING:
    __getattr__, __dir__ = _lazy.attach(
        __name__,
        _ROOMS | {name: f"ood_keras.{name}" for name in ("study", "tools")},
    )
_lazy.register_with_keras()
