"""Plain data as epochs that can be resumed."""

import dataclasses
from typing import Any

import numpy as np

from ood_keras.conventions import UNKNOWN
from ood_keras.pipelines.as_split import as_split
from ood_keras.pipelines.interleave import Interleave
from ood_keras.types import TrainingData


def as_training_data(
    data: Any, num_classes: int, *, batch_size: int = 128, seed: int = 0
) -> TrainingData:
    """Returns data in which every image is in every epoch once, in an order of its own.

    Args:
        data: What has `steps_per_epoch` and `epoch(index, start_step)`, which is
            returned as it is; or images with labels, -1 for unknown, as
            `pipelines.as_split` reads them.
        num_classes: N, the number of known classes.
        batch_size: Images per step, of what is not batched by itself.
        seed: Decides the order.

    Raises:
        TypeError, ValueError: `data` holds no images with labels, as `as_split` says.
    """
    if hasattr(data, "epoch") and hasattr(data, "steps_per_epoch"):
        return data
    split = as_split(data, "training data")
    rows = split.labels == UNKNOWN
    if np.all(rows):
        raise ValueError(
            "the training data have no labels, or none but -1; give pairs (images, "
            f"labels), with labels from 0 to {num_classes - 1} for known images"
        )
    # The classes are those of the known images alone.
    unknown = dataclasses.replace(split.rows(rows), class_names=())
    return Interleave(
        split.rows(~rows),
        unknown if len(unknown) else None,
        num_classes,
        batch_size=batch_size,
        seed=seed,
        normalize=False,
    )
