"""What the study of Table 1 found: the numbers of `templates/findings.md.jinja`."""

import math

from scipy import special

from ood_keras.study.study_results import StudyResults
from ood_keras.types import Json

# The least difference that the tables show.
_SHOWN = 1e-4
# How often one more seed of the same recipe may lie beyond what counts as its spread.
_CHANCE = 0.05
# The methods that have the same scores and differ in how the network is trained.
_TRAININGS = ("extra_class", "ours")
_BASE = "ours"
# The hardest pair without a real unknown image in training.
_KNOWN, _LETTERS = "mnist", "emnist/letters"


def find(study: StudyResults) -> Json:
    """Returns the findings by topic; a topic is empty before it is measured.

    Returns:
        "losses": the paper's loss beside a plain extra class on the same network, a
        list of pairs of methods; "distances": what the distances add to each training
        that has both scores; "noise": the share of noise accepted by a training that
        was not shown any; "letters": the best method without a real unknown image in
        training; "ablations": by known set, the changes beyond the spread of seeds.
    """
    return {
        "losses": _compare_losses(study),
        "distances": _compare_scores(study),
        "noise": _find_accepted_noise(study),
        "letters": _find_best_on_letters(study),
        "ablations": _compare_ablations(study),
    }


def _compare_losses(study: StudyResults) -> list[list[Json]]:
    counts = study.summary["against_paper"]
    pairs = [
        [f"{method}{score}" for method in _TRAININGS] for score in ("", "_distances")
    ]
    return [
        [_describe(study, method) for method in pair]
        for pair in pairs
        if all(method in counts for method in pair)
    ]


def _compare_scores(study: StudyResults) -> list[Json]:
    counts = study.summary["against_paper"]
    return [
        {
            **_describe(study, method),
            "met_with_distances": counts[f"{method}_distances"]["met"],
        }
        for method in counts
        if f"{method}_distances" in counts
        and counts[method]["measured"] == counts[f"{method}_distances"]["measured"]
    ]


def _describe(study: StudyResults, method: str) -> Json:
    """A method's title, its seeds as text, and how many cells it meets."""
    counted = study.summary["against_paper"].get(method, {})
    return {
        "title": study.title(method),
        "seeds": _describe_seeds(study, method),
        "met": counted.get("met"),
        "measured": counted.get("measured"),
    }


def _describe_seeds(study: StudyResults, method: str) -> str:
    """Such as `3 seeds`, or `seeds: mnist 2, fashion_mnist 1` where they differ."""
    number = study.num_seeds(method)
    if not number.isdecimal():
        return f"seeds: {number}"
    return f"{number} seed{'s' * (number != '1')}"


def _find_accepted_noise(study: StudyResults) -> list[Json]:
    found = []
    for known in study.summary["results"]:
        for method in (_BASE, f"{_BASE}_distances"):
            accepted = {
                unknown: cell["mean"]
                for unknown in study.unknowns(known)
                if "noise" in unknown
                and (cell := study.cell(known, method, unknown, "fpr95_known_positive"))
            }
            if accepted:
                found.append(
                    {
                        "known": known,
                        "title": study.title(method),
                        "accepted": accepted,
                    }
                )
    return found


def _find_best_on_letters(study: StudyResults) -> Json | None:
    """The goal without real unknown images, beside methods that see none at all."""
    aurocs: dict[str, float] = {
        method: cell["mean"]
        for method, one in study.summary["methods"].items()
        if (cell := study.cell(_KNOWN, method, _LETTERS, "auroc"))
        and "real" not in study.summary["trainings"][one["training"]]["exposure"]
    }
    if not aurocs:
        return None
    best = max(aurocs, key=aurocs.__getitem__)
    others: dict[str, float] = {
        unknown: cell["mean"]
        for unknown in study.unknowns(_KNOWN)
        if unknown != _LETTERS and (cell := study.cell(_KNOWN, best, unknown, "auroc"))
    }
    if not others:
        return None
    worst = min(others, key=others.__getitem__)
    return {
        **_describe(study, best),
        "auroc": aurocs[best],
        "worst": worst,
        "worst_auroc": others[worst],
    }


def _compare_ablations(study: StudyResults) -> list[Json]:
    found = []
    for known in study.summary["results"]:
        spread = {
            unknown: cell
            for unknown in study.unknowns(known)
            if (cell := study.cell(known, _BASE, unknown, "auroc"))
            and cell["std"] is not None
        }
        methods = study.measured_methods(known, "ablation")
        if not spread or not methods:
            continue
        reaches = {unknown: _reach(cell) for unknown, cell in spread.items()}
        changes = {}
        for method in methods:
            differences = {
                unknown: study.cell(known, method, unknown, "auroc")["mean"]  # type: ignore[index]
                - cell["mean"]
                for unknown, cell in spread.items()
            }
            beyond = {
                unknown: difference
                for unknown, difference in differences.items()
                if abs(difference) > max(_SHOWN, reaches[unknown])
            }
            if beyond:
                changes[study.title(method)] = beyond
        found.append(
            {
                "known": known,
                "base": study.title(_BASE),
                "confidence": 1 - _CHANCE,
                "least": _SHOWN,
                "reaches": reaches,
                "changes": changes,
            }
        )
    return found


def _reach(cell: Json) -> float:
    """Half the width of the prediction interval of one more seed, by Student's t."""
    number = len(cell["values"])
    quantile = special.stdtrit(number - 1, 1 - _CHANCE / 2)
    return quantile * cell["std"] * math.sqrt(1 + 1 / number)
