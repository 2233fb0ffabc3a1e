"""Threshold methods by name, from the library and from outside."""

import functools

import numpy as np
import pytest

from ood_keras import calibration
from ood_keras.calibration import registry

SCORES = np.arange(40, dtype=np.float32)


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))


def test_those_that_do_with_known_scores_are_told_from_the_others():
    every, of_known = calibration.names(), calibration.names(of_known_scores=True)
    assert every == sorted(every) and of_known == sorted(of_known)
    assert {"conformal", "conformal_per_class", "lowest_cost", "quantile"} <= set(every)
    assert {"conformal", "quantile"} <= set(of_known) < set(every)
    assert not {"conformal_per_class", "lowest_cost"} & set(of_known)


@pytest.mark.parametrize("name", calibration.names())
def test_a_name_gives_the_function_of_the_room(name):
    assert calibration.get(name) is getattr(calibration, name)


@pytest.mark.parametrize("name", calibration.names(of_known_scores=True))
def test_known_scores_are_all_that_these_need(name):
    """What commands and conversions do with them, and what is written down."""
    threshold = calibration.get(name, of_known_scores=True)(SCORES, 0.9)
    assert isinstance(threshold, calibration.Threshold)
    assert threshold.method == name
    assert threshold.target_acceptance == 0.9
    assert threshold.accepts(SCORES).mean() >= 0.9
    points = calibration.operating_points(SCORES, SCORES + 9, (0.9,), method=name)
    assert points[0].threshold == threshold


def test_a_method_from_outside():
    @calibration.register
    def in_between(known_scores, target_acceptance=0.95, *, slack=0.0):
        return calibration.quantile(known_scores, target_acceptance - slack)

    @calibration.register
    def with_more(known_scores, prior):
        return calibration.quantile(known_scores, prior)

    assert calibration.get("in_between", of_known_scores=True) is in_between
    assert "in_between" in calibration.names(of_known_scores=True)
    assert "with_more" in calibration.names()
    with pytest.raises(
        ValueError, match=r"'with_more' needs known_scores, prior;.*in_b"
    ):
        calibration.get("with_more", of_known_scores=True)


def test_the_same_cell_may_run_twice_and_another_function_may_not():
    for _ in range(2):

        @calibration.register
        def mine(known_scores):
            return None

    assert calibration.get("mine") is mine
    another = functools.wraps(calibration.quantile)(lambda known_scores: None)
    another.__module__ = "elsewhere"
    with pytest.raises(
        ValueError, match=r"threshold method 'quantile' is ood_keras.*quantile already"
    ):
        calibration.register(another)
    assert calibration.get("quantile") is calibration.quantile


@pytest.mark.parametrize("name", ["conformel", "", None])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(
        ValueError, match=r"unknown threshold method.*conformal, quantile"
    ):
        calibration.get(name, of_known_scores=True)


def test_lowest_cost_is_refused_where_only_known_scores_are():
    with pytest.raises(
        ValueError, match=r"'lowest_cost' needs .*unknown_scores, prior"
    ):
        calibration.get("lowest_cost", of_known_scores=True)
    with pytest.raises(ValueError, match="'conformal_per_class' needs"):
        calibration.operating_points(SCORES, SCORES, method="conformal_per_class")


@pytest.mark.parametrize("method", [3, "quantile", lambda scores: None, np.quantile])
def test_what_is_no_method_is_explained(method):
    with pytest.raises(TypeError, match="first parameter is `known_scores`"):
        calibration.register(method)
