"""Perturbations worked out by hand, and the curves that are made of them.

In the model of conftest.py the logits are four times the pixels, so an attack on class
0 lowers pixel 0 and raises pixel 1; pixel 2 is the evidence for the unknown class.
"""

import json
import types

import keras
import numpy as np
import pytest

from ood_keras import calibration, detectors, metrics
from ood_keras.evaluation import figures, robustness


@pytest.fixture(scope="module")
def detector(toolbox):
    model = toolbox.make_model()
    return detectors.get("unknown_probability", num_classes=2).fit(model)


@pytest.fixture(scope="module")
def attack(detector):
    return robustness.Attack(detector.network, num_classes=2)


@pytest.fixture(scope="module")
def measured(detector, toolbox):
    images, labels = toolbox.make_known(400, seed=1)
    unknown = {
        "a/b": toolbox.make_unknown(80, seed=2),
        "c": toolbox.make_unknown(60, 3),
    }
    calibrated_on = toolbox.make_known(90, 4)[0]
    msp = detectors.get("msp", num_classes=2).fit(detector.network.model)
    fitted = {"unknown_probability": detector, "msp": msp}
    thresholds = {
        name: calibration.quantile(one.score(calibrated_on))
        for name, one in fitted.items()
    }
    result = robustness.evaluate(
        fitted,
        thresholds,
        known=("digits", (images, labels)),
        unknown=unknown,
        perturbations={
            "white_noise": (0.2, 0.6),
            "gaussian_noise": (0.3,),
            "fgsm": (0.05, 0.2),
            "pgd": (0.2,),
        },
        class_names=["zero", "one"],
    )
    return types.SimpleNamespace(
        result=result,
        images=images,
        labels=labels,
        unknown=unknown,
        fitted=fitted,
        thresholds=thresholds,
    )


def test_fgsm_on_a_linear_model(attack, toolbox):
    images = toolbox.make_images([[0.6, 0.4, 0.5], [0.6, 0.4, 0.5], [0.02, 0.99, 0]])
    moved = attack.fgsm(images, np.array([0, 1, 0]), 0.1)
    # The unknown logit plays no part; pixels stay in [0, 1].
    expected = [[0.5, 0.5, 0.5], [0.7, 0.3, 0.5], [0.0, 1.0, 0.0]]
    np.testing.assert_allclose(moved.reshape(3, 3), expected, atol=1e-6)


def test_fgsm_follows_the_cross_entropy_of_three_classes(toolbox):
    """The sign of `dCE/dx = kernel @ (p - onehot)`, worked out in float64."""
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=(3, 3))
    model = toolbox.make_model()
    model.get_layer("logits").set_weights([kernel, np.zeros(3)])
    network = detectors.Network(model)
    images = toolbox.make_images(generator.uniform(0.3, 0.7, (20, 3)))
    labels = generator.integers(0, 3, 20)
    pixels = images.reshape(20, 3).astype(np.float64)
    odds = np.exp(pixels @ kernel)
    slope = (odds / odds.sum(1, keepdims=True) - np.eye(3)[labels]) @ kernel.T
    moved = robustness.Attack(network, num_classes=3).fgsm(images, labels, 0.1)
    np.testing.assert_allclose(
        moved.reshape(20, 3), pixels + 0.1 * np.sign(slope), atol=1e-6
    )


def test_attacks_move_images_that_the_model_is_sure_of(toolbox):
    """With p = 1 in float32 the gradient of the cross-entropy itself would be 0."""
    model = toolbox.make_model()
    model.get_layer("logits").set_weights([1000 * np.eye(3), np.zeros(3)])
    attack = robustness.Attack(detectors.Network(model), num_classes=2)
    images = toolbox.make_images([[0.9, 0.1, 0.5]])
    for moved in (
        attack.fgsm(images, np.array([0]), 0.2),
        attack.pgd(images, np.array([0]), 0.2),
    ):
        np.testing.assert_allclose(moved.ravel(), [0.7, 0.3, 0.5], atol=1e-6)


def test_pgd_stays_within_epsilon_and_the_pixel_range(attack, toolbox):
    images, labels = toolbox.make_known(50, seed=0)
    moved = attack.pgd(images, labels, 0.15, num_steps=4)
    assert np.abs(moved - images).max() <= 0.15 + 1e-6
    assert moved.min() >= 0 and moved.max() <= 1
    # On a linear model the steps agree and reach what one long step reaches.
    np.testing.assert_allclose(moved, attack.fgsm(images, labels, 0.15), atol=1e-6)


def test_noise_has_its_distribution_and_is_reproducible():
    gray = np.full((40, 20, 20, 1), 0.5, np.float32)
    white = robustness.white_noise(gray, 0.3, seed=1) - gray
    assert white.dtype == np.float32
    assert -0.3 <= white.min() < -0.299 and 0.299 < white.max() <= 0.3
    assert white.mean() == pytest.approx(0, abs=0.005)
    assert white.std() == pytest.approx(0.3 / np.sqrt(3), rel=0.02)
    normal = robustness.gaussian_noise(gray, 0.1, seed=1) - gray
    assert normal.mean() == pytest.approx(0, abs=0.005)
    assert normal.std() == pytest.approx(0.1, rel=0.02)
    for noise in (robustness.white_noise, robustness.gaussian_noise):
        same, other = noise(gray, 0.3, seed=1), noise(gray, 0.3, seed=2)
        np.testing.assert_array_equal(noise(gray, 0.3, seed=1), same)
        assert (same != other).any()
        assert noise(gray, 5.0).min() == 0 and noise(gray, 5.0).max() == 1
        # Batch by batch equals all at once.
        generator = np.random.default_rng(1)
        parts = [noise(part, 0.3, generator) for part in (gray[:13], gray[13:])]
        np.testing.assert_array_equal(np.concatenate(parts), same)


@pytest.mark.parametrize("name_of_detector", ["unknown_probability", "msp"])
def test_points_are_those_of_the_perturbed_images(measured, attack, name_of_detector):
    images, labels = measured.images, measured.labels
    detector = measured.fitted[name_of_detector]
    threshold = measured.thresholds[name_of_detector]
    by_name = measured.result.metrics["detectors"][name_of_detector]["perturbations"]
    for name, index, moved in (
        ("white_noise", 0, images),
        ("pgd", 0, images),
        ("white_noise", 2, robustness.white_noise(images, 0.6)),
        ("gaussian_noise", 1, robustness.gaussian_noise(images, 0.3)),
        ("fgsm", 2, attack.fgsm(images, labels, 0.2)),
        ("pgd", 1, attack.pgd(images, labels, 0.2)),
    ):
        point = by_name[name][index]
        right = moved.reshape(-1, 3)[:, :2].argmax(axis=1) == labels
        scores = detector.score(moved)
        accepted = scores <= threshold.value
        assert point["known"] == {
            "accuracy": pytest.approx(right.mean()),
            "rejected": pytest.approx(1 - accepted.mean()),
            "accepted_wrong": pytest.approx((accepted & ~right).mean()),
        }
        for source, others in measured.unknown.items():
            expected = metrics.evaluate_scores(scores, detector.score(others))
            assert point["unknown"][source] == pytest.approx(expected, abs=1e-3)


def _points(measured):
    detector = measured.result.metrics["detectors"]["unknown_probability"]
    return detector["perturbations"]["fgsm"]


def test_fgsm_lowers_accuracy_and_zero_is_the_images_as_they_are(measured):
    points = _points(measured)
    assert [point["strength"] for point in points] == [0, 0.05, 0.2]
    accuracy = [point["known"]["accuracy"] for point in points]
    clean = measured.images.reshape(-1, 3)[:, :2].argmax(axis=1) == measured.labels
    assert accuracy[0] == clean.mean()
    assert accuracy[0] > accuracy[1] > accuracy[2]


def test_unknown_images_are_rejected_as_they_are(measured):
    for name, detector in measured.fitted.items():
        for source, images in measured.unknown.items():
            rejected = detector.score(images) > measured.thresholds[name].value
            found = measured.result.metrics["detectors"][name]["unknown_rejected"]
            assert found[source] == np.mean(rejected)


def test_saved_files(measured, tmp_path):
    measured.result.save(tmp_path)
    saved = json.loads((tmp_path / "robustness.json").read_text())
    assert saved == measured.result.metrics
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "robustness.png",
        "robustness_density.png",
        "robustness_inputs.png",
    ]


def test_densities_are_those_of_the_papers_strengths(detector, toolbox):
    """Figure 3 shows noise of deviation 1 and FGSM at 0.1."""
    images, labels = toolbox.make_known(60, seed=1)
    unknown = toolbox.make_unknown(40, seed=2)
    result = robustness.evaluate(
        {"mine": detector},
        {"mine": calibration.quantile(detector.score(images))},
        known=("digits", (images, labels)),
        unknown={"a": unknown, "b": images[:9]},
        perturbations={
            "white_noise": (0.1, 0.3, 0.7),
            "gaussian_noise": (0.1, 0.5, 1.0),
            "fgsm": (0.05, 0.1, 0.3),
        },
    )
    figure = result.figures()["robustness_density"]
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == [
        "as they are",
        "white noise 0.3",
        "gaussian noise 1",
        "FGSM 0.1",
    ]
    # Logits are four times the pixels; class 2 is the unknown one.
    moved = robustness.gaussian_noise(images, 1.0).reshape(-1, 3)
    odds = np.exp(4 * moved.astype(np.float64))
    confidence = odds[:, :2].max(axis=1) / odds.sum(axis=1)
    kept = result.known_confidence["gaussian_noise"][1.0]
    np.testing.assert_allclose(kept, confidence, rtol=1e-4)
    assert {name: len(one) for name, one in result.unknown_confidence.items()} == {
        "a": 40,
        "b": 9,
    }
    drawn = figure.axes[4].patches[0].get_data()
    np.testing.assert_allclose(
        drawn.values, np.histogram(kept, drawn.edges)[0] / len(kept)
    )


def test_figure_draws_the_points(measured):
    metrics = measured.result.metrics
    figure = figures.robustness(
        {"with": {**metrics, "seen": ["c"]}, "without": metrics}
    )
    accuracy, rejected, _, auroc = (figure.axes[row * 4 + 2].lines for row in range(4))
    assert [line.get_linestyle() for line in accuracy] == ["-", "--"]
    expected = [[p["strength"], p["known"]["accuracy"]] for p in _points(measured)]
    assert accuracy[0].get_xydata().tolist() == expected
    expected = [[p["strength"], p["known"]["rejected"]] for p in _points(measured)]
    assert rejected[0].get_xydata().tolist() == expected
    expected = [p["unknown"]["a/b"]["auroc"] for p in _points(measured)]
    assert auroc[0].get_ydata().tolist() == expected
    assert auroc[2].get_ydata().tolist() != expected
    assert [line.get_label() for line in rejected] == [
        "unknown_probability, with",
        "msp, with",
        "unknown_probability, without",
        "msp, without",
    ]
    assert [axes.get_title(loc="left") for axes in figure.axes[:4]] == [
        "white noise",
        "gaussian noise",
        "FGSM",
        "PGD",
    ]


def test_mean_auroc_is_that_over_the_sources():
    point = {"unknown": {"a": {"auroc": 0.5}, "b": {"auroc": 1.0}}}
    assert figures.mean_auroc(point) == 0.75
    assert figures.mean_auroc(point, seen=["b"]) == 0.5
    assert figures.mean_auroc(point, seen=["a", "b"]) == 0.75


def test_pictures_show_one_image_at_all_strengths(measured):
    images, captions = measured.result.pictures["FGSM"]
    assert len(images) == len(captions) == 3
    np.testing.assert_array_equal(images[0], measured.images[0])
    assert captions[0].startswith("strength 0\nread as ")
    assert captions[0].split("\n")[1].split()[-1] in ("zero", "one")
    assert captions[2].split("\n")[2] in ("accepted", "rejected")


@pytest.mark.parametrize(
    ("perturbations", "message"),
    [
        ({"blur": (1,)}, r"some of \['white_noise'.*Received: \['blur'\]"),
        ({}, "some of"),
        ({"fgsm": ()}, "must be positive"),
        ({"fgsm": (0.1, 0)}, "must be positive"),
    ],
)
def test_wrong_perturbations_teach(measured, perturbations, message):
    with pytest.raises(ValueError, match=message):
        robustness.evaluate(
            measured.fitted,
            measured.thresholds,
            known=("digits", (measured.images, measured.labels)),
            unknown=measured.unknown,
            perturbations=perturbations,
        )


def test_detectors_and_thresholds_belong_together(measured, toolbox):
    other = detectors.get("msp", num_classes=2).fit(toolbox.make_model())
    thresholds = measured.thresholds
    for fitted, given, message in (
        ({}, {}, "a threshold for each"),
        (measured.fitted, {"msp": thresholds["msp"]}, "a threshold for each"),
        (measured.fitted | {"msp": other}, thresholds, "several models"),
    ):
        with pytest.raises(ValueError, match=message):
            robustness.evaluate(
                fitted,
                given,
                known=("digits", (measured.images, measured.labels)),
                unknown=measured.unknown,
            )


def test_labels_are_needed(measured):
    with pytest.raises(ValueError, match="no labels"):
        robustness.evaluate(
            measured.fitted,
            measured.thresholds,
            known=("digits", measured.images),
            unknown=measured.unknown,
        )


def test_attacks_say_that_they_need_tensorflow(detector, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match=r"FGSM and PGD need.*Received: 'jax'"):
        robustness.Attack(detector.network, num_classes=2)
