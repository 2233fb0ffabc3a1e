"""What becomes of each class of an unknown source: some look like known ones."""

from collections.abc import Sequence

import numpy as np

from ood_keras.metrics import RankedScores
from ood_keras.types import Json

# A table of more would not be read.
_MAX_CLASSES = 100


def has_classes(labels: np.ndarray, class_names: Sequence[str]) -> bool:
    """Whether an unknown source has classes of its own, and few enough for a table.

    Args:
        labels: int `(num_images,)`, -1 where a source has no classes.
        class_names: Their names.
    """
    return 1 < len(class_names) <= _MAX_CLASSES and bool(np.all(labels >= 0))


def measure_classes(
    known_scores: np.ndarray,
    scores: np.ndarray,
    accepted: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
) -> Json:
    """Measures each class of an unknown source apart.

    Args:
        known_scores: `ood_score`s of known test images `(num_known,)`.
        scores: `ood_score`s of the unknown test images `(num_unknown,)`.
        accepted: bool `(num_unknown,)`, which of them a threshold accepts.
        labels: int `(num_unknown,)`, the class of each within its own source.
        class_names: The names of these classes.

    Returns:
        `{CLASS: {"images", "accepted", "auroc"}}`, fractions, of the classes that have
        images.
    """
    measured = {}
    for label, name in enumerate(class_names):
        rows = labels == label
        if rows.any():
            measured[name] = {
                "images": int(rows.sum()),
                "accepted": float(accepted[rows].mean()),
                "auroc": RankedScores(known_scores, scores[rows]).measure("auroc"),
            }
    return measured
