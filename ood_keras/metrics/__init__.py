"""How well known and unknown images are told apart: exact functions, Keras metrics."""

from ood_keras.metrics.aurc import aurc
from ood_keras.metrics.calibration_error import calibration_error
from ood_keras.metrics.comparison import Comparison, compare_auroc, compare_scores
from ood_keras.metrics.consistency import Inconsistency, check_consistency
from ood_keras.metrics.exact import (
    aupr_in,
    aupr_out,
    auroc,
    detection_error,
    evaluate_scores,
    fpr_at_tpr,
    roc_curve,
)
from ood_keras.metrics.intervals import Interval, auroc_interval, bootstrap_intervals
from ood_keras.metrics.known_accuracy import KnownAccuracy
from ood_keras.metrics.measures import Measure, get, names
from ood_keras.metrics.oscr import oscr
from ood_keras.metrics.paper_table import paper_table
from ood_keras.metrics.ranked_scores import RankedScores, ROCCurve
from ood_keras.metrics.ranking_metrics import (
    AUROC,
    CLASSES,
    AUPRIn,
    AUPROut,
    DetectionError,
    FPR95KnownPositive,
    FPR95UnknownPositive,
    Ranking,
    RankingMetric,
    keras_metric,
)
from ood_keras.metrics.registration import register
from ood_keras.metrics.score_sketch import ScoreSketch
from ood_keras.metrics.streaming_ranking import StreamingRanking

# The Keras metrics of measures that have a record and no line above.
globals().update(CLASSES)

__all__ = [
    "AUROC",
    "AUPRIn",
    "AUPROut",
    "Comparison",
    "DetectionError",
    "FPR95KnownPositive",
    "FPR95UnknownPositive",
    "Inconsistency",
    "Interval",
    "KnownAccuracy",
    "Measure",
    "ROCCurve",
    "RankedScores",
    "Ranking",
    "RankingMetric",
    "ScoreSketch",
    "StreamingRanking",
    "aupr_in",
    "aupr_out",
    "aurc",
    "auroc",
    "auroc_interval",
    "bootstrap_intervals",
    "calibration_error",
    "check_consistency",
    "compare_auroc",
    "compare_scores",
    "detection_error",
    "evaluate_scores",
    "fpr_at_tpr",
    "get",
    "keras_metric",
    "names",
    "oscr",
    "paper_table",
    "register",
    "roc_curve",
]
