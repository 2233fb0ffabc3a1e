"""The published numbers that this project is measured against."""

import importlib.resources
import json

from ood_keras.types import Json


def paper_table() -> list[Json]:
    """The rows of the paper's Table 1, as printed.

    Returns:
        List of dicts, one per known data set, unknown data set and method: `known`,
        `unknown` (spec strings), `detector`, `seen` (the method was trained on this
        unknown source), and five metrics by the names of `evaluate_scores`, as texts in
        percent that keep the printed digits; `None` where the paper has none. Methods
        are "mahalanobis", "odin", "confident_classifier" and the paper's own,
        "modified_senet". Five rows are impossible, see `check_consistency`.

    Example:

    >>> paper_table()[1]["auroc"]
    '94.4'
    """
    file = importlib.resources.files("ood_keras.metrics") / "paper_table_1.json"
    return json.loads(file.read_text(encoding="utf-8"))["rows"]
