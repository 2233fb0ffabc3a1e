"""Detectors times data sets: a report."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ood_keras import calibration
from ood_keras.evaluation import common, selection, under_renderings
from ood_keras.evaluation.report import Report
from ood_keras.evaluation.scoring import Scored, Scorer
from ood_keras.metrics import measures
from ood_keras.types import Images, Json

if TYPE_CHECKING:
    from ood_keras.detectors import Detector


def evaluate(
    detectors: "Mapping[str, Detector]",
    *,
    known: tuple[str, Images],
    unknown: dict[str, Images],
    seen: Collection[str] = (),
    validation_known: Images | None = None,
    validation_unknown: Images | None = None,
    selected_detector: str | None = None,
    further_metrics: Collection[str] = (),
    class_names: Sequence[str] | None = None,
    protocol: Json | None = None,
    renderings: under_renderings.Extent = "none",
    progress: bool = True,
) -> Report:
    """Measures fitted detectors on known and unknown test images.

    Use it once, at the end: the detector to deploy is selected on validation data
    (see `select_detector`) before any test image is read. Detectors that read the
    outputs of the same network share one pass over each data set, whatever their
    number; memory grows with the scores, not with the images.

    Args:
        detectors: `{name: fitted detector}`, with names of your choice.
        known: `(source, data)`: the name of the known test images, and images in [0, 1]
            with labels `0..N-1`, as anything that `ood_keras.batches.iterate` takes.
        unknown: `{source: data}` of unknown test images; labels are not read.
        seen: Names of the sources that the model was trained with as unknowns; they are
            marked in every result.
        validation_known: Known validation images; labels are not read.
        validation_unknown: Unknown validation images, from sources that training
            was exposed to and from no other.
        selected_detector: Name of the detector to deploy, where that is decided
            already. Several detectors need this or both validation sets.
        further_metrics: Names of metrics to report beside the built-in ones; see
            `metrics.register`. They have no say in the selection.
        class_names: Names of the known classes, for the pictures.
        protocol: What the report should say about the run, such as `{"seed": 0}`.
        renderings: Whether to measure test images in other renderings, too, see
            `under_renderings.measure`: "none", "short" or "full". The test data are
            then read twice.
        progress: Whether to show a progress bar where there is a terminal.

    Returns:
        A `Report`. Its known accuracy, features and pictures are those of the selected
        detector and of the model that it was fitted on.

    Raises:
        ValueError: there is no detector or no unknown image; a data set is empty; known
            labels are missing or out of range; a source is both known and unknown; or
            nothing says which detector to deploy, a metric of a name in
            `further_metrics` is not known, or `renderings` is none of its values.
        RuntimeError: a detector is not fitted.

    Example:

    >>> report = evaluation.evaluate(
    ...     {"energy": detectors.get("energy", num_classes=10).fit(model)},
    ...     known=("digits", (x_test, y_test)),
    ...     unknown={"noise": x_noise},
    ... )
    >>> print(report)
    >>> report.save("runs/digits")
    """
    num_classes = _check_detectors(detectors, selected_detector)
    common.check_sources(known, unknown)
    measures.choose(further_metrics)
    if renderings not in under_renderings.EXTENTS:
        raise ValueError(
            f"`renderings` must be one of {', '.join(under_renderings.EXTENTS)}. "
            f"Received: {renderings!r}"
        )
    if isinstance(seen, str):
        raise ValueError(f"`seen` must be a list of names. Received: {seen!r}")
    has_validation = validation_known is not None
    if has_validation != (validation_unknown is not None):
        raise ValueError(
            "give both `validation_known` and `validation_unknown`, or neither"
        )
    if not has_validation and selected_detector is None and len(detectors) > 1:
        raise ValueError(
            "test images must not decide which detector to deploy: give "
            "`validation_known` and `validation_unknown`, or name one of "
            f"{list(detectors)} as `selected_detector`"
        )
    source, known_data = known
    scorer = Scorer(detectors)
    validation: dict[str, dict[str, np.ndarray]]
    validation_metrics: dict[str, dict[str, float]]
    judged: dict[str, Scored] = {}
    validation, validation_metrics = {}, {}
    selected = selected_detector or next(iter(detectors))
    with common.progress_bar(1 + len(unknown) + 2 * has_validation, progress) as walk:
        if has_validation:
            for role, data in (
                ("known", validation_known),
                ("unknown", validation_unknown),
            ):
                name = f"the {role} validation data"
                judged[role] = scorer.score(walk(data, name), name)
                validation[role] = judged[role].scores
            best, validation_metrics = selection.best(
                validation["known"], validation["unknown"], further_metrics
            )
            selected = selected_detector or best
        scored = scorer.score(walk(known_data, source), source, detector=selected)
        common.check_labels(scored.labels, num_classes, source)
        scored_unknown = {
            name: scorer.score(
                walk(data, name), name, detector=selected, worst="lowest"
            )
            for name, data in unknown.items()
        }
    metrics = common.measure(
        source,
        float(np.mean(scored.predictions == scored.labels)),
        {name: scored.scores[name] for name in detectors},
        {name: other.scores for name, other in scored_unknown.items()},
        seen=seen,
        selected_detector=selected,
        further_metrics=further_metrics,
    )
    thresholds = {
        name: calibration.choose(scores)
        for name, scores in validation.get("known", scored.scores).items()
    }
    rendered = None
    if renderings != "none":
        rendered = under_renderings.measure(
            detectors,
            known=known,
            unknown=unknown,
            short=renderings == "short",
            progress=progress,
        )
        metrics["renderings"] = rendered.at(thresholds)
    report = Report(
        metrics=metrics,
        known=scored,
        unknown=scored_unknown,
        validation=validation,
        validation_metrics=validation_metrics,
        validation_predictions={
            role: scored.predictions_of[selected] for role, scored in judged.items()
        },
        thresholds=thresholds,
        under_renderings=rendered,
        class_names=class_names,
        protocol=protocol or {},
    )
    metrics["verdict"] = report.verdict.to_json()
    return report


def _check_detectors(
    detectors: "Mapping[str, Detector]", selected_detector: str | None
) -> int:
    """Returns the number of known classes that all the detectors agree on."""
    if not detectors:
        raise ValueError("no detectors to evaluate; give {name: fitted detector}")
    for name, detector in detectors.items():
        if "/" in name:
            raise ValueError(f"the name of a detector has no `/`. Received: {name!r}")
        common.check_fitted(detector, name)
    if selected_detector is not None and selected_detector not in detectors:
        raise ValueError(
            f"selected_detector must be one of {list(detectors)}. Received: "
            f"{selected_detector!r}"
        )
    num_classes = {name: detector.num_classes for name, detector in detectors.items()}
    if len(set(num_classes.values())) > 1:
        raise ValueError(
            "the detectors must have the same known classes to be compared. Received "
            f"numbers of classes: {num_classes}"
        )
    return num_classes.popitem()[1]
