"""What a training comes to by its validation images, which chose its epoch."""

import json
import pathlib
from collections.abc import Sequence

import numpy as np

from ood_keras import pipelines
from ood_keras.evaluation import verdict
from ood_keras.training.run import find_best
from ood_keras.types import Json, Path

# Where a run holds it; of its test images, `metrics.json` says that.
VERDICT = "training_verdict.json"


def judge(
    history: Sequence[Json],
    known: pipelines.Split,
    unknown: Sequence[pipelines.Split],
) -> verdict.Verdict | None:
    """Returns the verdict on a training by its validation images.

    They chose the epoch, so it can only warn: `ood-evaluate` judges by test images.

    Args:
        history: What `training.fit` returned.
        known: The known validation images.
        unknown: The unknown validation images, of sources that training was shown.

    Returns:
        A `Verdict`; `None` where there is no classifier to judge.
    """
    best = find_best(history)
    if "val_known_accuracy" not in best:
        return None
    images = sum(map(len, unknown))
    passing = best.get("val_fpr95_known_positive")
    kinds = []
    if images and passing is not None:
        kinds = [
            verdict.Kind(
                ", ".join(split.source for split in unknown),
                images=images,
                accepted=round(passing * images),
                auroc=best["val_auroc"],
                seen=True,
            )
        ]
    return verdict.judge(
        verdict.Measured(
            images=len(known),
            right=round(best["val_known_accuracy"] * len(known)),
            largest_class=int(np.bincount(known.labels).max()),
            unknown=kinds,
            on="validation",
        )
    )


def describe_verdict(run_dir: Path) -> str:
    """The verdict of `judge` that a run holds, lines to print; or nothing."""
    path = pathlib.Path(run_dir) / VERDICT
    if not path.is_file():
        return ""
    return verdict.format_json(json.loads(path.read_text(encoding="utf-8")))
