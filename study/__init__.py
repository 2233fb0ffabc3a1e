"""Studies: grids of trainings that are run, resumed and summed up by one command."""

from typing import TYPE_CHECKING

from ood_keras import _lazy

if TYPE_CHECKING:
    from ood_keras.study.engine import run_study
    from ood_keras.study.grid import Known, Method, Study, Training

__all__ = ["Known", "Method", "Study", "Training", "run_study"]

_HOMES = {name: f"{__name__}.grid:{name}" for name in __all__ if name != "run_study"}
_HOMES["run_study"] = f"{__name__}.engine:run_study"
# Type checkers would take it for leave to any name.
if not TYPE_CHECKING:
    __getattr__, __dir__ = _lazy.attach(__name__, _HOMES)
