"""Measures what renderings of test images do to an exported model."""

import pathlib
from collections.abc import Sequence

from ood_keras import export as exporting
from ood_keras.calibration import any_threshold
from ood_keras.evaluation import (
    page,
    rendering_figures,
    under_renderings,
    unknown_classes,
)
from ood_keras.files import atomic_file, write_json
from ood_keras.inference.shipped_models import locate
from ood_keras.types import Json, Path
from ood_keras.workflows import run_data


def measure_renderings(
    *,
    model: Path,
    unknown: Sequence[str],
    output: Path,
    known: str | None = None,
    data_dir: Path | None = None,
    short: bool = False,
    num_images: int | None = None,
) -> Json:
    """Measures an exported model on test images in many renderings, at its threshold.

    Args:
        model: Name of a shipped model, or `DIR/VERSION`.
        unknown: Specs of the unknown test sources.
        output: Receives `renderings.json`, `renderings.png` and, of the full suite,
            `rendering_curves.png`.
        known: Spec of the known test source; default: the one that the model was
            trained on.
        data_dir: The folder of the data sets.
        short: Only one mild strength of each sort.
        num_images: How many images of each source; see `under_renderings.measure`.

    Returns:
        The content of `renderings.json`: what `UnderRenderings.at` returns, with
        "model", "seen", "data", "versions" and "classes", `{SOURCE: {CLASS: {"images",
        "accepted", "auroc"}}}` of all untouched test images: some unknown classes look
        like known ones.

    Raises:
        ValueError: the manifest does not say what the model was trained on, and `known`
            was not given; or the classes of `known` are not those of the model.
    """
    predictor = exporting.load(locate(model))
    manifest = predictor.manifest
    training = manifest.get("training") or {}
    known = known or training.get("known")
    if known is None:
        raise ValueError(
            f"{model} does not say what it was trained on; name its known test source, "
            "as --known"
        )
    source = run_data.load_as_recorded(
        known,
        training,
        data_dir=data_dir,
        image_shape=run_data.shape_to_load(predictor.image_shape),
        background=predictor.background,
        exif_orientation=predictor.exif_orientation,
    )
    if len(source.class_names) != len(predictor.class_names):
        raise ValueError(
            f"{known} has {len(source.class_names)} classes, {model} has "
            f"{len(predictor.class_names)}: its accuracy would mean nothing"
        )
    sources = run_data.load_unknown(unknown, source, data_dir, recorded=training)
    # Of what training used, its images must not come back as test images.
    trained_with = [training.get("known"), *training.get("unknown", [])]
    used = run_data.find_seen(unknown, [spec for spec in trained_with if spec])
    tests = {
        spec: one.test if spec in used else one.whole_test()
        for spec, one in zip(unknown, sources, strict=True)
    }
    found = under_renderings.measure_exported(
        predictor,
        known=(known, source.test.dataset()),
        unknown={spec: split.dataset() for spec, split in tests.items()},
        short=short,
        num_images=num_images,
    )
    name = manifest["detector"]["name"]
    threshold = any_threshold.from_dict(manifest["threshold"])
    result = {
        **found.at({name: threshold}),
        "model": {
            "name": str(model),
            "recipe": training.get("recipe", {}).get("name"),
            "seed": training.get("seed"),
            "unknown": training.get("unknown", []),
            "protocol": training.get("protocol"),
        },
        "classes": _measure_classes(predictor, source.test, tests),
        "seen": run_data.find_seen(unknown, training.get("unknown", [])),
        "data": run_data.fingerprint([source.test, *tests.values()]),
        "versions": page.versions(),
    }
    measured = result["detectors"][name]
    pictures = {"renderings": rendering_figures.acceptance(measured, found.pictures)}
    if not short:
        pictures["rendering_curves"] = rendering_figures.curves({name: measured})
    output = pathlib.Path(output)
    for title, figure in pictures.items():
        with atomic_file(output / f"{title}.png") as path:
            figure.savefig(path)
    write_json(output / "renderings.json", result)
    return result


def describe(result: Json) -> str:
    """Says in lines what `measure_renderings` returned, of each detector and source."""
    lines = []
    for name, measured in result["detectors"].items():
        lines += [
            f"{name}: {sentence}" for sentence in under_renderings.describe(measured)
        ]
        lines += [
            f"{source}: AUROC {row['untouched']:.4f} untouched, {row['mild']:.4f} "
            f"over mild renderings, {row['full_spectrum']:.4f} over all"
            for source, row in measured["summary"]["auroc"].items()
        ]
    return "\n".join(lines)


def _measure_classes(predictor, known, tests):
    """What becomes of each class of the unknown sources that have classes."""
    measured, known_scores = {}, None
    for spec, split in tests.items():
        if not unknown_classes.has_classes(split.labels, split.class_names):
            continue
        if known_scores is None:
            known_scores = predictor.predict(known.dataset())["ood_score"]
        answer = predictor.predict(split.dataset())
        measured[spec] = unknown_classes.measure_classes(
            known_scores,
            answer["ood_score"],
            answer["accepted"],
            split.labels,
            split.class_names,
        )
    return measured
