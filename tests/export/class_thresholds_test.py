"""A threshold for each predicted class, in what is exported and beside it."""

import dataclasses
import json
import pathlib
import re
import shutil

import keras
import numpy as np
import pytest
from brightness import idx
from small_export import IMAGE_SHAPE, NUM_CLASSES, Python, Session

from ood_keras import calibration, detectors, export
from ood_keras.conventions import UNKNOWN, accepts
from ood_keras.export import promise
from ood_keras.inference import batch_scoring, manifest, manifest_form
from ood_keras.workflows.calibration import calibrate_on_scores
from ood_keras.workflows.demo.answers import Demo

pytestmark = pytest.mark.usefixtures("compared_in_this_process")

CLASS_NAMES = ["zero", "eins", "two"]


@dataclasses.dataclass
class Case:
    """A model that predicts every class, whose thresholds are far apart."""

    detector: detectors.Detector
    images: np.ndarray
    scores: np.ndarray
    best: np.ndarray
    thresholds: calibration.ClassThresholds
    path: pathlib.Path

    def export(self, thresholds, path, **options):
        return export.saved_model(
            self.detector.network.model,
            self.detector,
            thresholds,
            path,
            class_names=CLASS_NAMES,
            sample_images=self.images,
            **options,
        )


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE),
            keras.layers.Rescaling(4, offset=-2),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.Dense(NUM_CLASSES),
        ]
    )
    detector = detectors.get("energy", num_classes=NUM_CLASSES).fit(model)
    generator = np.random.default_rng(0)
    images = generator.uniform(size=(60, *IMAGE_SHAPE)).astype(np.float32)
    best = model.predict(images, verbose=0).argmax(axis=1)
    scores = detector.score(images)
    counts = np.bincount(best, minlength=NUM_CLASSES)
    assert counts.min() >= 5
    # Each class keeps another share of its images, so that the class matters.
    thresholds = calibration.ClassThresholds(
        values=tuple(
            calibration.quantile(scores[best == c], share).value
            for c, share in enumerate((0.2, 0.5, 0.9))
        ),
        method="conformal_per_class",
        guarantee=f"Accepts 20 % of each class, chosen on {len(scores)} images.",
        num_calibration=tuple(counts.tolist()),
        target_acceptance=0.2,
        acceptance_intervals=((0.1, 0.3),) * NUM_CLASSES,
    )
    case = Case(detector, images, scores, best, thresholds, path=None)
    case.path = case.export(
        thresholds,
        tmp_path_factory.mktemp("class_thresholds") / "1",
        operating_points={"loose": calibration.quantile(scores, 0.95)},
    )
    return case


@pytest.mark.parametrize("loader", [Session, Python])
def test_each_class_is_decided_by_its_own_threshold(case, loader):
    path, thresholds = case.path, case.thresholds
    scores, best = case.scores, case.best
    assert len(set(best)) == NUM_CLASSES > 1
    answers = loader(path)("serving_default", image=case.images)
    expected = [scores[i] <= thresholds.values[best[i]] for i in range(len(best))]
    np.testing.assert_array_equal(answers["accepted"], expected)
    np.testing.assert_array_equal(
        answers["class_id"], np.where(expected, best, UNKNOWN)
    )
    # One threshold for all, whichever of them, decides otherwise.
    for value in thresholds.values:
        assert (accepts(scores, value) != expected).any()


def test_the_predictor_reads_them(case):
    path, thresholds = case.path, case.thresholds
    scores, best = case.scores, case.best
    predictor = export.load(path)
    assert predictor.threshold == thresholds.values
    assert predictor.has_class_thresholds
    np.testing.assert_array_equal(
        predictor.predict(case.images)["accepted"],
        thresholds.accepts(scores, best),
    )
    loose = predictor.predict(case.images, threshold="loose")["accepted"]
    limit = predictor.operating_points["loose"]
    np.testing.assert_array_equal(loose, accepts(scores, limit))
    card = (path / "MODEL_CARD.md").read_text()
    for name, value in zip(CLASS_NAMES, thresholds.values, strict=True):
        assert f"| `{name}` | {value} |" in card
    assert str(thresholds) in card.replace("\n", " ")
    output = manifest.read(path)["output"]["accepted"]
    assert "threshold of the class" in output


def copied(path, tmp_path):
    old = tmp_path / "1"
    shutil.copytree(path, old)
    return old


def test_they_are_chosen_anew_in_the_same_graph(case, tmp_path):
    path, thresholds = case.path, case.thresholds
    scores, best = case.scores, case.best
    old = copied(path, tmp_path)
    values = thresholds.values[::-1]
    new = export.recalibrate(old, dataclasses.replace(thresholds, values=values))
    accepted = export.load(new).predict(case.images)["accepted"]
    limits = np.float32(values)[best]
    np.testing.assert_array_equal(accepted, scores <= limits)
    # One for all goes into the same place, and is one for all.
    one = calibration.quantile(scores, 0.5)
    newest = export.recalibrate(new, one)
    predictor = export.load(newest)
    assert predictor.threshold == one.value
    answers = Session(newest)("serving_default", image=case.images)
    np.testing.assert_array_equal(answers["accepted"], one.accepts(scores))


def test_they_are_chosen_on_answers_of_any_number_of_images(case, tmp_path):
    pytest.importorskip("pyarrow")
    old, pictures = copied(case.path, tmp_path), tmp_path / "known.idx"
    pixels = np.round(case.images * 255).astype(np.uint8)
    pictures.write_bytes(idx(pixels[..., 0]))
    output = tmp_path / "answers.parquet"
    predictor = export.load(old)
    batch_scoring.score_to_file(predictor, [pictures], output, probabilities=True)
    newer, thresholds, _ = calibrate_on_scores(
        model=old,
        scores=[output],
        target_acceptance=0.6,
        method="conformal_per_class",
    )
    assert export.load(newer).threshold == thresholds.values
    answers = export.load(newer).predict(pixels.astype(np.float32) / 255)
    best = answers["probabilities"].argmax(axis=1)
    exact = calibration.conformal_per_class(
        answers["ood_score"], best, NUM_CLASSES, 0.6
    )
    for number, (value, own) in enumerate(
        zip(thresholds.values, exact.values, strict=True)
    ):
        assert answers["accepted"][best == number].mean() >= 0.6
        assert abs(value - own) <= 0.005 * abs(own)


def test_a_graph_with_one_threshold_takes_no_others(case, exported):
    thresholds = case.thresholds
    assert not export.load(exported.path).has_class_thresholds
    with pytest.raises(ValueError, match=r"holds one threshold.*--per_class"):
        export.recalibrate(exported.path, thresholds)


def test_as_many_thresholds_as_classes(case, tmp_path):
    path, thresholds = case.path, case.thresholds
    fields = {
        name: getattr(thresholds, name)[:-1]
        for name in ("values", "num_calibration", "acceptance_intervals")
    }
    number = sum(fields["num_calibration"])
    fields["guarantee"] = f"Accepts 20 % of each class, chosen on {number} images."
    few = dataclasses.replace(thresholds, **fields)
    says = rf"one threshold for each of {NUM_CLASSES} known classes. Received"
    with pytest.raises(ValueError, match=says):
        export.recalibrate(path, few)
    with pytest.raises(ValueError, match=says):
        case.export(few, tmp_path / "1")
    with pytest.raises(TypeError, match="'strict' must be a calibration"):
        export.recalibrate(path, thresholds, operating_points={"strict": thresholds})


@pytest.mark.parametrize("convert", [export.tflite, export.onnx])
def test_formats_that_hold_one_threshold_refuse(case, tmp_path, convert):
    with pytest.raises(ValueError, match=r"threshold for each class, and TFLite and"):
        convert(case.path, tmp_path / "edge", known_images=case.images)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("opens", [export.TFLitePredictor, export.ONNXPredictor])
def test_a_converted_model_with_thresholds_of_classes_is_refused(
    case, tmp_path, opens, monkeypatch
):
    file = "model.tflite" if opens is export.TFLitePredictor else "model.onnx"
    content = {**manifest.read(case.path), "files": {file: {}}}
    monkeypatch.setattr(manifest, "read", lambda folder: content)
    with pytest.raises(ValueError, match=r"threshold for each class.*convert the"):
        opens(tmp_path / file)


def test_the_demo_page_refuses(case):
    with pytest.raises(ValueError, match="the page shows one threshold"):
        Demo(case.path)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"values": [0.25, 0.5]}, "must be equally long"),
        ({"values": [0.1, 0.25, 0.5]}, "threshold.values must be a list of numbers"),
        ({"values": []}, "threshold.values must be a list of numbers"),
        ({"num_calibration": 3}, "num_calibration must be a list of whole numbers"),
        ({"acceptance_intervals": [[0.5, 0.2]] * 3}, r"a list of \[low, high\]"),
        ({"target_acceptance": 2}, "a number from 0 to 1"),
    ],
)
def test_a_manifest_that_is_none_is_refused(case, change, says):
    content = json.loads((case.path / "manifest.json").read_text())
    assert manifest_form.problems(content) == []
    content["threshold"] |= change
    (problem,) = manifest_form.problems(content)
    assert re.search(says, problem)


def test_values_that_float32_does_not_hold_are_refused(case):
    for values in ((0.1, 0.0, 0.0), (np.inf, 0.0, 0.0), (1e300, 0.0, 0.0)):
        with pytest.raises(ValueError, match="`values` must be finite"):
            dataclasses.replace(case.thresholds, values=values)
    with pytest.raises(ValueError, match="one interval for each class"):
        dataclasses.replace(case.thresholds, values=(0.5,))


def test_the_promise_of_thresholds_of_classes_is_tried(case):
    lowest = float(np.float32(case.scores.min() - 1))
    nothing = dataclasses.replace(
        case.thresholds,
        values=(lowest,) * NUM_CLASSES,
        guarantee="Accepts 95 % of each class, chosen on 60 images.",
        target_acceptance=0.95,
        acceptance_intervals=((0.9, 0.99),) * NUM_CLASSES,
    )

    def check(thresholds):
        tried = promise.to_try(case.detector, thresholds, case.images)
        limits = np.float32(thresholds.values)[case.best]
        return tried.check(
            case.detector.score,
            {"pixels": case.scores <= limits},
            lambda images: case.best,
        )

    with pytest.raises(promise.PromiseError, match="accepts 0 of 60"):
        check(nothing)
    assert check(case.thresholds)["accepted_pixels"] > 0
