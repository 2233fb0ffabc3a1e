"""Adds the interval of AUROC to runs that were measured before there was one.

  python -m ood_keras.study.intervals results/table1

It is computed from the scores that a run kept (`scores.npz`); a run without them stays
as it is. `ood-study --summary` then brings the intervals into the tables.
"""

import json
import pathlib

from ood_keras import files, metrics, npz
from ood_keras.tools import app
from ood_keras.types import Arrays, Path

_FLAGS = app.Flags()


def measure(scores: Arrays, method: str, unknown: str) -> list[float] | None:
    """Returns `[low, high]`, DeLong's interval of AUROC with 95 % confidence.

    Args:
        scores: The arrays of `scores.npz`; see `results/table1/README.md`.
        method: A method of the run.
        unknown: A source of unknown test images.

    Returns:
        Fractions; `None` where the scores of either set are missing.
    """
    known_scores = scores.get(f"known/{method}")
    unknown_scores = scores.get(f"unknown/{unknown}/{method}")
    if known_scores is None or unknown_scores is None:
        return None
    interval = metrics.auroc_interval(known_scores, unknown_scores)
    return [interval.low, interval.high]


def add(folder: Path) -> tuple[int, int]:
    """Adds `auroc_interval` to each `metrics.json` of a study that lacks it.

    Args:
        folder: The study's folder of results.

    Returns:
        How many intervals were added, and how many are still missing because their
        scores were not kept.
    """
    added = missing = 0
    for path in sorted(pathlib.Path(folder).glob("*/*/seed_*/metrics.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        archive = path.with_name("scores.npz")
        scores = npz.read(archive, "the scores of a run") if archive.is_file() else {}
        changed = False
        for method, rows in result["detectors"].items():
            for unknown, row in rows["unknown"].items():
                if row.get("auroc_interval") is not None:
                    continue
                interval = measure(scores, method, unknown)
                missing += interval is None
                if interval is not None:
                    row["auroc_interval"], changed = interval, True
                    added += 1
        if changed:
            files.write_json(path, result)
    return added, missing


def _add(positional: list[str]) -> None:
    if len(positional) != 1 or not pathlib.Path(positional[0]).is_dir():
        raise ValueError(
            "expected one folder of a study's results, such as results/table1; "
            f"received: {' '.join(positional) or 'none'}"
        )
    added, missing = add(positional[0])
    print(f"added {added} intervals; {missing} are missing, for want of scores")


def main() -> None:
    """Runs the command."""
    app.run("intervals", __doc__, _FLAGS, _add, takes_paths=True)


if __name__ == "__main__":
    main()
