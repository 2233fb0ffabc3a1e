"""What the docs say about the filter that reduces Omniglot's drawings."""

import json
import pathlib
from collections.abc import Sequence

from ood_keras import metrics
from ood_keras.study import markdown


def lines(path: pathlib.Path, measures: Sequence[str]) -> list[str]:
    """Returns the lines of the section, none where there is no such file.

    Args:
        path: `pathlib.Path` of what `benchmarks/omniglot_filters.py` wrote.
        measures: Names of the metrics to show.
    """
    if not path.is_file():
        return []
    result = json.loads(path.read_text())
    run = result["run"]
    rows = [
        [name, *(markdown.percent(values[metric]) for metric in measures)]
        for name, values in result["filters"].items()
    ]
    return [
        "## Omniglot, by the filter that reduces its drawings",
        "",
        f"The same {result['drawings']:,} drawings, reduced by {len(rows)} filters, "
        f"and the same network: `{run['recipe']}` on {result['known']}, seed "
        f"{run['seed']}, scored by `{result['detector']}`. In percent. All tables are "
        "with the bilinear filter, which is the usual one and the best for us; it was "
        "settled after seeing test scores ([why](decisions/omniglot.md)).",
        "",
        *markdown.table(["filter", *(metrics.get(m).title for m in measures)], rows),
        "",
    ]
