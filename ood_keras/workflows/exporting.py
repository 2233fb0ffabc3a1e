"""Exports a run's model with its detector and a calibrated threshold."""

import json
import pathlib
from collections.abc import Mapping

import numpy as np

from ood_keras import detectors as detector_room
from ood_keras import export as exporting
from ood_keras import npz
from ood_keras.calibration import any_threshold
from ood_keras.conventions import accepts
from ood_keras.evaluation import under_renderings, verdict
from ood_keras.files import check_local
from ood_keras.names import valid
from ood_keras.pipelines.sources.licences import licence
from ood_keras.training import recipes, run_directory
from ood_keras.types import Json, Path
from ood_keras.workflows import run_record
from ood_keras.workflows.run_data import (
    FORMATS,
    GROUP_BY,
    KNOWN_IMAGES,
    LEFT_OUT,
    NUM_TRIED,
    VALIDATION_AUGMENT,
    read_settings,
)
from ood_keras.workflows.samples import read_samples
from ood_keras.workflows.thresholds import ThresholdRequest


def export(
    *,
    run_dir: Path,
    output: Path,
    target_acceptance: float | None = None,
    method: str | None = None,
    operating_points: Mapping[str, float] | None = None,
    prior_unknown: float | None = None,
    cost_false_accept: float | None = None,
    cost_false_reject: float | None = None,
    detector: str | None = None,
    known_examples: bool = True,
    explain: bool = False,
) -> tuple[pathlib.Path, any_threshold.AnyThreshold]:
    """Exports a run's model with its selected detector and a calibrated threshold.

    Args:
        run_dir: A run that was evaluated.
        output: The folder that receives the next free version folder.
        target_acceptance: Share of known images to accept; `None` takes 0.95.
        method: Name of a threshold method, see `calibration.names`: "conformal" or
            "quantile"; "conformal_per_class", one for each predicted class;
            "lowest_cost", which needs `prior_unknown` and unknown scores. `None`: see
            `calibration.choose`.
        operating_points: `{name: target acceptance}`: other thresholds to offer.
        prior_unknown: Share of the images to come that are unknown, in (0, 1).
        cost_false_accept, cost_false_reject: What accepting an unknown image costs, and
            rejecting a known one; `None` takes 1.
        detector: Name of a detector; default: the one selected on validation data.
        known_examples: Whether some known validation images travel with the model.
        explain: Whether the model gets the signature `explain`, see
            `export.saved_model`.

    Returns:
        `(path, threshold)`: the version folder and the `calibration.Threshold`, or the
        `calibration.ClassThresholds`.

    Raises:
        ValueError: the run was not evaluated with the detector, or as
            `ThresholdRequest`.
    """
    request = ThresholdRequest(
        target_acceptance=target_acceptance,
        method=method,
        operating_points=operating_points or {},
        prior_unknown=prior_unknown,
        cost_false_accept=cost_false_accept,
        cost_false_reject=cost_false_reject,
    )
    return export_run(
        pathlib.Path(run_dir),
        output,
        request,
        detector,
        known_examples,
        explain=explain,
    )


def export_run(
    run_dir: pathlib.Path,
    output: Path,
    request: ThresholdRequest,
    detector: str | None = None,
    known_examples: bool = True,
    live: "detector_room.Detector | None" = None,
    explain: bool = False,
) -> tuple[pathlib.Path, any_threshold.AnyThreshold]:
    """Does what `export` does, for thresholds that were asked for already.

    Args:
        run_dir, output, detector, known_examples, explain: As for `export`.
        request: The thresholds.
        live: The fitted detector, on the model of the run, where it is at hand; `None`
            opens both from the run.
    """
    check_local(output)
    settings = read_settings(run_dir, needs_model=live is None)
    metrics = json.loads(_find_evaluated(run_dir, "metrics.json").read_text())
    name = detector or metrics["selected_detector"]
    scores = npz.read(_find_evaluated(run_dir, "scores.npz"), "the scores of a run")
    key = f"validation/known/{name}"
    if key not in scores:
        raise ValueError(
            f"{run_dir} was not evaluated with the detector {name!r}; it was with: "
            f"{sorted(metrics['detectors'])}"
        )
    threshold, points = request.choose(
        scores[key],
        scores.get(f"validation/unknown/{name}"),
        scores.get("predictions/validation/known"),
        len(settings["class_names"]),
    )
    sources = metrics["detectors"][name]["unknown"]
    at_threshold = _at_threshold(scores, sources, name, threshold)
    if "renderings" in metrics:
        rendered = under_renderings.restore(metrics["renderings"], scores, [name])
        at_threshold["renderings"] = rendered.at({name: threshold})
    judged = _judge(scores, sources, name, threshold, at_threshold.get("renderings"))
    at_threshold["verdict"] = judged.to_json()
    # That is of the threshold of the evaluation.
    metrics.pop("verdict", None)
    examples = _known_examples(run_dir, scores, name) if known_examples else None
    if live is None:
        model = run_record.load_model(run_dir)
        live = detector_room.load(run_dir / "detectors" / f"{name}.json", model)
    path = exporting.saved_model(
        live.network.model,
        live,
        threshold,
        pathlib.Path(output) / str(exporting.next_version(output)),
        class_names=settings["class_names"],
        operating_points=points,
        metrics=metrics,
        at_threshold=at_threshold,
        training=_training(run_dir, detector is None, metrics),
        background=settings.get("background"),
        exif_orientation=settings.get("exif_orientation", False),
        sample_images=_known_to_try(run_dir, settings),
        known_examples=examples,
        explain=explain,
    )
    return path, threshold


def _known_to_try(run_dir: pathlib.Path, settings: Json) -> np.ndarray | None:
    """Some known images of a run, floats in [0, 1], or `None` if there are none.

    They are validation images, of every class alike; of a run of an earlier version,
    which kept none, the known ones among its samples.
    """
    path = run_dir / KNOWN_IMAGES
    if not path.is_file():
        return read_samples(
            run_dir / "samples", settings["image_shape"], settings["known"]
        )
    with np.load(path, allow_pickle=False) as known:
        images = known["images"]
    rows = np.linspace(0, len(images) - 1, NUM_TRIED).astype(int)
    return images[np.unique(rows)] / np.float32(255)


def _known_examples(run_dir, scores, detector):
    """Returns the `KnownExamples` of a run; `None` for one of an earlier version."""
    path = run_dir / KNOWN_IMAGES
    if not path.is_file():
        return None
    what, fields = "the known images of a run", ("images", "labels")
    known = npz.read(path, what, required=fields)
    return exporting.KnownExamples(
        **{name: known[name] for name in fields},
        known_scores=scores[f"validation/known/{detector}"],
        unknown_scores=scores.get(f"validation/unknown/{detector}", ()),
    )


def _accept(scores, detector, name, threshold):
    """Which images of a set of `scores.npz` a threshold accepts."""
    limits = any_threshold.limits(threshold, scores[valid(f"predictions/{name}")])
    return accepts(scores[valid(f"{name}/{detector}")], limits)


def _at_threshold(scores, sources, detector, threshold):
    """Returns what a threshold does to the test images of `scores.npz`."""
    accepted = _accept(scores, detector, "known", threshold)
    right = (scores["predictions/known"] == scores["labels/known"])[accepted]
    unknown = {
        source: ~_accept(scores, detector, f"unknown/{source}", threshold)
        for source in sources
    }
    return {
        "known": {
            "images": len(accepted),
            "accepted": float(accepted.mean()),
            "accuracy_of_accepted": float(right.mean()) if len(right) else None,
        },
        "unknown": {
            source: {"images": len(rejected), "rejected": float(rejected.mean())}
            for source, rejected in unknown.items()
        },
    }


def _judge(scores, sources, detector, threshold, renderings) -> verdict.Verdict:
    """The verdict on what is exported, at its own threshold."""
    return verdict.judge(
        verdict.count(
            labels=scores["labels/known"],
            predictions=scores["predictions/known"],
            accepted=_accept(scores, detector, "known", threshold),
            unknown={
                source: (
                    _accept(scores, detector, f"unknown/{source}", threshold),
                    row,
                )
                for source, row in sources.items()
            },
            threshold=threshold,
            renderings=renderings and renderings["detectors"][detector],
        )
    )


def _training(run_dir: pathlib.Path, detector_chosen: bool, metrics: Json) -> Json:
    """Returns what the manifest says about a run: all but where its data lay."""
    chosen = "checkpoint, detector" if detector_chosen else "checkpoint"
    run = run_directory.read(run_dir)
    settings = run["settings"]
    known, unknown = settings["known"], settings["unknown"]
    protocol = f"fitted on train; {chosen} and threshold chosen on validation; "
    if settings["recipe"]["loss"] == recipes.ELSEWHERE:
        chosen = "detector and threshold" if detector_chosen else "threshold"
        protocol = (
            "network trained elsewhere, on pictures that are not known here; detector "
            f"fitted on train; {chosen} chosen on validation; "
        )
    if VALIDATION_AUGMENT in metrics:
        # A checkpoint is chosen in training, by the recipe's.
        chosen = "detector and threshold" if detector_chosen else "threshold"
        augmentation = metrics[VALIDATION_AUGMENT]
        protocol += f"validation images for {chosen} in: {augmentation}; "
    return {
        "known": known,
        "unknown": unknown,
        "protocol": f"{protocol}measured on test",
        "seed": run["seed"],
        "recipe": settings["recipe"],
        "parameters": run.get("model", {}).get("parameters"),
        "versions": run.get("versions", {}),
        "data": settings["data"],
        # Whoever measures the model again deals the same pictures out alike.
        **{name: settings[name] for name in (GROUP_BY, FORMATS) if settings.get(name)},
        **(
            {
                LEFT_OUT: {
                    spec: sorted(names) for spec, names in settings[LEFT_OUT].items()
                }
            }
            if settings.get(LEFT_OUT)
            else {}
        ),
        "licences": {spec: licence(spec) for spec in (known, *unknown)},
    }


def _find_evaluated(run_dir: pathlib.Path, name: str) -> pathlib.Path:
    path = run_dir / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: the threshold is calibrated on the scores of the "
            f"validation images. Run ood-evaluate --run_dir={run_dir} first"
        )
    return path
