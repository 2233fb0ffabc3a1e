"""Which detector to deploy, decided on validation data alone."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ood_keras import metrics
from ood_keras.batches import iterate
from ood_keras.evaluation.scoring import Scorer
from ood_keras.types import Images

if TYPE_CHECKING:
    from ood_keras.detectors import Detector


def select_detector(
    detectors: "Mapping[str, Detector]", *, known: Images, unknown: Images
) -> tuple[str, dict[str, dict[str, float]]]:
    """Scores validation images with every detector and chooses the best one.

    The best has the lowest `fpr95_known_positive`; ties go to the lower
    `detection_error`, then to the higher `auroc`, then to the one named first.

    Args:
        detectors: `{name: fitted detector}`.
        known: Known validation images, as anything that `ood_keras.batches.iterate`
            takes; labels are not read.
        unknown: Unknown validation images, from the sources that training was exposed
            to; all of them count as one set.

    Returns:
        `(name, table)`: the chosen name, and `{name: metrics}` as
        `metrics.evaluate_scores` gives them.

    Example:

    >>> name, table = evaluation.select_detector(
    ...     {"msp": msp, "energy": energy}, known=x_known, unknown=x_unknown
    ... )
    """
    scorer = Scorer(detectors)
    return best(
        scorer.score(iterate(known), "the known validation data").scores,
        scorer.score(iterate(unknown), "the unknown validation data").scores,
    )


def best(
    known_scores: Mapping[str, np.ndarray],
    unknown_scores: Mapping[str, np.ndarray],
    further_metrics: Collection[str] = (),
) -> tuple[str, dict[str, dict[str, float]]]:
    """`select_detector` for scores that exist: two dicts `{name: ood_score}`."""
    table = {
        name: metrics.evaluate_scores(
            known_scores[name], unknown_scores[name], further_metrics
        )
        for name in known_scores
    }

    return min(table, key=lambda name: rank(table[name])), table


def rank(row: Mapping[str, float]) -> tuple[float, float, float]:
    """What `select_detector` sorts by: lower is better."""
    return row["fpr95_known_positive"], row["detection_error"], -row["auroc"]
