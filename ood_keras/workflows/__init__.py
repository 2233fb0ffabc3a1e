"""One verb per file: what a command does, and a notebook can call."""

from typing import TYPE_CHECKING

from ood_keras import _lazy

if TYPE_CHECKING:
    from ood_keras.workflows.adoption.adopt import adopt
    from ood_keras.workflows.adoption.adopted import Adopted
    from ood_keras.workflows.auditing import audit
    from ood_keras.workflows.calibration import calibrate
    from ood_keras.workflows.conversion import convert
    from ood_keras.workflows.evaluation import evaluate
    from ood_keras.workflows.exporting import export
    from ood_keras.workflows.fitting import fit
    from ood_keras.workflows.prediction import predict
    from ood_keras.workflows.recipe_tuning import Range, Trial, tune_recipe
    from ood_keras.workflows.robustness import measure_robustness
    from ood_keras.workflows.score_evaluation import ScoreReport, evaluate_scores
    from ood_keras.workflows.training import train

__all__ = [
    "Adopted",
    "Range",
    "ScoreReport",
    "Trial",
    "adopt",
    "audit",
    "calibrate",
    "convert",
    "evaluate",
    "evaluate_scores",
    "export",
    "fit",
    "measure_robustness",
    "predict",
    "train",
    "tune_recipe",
]

_HOMES = {
    "Adopted": "adoption.adopted",
    "Range": "recipe_tuning",
    "ScoreReport": "score_evaluation",
    "Trial": "recipe_tuning",
    "adopt": "adoption.adopt",
    "audit": "auditing",
    "calibrate": "calibration",
    "convert": "conversion",
    "evaluate": "evaluation",
    "evaluate_scores": "score_evaluation",
    "export": "exporting",
    "fit": "fitting",
    "measure_robustness": "robustness",
    "predict": "prediction",
    "train": "training",
    "tune_recipe": "recipe_tuning",
}
# Type checkers would take it for leave to any name.
if not TYPE_CHECKING:
    __getattr__, __dir__ = _lazy.attach(
        __name__, {name: f"{__name__}.{home}:{name}" for name, home in _HOMES.items()}
    )
