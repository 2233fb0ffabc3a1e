"""Export keeps no promise that it has not tried: ranges, files, other detectors."""

import contextlib
import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_export import classifier

from ood_keras import calibration, detectors, export
from ood_keras.detectors.memory import Memory
from ood_keras.export import parity, promise

SHAPE = (12, 10, 1)


def images(num_images=200, seed=0):
    """Multiples of 1/255, so that image files can hold them."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (num_images, *SHAPE))
    contrast = generator.uniform(0.1, 1, (num_images, 1, 1, 1))
    return np.rint(pixels * contrast).astype(np.float32) / 255


def network(*first):
    layers = classifier(num_logits=3).layers
    return keras.Sequential([keras.Input(SHAPE), *first, *layers])


def exported(tmp_path, model, x, *, name="energy", target=0.9, **options):
    """Fits, calibrates on `x` and exports, as the README does."""
    detector = detectors.get(name, num_classes=3).fit(model)
    threshold = calibration.conformal(detector.score(x), target)
    return export.saved_model(
        model, detector, threshold, tmp_path / "m" / "1", class_names="abc", **options
    )


# What users' networks take, made of images in [0, 1], and what the error must say.
RANGES = {
    "0 to 255": (
        lambda x: x * 255,
        r"from 0 to 25\d, as for .* 0 to 255.*Rescaling\(255",
    ),
    "dark 0 to 255": (lambda x: np.rint(x * x * 40), r"Rescaling\(255\)"),
    "-1 to 1": (lambda x: x * 2 - 1, r"-1 to 1.*Rescaling\(2, offset=-1\)"),
    "mean and deviation": (lambda x: (x - 0.45) / 0.22, r"Normalization\("),
    "a mean less": (lambda x: x * 255 - 120, r"Normalization\("),
    "16 bits": (lambda x: x * 65535, r"Rescaling\(65535\)"),
    "overshoot": (lambda x: x * 1.2 - 0.1, r"np\.clip"),
}


@pytest.mark.parametrize("case", RANGES)
def test_calibration_images_out_of_range_are_an_error(case, tmp_path):
    change, says = RANGES[case]
    with pytest.raises(promise.PromiseError, match=says) as caught:
        exported(tmp_path, network(), change(images()))
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, export.ParityError)
    assert not (tmp_path / "m").exists() or not list((tmp_path / "m").iterdir())


def test_what_the_error_says_to_do_works(tmp_path):
    model = network(keras.layers.Rescaling(1 / 255))
    x = images() * 255
    with pytest.raises(ValueError, match="Rescaling"):
        exported(tmp_path, model, x)
    wrapped = keras.Sequential([keras.Input(SHAPE), keras.layers.Rescaling(255), model])
    path = exported(tmp_path, wrapped, x / 255)
    assert export.load(path).predict(x / 255)["accepted"].mean() >= 0.9
    seen = json.loads((path / "parity.json").read_text())["promise"]
    assert seen["checked"] and seen["on"] == "calibration images"
    assert seen["accepted_live"] == seen["accepted_pixels"] == seen["accepted_files"]
    assert seen["of"] == 200 and seen["images"] == 64 and seen["accepted_live"] > 50
    assert "promise" not in json.loads((path / "manifest.json").read_text())
    assert "promise was not tried" not in (path / "MODEL_CARD.md").read_text()


@pytest.fixture
def quick(monkeypatch):
    """Plays the fresh process, in this one: what the exported graph accepts."""

    def check(_, folder, detector, threshold, names, probes, known):
        model = tf.saved_model.load(str(folder))
        report = {}
        if known is not None:
            run = model.signatures["serving_default"]
            answers = {
                "pixels": run(image=known.images)["accepted"].numpy(),
                "files": run(image=np.float32(known.pixels) / 255)["accepted"].numpy(),
            }
            score = lambda x: parity._outputs(detector, x)["ood_score"]  # noqa: E731
            report["promise"] = known.check(score, answers)
        return report

    monkeypatch.setattr(parity, "check", check)
    monkeypatch.setattr(parity, "FreshProcess", contextlib.nullcontext)


def test_a_few_images_out_of_range_are_not_all(quick, tmp_path):
    x = images()
    x[:3] *= 2
    assert exported(tmp_path, network(), x).is_dir()
    x[:20] *= 2
    with pytest.raises(ValueError, match=r"would reject .. of the 200"):
        exported(tmp_path / "more", network(), x)


def test_dark_images_are_not_taken_for_small_ones(quick, tmp_path):
    """Of 0 to 255: most pixels, but not all of every image, are 0 or 1."""
    x = (images() > 0.9).astype(np.float32)
    x[:, 5, 5] = np.random.default_rng(0).integers(0, 256, (200, 1))
    with pytest.raises(ValueError, match=r"Rescaling\(255\)"):
        exported(tmp_path, network(), x)


def test_images_that_files_cannot_hold_are_an_error(quick, tmp_path):
    model = network(keras.layers.Rescaling(255.0))
    x = images() / 255
    with pytest.raises(ValueError, match=r"image files: .*divided by 255 twice"):
        exported(tmp_path, model, x)


def test_images_that_lose_by_the_levels_of_files_are_an_error(quick, tmp_path):
    """What counts lies between two levels, beside one bright pixel."""
    generator = np.random.default_rng(0)
    x = generator.uniform(0.0, 0.4 / 255, (200, *SHAPE)).astype(np.float32)
    x[:, 0, 0] = 1.0
    inner = [keras.layers.Cropping2D(1), keras.layers.ZeroPadding2D(1)]
    model = network(*inner, keras.layers.Rescaling(2000.0))
    detector = detectors.get("energy", num_classes=3).fit(model)
    scores = detector.score(x)
    black = detector.score(np.zeros((1, *SHAPE), np.float32))[0]
    # A network whose score of black is above the threshold, as it is for half of all.
    target = 0.9 if black > np.quantile(scores, 0.91) else 0.2
    threshold = calibration.conformal(scores, target)
    assert black > threshold.value
    with pytest.raises(ValueError, match=r"as PNG files.*lose what tells them apart"):
        export.saved_model(model, detector, threshold, tmp_path / "1")


def test_floats_between_the_levels_of_files_are_no_error(quick, tmp_path):
    generator = np.random.default_rng(3)
    x = generator.uniform(size=(200, *SHAPE)).astype(np.float32)
    for number, target in enumerate((0.5, 0.9, 0.99)):
        path = exported(tmp_path / str(number), network(), x, target=target)
        assert path.is_dir()


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_few_calibration_images_are_no_error(count, quick, tmp_path):
    model = network()
    generator = np.random.default_rng(3)
    x = generator.uniform(size=(count, *SHAPE)).astype(np.float32)
    detector = detectors.get("energy", num_classes=3).fit(model)
    threshold = calibration.quantile(detector.score(x), 0.9)
    assert export.saved_model(
        model, detector, threshold, tmp_path / "1", class_names="abc"
    ).is_dir()


def test_batch_by_batch_is_tried_too(quick, tmp_path):
    model, x = network(), images() * 255
    detector = detectors.get("energy", num_classes=3).fit(model)
    scores = [detector.score(x[start : start + 16]) for start in range(0, 200, 16)]
    threshold = calibration.conformal(np.concatenate(scores), 0.9)
    with pytest.raises(ValueError, match=r"Rescaling\(255\)"):
        export.saved_model(model, detector, threshold, tmp_path / "1")
    kept = detector.score(x)[np.arange(200) % 3 > 0]
    with pytest.raises(ValueError, match=r"Rescaling\(255\)"):
        export.saved_model(
            model, detector, calibration.conformal(kept, 0.9), tmp_path / "1"
        )


def test_what_else_was_scored_does_not_count(quick, tmp_path):
    """Unknown images, or a look at images of another range, before and after."""
    model, x = network(), images()
    detector = detectors.get("energy", num_classes=3).fit(model)
    detector.score(x * 255)
    threshold = calibration.conformal(detector.score(x), 0.9)
    detector.score(images(300, seed=1) * 255)
    assert export.saved_model(model, detector, threshold, tmp_path / "1").is_dir()


def test_the_threshold_of_another_detector_is_an_error(quick, tmp_path):
    model, x = network(), images()
    energy, msp = (
        detectors.get(n, num_classes=3).fit(model) for n in ("energy", "msp")
    )
    msp.score(x)
    threshold = calibration.conformal(energy.score(x) - 100, 0.9)
    with pytest.raises(ValueError, match="scores of another detector"):
        export.saved_model(model, msp, threshold, tmp_path / "1")


def test_a_model_that_was_trained_since_is_an_error(quick, tmp_path):
    model, x = network(), images()
    detector = detectors.get("energy", num_classes=3).fit(model)
    threshold = calibration.conformal(detector.score(x), 0.9)
    model.layers[-1].bias.assign(model.layers[-1].bias - 5.0)
    with pytest.raises(ValueError, match="trained on, or otherwise changed, since"):
        export.saved_model(model, detector, threshold, tmp_path / "1")


def loaded(model, tmp_path):
    """A detector that has scored nothing, as one from a file."""
    detector = detectors.get("energy", num_classes=3).fit(model)
    return detectors.load(detectors.save(detector, tmp_path / "d"), model)


def test_sample_images_are_tried_where_nothing_is_remembered(quick, tmp_path):
    model, x = network(), images()
    detector = loaded(model, tmp_path)
    scores = detectors.get("energy", num_classes=3).fit(model).score
    right = calibration.conformal(scores(x), 0.9)
    wrong = calibration.conformal(scores(x * 255) - 5, 0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = export.saved_model(
            model,
            detector,
            right,
            tmp_path / "1",
            class_names="abc",
            sample_images=images(100, seed=1),
        )
    assert "promise" not in export.load(path).manifest
    with pytest.raises(ValueError, match="accepts 0 of 64 sample_images"):
        export.saved_model(model, detector, wrong, tmp_path / "2", sample_images=x)


def test_what_was_not_tried_is_said(quick, tmp_path):
    model = network()
    detector = loaded(model, tmp_path)
    threshold = calibration.quantile([0.0], 0.5)
    with pytest.warns(UserWarning, match="Give sample_images"):
        path = export.saved_model(
            model, detector, threshold, tmp_path / "1", class_names="abc"
        )
    assert export.load(path).manifest["promise"]["checked"] is False
    assert "promise was not tried" in (path / "MODEL_CARD.md").read_text()


def test_a_graph_that_rejects_good_images_is_an_error():
    """As if what is exported prepared its pixels otherwise."""
    memory, x = Memory(SHAPE), images()
    scores = np.linspace(0, 1, 200, dtype=np.float32)
    watch = memory.watch([x])
    list(watch)
    memory.add(watch, scores)
    threshold = calibration.conformal(scores, 0.9)
    found = memory.of_threshold(threshold)
    known = promise._of_memory(threshold, "calibration images", found)
    expected = threshold.accepts(known.scores)

    def score(batch):
        return known.scores

    assert known.check(score, {"pixels": expected, "files": expected})["checked"]
    for way in ("pixels", "files"):
        answers = {"pixels": expected, "files": expected, way: expected & False}
        with pytest.raises(promise.PromiseError, match="0 of these still are"):
            known.check(score, answers)


@pytest.mark.parametrize("version", [2**63, 99999999999999999999])
def test_versions_beyond_64_bits_are_an_error(version, tmp_path):
    with pytest.raises(ValueError, match=r"up to 9223372036854775807.*Try .*1"):
        export.saved_model(None, None, None, tmp_path / str(version))


def test_versions_that_serving_cannot_read_are_none(tmp_path):
    (tmp_path / "99999999999999999999").mkdir()
    assert export.next_version(tmp_path) == 1
    (tmp_path / "7").mkdir()
    assert export.next_version(tmp_path) == 8
    (tmp_path / str(2**63 - 1)).mkdir()
    with pytest.raises(ValueError, match="largest version"):
        export.next_version(tmp_path)
