"""Adopts a network that was trained elsewhere: measured, calibrated, exported."""

import math
import os
import pathlib
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from ood_keras import calibration, evaluation, pipelines, transcoding
from ood_keras import detectors as detector_room
from ood_keras import export as exporting
from ood_keras.calibration import any_threshold
from ood_keras.calibration.conformal import smallest_num_images
from ood_keras.conventions import accepts
from ood_keras.detectors.registry import Description
from ood_keras.files import check_local, write_json
from ood_keras.image_files import BACKGROUND
from ood_keras.pipelines.sources import loading
from ood_keras.training import recipes, run_directory
from ood_keras.types import ImageShape, Json, Path
from ood_keras.workflows import conversion, promises, run_data
from ood_keras.workflows import evaluation as measuring
from ood_keras.workflows import exporting as run_export
from ood_keras.workflows.adoption import (
    candidates,
    class_check,
    contract,
    estimate,
    files_check,
)
from ood_keras.workflows.adoption import formats as format_room
from ood_keras.workflows.adoption.adopted import Adopted
from ood_keras.workflows.adoption.given_network import GivenNetwork
from ood_keras.workflows.adoption.say import Say
from ood_keras.workflows.thresholds import ThresholdRequest

SYNTHETIC = "synthetic"


def adopt(
    model: keras.Model | Path,
    known: str | Path,
    unknown: str | Path | Sequence[str] | None = None,
    *,
    output: Path,
    data_dir: Path | None = None,
    image_shape: ImageShape | None = None,
    background: int | str | None = BACKGROUND,
    input_range: str | None = None,
    logits: str | None = None,
    other_inputs: Mapping[str, Any] | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    unknown_class: bool = False,
    detectors: Sequence[Description] | Mapping[str, Description] | None = None,
    target_acceptance: float | None = None,
    method: str | None = None,
    formats: Sequence[str] | None = None,
    renderings: "evaluation.under_renderings.Extent" = "short",
    known_examples: bool = True,
    explain: bool = False,
    progress: bool = True,
) -> Adopted:
    """Makes a network that was trained elsewhere reject what it does not know.

    Nothing is trained, and the network stays as it is. What it takes and gives is found
    and checked on labelled pictures; all detectors that fit it are fitted on the known
    training pictures and compared on validation pictures, the best one is selected and
    gets a threshold, test pictures say how good that is, and all is exported. At last
    the pictures that the threshold was chosen on go through the exported model as
    files, and are accepted at about the promised rate, or this fails and says why.

    The known pictures have to be those of the network's classes, its validation and
    test parts pictures that it was not trained on: on pictures that a network knows by
    heart, scores are lower, and a threshold that is chosen on them rejects more of the
    new ones than it promises. Give a folder with the sub-folders train, validation and
    test, dealt out as for the training; another is dealt out anew.

    Args:
        model: A `keras.Model`; or a `.keras` or `.h5` file, a SavedModel, a folder of
            KerasHub's `save_to_preset`, an unpacked `.keras` file as it comes from the
            Hugging Face Hub. Of a KerasHub task, its preprocessor says which pixels it
            takes.
        known: Spec of the known source, as for `pipelines.load`, or a folder with a
            sub-folder of pictures for each class.
        unknown: Specs or folders of unknown pictures, whose validation parts select the
            detector and whose test parts measure it. `None` takes outliers made from
            the known pictures, which say less; this is noted.
        output: A new or empty folder for the run, `saved_model/1`, `tflite` and `onnx`.
        data_dir: The folder of the data sets.
        image_shape: `(height, width, channels)`, where the network does not say.
        background: What transparent pixels are laid on, see `pipelines.load`.
        input_range: What black and white are for the network: "0,1", "0,255", "-1,1",
            any "LOW,HIGH", "imagenet_torch" or "imagenet_caffe". `None` finds it.
        logits: Name of the output that classifies, where there are several.
        other_inputs: Of a network of several inputs, a number for each but that of the
            picture, or an array of its shape, by name; or texts such as "age=0.5".
        class_names: The classes of `known` in the order of the network's outputs;
            `None` is the order of the folders.
        unknown_class: Whether the last output is of an unknown class.
        detectors: The detectors to compare: names, also "mahalanobis_normalized" and
            "relative_mahalanobis_normalized", which measure features of length 1;
            `Detector`s, or dicts `{"name": ..., argument: value}`; or these by names of
            your own, to compare one with several arguments. `None` is all that fit.
        target_acceptance: Share of known images to accept; `None` takes 0.95.
        method: Name of a threshold method, see `calibration.names`.
        formats: Some of "float32", "float16", "dynamic_range", "int8" (TFLite), "onnx"
            and "browser" (a page, see `export.browser`), beside the SavedModel; `None`
            is all whose extras are installed.
        renderings: How much to measure of test pictures in other renderings.
        known_examples: Whether some known pictures travel with the model.
        explain: Whether the SavedModel gets the signature `explain`, see
            `export.saved_model`.
        progress: Whether to print what is being done.

    Returns:
        An `Adopted`, a `keras.Model` that answers as the SavedModel does.

    Raises:
        FileNotFoundError: there is no such file, folder or data.
        RuntimeError: Keras does not run on TensorFlow, which the export needs.
        TypeError: `model` is no Keras model.
        ValueError: the file would run code, the network is no classifier, its classes
            or pixels are not those of the pictures, there are too few of these for the
            promise, or `output` is not empty.
        PromiseError: the exported model does not accept the pictures that it ought to.

    Example:

    >>> adopted = ood_keras.adopt(
    ...     "my.keras", "photos/known", "photos/other", output="adopted"
    ... )
    >>> adopted.predict(images)["class_id"]
    """
    _check_backend()
    say = Say(progress)
    request = ThresholdRequest(target_acceptance=target_acceptance, method=method)
    chosen, left_out = format_room.choose(formats)
    compared = candidates.choose(detectors)
    check_local(output)
    output = pathlib.Path(output)
    _check_empty(output)
    existed = output.is_dir()
    say(f"Opening {getattr(model, 'name', model)}")
    network = GivenNetwork.open(model, input_range, logits, image_shape, other_inputs)
    source = _open_known(_as_spec(known), data_dir, network, background, class_names)
    _check_enough(source, request)
    unknown = [_as_spec(one) for one in _as_list(unknown)] or [SYNTHETIC]
    found = contract.find(network, source, unknown_class)
    say(str(found))
    work = estimate.Amount(
        fitting=len(source.train),
        scoring=(len(source.validation) + len(source.test)) * (1 + len(unknown)),
        sources=1 + len(unknown),
        heavy=not estimate.HEAVY.isdisjoint(compared),
        formats=len(chosen),
        renderings=renderings,
    )
    say(f"This takes {estimate.describe(work, found.seconds_per_image)}, roughly")
    try:
        fitted, refused, report, data = _measure(
            output,
            network,
            found,
            source,
            unknown,
            data_dir,
            compared,
            detectors is not None,
            renderings,
            say,
        )
        selected = report.metrics["selected_detector"]
        say("Exporting the SavedModel")
        path, threshold = run_export.export_run(
            output,
            output / "saved_model",
            request,
            known_examples=known_examples,
            live=fitted[selected],
            explain=explain,
        )
        say("Giving it the pictures that its threshold was chosen on, as files")
        promise = _check_files(path, data, report, threshold)
        files, more, parities = format_room.write(
            path,
            output,
            chosen,
            fitted[selected].exports,
            data.judging["known"],
            data.judging["unknown"],
            say,
        )
        record = {
            **found.to_json(),
            "selected_detector": selected,
            "detectors_left_out": refused,
            "formats_left_out": {**left_out, **more},
            "promise": promise,
            "notes": [*found.notes, *_notes(source, unknown)],
            "verdict": promises.read_verdict(path),
        }
        write_json(output / "adoption.json", record)
    except BaseException:
        # The folder was empty or not there, and half a run would be in the way.
        shutil.rmtree(output, ignore_errors=True)
        if existed:
            output.mkdir(exist_ok=True)
        raise
    if parities:
        say(conversion.table(parities))
    return Adopted(
        model=found.model,
        detector=fitted[selected],
        threshold=threshold,
        class_names=source.class_names,
        report=report,
        found=record,
        run_dir=output,
        saved_model=path,
        files=files,
        left_out={**record["formats_left_out"], **refused},
    )


def _measure(
    output,
    network,
    found,
    source,
    unknown,
    data_dir,
    compared,
    needs_all,
    renderings,
    say,
):
    """Writes the run, fits the detectors and measures them.

    Returns:
        `(fitted, refused, report, data)`.
    """
    num_outliers = run_data.count_outliers(source.validation)
    read = {run_data.FORMATS: list(transcoding.formats())}
    judges = run_data.load_unknown(
        unknown, source, data_dir, num_outliers=num_outliers, recorded=read
    )
    validation, judging = run_data.take_validation(source, judges, num_outliers)
    found.notes.extend(map(_note_unused, filter(_is_dealt_out, judges)))
    settings = {
        "known": source.name,
        "unknown": [],
        "judges": unknown,
        run_data.NUM_OUTLIERS: num_outliers,
        "data_dir": None if data_dir is None else str(data_dir),
        "image_shape": list(source.image_shape),
        "class_names": list(source.class_names),
        "recipe": recipes.Recipe(
            name=recipes.ELSEWHERE, epochs=0, loss=recipes.ELSEWHERE, block="none"
        ).to_json(),
        "adopted": found.to_json(),
        **({} if source.background is None else {"background": source.background}),
        **({"exif_orientation": True} if source.exif_orientation else {}),
        **read,
        "data": run_data.fingerprint([source.train, validation, *judging]),
    }
    model = found.model
    parameters = sum(math.prod(weight.shape) for weight in model.weights)
    run = {
        "settings": settings,
        "seed": 0,
        "epochs": 0,
        "model": {"name": model.name, "parameters": parameters},
    }
    with run_directory.open_run(output, run):
        found.notes.extend(network.save(model, output))
        data = run_data.load_run_data(output, unknown, data_dir, known_source=source)
        start = time.monotonic()
        say(f"Running the network over {len(data.known.train)} pictures", passing=True)
        fitted, refused = detector_room.fit_together(
            compared,
            model,
            data.fitting,
            num_classes=source.num_classes,
            progress=lambda name: say(f"Fitting {name}", passing=True),
        )
        if needs_all and refused:
            raise ValueError(
                "; ".join(
                    f"{name} does not fit: {why}" for name, why in refused.items()
                )
            )
        say(
            f"Fitted {len(fitted)} detectors in {time.monotonic() - start:.0f} s"
            + (f"; not for this network: {', '.join(refused)}" if refused else "")
        )
        say("Measuring them on validation and test pictures")
        report = None
        while report is None:
            try:
                report = measuring.measure(output, data, fitted, renderings=renderings)
            except evaluation.NoScoreError as error:
                if needs_all or len(fitted) == 1:
                    raise
                say(f"Going on without it: {error}")
                del fitted[error.detector]
                refused[error.detector] = str(error)
    return fitted, refused, report, data


def _check_files(path, data, report, threshold) -> Json:
    """Gives the calibration pictures to the export; removes it if they are rejected."""
    predictor = exporting.Predictor(path)
    scores = report.validation["known"][report.metrics["selected_detector"]]
    limits = any_threshold.limits(threshold, report.validation_predictions["known"])
    return files_check.check(
        predictor, data.known_validation, threshold, accepts(scores, limits)
    )


def _open_known(spec, data_dir, network, background, class_names) -> pipelines.Source:
    def load(spec):
        return pipelines.load(
            spec,
            data_dir=data_dir,
            image_shape=network.shape,
            background=background,
        )

    source = load(spec)
    ordered = class_check.order_source(source, class_names, spec)
    return source if ordered == spec else load(ordered)


def _check_backend() -> None:
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "what is adopted is exported, which needs Keras on TensorFlow. Set "
            f"KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()!r}"
        )


def _check_enough(source: pipelines.Source, request: ThresholdRequest) -> None:
    """Raises unless there are all parts, and enough pictures for the promise."""
    pipelines.check_known(source.train)
    target = request.target_acceptance or calibration.TARGET_ACCEPTANCE
    needed = smallest_num_images(target)
    found = len(source.validation)
    if request.method in (None, "conformal") and found < needed:
        raise ValueError(
            f"{source.name} has {found} known validation pictures, and a threshold "
            f"that promises to accept {target:.0%} of new known ones needs {needed}. "
            "Give more pictures (of a folder that is dealt out, every fifth is for "
            "validation), ask for less with --target_acceptance, or for no promise "
            "with --method=quantile"
        )
    if request.method == "conformal_per_class":
        _check_every_class(source, needed, target)
    if not len(source.test):
        raise ValueError(f"{source.name} has no test pictures; give more pictures")


def _check_every_class(source: pipelines.Source, needed: int, target: float) -> None:
    counts = np.bincount(
        source.validation.labels[source.validation.labels >= 0],
        minlength=source.num_classes,
    )
    fewest = int(counts.argmin())
    if counts[fewest] < needed:
        raise ValueError(
            f"{source.name} has {counts[fewest]} validation pictures of "
            f"{source.class_names[fewest]!r}, and a threshold for each class that "
            f"promises to accept {target:.0%} of new ones needs {needed} of each. Give "
            "more pictures, or one threshold for all with --method=conformal"
        )


def _check_empty(output: pathlib.Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(
            f"{output} is not empty, and nothing is ever overwritten. Choose a new "
            "folder as --output, or delete it to start afresh"
        )


def _as_list(unknown) -> list:
    if unknown is None:
        return []
    return [unknown] if isinstance(unknown, (str, pathlib.PurePath)) else list(unknown)


def _as_spec(known: str | Path) -> str:
    """A spec; a folder, or a file of pictures, may be given as its path."""
    if not isinstance(known, str):
        return f"{loading.guess_prefix(os.fspath(known)) or 'folder'}:{known}"
    try:
        loading.check_spec(known)
    except ValueError:
        prefix = loading.guess_prefix(known)
        if prefix is not None:
            return f"{prefix}:{known}"
        raise
    return known


def _is_dealt_out(judge: pipelines.Source) -> bool:
    return judge.is_dealt_out and len(judge.train) > 0


def _note_unused(judge: pipelines.Source) -> str:
    return (
        f"{judge.name} has no folders validation and test, so its pictures were dealt "
        f"out as for a training, and {len(judge.train):,} of "
        f"{sum(map(len, (judge.train, judge.validation, judge.test))):,} are used for "
        "nothing. Put them into the folders validation and test, and all of them "
        "select and measure"
    )


def _notes(source: pipelines.Source, unknown: Sequence[str]) -> list[str]:
    notes = []
    if unknown == [SYNTHETIC]:
        notes.append(
            "No unknown pictures were given: the detectors were compared on outliers "
            "made from the known pictures. How many pictures of real other things are "
            "rejected was not measured, and cannot be without some: --unknown"
        )
    if source.is_dealt_out:
        notes.append(
            f"{source.name} has no folders train, validation and test, so its pictures "
            "were dealt out. If the network was trained on some of the validation or "
            "test pictures, it rejects more new known pictures than is promised here, "
            "and is less accurate on them"
        )
    return notes
