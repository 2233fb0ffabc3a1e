"""Writes the next version of an exported model, with a new threshold."""

import pathlib

import numpy as np

from ood_keras import calibration, pipelines
from ood_keras import export as exporting
from ood_keras.inference.shipped_models import names as shipped_names
from ood_keras.types import Path
from ood_keras.workflows.run_data import NUM_TRIED
from ood_keras.workflows.same_classes import check_same_classes


def calibrate(
    *,
    model: Path,
    known: str,
    data_dir: Path | None = None,
    target_acceptance: float = 0.95,
    method: str | None = None,
) -> "tuple[pathlib.Path, calibration.Threshold]":
    """Writes the next version of an exported model, with a new threshold.

    Args:
        model: The version folder of an exported model.
        known: Spec of the known source, whose validation split is scored.
        data_dir: The folder of the data sets.
        target_acceptance: Share of known images to accept.
        method: Name of a threshold method that needs known scores alone, such as
            "conformal" or "quantile", see `calibration.names`; `None`: see
            `calibration.choose`.

    Returns:
        `(path, threshold)`: the new version folder and the `calibration.Threshold`.

    Raises:
        ValueError: the source has images without a class or other classes than the
            model, the model is one that comes with the package, or there is no such
            method.
    """
    calibration.check_method(method)
    if not pathlib.Path(model).exists() and str(model) in shipped_names():
        raise ValueError(
            f"{model!r} comes with ood_keras and stays as it is; copy "
            f"{exporting.shipped(str(model))} to DIR/1 and give that as --model"
        )
    predictor = exporting.Predictor(model)
    source = pipelines.load(
        known,
        data_dir=data_dir,
        image_shape=predictor.image_shape,
        background=predictor.background,
    )
    pipelines.check_known(source.validation)
    check_same_classes(source, predictor.class_names)
    validation = source.validation
    scores = predictor.predict(validation.dataset())["ood_score"]
    threshold = calibration.choose(scores, target_acceptance, method)
    some = validation.take(min(len(validation), NUM_TRIED))
    path = exporting.recalibrate(
        model, threshold, sample_images=some.images / np.float32(255)
    )
    return path, threshold
