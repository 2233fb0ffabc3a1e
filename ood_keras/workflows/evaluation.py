"""Measures a run on test images and writes the result into the run."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import keras

from ood_keras import detectors as detector_room
from ood_keras import evaluation, pipelines
from ood_keras.detectors.probability_and_distances import list_layers
from ood_keras.files import atomic_file, write_arrays
from ood_keras.metrics import measures
from ood_keras.training import recipes, run_directory
from ood_keras.types import Images, Json, Path
from ood_keras.workflows import run_record, strange_pictures
from ood_keras.workflows.data_check import count_left_out, find_bad
from ood_keras.workflows.run_data import (
    AS_THEY_ARE,
    KNOWN_IMAGES,
    VALIDATION_AUGMENT,
    RunData,
    load_run_data,
    read_recipe,
    read_settings,
)
from ood_keras.workflows.samples import write_samples

DETECTORS = ("unknown_probability", "msp", "max_logit", "energy", "objectosphere")
# For one known class, whose logits have learnt to tell it from the unknown images that
# they were shown and from nothing else.
DISTANCES = ("knn", "mahalanobis")
# Pixel values that travel with an exported model: 204 images of 28 x 28.
_MAX_EXAMPLE_VALUES = 160_000


def evaluate(
    *,
    run_dir: Path,
    unknown: Sequence[str],
    data_dir: Path | None = None,
    detectors: Sequence[str] | None = None,
    validation_unknown: Sequence[str] | None = None,
    tune: bool = False,
    selected_detector: str | None = None,
    further_metrics: Sequence[str] = (),
    renderings: "evaluation.under_renderings.Extent" = "short",
    validation_augment: str | None = None,
    skip_bad: bool = False,
) -> "evaluation.Report":
    """Measures the run's model on test images and writes the result into the run.

    The detector is selected on validation data alone: known images, and unknown images
    of the sources that the run was trained with, or of `validation_unknown`.

    Args:
        run_dir: A finished run.
        unknown: Specs of the unknown test sources. One without a test part, such as a
            folder of pictures, is tested on as a whole, unless it was trained with or
            selects.
        data_dir: The folder of the data sets, those of the training among them;
            default: the run's.
        detectors: Names of the detectors to compare; `None` is those of `DETECTORS`
            that the network can be scored by, with one known class `DISTANCES`;
            "probability_and_distances" is worth adding (docs/decisions/recipes.md).
            "objectosphere" is that of the softmax, or, where the loss was on the
            features, that of the product.
        validation_unknown: Specs of the sources whose validation images select and tune
            in place of those that the run was trained with; a run that was trained with
            known images alone needs it.
        tune: Whether to tune "odin" and "mahalanobis" on the validation images.
        selected_detector: Name of the detector to deploy, where that is decided
            already.
        further_metrics: Names of metrics to report beside the built-in ones; see
            `metrics.register`.
        renderings: How much to measure of test images in other renderings: "none",
            "short" or "full", see `evaluation.under_renderings`.
        validation_augment: The augmentation that renders the known images that
            detectors learn from and the validation images that choose detector and
            threshold, in place of the recipe's `validation_augment`; "none" leaves them
            as they are.
        skip_bad: Whether to go on without files of unknown sources that cannot be read
            or are copies of known pictures; they are counted. What training read stays
            as it was then.

    Returns:
        The `evaluation.Report`; to its metrics, `metrics.json` adds "data", the
        fingerprints of the test images, and "left_out", `{spec: {name: reason}}`, the
        files that `skip_bad` found, where it found some.

    Raises:
        BlockingIOError: another process is training or evaluating in `run_dir`.
        FileNotFoundError: `run_dir` holds no finished run.
        ValueError: `run.json` was changed by hand, or the data are not those of the
            run.
    """
    # A name that is not known is said before anything is read.
    measures.choose(further_metrics)
    for name in detectors or ():
        detector_room.get(name)
    run_dir = pathlib.Path(run_dir)
    # Before a folder that is no run gets a lock.
    settings = read_settings(run_dir)
    read_recipe(settings, validation_augment)
    with run_directory.hold(run_dir, "evaluating"):
        left_out = {}
        if skip_bad:
            left_out = _find_bad(settings, {*unknown, *(validation_unknown or ())})
        data = load_run_data(
            run_dir,
            unknown,
            data_dir,
            validation_unknown,
            validation_augment=validation_augment,
            left_out=left_out,
        )
        return _evaluate(
            run_dir,
            data,
            detectors,
            tune,
            selected_detector,
            further_metrics,
            renderings,
        )


def _find_bad(settings: Json, unknown: Iterable[str]) -> Json:
    """What to leave out of the sources that training, or adopting, did not read."""
    read = {settings["known"], *settings["unknown"], *settings.get("judges", ())}
    new = sorted(set(unknown) - read)
    if not new:  # Else the known pictures would be decoded for nothing.
        return {}
    return find_bad(settings["known"], new, background=settings.get("background"))


def _evaluate(
    run_dir: pathlib.Path,
    data: RunData,
    detectors: Sequence[str] | None,
    tune: bool,
    selected_detector: str | None,
    further_metrics: Sequence[str],
    renderings: "evaluation.under_renderings.Extent",
) -> "evaluation.Report":
    settings, known_source = data.settings, data.known
    if recipes.Recipe(**settings["recipe"]).objective.score is None:
        raise ValueError(
            f"{run_dir} holds no classifier, which every detector needs, but the "
            "autoencoders of a likelihood ratio; `training.baselines.LikelihoodRatio` "
            "scores with them, and `ood-study` measures that"
        )
    model = run_record.load_model(run_dir)
    judging = data.judging
    if detectors is None:
        detectors = usual_detectors(
            [settings["recipe"]], num_classes=known_source.num_classes
        )
    fitted = {
        name: fit_detector(
            name,
            model,
            data.fitting,
            known_source.num_classes,
            judging if tune else None,
            objectosphere_on=objectosphere_on(settings["recipe"]),
            features=distances_on(settings["recipe"], known_source.num_classes),
        )
        for name in detectors
    }
    return measure(
        run_dir,
        data,
        fitted,
        selected_detector=selected_detector,
        further_metrics=further_metrics,
        renderings=renderings,
    )


def measure(
    run_dir: pathlib.Path,
    data: RunData,
    fitted: "Mapping[str, detector_room.Detector]",
    *,
    selected_detector: str | None = None,
    further_metrics: Sequence[str] = (),
    renderings: "evaluation.under_renderings.Extent" = "short",
) -> "evaluation.Report":
    """Measures fitted detectors on a run's test images, and writes all into the run.

    Args:
        run_dir: The run, which the caller holds.
        data: What `load_run_data` returned.
        fitted: `{name: detector}`, fitted on the run's model.
        selected_detector, further_metrics, renderings: As for `evaluate`.

    Returns:
        The `evaluation.Report`.
    """
    settings, known_source = data.settings, data.known
    report = evaluation.evaluate(
        fitted,
        known=(settings["known"], known_source.test.dataset()),
        unknown={spec: split.dataset() for spec, split in data.tests.items()},
        validation_known=data.judging["known"],
        validation_unknown=data.judging["unknown"],
        seen=data.seen,
        selected_detector=selected_detector,
        further_metrics=further_metrics,
        class_names=settings["class_names"],
        protocol=_protocol(data),
        renderings=renderings,
    )
    strange = strange_pictures.explain(
        report,
        fitted[report.metrics["selected_detector"]],
        data.known_validation,
        {"known": known_source.test, **data.tests},
    )
    report = dataclasses.replace(report, strange=strange)
    report.metrics["data"] = data.fingerprints
    if data.left_out:
        report.metrics["left_out"] = data.left_out
    report.metrics.update(_chosen_in(data))
    # The last to be written, since `export` takes a run that has it for one that has
    # the rest; so those of an earlier evaluation go first.
    (run_dir / "metrics.json").unlink(missing_ok=True)
    for name, detector in fitted.items():
        detector_room.save(detector, run_dir / "detectors", name=name)
    write_samples(run_dir / "samples", [known_source.test, *data.tests.values()])
    _write_known_images(run_dir / KNOWN_IMAGES, data.known_validation)
    report.save(run_dir)
    return report


def _chosen_in(data: RunData) -> Json:
    """What rendered the validation images, where it is not what the recipe says."""
    name = data.recipe.validation_augment
    if name == data.settings["recipe"].get("validation_augment"):
        return {}
    return {VALIDATION_AUGMENT: name or AS_THEY_ARE}


def _left_out(settings: Json) -> Json:
    """What the report says of files that a run leaves out; nothing without such."""
    left_out = settings.get("left_out")
    return {"left out": count_left_out(left_out)} if left_out else {}


def _protocol(data: RunData) -> Json:
    """What the report says about the run."""
    settings = data.settings
    selected = {"selected with unknowns from": ", ".join(data.judges)}
    if chosen_in := _chosen_in(data):
        selected["selected on validation images in"] = chosen_in[VALIDATION_AUGMENT]
    if settings["recipe"]["loss"] == recipes.ELSEWHERE:
        return {
            "network": "trained elsewhere, adopted as it is; with what pictures is not "
            "known here",
            **selected,
        }
    return {
        "recipe": settings["recipe"]["name"],
        "seed": settings["seed"],
        "trained with unknowns from": ", ".join(settings["unknown"]) or "nowhere",
        **selected,
        **_left_out(settings),
    }


def usual_detectors(
    trained: Iterable[Json],
    names: Sequence[str] = DETECTORS,
    *,
    num_classes: int = 2,
) -> list[str]:
    """Those of `names` that need no unknown class, where a network has none.

    Args:
        trained: The recipes of runs, dicts.
        names: Names of detectors.
        num_classes: N, the number of known classes; with one it is `DISTANCES`.
    """
    if num_classes == 1:
        return list(DISTANCES)
    if all(recipes.Recipe(**recipe).objective.unknown_class for recipe in trained):
        return list(names)
    return [name for name in names if name != "unknown_probability"]


def objectosphere_on(recipe: Json) -> Literal["softmax", "product"]:
    """What "objectosphere" reads: "product" where a loss was on the features.

    Args:
        recipe: The recipe of a run, a dict.
    """
    trained = recipes.Recipe(**recipe).objective.outputs
    return "product" if "features" in trained else "softmax"


def distances_on(recipe: Json, num_classes: int) -> str | None:
    """The layer whose features `DISTANCES` measure; `None` is that before the logits.

    With one known class it is the last map of a pretrained backbone: what is on top of
    it has learnt from that class and from outliers alone, the backbone from other
    pictures.

    Args:
        recipe: The recipe of a run, a dict.
        num_classes: N, the number of known classes.
    """
    is_alone = num_classes == 1 and recipes.Recipe(**recipe).is_pretrained
    return "map" if is_alone else None


def fit_detector(
    name: str,
    model: keras.Model,
    data: Images,
    num_classes: int,
    judging: Mapping[str, Images] | None = None,
    *,
    objectosphere_on: Literal["softmax", "product"] = "softmax",
    features: str | None = None,
) -> "detector_room.Detector":
    """Returns a detector, fitted as the commands do.

    Args:
        name: A name of `detectors.names()`.
        model: The classifier.
        data: Known training images with labels, to fit on.
        num_classes: N, the number of known classes.
        judging: `{"known", "unknown"}`, the validation data that "odin" and
            "mahalanobis" are tuned on, or `None`.
        objectosphere_on: The argument `on` of "objectosphere".
        features: The layer that `DISTANCES` measure, see `distances_on`.
    """
    if features is not None and name in DISTANCES:
        return detector_room.get(name, num_classes=num_classes, features=features).fit(
            model, data
        )
    if name == "objectosphere":
        return detector_room.get(
            name, num_classes=num_classes, on=objectosphere_on
        ).fit(model, data)
    if judging is None or name not in ("odin", "mahalanobis"):
        return detector_room.get(name, num_classes=num_classes).fit(model, data)
    if name == "odin":
        return evaluation.tune_odin(model, num_classes=num_classes, **judging)
    return evaluation.tune_mahalanobis(
        model,
        data,
        num_classes=num_classes,
        layer_sets=(None, list_layers(model)),
        **judging,
    )


def _write_known_images(path: pathlib.Path, split: pipelines.Split) -> None:
    """Writes some images of every class, for the export of the run."""
    num_images = min(len(split), max(1, _MAX_EXAMPLE_VALUES // split.images[0].size))
    some = split.take(num_images)
    with atomic_file(path) as temporary:
        arrays = {"images": some.images, "labels": some.labels}
        write_arrays(temporary, arrays, compressed=True)
