"""How well known and unknown images are told apart: exact functions, Keras metrics."""

from ood_keras.metrics.exact import (
    aupr_in,
    aupr_out,
    auroc,
    detection_error,
    evaluate_scores,
    fpr_at_tpr,
    roc_curve,
)
from ood_keras.metrics.known_accuracy import KnownAccuracy
from ood_keras.metrics.ranked_scores import RankedScores, ROCCurve
from ood_keras.metrics.ranking_metrics import (
    AUROC,
    AUPRIn,
    AUPROut,
    DetectionError,
    FPR95KnownPositive,
    FPR95UnknownPositive,
    RankingMetric,
)

__all__ = [
    "AUROC",
    "AUPRIn",
    "AUPROut",
    "DetectionError",
    "FPR95KnownPositive",
    "FPR95UnknownPositive",
    "KnownAccuracy",
    "ROCCurve",
    "RankedScores",
    "RankingMetric",
    "aupr_in",
    "aupr_out",
    "auroc",
    "detection_error",
    "evaluate_scores",
    "fpr_at_tpr",
    "roc_curve",
]
