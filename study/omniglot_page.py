"""What the docs say about the filter that resizes Omniglot's drawings."""

import json
import pathlib
from collections.abc import Sequence

from ood_keras import metrics
from ood_keras.study import markdown
from ood_keras.types import Json


def read(path: pathlib.Path, names: Sequence[str]) -> Json | None:
    """Returns the values of `templates/omniglot.md.jinja`, `None` without a file.

    Args:
        path: What `benchmarks/omniglot_filters.py` wrote.
        names: Names of the metrics to show.
    """
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        [name, *(markdown.percent(values[metric]) for metric in names)]
        for name, values in result["filters"].items()
    ]
    header = ["filter", *(metrics.get(name).title for name in names)]
    return {**result, "table": markdown.Table(header, rows)}
