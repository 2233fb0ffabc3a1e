"""Model and detectors times data sets: metrics, scores, figures and a report."""

from ood_keras.evaluation import (
    figures,
    renderings,
    robustness,
    under_renderings,
    verdict,
)
from ood_keras.evaluation.evaluate import evaluate
from ood_keras.evaluation.examples import load_examples, record_examples
from ood_keras.evaluation.report import Report
from ood_keras.evaluation.scoring import NoScoreError
from ood_keras.evaluation.selection import select_detector
from ood_keras.evaluation.table import format_table
from ood_keras.evaluation.tuning import tune_mahalanobis, tune_odin

__all__ = [
    "NoScoreError",
    "Report",
    "evaluate",
    "figures",
    "format_table",
    "load_examples",
    "record_examples",
    "renderings",
    "robustness",
    "select_detector",
    "tune_mahalanobis",
    "tune_odin",
    "under_renderings",
    "verdict",
]
