"""Which thresholds a command chooses, and what it refuses before any work."""

import numpy as np
import pytest

from ood_keras import calibration
from ood_keras.calibration import registry
from ood_keras.workflows.thresholds import ThresholdRequest

RNG = np.random.default_rng(0)
KNOWN = RNG.normal(0, 1, 400).astype(np.float32)
UNKNOWN = RNG.normal(2, 1, 300).astype(np.float32)
CLASSES = np.arange(400) % 4


def test_by_default_it_is_the_one_of_every_report():
    threshold, points = ThresholdRequest().choose(KNOWN)
    assert threshold == calibration.choose(KNOWN)
    assert points == {}


def test_operating_points_say_what_they_let_in():
    request = ThresholdRequest(operating_points={"strict": 0.5, "lenient": 0.99})
    _, points = request.choose(KNOWN, UNKNOWN)
    assert list(points) == ["strict", "lenient"]
    for name, target in request.operating_points.items():
        assert points[name].value == calibration.conformal(KNOWN, target).value
        let_in = np.mean(points[name].value >= UNKNOWN)
        assert f"Of 300 unknown images it accepts {100 * let_in:.4g} %" in (
            points[name].guarantee
        )
    # Without unknown images nothing is said of them.
    _, points = request.choose(KNOWN)
    assert points["strict"] == calibration.conformal(KNOWN, 0.5)


def test_operating_points_are_chosen_by_the_method_that_is_named():
    request = ThresholdRequest(method="quantile", operating_points={"strict": 0.9})
    threshold, points = request.choose(KNOWN)
    assert threshold.method == points["strict"].method == "quantile"
    # One for each class is none that a name could stand for.
    request = ThresholdRequest(
        method="conformal_per_class", operating_points={"strict": 0.9}
    )
    threshold, points = request.choose(KNOWN, None, CLASSES, 4)
    assert isinstance(threshold, calibration.ClassThresholds)
    assert points["strict"] == calibration.conformal(KNOWN, 0.9)


def test_costs_move_the_threshold_that_costs_least():
    def chosen(**settings):
        request = ThresholdRequest(method="lowest_cost", **settings)
        return request.choose(KNOWN, UNKNOWN)[0]

    usual = chosen(prior_unknown=0.5)
    assert usual == calibration.lowest_cost(KNOWN, UNKNOWN, 0.5)
    assert chosen(prior_unknown=0.5, cost_false_accept=20).value < usual.value
    assert chosen(prior_unknown=0.5, cost_false_reject=20).value > usual.value
    assert chosen(prior_unknown=0.01).value > usual.value
    # It lies where no score stands.
    assert usual.value not in np.concatenate([KNOWN, UNKNOWN])


def test_every_class_gets_its_threshold():
    request = ThresholdRequest(method="conformal_per_class", target_acceptance=0.8)
    thresholds, _ = request.choose(KNOWN, UNKNOWN, CLASSES, 4)
    for c, value in enumerate(thresholds.values):
        assert value == calibration.conformal(KNOWN[c == CLASSES], 0.8).value
        assert value not in KNOWN


@pytest.mark.parametrize(
    "wanted, says",
    [
        ({"method": "conformel"}, r"unknown threshold method 'conformel'; expected"),
        ({"target_acceptance": 95}, "write 95 % as 0.95"),
        ({"target_acceptance": 0}, "strictly between 0 and 1"),
        ({"prior_unknown": 0.1}, r"takes no prior_unknown.*method=lowest_cost"),
        ({"cost_false_accept": 2}, r"takes no cost_false_accept.*method=lowest_cost"),
        (
            {"method": "lowest_cost", "prior_unknown": 0.1, "target_acceptance": 0.9},
            "'lowest_cost' takes no target_acceptance. Leave it out",
        ),
        ({"method": "lowest_cost"}, r"needs prior_unknown.*--prior_unknown=0\.1"),
        ({"method": "lowest_cost", "prior_unknown": 1}, "`prior_unknown` is a fract"),
        (
            {"method": "lowest_cost", "prior_unknown": 0.1, "cost_false_accept": 0},
            r"`cost_false_accept` must be a number in \(0, inf\)",
        ),
        (
            {"method": "lowest_cost", "prior_unknown": 0.1, "cost_false_reject": -1},
            r"`cost_false_reject` must be a number in \(0, inf\)",
        ),
        ({"operating_points": {"strict": 90}}, "operating point 'strict'"),
        ({"operating_points": {" ": 0.9}}, "an operating point needs a name"),
    ],
)
def test_what_cannot_be_is_refused_at_once(wanted, says):
    with pytest.raises(ValueError, match=says):
        ThresholdRequest(**wanted)


def test_a_method_without_its_images_is_refused():
    costs = ThresholdRequest(method="lowest_cost", prior_unknown=0.1)
    for none in (None, ()):
        with pytest.raises(ValueError, match=r"'lowest_cost' needs scores of unknown"):
            costs.choose(KNOWN, none)
    of_classes = ThresholdRequest(method="conformal_per_class")
    with pytest.raises(ValueError, match=r"did not keep: evaluate it again with"):
        of_classes.choose(KNOWN, UNKNOWN, None, 4)
    with pytest.raises(ValueError, match=r"need at least 19 known images predicted as"):
        of_classes.choose(KNOWN[:40], UNKNOWN, CLASSES[:40], 4)


def test_a_method_of_one_s_own_gets_what_it_asks_for(monkeypatch):
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))

    @calibration.register
    def between_means(known_scores, unknown_scores, target_acceptance=0.5):
        middle = (np.mean(known_scores) + np.mean(unknown_scores)) / 2
        return calibration.Threshold(
            value=float(np.float32(middle)),
            method="between_means",
            guarantee="None.",
            num_calibration=len(known_scores),
            target_acceptance=target_acceptance,
        )

    request = ThresholdRequest(method="between_means")
    assert request.needs == {"unknown_scores"}
    assert request.choose(KNOWN, UNKNOWN)[0].value == pytest.approx(1, abs=0.1)
