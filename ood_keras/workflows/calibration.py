"""Writes the next version of an exported model, with a new threshold."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from ood_keras import export as exporting
from ood_keras import pipelines
from ood_keras.calibration.any_threshold import AnyThreshold
from ood_keras.evaluation import score_files
from ood_keras.evaluation.score_files import ScoreFiles
from ood_keras.inference.shipped_models import names as shipped_names
from ood_keras.types import Path
from ood_keras.workflows.run_data import (
    NUM_TRIED,
    load_as_recorded,
    load_unknown,
    shape_to_load,
)
from ood_keras.workflows.same_classes import check_same_classes
from ood_keras.workflows.score_evaluation import check_model
from ood_keras.workflows.thresholds import ThresholdRequest


def calibrate(
    *,
    model: Path,
    known: str,
    data_dir: Path | None = None,
    unknown: Sequence[str] = (),
    target_acceptance: float | None = None,
    method: str | None = None,
    operating_points: Mapping[str, float] | None = None,
    prior_unknown: float | None = None,
    cost_false_accept: float | None = None,
    cost_false_reject: float | None = None,
) -> tuple[pathlib.Path, AnyThreshold]:
    """Writes the next version of an exported model, with a new threshold.

    Args:
        model: The version folder of an exported model.
        known: Spec of the known source, whose validation split is scored.
        data_dir: The folder of the data sets.
        unknown: Specs of unknown sources, whose validation splits are scored: they say
            what each operating point lets in, and "lowest_cost" needs them.
        target_acceptance: Share of known images to accept; `None` takes 0.95.
        method: Name of a threshold method, see `calibration.names`: "conformal" or
            "quantile"; "conformal_per_class", one for each predicted class;
            "lowest_cost", which needs `prior_unknown` and unknown scores. `None`: see
            `calibration.choose`.
        operating_points: `{name: target acceptance}`: other thresholds to offer.
        prior_unknown: Share of the images to come that are unknown, in (0, 1).
        cost_false_accept, cost_false_reject: What accepting an unknown image costs, and
            rejecting a known one; `None` takes 1.

    Returns:
        `(path, threshold)`: the new version folder and the `calibration.Threshold`, or
        the `calibration.ClassThresholds`.

    Raises:
        ValueError: the source has images without a class or other classes than the
            model, the model is one that comes with the package, it has one threshold
            and is to get one for each class, an unknown source has images of a known
            one; or as `ThresholdRequest`.
    """
    request = ThresholdRequest(
        target_acceptance=target_acceptance,
        method=method,
        operating_points=operating_points or {},
        prior_unknown=prior_unknown,
        cost_false_accept=cost_false_accept,
        cost_false_reject=cost_false_reject,
    )
    if "unknown_scores" in request.needs and not unknown:
        raise ValueError(
            f"the threshold method {method!r} needs unknown images too: name sources "
            "of them as --unknown, whose validation images are scored"
        )
    _check_not_shipped(model)
    predictor = exporting.Predictor(model)
    training = predictor.manifest.get("training") or {}
    source = load_as_recorded(
        known,
        training,
        data_dir=data_dir,
        image_shape=shape_to_load(predictor.image_shape),
        background=predictor.background,
        exif_orientation=predictor.exif_orientation,
    )
    pipelines.check_known(source.validation)
    check_same_classes(source, predictor.class_names)
    validation = source.validation
    judges = [
        one.validation
        for one in load_unknown(unknown, source, data_dir, recorded=training)
    ]
    pipelines.check_roles(
        known={"validation": validation}, unknown={"validation": judges}
    )
    # Everything accepted, so that the class of every image is known.
    answers = predictor.predict(validation.dataset(), threshold=np.inf)
    unknown_scores = [predictor.predict(one.dataset())["ood_score"] for one in judges]
    threshold, points = request.choose(
        answers["ood_score"],
        np.concatenate(unknown_scores) if judges else None,
        answers["class_id"],
        len(predictor.class_names),
    )
    some = validation.take(min(len(validation), NUM_TRIED))
    path = exporting.recalibrate(
        model,
        threshold,
        operating_points=points,
        sample_images=some.images / np.float32(255),
    )
    return path, threshold


def calibrate_on_scores(
    *,
    model: Path,
    scores: Sequence[Path],
    unknown_scores: Sequence[Path] = (),
    target_acceptance: float | None = None,
    method: str | None = None,
    operating_points: Mapping[str, float] | None = None,
    prior_unknown: float | None = None,
    cost_false_accept: float | None = None,
    cost_false_reject: float | None = None,
) -> tuple[pathlib.Path, AnyThreshold, ScoreFiles]:
    """The same on answers that this model gave already, of any number of images.

    Args:
        model: The version folder of an exported model.
        scores: Parquet files, or folders of them, that `ood-predict` wrote of known
            images with this model; see `score_files.read`.
        unknown_scores: The same of unknown images, or nothing.
        target_acceptance, method, operating_points, prior_unknown, cost_false_accept,
            cost_false_reject: As for `calibrate`. A method that needs the class of each
            image needs answers with probabilities, and a sketch of 1 MB for each class.

    Returns:
        `(path, threshold, found)`: the new version folder, the threshold, which is
        never below that of the scores themselves, and what was read.

    Raises:
        FileNotFoundError, ImportError: as `score_files.read`.
        ValueError: the answers are of another model; or as `calibrate`.
    """
    request = ThresholdRequest(
        target_acceptance=target_acceptance,
        method=method,
        operating_points=operating_points or {},
        prior_unknown=prior_unknown,
        cost_false_accept=cost_false_accept,
        cost_false_reject=cost_false_reject,
    )
    if "unknown_scores" in request.needs and not unknown_scores:
        raise ValueError(
            f"the threshold method {method!r} needs answers on unknown images too: "
            "give them as --unknown_scores"
        )
    _check_not_shipped(model)
    num_classes = None
    if "predicted_classes" in request.needs:
        num_classes = len(exporting.load(model).class_names)
    found = score_files.read(scores, unknown_scores, num_classes)
    check_model(found.models, model)
    threshold, points = request.choose(
        found.sketch, num_classes=num_classes, of_class=found.of_class
    )
    path = exporting.recalibrate(model, threshold, operating_points=points)
    return path, threshold, found


def _check_not_shipped(model: Path) -> None:
    if not pathlib.Path(model).exists() and str(model) in shipped_names():
        raise ValueError(
            f"{model!r} comes with ood_keras and stays as it is; copy "
            f"{exporting.shipped(str(model))} to DIR/1 and give that as --model"
        )
