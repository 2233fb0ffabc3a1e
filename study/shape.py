"""What a run knows of shapes: its images in other renderings, and class by class."""

from typing import TYPE_CHECKING, Any

from ood_keras import calibration
from ood_keras.evaluation import unknown_classes
from ood_keras.types import Json
from ood_keras.workflows import run_data

if TYPE_CHECKING:
    from ood_keras.evaluation import Report

# Of the known images; what the shipped models promise.
TARGET_ACCEPTANCE = 0.99


def summarise(report: "Report", method_of: dict[str, str]) -> Json:
    """What `metrics.json` of a run of a study holds of other renderings.

    Args:
        report: That of a run, with renderings.
        method_of: `{detector: method}`.

    Returns:
        `{"target_acceptance", "methods": {METHOD: {"untouched": {"accepted",
        "accuracy"}, "accepted", "accuracy", "auroc"}}}`; all but the first as in the
        "summary" of `UnderRenderings.at`.
    """
    if report.under_renderings is None:
        raise ValueError("expected the report of a run that measured renderings")
    measured = report.under_renderings.at(_choose_thresholds(report))["detectors"]
    return {
        "target_acceptance": TARGET_ACCEPTANCE,
        "methods": {
            method: {
                "untouched": {
                    share: measured[detector]["steps"][0]["known"][share]
                    for share in ("accepted", "accuracy")
                },
                **measured[detector]["summary"],
            }
            for detector, method in method_of.items()
        },
    }


def measure_classes(report: "Report", method_of: dict[str, str], **where: Any) -> Json:
    """What becomes of each class of the unknown sources that have any.

    Args:
        report: That of a run.
        method_of: `{detector: method}`.
        **where: The arguments of `run_data.load_run_data` that gave its test images.

    Returns:
        `{METHOD: {SOURCE: {CLASS: {"images", "accepted", "auroc"}}}}`, untouched.
    """
    thresholds = _choose_thresholds(report)
    tests = run_data.load_run_data(**where).tests
    return {
        method: {
            source: unknown_classes.measure_classes(
                report.known.scores[detector],
                report.unknown[source].scores[detector],
                thresholds[detector].accepts(report.unknown[source].scores[detector]),
                split.labels,
                split.class_names,
            )
            for source, split in tests.items()
            if unknown_classes.has_classes(split.labels, split.class_names)
        }
        for detector, method in method_of.items()
    }


def _choose_thresholds(report):
    return {
        detector: calibration.choose(scores, TARGET_ACCEPTANCE)
        for detector, scores in report.validation["known"].items()
    }
