"""One method of each other family of the study: fitted to a run, and measured.

They have no place in `workflows.evaluate`: they are no detectors, cannot be exported,
and one of them has no classifier to run.
"""

import dataclasses
import pathlib
import time
from collections.abc import Sequence

import numpy as np

from ood_keras import detectors as detector_room
from ood_keras import evaluation
from ood_keras.evaluation import common, selection
from ood_keras.training import baselines
from ood_keras.training.baselines.base import read_classifier
from ood_keras.types import Json, Path
from ood_keras.workflows import run_data, run_record


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What `evaluate` returns, as much of an `evaluation.Report` as there is.

    Attributes:
        metrics: The content of `metrics.json`; "accuracy" is `None` without a
            classifier.
        scores: The arrays of `scores.npz`, see `evaluation.Report.scores`; without a
            classifier there is no `predictions/known`.
        configs: `{method: {setting: value, as tuned}}`.
    """

    metrics: Json
    scores: dict[str, np.ndarray]
    configs: dict[str, Json]

    def __str__(self) -> str:
        return evaluation.format_table(self.metrics)


def evaluate(
    *,
    run_dir: Path,
    unknown: Sequence[str],
    methods: Sequence[str],
    data_dir: Path | None = None,
    validation_unknown: Sequence[str] | None = None,
) -> Measurement:
    """Fits methods to the model of a run and measures them on test images.

    What they learn, they learn from known training images; what they are tuned on are
    the validation images, which also tell the best of them.

    Args:
        run_dir: A finished run; it is only read.
        unknown: Specs of the unknown test sources.
        methods: Names of `NAMES`, or of `detectors.names()`, to compare.
        data_dir: The folder of the data sets; default: the run's.
        validation_unknown: Specs of the sources whose validation images select and tune
            in place of those that the run was trained with.

    Returns:
        A `Measurement`.
    """
    run_dir = pathlib.Path(run_dir)
    data = run_data.load_run_data(run_dir, unknown, data_dir, validation_unknown)
    model = run_record.load_model(run_dir)
    known_test = data.known.test.dataset()
    sets = {
        "known": known_test,
        **{f"unknown/{spec}": test.dataset() for spec, test in data.tests.items()},
        "validation/known": data.judging["known"],
        "validation/unknown": data.judging["unknown"],
    }
    scores: dict[str, np.ndarray] = {}
    configs: dict[str, Json] = {}
    for name in methods:
        started = time.monotonic()
        fitted, configs[name] = _fit(name, model, data)
        scores |= {f"{part}/{name}": fitted.score(sets[part]) for part in sets}
        seconds = time.monotonic() - started
        print(f"{name}: fitted and scored in {seconds:.0f} s", flush=True)

    def of(part):
        return {name: scores[f"{part}/{name}"] for name in methods}

    selected, _ = selection.best(of("validation/known"), of("validation/unknown"))
    accuracy = None
    scores["labels/known"] = data.known.test.labels.astype(np.int32)
    if not isinstance(model, baselines.AutoencoderPair):
        _, _, logits, labels = read_classifier(model, known_test)
        scores["predictions/known"] = logits.argmax(axis=1).astype(np.int32)
        accuracy = float(np.mean(scores["predictions/known"] == labels))
    metrics = common.measure(
        data.settings["known"],
        accuracy,
        of("known"),
        {spec: of(f"unknown/{spec}") for spec in data.tests},
        seen=data.seen,
        selected_detector=selected,
    )
    return Measurement({**metrics, "data": data.fingerprints}, scores, configs)


def _temperature_scaling(model, data):
    return baselines.TemperatureScaling().fit(model, data.judging["known"])


def _learned_confidence(model, data):
    baseline = baselines.LearnedConfidence(seed=data.settings["seed"])
    return baseline.fit(model, data.known.train.dataset())


def _one_class_svm(model, data):
    return baselines.OneClassSVM(seed=data.settings["seed"]).fit(
        model,
        data.known.train.dataset(),
        validation=(data.judging["known"], data.judging["unknown"]),
    )


def _prior_network(model, data):
    return baselines.PriorNetwork(data.known.num_classes).scored(model)


def _likelihood_ratio(pair, data):
    baseline = baselines.LikelihoodRatio(
        pair.mutation_rate, pair.latent_size, pair.hidden_size
    )
    return baseline.scored(pair)


# How each is fitted, and which of its attributes `run.json` keeps.
_BASELINES = {
    "temperature_scaling": (_temperature_scaling, ["temperature"]),
    "learned_confidence": (
        _learned_confidence,
        ["hidden_size", "epochs", "learning_rate", "batch_size", "seed"],
    ),
    "one_class_svm": (_one_class_svm, ["nu", "gamma", "max_images", "seed"]),
    "prior_network": (_prior_network, ["num_classes"]),
    "likelihood_ratio": (
        _likelihood_ratio,
        ["mutation_rate", "latent_size", "hidden_size"],
    ),
}
NAMES = tuple(_BASELINES)


def _fit(name, model, data):
    """Returns `(fitted method, its settings as tuned)`."""
    if name not in _BASELINES:
        detector = detector_room.get(name, num_classes=data.known.num_classes)
        detector.fit(model, data.known.train.dataset())
        return detector, detector.get_config()
    fit, attributes = _BASELINES[name]
    baseline = fit(model, data)
    return baseline, {each: getattr(baseline, each) for each in attributes}
