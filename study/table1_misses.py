"""Which of the paper's cells ours misses."""

from ood_keras import metrics
from ood_keras.study import markdown
from ood_keras.study.study_results import StudyResults
from ood_keras.types import Json

# The ways to train ours: with real unknowns, with synthetic ones too, with these alone.
METHODS = ("ours", "ours_synthetic", "synthetic_only")
# Every score of theirs.
SCORED = tuple(name for method in METHODS for name in (method, f"{method}_distances"))


def ours(study: StudyResults) -> list[str]:
    """Every score of ours in a study, those of the longer training last."""
    main = [name for name in study.methods("main") if name in SCORED]
    return [*main, *study.methods("longer")]


def find(study: StudyResults) -> list[Json]:
    """Returns what each score of ours misses on each known set that it was measured on.

    Returns:
        Dicts of "known"; "method", its name; "title", what tables call it; "missed",
        `{unknown: ["AUROC 99.69 (99.80)", ...]}` with the paper's number in brackets.
    """
    return [
        {
            "known": known,
            "method": method,
            "title": study.title(method),
            "missed": _find_missed(study, known, method),
        }
        for known in study.summary["results"]
        for method in ours(study)
        if method in study.measured_methods(known, "main", "longer")
    ]


def _find_missed(study: StudyResults, known: str, method: str) -> dict[str, list[str]]:
    missed: dict[str, list[str]] = {}
    for miss in study.summary["against_paper"][method]["missed"]:
        unknown, metric = miss["unknown"], miss["metric"]
        cell = study.cell(known, method, unknown, metric)
        if miss["known"] == known and cell is not None:
            value = markdown.percent(cell["mean"])
            missed.setdefault(unknown, []).append(
                f"{metrics.get(metric).title} {value} ({miss['paper']})"
            )
    return missed
