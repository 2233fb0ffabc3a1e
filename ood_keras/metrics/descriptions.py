"""What the metrics of `evaluate_scores` are called in reports, and what they say."""

METRICS = {
    "auroc": (
        "AUROC",
        "chance that an unknown image scores above a known one; ties half",
    ),
    "aupr_in": ("AUPR in", "average precision with known images as the positives"),
    "aupr_out": ("AUPR out", "average precision with unknown images as the positives"),
    "detection_error": (
        "Detection error",
        "smallest mean of known rejected and unknown accepted, over all thresholds",
    ),
    "fpr95_known_positive": (
        "FPR95 known+",
        "unknown images accepted at the threshold that accepts 95 % of the known ones",
    ),
    "fpr95_unknown_positive": (
        "FPR95 unknown+",
        "known images rejected at the threshold that rejects 95 % of the unknown ones",
    ),
}
HIGHER_IS_BETTER = ("auroc", "aupr_in", "aupr_out")
