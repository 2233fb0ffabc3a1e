"""What the study of Table 1 found, in sentences made from its numbers."""

import math
from typing import Any

from scipy import special

from ood_keras.study import markdown
from ood_keras.types import Json

# The least difference that the tables show.
_SHOWN = 1e-4
# How often one more seed of the same recipe may lie beyond what counts as its spread.
_CHANCE = 0.05
# The methods that have the same scores and differ in how the network is trained.
_TRAININGS = ("extra_class", "ours")
_BASE = "ours"


def lines(study: Any) -> list[str]:
    """Returns the lines of the section, none before something was measured.

    Args:
        study: A `table1_page.Study`.
    """
    found = [
        *_loss(study),
        *_distances(study),
        *noise(study),
        *_letters(study),
        *_ablation(study),
    ]
    if not found:
        return []
    return ["## What was found", "", *(f"* {sentence}" for sentence in found), ""]


def noise(study: Any) -> list[str]:
    """Sentences on noise that training was not shown."""
    found = []
    for known in study.summary["results"]:
        for method in (_BASE, f"{_BASE}_distances"):
            cells = {
                unknown: study.cell(known, method, unknown, "fpr95_known_positive")
                for unknown in study.unknowns(known)
                if "noise" in unknown
            }
            shown = [
                f"{markdown.percent(cell['mean'])} % of {unknown}"
                for unknown, cell in cells.items()
                if cell
            ]
            if shown:
                found.append(f"on {known}, {study.title(method)} {' and '.join(shown)}")
    if not found:
        return []
    return [
        "**Noise that training was not shown.** At the threshold that accepts 95 % of "
        f"the known images, these are accepted: {'; '.join(found)}."
    ]


def _loss(study: Any) -> list[str]:
    """The paper's loss beside a plain extra class, on the same network."""
    counts = study.summary["against_paper"]
    pairs = [
        [f"{method}{score}" for method in _TRAININGS] for score in ("", "_distances")
    ]
    shown = [
        " and ".join(
            f"{study.title(method)} {counts[method]['met']} of "
            f"{counts[method]['measured']} ({_num_seeds(study, method)})"
            for method in pair
        )
        for pair in pairs
        if all(method in counts for method in pair)
    ]
    if not shown:
        return []
    return [
        "**The paper's loss beside plain cross-entropy with an extra class**, on the "
        f"same network and images: cells that are met: {'; '.join(shown)}."
    ]


def _num_seeds(study: Any, method: str) -> str:
    """Such as `3 seeds`, or `seeds: mnist 2, fashion_mnist 1` where they differ."""
    number = study.num_seeds(method)
    if not number.isdecimal():
        return f"seeds: {number}"
    return f"{number} seed{'s' * (number != '1')}"


def _distances(study: Any) -> list[str]:
    """What the distances add to each training that has both scores."""
    counts = study.summary["against_paper"]
    shown = [
        f"{study.title(method)} from {counts[method]['met']} to "
        f"{counts[f'{method}_distances']['met']} ({_num_seeds(study, method)})"
        for method in counts
        if f"{method}_distances" in counts
        and counts[method]["measured"] == counts[f"{method}_distances"]["measured"]
    ]
    if not shown:
        return []
    return [
        "**Distances beside the unknown's probability** are a matter of the score, not "
        f"of the training; they change the number of cells met: {'; '.join(shown)}."
    ]


def _letters(study: Any) -> list[str]:
    """The goal without real unknown images, beside methods that see none at all."""
    known, letters = "mnist", "emnist/letters"
    aurocs: dict[str, float] = {
        method: study.cell(known, method, letters, "auroc")["mean"]
        for method, one in study.summary["methods"].items()
        if study.cell(known, method, letters, "auroc")
        and "real" not in study.summary["trainings"][one["training"]]["exposure"]
    }
    if not aurocs:
        return []
    best = max(aurocs, key=aurocs.get)  # type: ignore[arg-type]
    others = {
        unknown: cell["mean"]
        for unknown in study.unknowns(known)
        if unknown != letters and (cell := study.cell(known, best, unknown, "auroc"))
    }
    if not others:
        return []
    worst = min(others, key=others.get)  # type: ignore[arg-type]
    return [
        f"**Letters beside digits, without a real unknown image in training**: "
        f"{study.title(best)} ({_num_seeds(study, best)}) tells them apart best, with "
        f"an AUROC of {markdown.percent(aurocs[best])} %; on {worst} it has "
        f"{markdown.percent(others[worst])} %. The two were also scanned and "
        "prepared in different ways, which may tell them apart."
    ]


def _ablation(study: Any) -> list[str]:
    """The changes of the ablation that stand out of the seeds' spread."""
    found = []
    for known in study.summary["results"]:
        spread = {
            unknown: cell
            for unknown in study.unknowns(known)
            if (cell := study.cell(known, _BASE, unknown, "auroc"))
            and cell["std"] is not None
        }
        changes = []
        for method in study.measured(known, "ablation"):
            differences = {
                unknown: study.cell(known, method, unknown, "auroc")["mean"]
                - cell["mean"]
                for unknown, cell in spread.items()
            }
            beyond = [
                f"{unknown} {100 * difference:+.3f}"
                for unknown, difference in differences.items()
                if abs(difference) > max(_SHOWN, _reach(spread[unknown]))
            ]
            if beyond:
                changes.append(f"{study.title(method)} ({', '.join(beyond)})")
        if not spread or not study.measured(known, "ablation"):
            continue
        widths = ", ".join(
            f"{unknown} {100 * _reach(cell):.3f}" for unknown, cell in spread.items()
        )
        found.append(
            f"**The ablation on {known}** has one seed, so that small differences in "
            f"it say nothing. One more seed of {study.title(_BASE)} would lie, in "
            f"{100 * (1 - _CHANCE):g} % of all cases, no further from the mean of its "
            f"seeds than, in AUROC and percent: {widths}. Beyond that, and by at least "
            f"{100 * _SHOWN:g}, are: "
            f"{'; '.join(changes) or 'none'}. Of so many comparisons, a few lie beyond "
            "by chance."
        )
    return found


def _reach(cell: Json) -> float:
    """Half the width of the prediction interval of one more seed, by Student's t."""
    number = len(cell["values"])
    quantile = special.stdtrit(number - 1, 1 - _CHANCE / 2)
    return quantile * cell["std"] * math.sqrt(1 + 1 / number)
