"""The jobs behind the commands: they join data, model, training, measuring and export.

Everything here can be called from Python; the commands only parse flags. A run lives in
one folder, `run_dir`.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import re

import keras
import numpy as np

from ood_keras import calibration, evaluation, npz, pipelines, training
from ood_keras import detectors as detector_room
from ood_keras import export as exporting
from ood_keras.export.shipped import names as shipped_names
from ood_keras.files import atomic_file
from ood_keras.names import valid
from ood_keras.pipelines import recipes
from ood_keras.pipelines.sources.licences import licence
from ood_keras.pipelines.sources.spec_name import spec_name
from ood_keras.tools import prediction
from ood_keras.tools.same_classes import check_same_classes

DETECTORS = ("unknown_probability", "msp", "max_logit", "energy", "objectosphere")

# Enough exposure images to judge a checkpoint by; more would only cost time.
_MAX_VALIDATION_UNKNOWN = 5000
_NUM_SAMPLES = 64
# A file name may have 255, its temporary neighbour has more.
_MAX_STEM_BYTES = 180
_SYNTHETIC = "synthetic"
# Synthetic outliers hold white noise of the same distributions.
_NOISE = ("uniform_noise", "gaussian_noise")
_KNOWN_IMAGES = "known_images.npz"
# Pixel values that travel with an exported model: 204 images of 28 x 28.
_MAX_EXAMPLE_VALUES = 160_000


def train(
    *,
    known,
    unknown,
    run_dir,
    recipe="fast",
    data_dir=None,
    image_shape=None,
    overrides=(),
    seed=0,
):
    """Trains a recipe into `run_dir`, or resumes it there.

    Args:
        known: Spec of the known source.
        unknown: Specs of the unknown sources to train with; none for a recipe whose
            loss learns from known images alone.
        run_dir: The folder of the run.
        recipe: Name of a recipe, or a `recipes.Recipe`.
        data_dir: The folder of the data sets.
        image_shape: `(height, width, channels)` to convert all images to; default: the
            known source's own.
        overrides: `field=value` strings that change the recipe.
        seed: Decides everything.

    Returns:
        The history that `training.fit` returns.

    Raises:
        ValueError: nothing to train with, leaking splits, an unknown recipe or field.
    """
    if not isinstance(recipe, recipes.Recipe):
        recipe = recipes.get(recipe, **_parse_overrides(overrides))
    if recipe.shows_unknown and not unknown:
        raise ValueError(
            "no unknown source was given to train with. Name at least one, for example "
            "`emnist/letters`, a folder of your own (`folder:PATH`), or `synthetic`, "
            "which is made from the known images"
        )
    if unknown and not recipe.shows_unknown:
        raise ValueError(
            f"the loss {recipe.loss!r} learns from known images alone, so give no "
            f"unknown source. Received: {', '.join(unknown)}"
        )
    training.set_seed(seed)
    known_source = pipelines.load(known, data_dir=data_dir, image_shape=image_shape)
    unknown_sources = load_unknown(unknown, known_source, data_dir, seed)
    num_classes = known_source.num_classes
    known_train = known_source.train
    pipelines.check_known(known_train)
    unknown_train = _exposure(recipe, unknown_sources, known_source, seed)
    known_validation, unknown_validation = _validation(known_source, unknown_sources)
    pipelines.check_roles(
        known={"train": known_train, "validation": known_validation},
        unknown={"train": unknown_train, "validation": unknown_validation},
    )
    data = pipelines.Interleave(
        known_train,
        unknown_train or None,
        num_classes,
        batch_size=recipe.batch_size,
        seed=seed,
        unknown_per_epoch=recipe.unknown_per_epoch if unknown_train else None,
        augment=recipe.augment,
    )
    validation = known_validation.dataset(), _concatenated(unknown_validation)
    if recipe.loss == "likelihood_ratio":
        # Not with every command: the baselines import scikit-learn.
        from ood_keras.training.baselines import likelihood_ratio

        model = likelihood_ratio.LikelihoodRatio().build(known_source.image_shape)
        validation = likelihood_ratio.KnownBound(model, known_validation.dataset())
    else:
        model = recipe.build_model(known_source.image_shape, num_classes)
    if recipe.loss == "confident_classifier":
        model = training.ConfidentClassifier(
            model, confidence_weight=recipe.confidence_weight
        )
    recipe.compile(model, num_classes, data.steps_per_epoch)
    return training.fit(
        model,
        _LabelsForEach(data, recipe.outputs) if len(recipe.outputs) > 1 else data,
        epochs=recipe.epochs,
        run_dir=run_dir,
        validation=validation,
        num_classes=num_classes,
        seed=seed,
        score=recipe.score,
        settings={
            "known": known,
            "unknown": list(unknown),
            "data_dir": _recorded_data_dir(run_dir, data_dir),
            "image_shape": list(known_source.image_shape),
            "class_names": list(known_source.class_names),
            "recipe": dataclasses.asdict(recipe),
            "data": fingerprints(
                [known_train, known_validation, *unknown_train, *unknown_validation]
            ),
        },
    )


def evaluate(
    *,
    run_dir,
    unknown,
    data_dir=None,
    detectors=None,
    validation_unknown=None,
    tune=False,
    selected_detector=None,
):
    """Measures the run's model on test images and writes the result into the run.

    The detector is selected on validation data alone: known images, and unknown images
    of the sources that the run was trained with, or of `validation_unknown`.

    Args:
        run_dir: A finished run.
        unknown: Specs of the unknown test sources.
        data_dir: The folder of the data sets, those of the training among them;
            default: the run's.
        detectors: Names of the detectors to compare; `None` is those of `DETECTORS`
            that the network can be scored by. "ensemble" adds what the outputs
            say to what all layers say: the unknown's probability, or the energy where
            the network has no unknown class, and Mahalanobis distances of every
            activation (docs/decisions/recipes.md). "objectosphere" is that of the
            softmax, or, where the loss was on the features, that of the product.
        validation_unknown: Specs of the sources whose validation images select and tune
            in place of those that the run was trained with; a run that was trained with
            known images alone needs it.
        tune: Whether to tune "odin" and "mahalanobis" on the validation images.
        selected_detector: Name of the detector to deploy, where that is decided
            already.

    Returns:
        The `evaluation.Report`; to its metrics, `metrics.json` adds "data", the
        fingerprints of the test images.
    """
    run_dir = pathlib.Path(run_dir)
    data = load_measured(run_dir, unknown, data_dir, validation_unknown)
    settings, known_source = data.settings, data.known
    if settings["recipe"].get("loss") == "likelihood_ratio":
        raise ValueError(
            f"{run_dir} holds no classifier, which every detector needs, but the "
            "autoencoders of a likelihood ratio; `training.baselines.LikelihoodRatio` "
            "scores with them, and `ood-study` measures that"
        )
    model = keras.models.load_model(run_dir / "model.keras")
    judging = {
        "known": data.known_validation.dataset(),
        "unknown": data.unknown_validation,
    }
    if detectors is None:
        detectors = usual_detectors([settings["recipe"]])
    fitted = {
        name: fit_detector(
            name,
            model,
            known_source,
            judging if tune else None,
            objectosphere_on=objectosphere_on(settings["recipe"]),
        )
        for name in detectors
    }
    report = evaluation.evaluate(
        fitted,
        known=(settings["known"], known_source.test.dataset()),
        unknown={spec: split.dataset() for spec, split in data.tests.items()},
        validation_known=judging["known"],
        validation_unknown=judging["unknown"],
        seen=data.seen,
        selected_detector=selected_detector,
        class_names=settings["class_names"],
        protocol={
            "recipe": settings["recipe"]["name"],
            "seed": settings["seed"],
            "trained with unknowns from": ", ".join(settings["unknown"]) or "nowhere",
            "selected with unknowns from": ", ".join(data.judges),
        },
    )
    report.metrics["data"] = data.fingerprints
    for detector in fitted.values():
        detector_room.save(detector, run_dir / "detectors")
    write_samples(run_dir / "samples", [known_source.test, *data.tests.values()])
    _write_known_images(run_dir / _KNOWN_IMAGES, data.known_validation)
    # Last, since `export` takes a run with metrics.json for one that has the rest.
    report.save(run_dir)
    return report


@dataclasses.dataclass(frozen=True)
class MeasuredData:
    """The data that a run is measured on, checked not to leak.

    Attributes:
        settings: What `train` recorded, and the seed.
        known: The known source.
        known_validation: Its validation split.
        unknown_validation: One dataset, the validation images of `judges`.
        judges: Specs of the sources whose validation images select and tune.
        tests: `{spec: test split}` of the unknown sources.
        seen: Those of them that training was shown.
        fingerprints: What identifies the test images.
    """

    settings: dict
    known: object
    known_validation: object
    unknown_validation: object
    judges: list
    tests: dict
    seen: list
    fingerprints: dict


def load_measured(run_dir, unknown, data_dir=None, validation_unknown=None):
    """Returns the `MeasuredData` of a finished run; arguments as for `evaluate`."""
    settings = run_settings(run_dir)
    exposed = settings["unknown"]
    judges = exposed if validation_unknown is None else list(validation_unknown)
    if not judges:
        raise ValueError(
            f"{run_dir} was trained with known images alone, so nothing can select a "
            "detector. Name unknown sources, whose validation images then do, as "
            "--validation_unknown; their test images count as not seen in training"
        )
    data_dir = data_dir or settings["data_dir"]
    known_source = pipelines.load(
        settings["known"], data_dir=data_dir, image_shape=settings["image_shape"]
    )
    judge_sources = load_unknown(judges, known_source, data_dir, settings["seed"])
    test_sources = load_unknown(unknown, known_source, data_dir)
    known_validation, unknown_validation = _validation(
        known_source, judge_sources, settings["data"]
    )
    unknown_train = shown_in_training(settings, known_source, data_dir)
    tests = {
        spec: source.test for spec, source in zip(unknown, test_sources, strict=True)
    }
    pipelines.check_roles(
        known={
            "train": known_source.train,
            "validation": known_validation,
            "test": known_source.test,
        },
        unknown={
            "train": unknown_train,
            "validation": unknown_validation,
            "test": list(tests.values()),
        },
    )
    _check_same_data(
        run_dir,
        settings["data"],
        [known_source.train, known_validation, *unknown_train, *unknown_validation],
    )
    return MeasuredData(
        settings=settings,
        known=known_source,
        known_validation=known_validation,
        unknown_validation=_concatenated(unknown_validation),
        judges=judges,
        tests=tests,
        seen=seen(unknown, exposed),
        fingerprints=fingerprints([known_source.test, *tests.values()]),
    )


def shown_in_training(settings, known_source, data_dir):
    """The splits of real unknown images that a run was trained with.

    Synthetic ones are left out: they are made anew from known images.

    Args:
        settings: What `train` recorded, and the seed.
        known_source: The run's known source.
        data_dir: The folder of the data sets.
    """
    real = [spec for spec in settings["unknown"] if spec != _SYNTHETIC]
    sources = load_unknown(real, known_source, data_dir, settings["seed"])
    recipe = _recipe(settings["recipe"])
    return _exposure(recipe, sources, known_source, settings["seed"])


def usual_detectors(trained, names=DETECTORS):
    """Those of `names` that need no unknown class, where a network has none.

    Args:
        trained: The recipes of runs, dicts.
        names: Names of detectors.
    """
    if all(_recipe(recipe).unknown_class for recipe in trained):
        return list(names)
    return [name for name in names if name != "unknown_probability"]


def objectosphere_on(recipe):
    """What "objectosphere" reads: "product" where a loss was on the features.

    Args:
        recipe: The recipe of a run, a dict.
    """
    trained = _recipe(recipe).outputs
    return "product" if "features" in trained else "softmax"


def fit_detector(
    name, model, known_source, judging=None, *, objectosphere_on="softmax"
):
    """Returns a detector, fitted as the commands do.

    Args:
        name: A name of `detectors.names()`; "ensemble" is the one that `evaluate`
            describes.
        model: The classifier.
        known_source: The source whose training images to fit on.
        judging: `{"known", "unknown"}`, the validation data that "odin" and
            "mahalanobis" are tuned on, or `None`.
        objectosphere_on: The argument `on` of "objectosphere".
    """
    num_classes, data = known_source.num_classes, known_source.train.dataset()
    activations = [
        layer.name for layer in model.layers if isinstance(layer, keras.layers.ReLU)
    ]
    if name == "ensemble":
        num_logits = model.get_layer("logits").units
        of_outputs = "unknown_probability" if num_logits > num_classes else "energy"
        distance = {"name": "mahalanobis", "layers": [*activations, "features"]}
        return detector_room.get(
            name, num_classes=num_classes, detectors=[of_outputs, distance]
        ).fit(model, data)
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
        layer_sets=(None, [*activations, "features"]),
        **judging,
    )


def export(
    *,
    run_dir,
    output,
    target_acceptance=0.95,
    method="conformal",
    detector=None,
    known_examples=True,
):
    """Exports a run's model with its selected detector and a calibrated threshold.

    Args:
        run_dir: A run that was evaluated.
        output: The folder that receives the next free version folder.
        target_acceptance: Share of known images to accept.
        method: "conformal" or "quantile".
        detector: Name of a detector; default: the one selected on validation data.
        known_examples: Whether some known validation images travel with the model.

    Returns:
        `(path, threshold)`: the version folder and the `calibration.Threshold`.
    """
    run_dir = pathlib.Path(run_dir)
    settings = run_settings(run_dir)
    metrics = json.loads(_evaluated(run_dir, "metrics.json").read_text())
    name = detector or metrics["selected_detector"]
    scores = npz.read(_evaluated(run_dir, "scores.npz"), "the scores of a run")
    key = f"validation/known/{name}"
    if key not in scores:
        raise ValueError(
            f"{run_dir} was not evaluated with the detector {name!r}; it was with: "
            f"{sorted(metrics['detectors'])}"
        )
    threshold = _CALIBRATIONS[method](scores[key], target_acceptance)
    sources = metrics["detectors"][name]["unknown"]
    at_threshold = _at_threshold(scores, sources, name, threshold)
    examples = _known_examples(run_dir, scores, name) if known_examples else None
    model = keras.models.load_model(run_dir / "model.keras")
    path = exporting.saved_model(
        model,
        detector_room.load(run_dir / "detectors" / f"{name}.json", model),
        threshold,
        pathlib.Path(output) / str(exporting.next_version(output)),
        class_names=settings["class_names"],
        metrics=metrics,
        at_threshold=at_threshold,
        training=_training(run_dir, detector is None),
        sample_images=_read_samples(run_dir / "samples", settings["image_shape"]),
        known_examples=examples,
    )
    return path, threshold


def _write_known_images(path, split):
    """Writes some images of every class, for the export of the run."""
    num_images = min(len(split), max(1, _MAX_EXAMPLE_VALUES // split.images[0].size))
    some = split.take(num_images)
    with atomic_file(path) as temporary:
        np.savez_compressed(temporary, images=some.images, labels=some.labels)


def _known_examples(run_dir, scores, detector):
    """Returns the `KnownExamples` of a run; `None` for one of an earlier version."""
    path = run_dir / _KNOWN_IMAGES
    if not path.is_file():
        return None
    what, fields = "the known images of a run", ("images", "labels")
    known = npz.read(path, what, required=fields)
    return exporting.KnownExamples(
        **{name: known[name] for name in fields},
        known_scores=scores[f"validation/known/{detector}"],
        unknown_scores=scores.get(f"validation/unknown/{detector}", ()),
    )


def _at_threshold(scores, sources, detector, threshold):
    """Returns what a threshold does to the test images of `scores.npz`."""
    accepted = threshold.accepts(scores[f"known/{detector}"])
    right = (scores["predictions/known"] == scores["labels/known"])[accepted]
    unknown = {
        source: ~threshold.accepts(scores[valid(f"unknown/{source}/{detector}")])
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


def _training(run_dir, detector_chosen):
    """Returns what the manifest says about a run: all but where its data lay."""
    chosen = "checkpoint, detector" if detector_chosen else "checkpoint"
    run = json.loads((run_dir / "run.json").read_text())
    settings = run["settings"]
    known, unknown = settings["known"], settings["unknown"]
    return {
        "known": known,
        "unknown": unknown,
        "protocol": f"fitted on train; {chosen} and threshold chosen on validation; "
        "measured on test",
        "seed": run["seed"],
        "recipe": settings["recipe"],
        "parameters": run["model"]["parameters"],
        "versions": run["versions"],
        "data": settings["data"],
        "licences": {spec: licence(spec) for spec in (known, *unknown)},
    }


def calibrate(
    *, model, known, data_dir=None, target_acceptance=0.95, method="conformal"
):
    """Writes the next version of an exported model, with a new threshold.

    Args:
        model: The version folder of an exported model.
        known: Spec of the known source, whose validation split is scored.
        data_dir: The folder of the data sets.
        target_acceptance: Share of known images to accept.
        method: "conformal" or "quantile".

    Returns:
        `(path, threshold)`: the new version folder and the `calibration.Threshold`.

    Raises:
        ValueError: the source has images without a class or other classes than the
            model, or the model is one that comes with the package.
    """
    if not pathlib.Path(model).exists() and str(model) in shipped_names():
        raise ValueError(
            f"{model!r} comes with ood_keras and stays as it is; copy "
            f"{exporting.shipped(str(model))} to DIR/1 and give that as --model"
        )
    predictor = exporting.Predictor(model)
    source = pipelines.load(known, data_dir=data_dir, image_shape=predictor.image_shape)
    pipelines.check_known(source.validation)
    check_same_classes(source, predictor.class_names)
    scores = predictor.predict(source.validation.dataset())["ood_score"]
    threshold = _CALIBRATIONS[method](scores, target_acceptance)
    return exporting.recalibrate(model, threshold), threshold


def predict(*, model, paths, picture=None):
    """Classifies images with an exported model.

    Args:
        model: The version folder of an exported model, or another that `export.load`
            opens.
        paths: Images in files, folders or globs, see `export.score`.
        picture: Where to draw the first images with their answers, or `None`.

    Returns:
        The predictions as a table to print: one line per image, and a summary.
    """
    return "\n".join(prediction.table(model=model, paths=paths, picture=picture))


_CALIBRATIONS = {
    "conformal": calibration.conformal,
    "quantile": calibration.quantile,
}


def write_samples(folder, splits):
    """Writes the first images of each split as PNG files, for `predict` and `export`.

    Args:
        folder: Where to; files are named after their source and class.
        splits: `pipelines.Split`s.

    Returns:
        The files' paths.
    """
    from PIL import Image

    paths = []
    for split in splits:
        for row in range(min(_NUM_SAMPLES, len(split))):
            label = split.labels[row]
            name = split.class_names[label] if label >= 0 else "unknown"
            stem = re.sub(r"[^\w-]+", "_", f"{split.source}_{row:02d}_{name}")
            if len(stem.encode()) > _MAX_STEM_BYTES:
                digest = hashlib.sha256(stem.encode()).hexdigest()
                stem = f"{digest[:12]}_{stem[-40:]}"
            path = pathlib.Path(folder) / f"{stem}.png"
            with atomic_file(path) as temporary:
                Image.fromarray(split.images[row].squeeze()).save(temporary)
            paths.append(path)
    return paths


def _read_samples(folder, image_shape):
    """Returns what `write_samples` wrote as float images in [0, 1]."""
    from PIL import Image

    # A killed process leaves its unfinished file under a hidden name.
    paths = sorted(path for path in folder.glob("*.png") if path.name[0] != ".")
    if not paths:
        return None
    images = [np.asarray(Image.open(path)) for path in paths]
    return np.stack(images).reshape(-1, *image_shape).astype(np.float32) / 255


def _parse_overrides(overrides):
    """Returns `{"epochs": 2}` for `["epochs=2"]`.

    `None` and `none` say the same as `null` of a field that may be `None`; a block may
    be called "none".
    """
    parsed = {}
    for override in overrides:
        field, separator, value = override.partition("=")
        if not separator:
            raise ValueError(f"an override is FIELD=VALUE. Received: {override!r}")
        try:
            parsed[field] = json.loads(value)
        except json.JSONDecodeError:
            is_none = value in ("None", "none") and field in recipes.OPTIONAL
            parsed[field] = None if is_none else value
    return parsed


def fingerprints(splits):
    """Returns what identifies the images and labels of each split."""
    return {
        f"{split.source}/{split.role}": {
            "images": len(split),
            "sha256": split.fingerprint(),
        }
        for split in splits
    }


def _check_same_data(run_dir, recorded, splits):
    """Raises if a split is not the one that the run was trained or selected with."""
    for name, found in fingerprints(splits).items():
        # A source that selects need not be one that was trained with.
        if name in recorded and found != recorded[name]:
            raise ValueError(
                f"{name} is not the data that {run_dir} was trained with: there were "
                f"{recorded[name]['images']} images with sha256 "
                f"{recorded[name]['sha256'][:12]}..., here are {found['images']} with "
                f"{found['sha256'][:12]}.... Training images could end up among those "
                "that judge the model; give the same --data_dir, or train again"
            )


def _recorded_data_dir(run_dir, data_dir):
    """Returns the data folder to record; a resumed run keeps the one it has.

    The same data may lie elsewhere by then: the fingerprints tell whether it is.
    """
    path = pathlib.Path(run_dir) / "run.json"
    if path.is_file():
        settings = json.loads(path.read_text()).get("settings", {})
        return settings.get("data_dir")
    return None if data_dir is None else str(data_dir)


class _LabelsForEach:
    """Data of a model whose every output has a loss on the same labels."""

    def __init__(self, data, outputs):
        self._data, self._outputs = data, outputs
        self.steps_per_epoch = data.steps_per_epoch

    def get_config(self):
        return self._data.get_config()

    def epoch(self, index, start_step=0):
        def each(images, labels):
            return images, dict.fromkeys(self._outputs, labels)

        return self._data.epoch(index, start_step).map(each)


def _exposure(recipe, sources, known_source, seed):
    """Returns the unknown splits to train with: real ones drawn, synthetic ones made.

    Validation images are those of `sources`, whatever number of training images a
    recipe makes.
    """
    total = recipe.unknown_images
    if total is None:
        total = round(len(known_source.train) / known_source.num_classes)
    num_real = sum(source.name != _SYNTHETIC for source in sources)
    splits = []
    for source in sources:
        if source.name == _SYNTHETIC:
            made = pipelines.load(
                _SYNTHETIC, known=known_source, seed=seed, count=recipe.synthetic_images
            )
            splits.append(made.train)
        else:
            share = max(1, total // num_real)
            splits.append(source.train.take(min(share, len(source.train)), seed=seed))
    return splits


def load_unknown(specs, known_source, data_dir, seed=0):
    """Returns the unknown sources, in the image shape of the known one.

    `seed` decides those that are made and not read; test images never depend on the
    seed of a run.
    """
    return [
        pipelines.load(
            spec,
            data_dir=data_dir,
            image_shape=known_source.image_shape,
            known=known_source,
            seed=seed,
        )
        for spec in specs
    ]


def seen(specs, exposed):
    """Returns the specs whose source was exposed in training, if only in part.

    `emnist/letters` was if `emnist/letters[0-12]` or `tfds:emnist/letters` were, and
    `folder:pictures/test` if `folder:pictures` was, or the other way round. A version,
    as in `tfds:mnist:3.0.1`, makes no other source. Noise was if `synthetic` was.
    """

    def origin(spec):
        prefix, colon, path = spec_name(spec).partition(":")
        return prefix, pathlib.Path(path).expanduser().resolve() if colon else None

    def overlap(first, second):
        (prefix, path), (other_prefix, other) = first, second
        if prefix != other_prefix or path is None or other is None:
            return first == second
        return path.is_relative_to(other) or other.is_relative_to(path)

    origins = {origin(spec) for spec in exposed}
    made = _NOISE if _SYNTHETIC in exposed else ()
    return [
        spec
        for spec in specs
        if spec in made or any(overlap(origin(spec), one) for one in origins)
    ]


def _validation(known_source, unknown_sources, recorded=None):
    """Returns the known validation split and those of the exposure sources.

    Args:
        known_source: The known source.
        unknown_sources: Those whose images judge.
        recorded: The fingerprints of a run: a source that was used there gives the same
            images again, however many sources there were.
    """
    share = _MAX_VALIDATION_UNKNOWN // max(1, len(unknown_sources))
    taken = []
    for source in unknown_sources:
        split = source.validation
        before = (recorded or {}).get(f"{split.source}/{split.role}")
        count = before["images"] if before else share
        taken.append(split.take(min(count, len(split))))
    return known_source.validation, taken


def _concatenated(splits):
    """Returns one dataset of all the splits, one after the other; `None` of none."""
    if not splits:
        return None
    datasets = [split.dataset() for split in splits]
    return functools.reduce(lambda first, second: first.concatenate(second), datasets)


def run_settings(run_dir):
    """Returns what `train` recorded of a finished run, and the seed."""
    path = run_dir / "run.json"
    if not path.is_file() or not (run_dir / "model.keras").is_file():
        raise FileNotFoundError(
            f"{run_dir} holds no finished run (run.json and model.keras). Run "
            f"ood-train --run_dir={run_dir} first, or again to let it finish"
        )
    return _checked_run(path)


def _checked_run(path):
    """The settings and the seed that `run.json` holds, which people may have edited."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _edited(path, f"JSON ({error})") from error
    settings = run.get("settings") if isinstance(run, dict) else None
    if not isinstance(settings, dict):
        raise _edited(path, 'a JSON object with an object "settings"')
    settings = {**settings, "seed": run.get("seed")}

    def texts(value):
        return isinstance(value, list) and all(isinstance(one, str) for one in value)

    expected = {
        "known": ("a text", lambda value: isinstance(value, str)),
        "unknown": ("a list of texts", texts),
        "class_names": (
            "a list of two or more texts",
            lambda v: texts(v) and len(v) > 1,
        ),
        "image_shape": (
            "a list of three whole numbers above 0",
            lambda value: (
                isinstance(value, list)
                and len(value) == 3
                and all(type(size) is int and size > 0 for size in value)
            ),
        ),
        "recipe": ("an object", lambda value: isinstance(value, dict)),
        "seed": ("a whole number", lambda value: type(value) is int),
    }
    for name, (what, holds) in expected.items():
        if name not in settings or not holds(settings[name]):
            found = repr(settings.get(name, "nothing"))
            raise _edited(path, f"{name!r} to be {what}, and not {found[:80]}")
    return settings


def _recipe(entries):
    """The `Recipe` that a run recorded."""
    try:
        return recipes.Recipe(**entries)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "the recipe in run.json is not what ood-train wrote: "
            f"{error}. Undo the change, or train again in another folder"
        ) from error


def _edited(path, expected):
    return ValueError(
        f"{path} is not what ood-train wrote: expected {expected}. Undo the change, or "
        "train again in another folder"
    )


def _evaluated(run_dir, name):
    path = run_dir / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: the threshold is calibrated on the scores of the "
            f"validation images. Run ood-evaluate --run_dir={run_dir} first"
        )
    return path
