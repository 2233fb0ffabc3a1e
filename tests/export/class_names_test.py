"""The README's five lines keep the names of the classes."""

import contextlib

import numpy as np
import pytest
from PIL import Image
from small_export import classifier

from ood_keras import calibration, detectors, export, pipelines
from ood_keras.export import parity

SHAPE = (32, 32, 3)
NAMES = ("bird", "cat", "dog")


@pytest.fixture(autouse=True)
def _unproved(monkeypatch):
    # That it equals the live model is proved elsewhere, in a slow fresh process.
    monkeypatch.setattr(parity, "check", lambda *_: {})
    monkeypatch.setattr(parity, "FreshProcess", contextlib.nullcontext)


def folder_of(path, names, seed=0):
    generator = np.random.default_rng(seed)
    for name in names:
        (path / name).mkdir(parents=True)
        for number in range(50):
            pixels = generator.integers(0, 256, SHAPE, np.uint8)
            Image.fromarray(pixels).save(path / name / f"{number}.png")
    return pipelines.load(f"folder:{path}")


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("known"), NAMES)


@pytest.fixture(scope="module")
def model():
    return classifier(SHAPE, num_logits=3)


def export_of(model, detector, scores, path, **options):
    threshold = calibration.quantile(scores, 0.9)
    return export.load(
        export.saved_model(model, detector, threshold, path / "1", **options)
    )


def test_they_come_from_what_chose_the_threshold(known, model, tmp_path):
    detector = detectors.get("energy", num_classes=3).fit(model)
    scores = detector.score(known.validation.dataset())
    found = export_of(model, detector, scores, tmp_path)
    assert found.class_names == NAMES
    answer = found.predict(known.validation.images / np.float32(255))
    assert set(answer["label"]) - {"__unknown__"} <= set(NAMES)
    assert answer["accepted"].any()


def test_they_come_from_what_the_detector_was_fitted_on(known, model, tmp_path):
    detector = detectors.get("knn", k=3).fit(model, known.train.dataset())
    scores = detector.score(known.validation.images / np.float32(255))
    assert export_of(model, detector, scores, tmp_path).class_names == NAMES


def test_unknown_images_with_as_many_names_do_not_matter(known, model, tmp_path):
    unknown = folder_of(tmp_path / "unknown", ("kite", "ship", "van"), seed=1)
    detector = detectors.get("energy", num_classes=3).fit(model)
    scores = detector.score(known.validation.dataset())
    detector.score(unknown.test.dataset())
    assert export_of(model, detector, scores, tmp_path).class_names == NAMES


def test_the_choice_of_classes_is_kept(known, model, tmp_path):
    chosen = known.select([2, 0, 1]).validation
    detector = detectors.get("energy", num_classes=3).fit(model)
    scores = detector.score(chosen.dataset())
    found = export_of(model, detector, scores, tmp_path)
    assert found.class_names == ("dog", "bird", "cat")


def test_names_that_are_given_win(known, model, tmp_path):
    detector = detectors.get("energy", num_classes=3).fit(model)
    scores = detector.score(known.validation.dataset())
    found = export_of(model, detector, scores, tmp_path, class_names=["x", "y", "z"])
    assert found.class_names == ("x", "y", "z")


@pytest.mark.parametrize("names", [("dog", "cat", "bird"), ("a", "b", "c", "d")])
def test_contradicting_names_are_an_error(names, known, model, tmp_path):
    detector = detectors.get("knn", k=3).fit(model, known.train.dataset())
    dataset = known.validation.dataset()
    dataset.class_names = list(names)
    scores = detector.score(dataset)
    with pytest.raises(ValueError, match=r"which are the names.*bird.*class_names=\["):
        export_of(model, detector, scores, tmp_path)


def test_a_choice_between_datasets_is_an_error(known, model, tmp_path):
    unknown = folder_of(tmp_path / "unknown", ("kite", "ship", "van"), seed=1)
    detector = detectors.get("energy", num_classes=3).fit(model)
    scores = detector.score(known.validation.dataset())[1:]  # Of which, who can tell?
    assert export_of(model, detector, scores, tmp_path).class_names == NAMES
    detector.score(unknown.test.dataset())
    with pytest.raises(ValueError, match=r"which are the names.*kite"):
        export_of(model, detector, scores, tmp_path / "more")


def test_datasets_of_keras_know_them_too(known, model, tmp_path):
    dataset = known.validation.dataset().map(lambda images, labels: (images, labels))
    dataset.class_names = ["one", "two", "three"]
    detector = detectors.get("energy", num_classes=3).fit(model)
    scores = detector.score(dataset)
    found = export_of(model, detector, scores, tmp_path)
    assert found.class_names == ("one", "two", "three")


def test_numbers_are_a_warning(known, model, tmp_path):
    detector = detectors.get("energy", num_classes=3).fit(model)
    scores = detector.score(known.validation.images / np.float32(255))
    with pytest.warns(UserWarning, match='answer with numbers, "0" to "2"'):
        found = export_of(model, detector, scores, tmp_path)
    assert found.class_names == ("0", "1", "2")
