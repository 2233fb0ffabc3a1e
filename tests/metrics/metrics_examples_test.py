"""Every example in the docstrings of metrics and calibration runs as printed."""

import doctest
import importlib
import pkgutil

import pytest

from ood_keras import calibration, metrics

MODULES = [
    f"{room.__name__}.{module.name}"
    for room in (metrics, calibration)
    for module in pkgutil.iter_modules(room.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    names = {**vars(metrics), **vars(calibration), **vars(module)}
    assert doctest.testmod(module, globs=names).failed == 0
