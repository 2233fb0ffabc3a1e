"""Every example in the docstrings of metrics and calibration runs as printed."""

import doctest
import importlib
import pkgutil

import pytest

from ood_keras import calibration, metrics
from ood_keras.calibration import registry
from ood_keras.metrics import measures

MODULES = [
    f"{room.__name__}.{module.name}"
    for room in (metrics, calibration)
    for module in pkgutil.iter_modules(room.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, monkeypatch):
    # What an example registers is forgotten after it.
    monkeypatch.setattr(measures, "_ALL", dict(measures._ALL))
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    module = importlib.import_module(name)
    names = {**vars(metrics), **vars(calibration), **vars(module)}
    assert doctest.testmod(module, globs=names).failed == 0
