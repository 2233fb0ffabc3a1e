"""Known and unknown images, rendered alike: what is measured, said and drawn."""

import json
import re

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ood_keras import calibration, detectors, evaluation, names, pipelines
from ood_keras.evaluation import renderings, under_renderings

NUM_IMAGES = 60


@pytest.fixture(scope="module")
def source():
    return pipelines.load("digits", image_shape=(28, 28, 1))


@pytest.fixture(scope="module")
def case(source):
    """A network that was hardly trained: renderings change its scores."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(source.image_shape),
            keras.layers.AveragePooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(10, name="logits"),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(source.train.dataset(64), epochs=8, verbose=0)
    fitted = {
        name: detectors.get(name, num_classes=10).fit(model)
        for name in ("energy", "msp")
    }
    thresholds = {
        name: calibration.quantile(detector.score(source.validation.dataset()), 0.95)
        for name, detector in fitted.items()
    }
    return fitted, thresholds


@pytest.fixture(scope="module")
def data(source):
    unknown = pipelines.load("glyphs").test
    return {
        "known": ("digits", source.test.dataset()),
        "unknown": {"glyphs/a": unknown.dataset(), "upside down": _turned(source.test)},
    }


def _turned(split):
    return split.images[:, ::-1].astype(np.float32) / 255


@pytest.fixture(scope="module")
def found(case, data):
    return under_renderings.measure(
        case[0], **data, kind="drawing", num_images=NUM_IMAGES, progress=False
    )


def test_each_step_is_scored_as_the_detector_scores_it(case, found, source):
    fitted, thresholds = case
    measured = found.at(thresholds)["detectors"]["energy"]
    images = source.test.images.astype(np.float32) / 255
    place = [step.name for step in found.steps].index("blur=0.8")
    row = measured["steps"][place]
    assert row["title"] == "blur, sigma 0.8 px" and row["mild"]
    blur = next(step for step in renderings.suite("drawing") if step.name == "blur=0.8")
    every = fitted["energy"].score(blur(images))
    # The chosen images are some of all.
    assert set(found.known_scores["energy"][place].round(3)) <= set(every.round(3))
    scores = found.known_scores["energy"][place]
    accepted = scores <= thresholds["energy"].value
    right = found.predictions[place] == found.labels
    assert row["known"] == {
        "accepted": pytest.approx(accepted.mean()),
        "accuracy": pytest.approx(right.mean()),
        "accepted_right": pytest.approx((accepted & right).mean()),
    }
    others = found.unknown_scores["energy"]["glyphs/a"][place]
    assert row["unknown"]["glyphs/a"] == {
        "images": NUM_IMAGES,
        "rejected": pytest.approx(np.mean(others > thresholds["energy"].value)),
        "auroc": pytest.approx(_auroc(scores, others)),
    }


def test_full_spectrum_takes_the_scores_of_all_renderings_together(case, found):
    measured = found.at(case[1])["detectors"]["msp"]
    known, unknown = (
        found.known_scores["msp"],
        found.unknown_scores["msp"]["upside down"],
    )
    row = measured["summary"]["auroc"]["upside down"]
    mild = [True] + [step.mild for step in found.steps[1:]]
    assert row == {
        "untouched": pytest.approx(_auroc(known[0], unknown[0])),
        "mild": pytest.approx(_auroc(known[mild], unknown[mild])),
        "full_spectrum": pytest.approx(_auroc(known, unknown)),
    }


def test_thresholds_of_classes_are_those_of_the_predicted_class(case, found, source):
    detector = case[0]["energy"]
    validation = source.validation
    thresholds = calibration.conformal_per_class(
        detector.score(validation.dataset()), validation.labels, 10, 0.8
    )
    measured = found.at({"energy": thresholds, "msp": case[1]["msp"]})
    rows = measured["detectors"]["energy"]["steps"]
    limits = np.array(thresholds.values, np.float32)
    for place, row in enumerate(rows):
        for part, scores, classes in (
            (row["known"]["accepted"], found.known_scores["energy"], found.predictions),
            (
                1 - row["unknown"]["glyphs/a"]["rejected"],
                found.unknown_scores["energy"]["glyphs/a"],
                found.unknown_predictions["glyphs/a"],
            ),
        ):
            accepted = scores[place] <= limits[classes[place]]
            assert part == pytest.approx(accepted.mean())


def test_a_summary_is_of_the_mild_steps(case, data):
    fitted, thresholds = case
    one = {"energy": fitted["energy"]}
    full = under_renderings.measure(
        one, **data, kind="drawing", num_images=20, short=False, progress=False
    )
    measured = full.at(thresholds)["detectors"]["energy"]
    mild = [row["known"]["accepted"] for row in measured["steps"] if row["mild"]]
    assert len(mild) < len(measured["steps"]) - 1
    accepted = measured["summary"]["accepted"]
    assert accepted["mean"] == pytest.approx(np.mean(mild))
    assert accepted["worst"] == min(mild)
    assert full.pictures.shape == (len(full.steps), 4, 28, 28, 1)


def test_images_are_chosen_from_all_of_a_data_set(case, source, found):
    """A folder's test images lie class by class; the first ones are of one class."""
    assert len(set(found.labels)) == 10
    assert len(found.labels) == NUM_IMAGES
    again = under_renderings.measure(
        {"energy": case[0]["energy"]},
        known=("digits", source.test.dataset(32)),
        unknown={"x": _turned(source.test)},
        kind="drawing",
        num_images=NUM_IMAGES,
        progress=False,
    )
    np.testing.assert_array_equal(np.sort(again.labels), np.sort(found.labels))


def test_words_say_where_the_promise_is_broken():
    def row(title, accepted, mild=True):
        return {
            "title": title,
            "mild": mild,
            "known": {"accepted": accepted, "accuracy": 0.9},
        }

    measured = {
        "target_acceptance": 0.95,
        "steps": [row("untouched", 0.96, False), row("blur", 0.5), row("jpeg", 0.94)],
        "summary": {
            "accepted": {"mean": 0.72, "worst": 0.5, "worst_step": "blur"},
            "accuracy": {"mean": 0.9, "worst": 0.9, "worst_step": "blur"},
        },
    }
    first, second = under_renderings.describe(measured)
    assert "72.0%" in first and "50.0%" in first and "(blur)" in first
    assert "blur (50%)" in second and "jpeg" not in second
    measured["steps"][1]["known"]["accepted"] = 0.95
    assert len(under_renderings.describe(measured)) == 1
    # A threshold that was chosen for something else promises no share.
    assert len(under_renderings.describe({**measured, "target_acceptance": None})) == 1


def test_what_was_written_can_be_read_at_another_threshold(case, found):
    _, thresholds = case
    metrics = json.loads(json.dumps(found.at(thresholds)))
    arrays = {names.valid(name): values for name, values in found.arrays.items()}
    again = under_renderings.restore(metrics, arrays, ["msp"])
    assert again.at(thresholds)["detectors"]["msp"] == metrics["detectors"]["msp"]
    all_pass = calibration.quantile(again.known_scores["msp"].ravel() + 100, 0.5)
    rows = again.at({"msp": all_pass})["detectors"]["msp"]["steps"]
    assert all(row["known"]["accepted"] == 1 for row in rows)


def test_grey_pictures_have_no_colour_to_change(case, data):
    fitted = {"energy": case[0]["energy"]}
    of_photos = under_renderings.measure(
        fitted, **data, kind="photo", num_images=5, progress=False
    )
    sorts = {step.name.partition("=")[0] for step in of_photos.steps}
    assert "warm" not in sorts and "blur" in sorts
    colour = {step.rendering.name for step in renderings.suite("photo")}
    assert "warm" in colour


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_images_that_no_picture_file_can_be_are_measured(channels):
    images = np.random.default_rng(0).random((6, 9, 8, channels), np.float32)
    labels = np.arange(6) % 2

    def score(batches, name):
        scores = np.concatenate([one.mean((1, 2, 3)) for one, _ in batches])
        return {"mean": scores}, np.zeros(len(scores), int)

    measured = under_renderings._measure(
        score,
        ("made", (images, labels)),
        {"others": images},
        num_classes=2,
        short=False,
        kind=None,
        num_images=4,
        progress=False,
    )
    sorts = {step.name.partition("=")[0] for step in measured.steps}
    assert "jpeg" not in sorts and {"blur", "noise"} <= sorts
    assert measured.pictures.shape == (len(measured.steps), 4, 9, 8, channels)


def test_a_report_shows_and_says_it(case, data, source, tmp_path):
    fitted, _ = case
    report = evaluation.evaluate(
        fitted,
        **data,
        validation_known=source.validation.dataset(),
        validation_unknown=pipelines.load("glyphs").validation.dataset(),
        renderings="short",
        progress=False,
    )
    selected = report.metrics["selected_detector"]
    measured = report.metrics["renderings"]["detectors"][selected]
    assert measured["threshold"] == report.threshold.value
    sentences = report.rendering_sentences()
    assert sentences and all(sentence in str(report) for sentence in sentences)
    report.save(tmp_path)
    page = (tmp_path / "report.html").read_text()
    text = re.sub(r"\s+", " ", re.sub("<[^>]*>", "", page))
    assert all(sentence in text for sentence in sentences)
    assert (tmp_path / "figures" / "renderings.png").stat().st_size > 10_000
    value = measured["summary"]["auroc"]["glyphs/a"]["full_spectrum"]
    assert f"<td>{100 * value:.2f}</td></tr>" in page
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as scores:
        kept = under_renderings.restore(
            json.loads((tmp_path / "metrics.json").read_text())["renderings"],
            scores,
            [selected],
        )
    at = kept.at({selected: report.threshold})["detectors"][selected]
    assert at == json.loads(json.dumps(measured))


def test_wrong_input_is_explained(case, data):
    fitted, _ = case
    with pytest.raises(ValueError, match="none, short, full"):
        evaluation.evaluate(fitted, **data, renderings="some", selected_detector="msp")
    empty = np.zeros((0, 28, 28, 1), np.float32)
    with pytest.raises(ValueError, match="nothing has no images"):
        under_renderings.measure(
            fitted, known=data["known"], unknown={"nothing": empty}, progress=False
        )
    with pytest.raises(ValueError, match="labels"):
        under_renderings.measure(
            fitted,
            known=("x", np.zeros((3, 28, 28, 1), np.float32)),
            unknown=data["unknown"],
            progress=False,
        )


def _auroc(known, unknown):
    scores = np.concatenate([known.ravel(), unknown.ravel()])
    labels = np.repeat([0, 1], [known.size, unknown.size])
    return roc_auc_score(labels, scores)
