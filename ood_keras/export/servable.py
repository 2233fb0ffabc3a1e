"""From a trained model to a folder that can be served."""

import collections
import json
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from ood_keras import files, names
from ood_keras.calibration import ClassThresholds, Threshold, any_threshold
from ood_keras.calibration.any_threshold import AnyThreshold
from ood_keras.conventions import MOST_EXPLAINED, REJECTED_SCORE, UNKNOWN_LABEL
from ood_keras.export import (
    image_bytes,
    model_card,
    parity,
    promise,
    serving,
    serving_kit,
)
from ood_keras.image_files import BACKGROUND, check_background
from ood_keras.inference import known_examples as examples_file
from ood_keras.inference import manifest
from ood_keras.inference.versions import LARGEST_VERSION, next_version
from ood_keras.types import ImageShape, Json, Path

if TYPE_CHECKING:
    from ood_keras.detectors import Detector


def saved_model(
    model: keras.Model,
    detector: "Detector",
    threshold: AnyThreshold,
    path: Path,
    *,
    class_names: Sequence[str] | None = None,
    operating_points: Mapping[str, Threshold] | None = None,
    metrics: Json | None = None,
    at_threshold: Json | None = None,
    training: Json | None = None,
    sample_images: np.ndarray | None = None,
    known_examples: examples_file.KnownExamples | None = None,
    background: str | int | None = BACKGROUND,
    exif_orientation: bool = True,
    explain: bool = False,
) -> pathlib.Path:
    """Exports a model that rejects what it does not know, for TensorFlow Serving.

    Network, detector and threshold go into one SavedModel with the signatures
    `serving_default`, `predict_at`, `predict_bytes` and `features`; every weight is
    stored once. An image is accepted when `ood_score <= threshold`. Images with NaN,
    infinite or out-of-range pixels, and files that cannot be decoded, are answered with
    `valid = False` and rejected; they never touch the other images of the batch. Beside
    it lie `manifest.json`, which describes it, the same as a page for people,
    `MODEL_CARD.md`, and `parity.json`: before this function returns, the model was
    opened in a fresh process and compared with the live one.
    Warm-up requests and the folder `serving` are for TensorFlow Serving; begin with
    `serving/README.md`. The model is not changed.

    What is exported takes pixels in [0, 1] and image files, so the promise of the
    threshold is tried out too. The images that it was chosen on, of which the detector
    remembers some (see `Detector.score`), are given to the exported model, as they are
    and as PNG files, and must be accepted as before. A network that was calibrated on
    other pixels, such as 0 to 255, is refused; the error says how to wrap it.

    Args:
        model: The `keras.Model` that `detector` was fitted on.
        detector: A fitted detector.
        threshold: A `calibration.Threshold`, or `calibration.ClassThresholds`, of which
            the graph takes that of the predicted class.
        path: `DIR/VERSION`, where VERSION is a number, as TensorFlow Serving wants it.
            The folder must not exist; nothing is ever overwritten, and if anything
            fails nothing is left behind.
        class_names: Labels of the N known classes, by class id; `None` takes those of
            the dataset that the detector was fitted on, or whose scores chose the
            threshold (`split.dataset()` and datasets of
            `keras.utils.image_dataset_from_directory` know them), and otherwise, with
            a warning, "0", "1", ... up to N - 1. Any text will do; what is not UTF-8 is
            written as `\\udcff`.
        operating_points: Other thresholds to offer, `{name: calibration.Threshold}`.
            They are kept in the manifest; ask for one with
            `predict(images, threshold=name)`, or send its value to `predict_at`.
        metrics: What is known about the model's quality, a dict for JSON, kept in the
            manifest. The model card shows it if it has the form of `metrics.json`.
        at_threshold: What `threshold` does to test images, a dict for JSON: `{"known":
            {"images", "accepted", "accuracy_of_accepted"}, "unknown": {SOURCE:
            {"images", "rejected"}}}`; counts and fractions. Dropped when the model is
            recalibrated.
        training: How the model was trained, a dict for JSON. Two entries get tables in
            the model card: `data`, `{SPLIT: {"images", "sha256"}}`, and `licences`,
            `{SOURCE: sentence}`.
        sample_images: Known float images `(num_images, height, width, channels)` in
            [0, 1], like those that the threshold was chosen on: to compare the exported
            with the live model, besides noise, and to try the threshold on where the
            detector does not remember which images it was chosen on. Without either,
            a warning and the manifest say that its promise was not tried.
        known_examples: `KnownExamples` to keep beside the model, for `ood-demo`; they
            take no part in any decision.
        background: What transparent pixels of image files are laid on: "white",
            "black" or a grey level from 0 to 255, as they were for training
            (`pipelines.load`). `None` drops alpha.
        exif_orientation: Whether JPEG files are turned as their camera's note says, as
            they were for training (`pipelines.load`).
        explain: Whether to add the signature `explain`, which gives `heat`, what
            `inference.heat_maps` gives: what in an image is strange. It takes two
            hundred runs of the network for an image, so leave it out where strangers
            may ask.

    Returns:
        `path`, a `pathlib.Path`.

    Raises:
        FileExistsError: `path` exists; the error names the next free version.
        ParityError: the exported model does not decide as the live one does; or, a
            `PromiseError`, which is a ValueError too, it rejects images that the
            threshold was to accept.
        RuntimeError: the detector is not fitted, or Keras does not run on TensorFlow.
        TypeError: `threshold` or an operating point is not a `Threshold`.
        ValueError: `path` does not end in a version number, there is not one threshold
            for each of N classes, `class_names` are not N different names, or are not
            given and the datasets contradict each other; the detector was fitted on
            another model, or `sample_images` or `known_examples` are not images that it
            takes.

    Example:

    >>> detector = detectors.get("energy", num_classes=10).fit(model)
    >>> threshold = calibration.conformal(detector.score(known_validation_images))
    >>> export.saved_model(model, detector, threshold, "saved_models/digits/1")
    PosixPath('saved_models/digits/1')
    """
    path = check_version(path)
    background = None if background is None else check_background(background)
    _check_parts(model, detector)
    thresholds = describe_thresholds(threshold, operating_points, at_threshold)
    check_num_thresholds(threshold, detector.num_classes)
    class_names = _class_names(class_names, detector, threshold)
    for name, value in {
        "metrics": metrics,
        "at_threshold": at_threshold,
        "training": training,
    }.items():
        _check_json(name, value)
    image_shape = detector.network.image_shape
    images = parity.images(image_shape, sample_images)
    _check_known_examples(known_examples, image_shape, len(class_names))
    tried = promise.to_try(detector, threshold, sample_images)
    with parity.FreshProcess() as process, files.atomic_directory(path) as folder:
        serving.save(
            folder,
            detector,
            any_threshold.numbers(threshold),
            class_names,
            image_shape,
            background,
            exif_orientation,
            explain,
        )
        report = parity.check(
            process, folder, detector, threshold, class_names, images, tried
        )
        files.write_json(folder / "parity.json", report)
        serving_kit.write(folder, path, image_shape)
        if known_examples is not None:
            examples_file.write(folder, known_examples)
        manifest.write(
            folder,
            {
                "class_names": class_names,
                "unknown_label": UNKNOWN_LABEL,
                "detector": {"name": detector.name, "config": detector.get_config()},
                **thresholds,
                "input": _input_contract(image_shape, background, exif_orientation),
                "output": output_contract(threshold) | (_HEAT if explain else {}),
                **promise.caveat(tried),
                "metrics": metrics,
                "training": training,
            },
            pages={model_card.NAME: model_card.render},
        )
    if tried is None:
        warnings.warn(
            f"{path} was exported, but not whether it accepts what its threshold "
            "promises was tried: the detector has scored no image since it was fitted "
            "or loaded. Give sample_images, known images in [0, 1]",
            stacklevel=2,
        )
    return path


def check_version(path: Path) -> pathlib.Path:
    """Returns `path` as a `pathlib.Path` if a new version can be written there.

    Raises:
        FileExistsError: `path` exists; the error names the next free version.
        ValueError: `path` does not end in a version number.
    """
    path = pathlib.Path(path)
    name = path.name
    if not (name.isascii() and name.isdigit() and str(int(name)) == name):
        raise ValueError(
            "expected a path DIR/VERSION whose last part is a number, because "
            "TensorFlow Serving serves the version folders of a model by number. "
            f"Received: {path}. Try {path / '1'}"
        )
    if int(name) > LARGEST_VERSION:
        raise ValueError(
            f"expected a version up to {LARGEST_VERSION}, the largest that TensorFlow "
            f"Serving reads (it leaves larger ones out, silently). Received: {path}. "
            f"Try {path.parent / str(next_version(path.parent))}"
        )
    if path.exists():
        raise FileExistsError(
            f"{path} exists already and is never overwritten. The next free version is "
            f"{path.parent / str(next_version(path.parent))}"
        )
    return path


def check_num_thresholds(threshold: AnyThreshold, num_classes: int) -> None:
    """Raises a ValueError unless thresholds of classes are as many as the classes."""
    if isinstance(threshold, ClassThresholds) and len(threshold.values) != num_classes:
        raise ValueError(
            f"expected one threshold for each of {num_classes} known classes. Received "
            f"{len(threshold.values)}; choose them by conformal_per_class(known_scores,"
            f" predicted_classes, num_classes={num_classes})"
        )


def output_contract(threshold: AnyThreshold) -> Json:
    """The entry `output` of the manifest."""
    if not isinstance(threshold, ClassThresholds):
        return _OUTPUT_CONTRACT
    return {
        **_OUTPUT_CONTRACT,
        "accepted": "bool (batch,): valid, and ood_score <= the threshold of the class "
        "with the largest probability; for predict_at, <= the threshold that is given",
    }


def describe_thresholds(
    threshold: AnyThreshold,
    operating_points: Mapping[str, Threshold] | None,
    at_threshold: Json | None = None,
) -> Json:
    """The entries of the manifest that tell about thresholds.

    Args:
        threshold: A `calibration.Threshold`, or `calibration.ClassThresholds`.
        operating_points: `{name: calibration.Threshold}`, or `None` for none.
        at_threshold: What `threshold` does to test images, or `None`.

    Raises:
        TypeError: one of them is no `calibration.Threshold`.
    """
    operating_points = operating_points or {}
    others = dict(operating_points)
    if not isinstance(threshold, ClassThresholds):
        others = {"threshold": threshold, **others}
    for name, value in others.items():
        if not isinstance(value, Threshold):
            raise TypeError(
                f"{name!r} must be a calibration.Threshold, which knows what it "
                "promises; make one with calibration.conformal(known_scores). "
                f"Received: {value!r}"
            )
    return {
        "threshold": threshold.to_dict(),
        "operating_points": {
            str(name): value.to_dict() for name, value in operating_points.items()
        },
        "at_threshold": at_threshold,
    }


_OUTPUT_CONTRACT = {
    "class_id": "int32 (batch,): index into class_names, -1 when rejected",
    "label": f"string (batch,): the class name, {UNKNOWN_LABEL} when rejected",
    "probabilities": "float32 (batch, N): softmax over the logits of the known "
    "classes, which sums to 1 however unknown the image is; 0 where there is no answer",
    "ood_score": "float32 (batch,): higher means more likely unknown; "
    f"{REJECTED_SCORE!r} where there is no answer",
    "accepted": "bool (batch,): valid, and ood_score <= threshold",
    "valid": "bool (batch,): whether the input is an image as described under input",
    "features": "float32 (batch, D): 0 where there is no answer",
    "logits": "float32 (batch, K), the known classes first: 0 where there is no answer",
}


_HEAT = {
    "heat": "float32 (batch, height, width), of the signature explain, for at most "
    f"{MOST_EXPLAINED} images: by how much ood_score falls where a part is "
    "covered, for each pixel; 0 where there is no answer",
}


def _check_parts(model: keras.Model, detector: "Detector") -> None:
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "export needs Keras on TensorFlow. Received: backend "
            f"{keras.backend.backend()!r}. Save the model with model.save and export "
            "it in a process with KERAS_BACKEND=tensorflow"
        )
    if detector.network is None:
        raise RuntimeError(
            f"the detector {detector.name!r} is not fitted; call detector.fit(model, "
            "data) before exporting"
        )
    if detector.network.model is not model:
        raise ValueError(
            f"the detector {detector.name!r} was fitted on another model than the one "
            "to export; call detector.fit(model, data)"
        )


def _class_names(class_names, detector, threshold):
    """The names given, or those that the data brought, or numbers and a warning."""
    count = detector.num_classes
    if class_names is not None:
        return _check_class_names(class_names, count)
    chosen = detector.memory.of_threshold(threshold)
    sources = {
        "the data of fit": detector.class_names,
        "the images that chose the threshold": chosen and chosen.class_names,
    }
    sources = {source: names for source, names in sources.items() if names}
    if not sources:
        # Of which images the threshold is cannot be told; unknown ones have names too.
        names = [one for one in detector.memory.class_names if len(one) == count]
        sources = {f"dataset {n}": one for n, one in enumerate(names, start=1)}
    if len(set(sources.values())) > 1 or any(
        len(names) != count for names in sources.values()
    ):
        found = "; ".join(
            f"{source}: {len(names)} names, {', '.join(names[:20])}"
            for source, names in sources.items()
        )
        raise ValueError(
            f"which are the names of the {count} known classes? The data that the "
            f"detector was given says: {found}. Give class_names=[...], by class id"
        )
    if sources:
        return _check_class_names(next(iter(sources.values())), count)
    warnings.warn(
        f'the exported model will answer with numbers, "0" to "{count - 1}", because '
        "nothing says what its classes are called. Give class_names=[...]; or fit or "
        "score the detector on a dataset that knows them, such as "
        "known.validation.dataset()",
        stacklevel=3,
    )
    return [str(number) for number in range(count)]


def _check_class_names(class_names, num_classes):
    # Half characters, of file names that are no UTF-8, fit into no file.
    class_names = [
        names.valid(name) if isinstance(name, str) else name for name in class_names
    ]
    if not all(isinstance(name, str) and name for name in class_names):
        raise ValueError(
            f"`class_names` must be non-empty strings. Received: {class_names}"
        )
    if len(class_names) != num_classes:
        raise ValueError(
            f"expected {num_classes} class names, one for each known class (the "
            f"unknown class is added for you). Received {len(class_names)}: "
            f"{class_names}"
        )
    if len(set(class_names)) != num_classes:
        twice = sorted({name for name in class_names if class_names.count(name) > 1})
        raise ValueError(f"class names must differ. Received more than once: {twice}")
    alike = collections.defaultdict(list)
    for name in class_names:
        alike[names.look(name)].append(ascii(name))
    for same in alike.values():
        if len(same) > 1:
            raise ValueError(
                f"the class names {' and '.join(same)} look the same, so that nobody "
                "can tell the answers apart. Rename one"
            )
    if UNKNOWN_LABEL in class_names:
        raise ValueError(
            f"the class name {UNKNOWN_LABEL!r} is reserved for rejected images; rename "
            "the class"
        )
    return class_names


def _check_json(name: str, value: object) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be a dict of plain JSON values without NaN, for example "
            f"what was read from a JSON file: {error}"
        ) from error


def _check_known_examples(
    examples: examples_file.KnownExamples | None,
    image_shape: ImageShape,
    num_classes: int,
) -> None:
    if examples is None:
        return
    if examples.images.shape[1:] != tuple(image_shape):
        raise ValueError(
            f"`known_examples` must hold images of shape {tuple(image_shape)}, as the "
            f"model takes. Received: {examples.images.shape[1:]}"
        )
    outside = set(examples.labels.tolist()) - set(range(num_classes))
    if outside:
        raise ValueError(
            f"the labels of `known_examples` must be classes, 0 to {num_classes - 1}. "
            f"Received: {sorted(outside)}"
        )


def _input_contract(
    image_shape: ImageShape, background: int | None, exif_orientation: bool
) -> Json:
    contract = {
        "image": {
            "dtype": "float32",
            "shape": [None, *image_shape],
            "range": [0, 1],
            "tolerance": serving.RANGE_TOLERANCE,
        },
        "threshold": "float32 (batch,): for predict_at, the largest accepted ood_score",
    }
    if serving.takes_files(image_shape):
        contract["image_bytes"] = {
            "conversion": image_bytes.CONVERSION,
            "background": background,
            "exif_orientation": exif_orientation,
            "max_pixels": image_bytes.MAX_PIXELS,
            "max_side": image_bytes.MAX_SIDE,
            "max_jpeg_scans": image_bytes.MAX_JPEG_SCANS,
        }
    return contract
