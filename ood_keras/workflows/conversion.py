"""Converts an exported model to TFLite and ONNX files, and to a page for browsers."""

import functools
import json
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ood_keras import conventions, export, pipelines
from ood_keras.files import atomic_directory
from ood_keras.inference import manifest
from ood_keras.inference.file_formats import CHOICES, FILE_FORMATS, FileFormat
from ood_keras.inference.shipped_models import locate
from ood_keras.types import Dataset, Json, Path
from ood_keras.workflows import run_data
from ood_keras.workflows.same_classes import check_same_classes

BROWSER = "browser"
FORMATS = (*CHOICES, BROWSER)
# What a page is made of, one for each runtime.
PAGE_FORMATS = tuple(kind.choices[0] for kind in FILE_FORMATS)
# Enough to see a difference of a tenth of a percent; more would only cost time.
_MAX_UNKNOWN = 5000


def convert(
    *,
    model: Path,
    output: Path,
    known: str | None = None,
    unknown: Sequence[str] | None = (),
    data_dir: Path | None = None,
    formats: Sequence[str] = CHOICES,
    target_acceptance: float | None = None,
) -> tuple[pathlib.Path, str]:
    """Converts an exported model to TFLite and ONNX files, thresholds recalibrated.

    Args:
        model: The version folder of an exported model, or the name of one that comes
            with the package.
        output: A new folder. It receives `tflite/FORMAT/model.tflite` and
            `onnx/model.onnx`, each beside its manifest, and `tflite/parity.json` and
            `onnx/parity.json`; with the format "browser" also `browser`, see
            `export.browser`.
        known: Spec of the known source, whose validation split is scored; default: the
            one that the model was trained with. The images of that one are rendered as
            those were that its threshold was chosen on, see
            `run_data.recorded_augmentation`; those of another are taken as they are.
        unknown: Specs of unknown sources, whose validation splits the reports judge by;
            default: those that the model was trained with, where `known` is its own.
        data_dir: The folder of the data sets.
        formats: Some of `FORMATS`.
        target_acceptance: Share of known images to accept; `None` keeps the model's.

    Returns:
        `(path, table)`: `output`, and the reports as a table to print, which says how
        the images were rendered.
    """
    _check_formats(formats)
    path = locate(model)
    content = manifest.read(path)
    training = content.get("training") or {}
    is_own = known in (None, training.get("known"))
    if known is not None:
        source = _load(known, data_dir, path)
        pipelines.check_known(source.validation)
        check_same_classes(source, content["class_names"])
        is_own = is_own or _is_recorded(source.validation, training)
    else:
        if not isinstance(training.get("known"), str):
            raise ValueError(
                f"{path} does not say what it was trained on; give --known=SPEC, the "
                "source of the known images that the threshold was chosen on"
            )
        known, unknown = training["known"], unknown or training.get("unknown")
    # Others are those of the place that the files are for.
    augmentation = run_data.recorded_augmentation(content) if is_own else None
    images = {"known_images": _validation([known], data_dir, path, augmentation)}
    if unknown:
        images["unknown_images"] = _validation(
            unknown, data_dir, path, augmentation, known
        )
    images["target_acceptance"] = target_acceptance
    with atomic_directory(output) as folder:
        for kind in FILE_FORMATS:
            chosen = [name for name in formats if name in kind.choices]
            if chosen:
                write(kind, path, folder, chosen, images)
        with tempfile.TemporaryDirectory() as spare:
            made: list[pathlib.Path] = []
            left_out: dict[str, str] = {}
            if BROWSER in formats:
                made, left_out = write_page(
                    path, folder, pathlib.Path(spare), images, formats=PAGE_FORMATS
                )
            found = [*sorted(folder.glob("*/parity.json")), *made]
            reports = [json.loads(report.read_text()) for report in found]
    remarks = [
        f"The page has no {name}, which could not be made: {reason}"
        for name, reason in left_out.items()
    ]
    if augmentation is not None:
        remarks.insert(
            0,
            f"They are rendered by {augmentation}, as those were that the model's "
            "threshold was chosen on.",
        )
    return pathlib.Path(output), "\n".join([table(reports), *remarks])


def write(
    kind: FileFormat,
    path: Path,
    folder: pathlib.Path,
    choices: Sequence[str],
    images: Json,
) -> pathlib.Path:
    """Writes an exported model in a format, by its function of `export`.

    Args:
        kind: The format.
        path: The exported model.
        folder: Receives a folder of the format's name.
        choices: Some of `kind.choices`.
        images: The images that `export.tflite` and `export.onnx` take.

    Returns:
        That folder.
    """
    options = {"formats": choices} if kind.roundings else {}
    return getattr(export, kind.name)(path, folder / kind.name, **options, **images)


def write_page(
    path: Path,
    folder: pathlib.Path,
    spare: pathlib.Path,
    images: Json,
    *,
    formats: Sequence[str],
) -> tuple[list[pathlib.Path], dict[str, str]]:
    """Writes `folder/browser`, of files that are in `folder` or are made for it.

    One runtime is enough, where a detector or a network has no form for the other.

    Args:
        path: The exported model.
        folder: Where `tflite/float32` and `onnx` may be.
        spare: An empty folder for those of them that are made.
        images: The images that `export.tflite` and `export.onnx` take.
        formats: Those of `PAGE_FORMATS` that are to be made where they are not there.

    Returns:
        The reports, `parity.json`, of files that were made for it; and why one of the
        formats could not be made.

    Raises:
        ValueError: no runtime has a file.
    """
    made, reasons, places = [], {}, {}
    for kind, name in zip(FILE_FORMATS, PAGE_FORMATS, strict=True):
        place = pathlib.PurePath(kind.locate(name)).parent
        if (folder / place).is_dir():
            places[kind.name] = folder / place
        elif name in formats:
            try:
                written = write(kind, path, spare, [name], images)
            except Exception as error:  # A converter may fail in any way.
                reasons[name] = " ".join(str(error).split())[:400]
                continue
            places[kind.name] = spare / place
            made.append(written / "parity.json")
    if not places:
        said = "".join(f"; {name}: {reason}" for name, reason in reasons.items())
        raise ValueError(
            f"a page needs a file of {' or '.join(PAGE_FORMATS)}, and there is none"
            f"{said}"
        )
    export.browser(folder / "browser", **places)
    return made, reasons


def table(reports: Sequence[Json]) -> str:
    """What `parity.json` says about each file, lines to print.

    Args:
        reports: Contents of `parity.json`, of the same images.
    """
    percent = functools.partial(conventions.percent, spec=".2f", unit="%")
    rows = [
        ("file", "KiB", "equal before", "after", "AUROC", "FPR95", "accepted", "ms")
    ]
    entries = {"SavedModel": reports[0]["saved_model"]}
    for report in reports:
        entries |= report["files"]
    for name, entry in entries.items():
        converted = "bytes" in entry
        judged = "auroc" in entry
        rows.append(
            (
                name,
                f"{entry['bytes'] / 1024:,.0f}" if converted else "",
                percent(entry["equal_decisions_before"]) if converted else "",
                percent(entry["equal_decisions_after"]) if converted else "",
                percent(entry["auroc"]) if judged else "",
                percent(entry["fpr95_known_positive"]) if judged else "",
                percent(entry["accepted_known"]) if converted else "",
                f"{entry['latency_ms']:.2f}" if converted else "",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    report = reports[0]
    return "\n".join(
        [
            *lines,
            "",
            f"On {report['num_known']:,} known and {report['num_unknown']:,} unknown "
            "validation images. equal: decided as by the SavedModel, before and after "
            "the threshold was calibrated anew; accepted: of the known images; FPR95: "
            "known positive; ms: one image on one thread of this machine.",
            *_warn_of(entries),
        ]
    )


# Of images whose decision a file should share with the SavedModel.
USUAL_SHARE = 0.95


def _warn_of(entries: Mapping[str, Json]) -> list[str]:
    """A line for each file that decides many images otherwise than the SavedModel."""
    return [
        f"Look before you ship {name}: it decides only "
        f"{conventions.percent(entry['equal_decisions_after'])} of these "
        "images as the SavedModel does. Its rounding is too coarse for this network; "
        "take another format."
        for name, entry in entries.items()
        if entry.get("equal_decisions_after", 1.0) < USUAL_SHARE
    ]


def _validation(
    specs: Sequence[str],
    data_dir: Path | None,
    model: Path,
    augmentation: str | None,
    known: str | None = None,
) -> Dataset:
    """The validation images of all sources as one dataset, in the model's shape.

    Args:
        specs: The sources: the known one, or unknown ones beside `known`.
        data_dir: The folder of the data sets.
        model: The exported model.
        augmentation: Name of the one that renders them, or `None`.
        known: The known source, of unknown ones.
    """
    load: Any = functools.partial(_load, data_dir=data_dir, model=model)
    if known is not None:
        load = functools.partial(load, known=load(known))
    splits = [load(spec).validation for spec in specs]
    if known is None:
        for split in splits:
            pipelines.check_known(split)
    else:
        share = _MAX_UNKNOWN // len(splits)
        splits = [split.take(min(share, len(split))) for split in splits]
    found: Any = run_data.concatenate(run_data.render_in(augmentation, splits))
    return found


def _is_recorded(split: pipelines.Split, training: Json) -> bool:
    """Whether images are those that a training validated with, wherever they are."""
    data = training.get("data") or {}
    found = data.get(f"{training.get('known')}/validation") or {}
    return found.get("sha256") == split.fingerprint()


def _load(
    spec: str, data_dir: Path | None, model: Path, **options: Any
) -> pipelines.Source:
    """A source as the model reads it, dealt out as its training was."""
    of_images = _image_options(model)
    if "known" not in options:
        of_images["image_shape"] = run_data.shape_to_load(of_images["image_shape"])
    return run_data.load_as_recorded(
        spec,
        manifest.read(model).get("training") or {},
        data_dir=data_dir,
        **of_images,
        **options,
    )


def _image_options(model: Path) -> Json:
    """How to load images as the model reads them, for `pipelines.load`."""
    content = manifest.read(model)
    return {
        "image_shape": tuple(content["input"]["image"]["shape"][1:]),
        "background": manifest.background(content),
        "exif_orientation": manifest.exif_orientation(content),
    }


def _check_formats(formats: Sequence[str]) -> None:
    if not formats or not set(formats) <= set(FORMATS):
        raise ValueError(
            f"--formats takes some of {','.join(FORMATS)}. Received: "
            f"{','.join(formats) or 'nothing'}"
        )
