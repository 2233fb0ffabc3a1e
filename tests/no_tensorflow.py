"""Stands for a machine without TensorFlow: `python -m pytest -p no_tensorflow`."""

import importlib.machinery

_find_spec = importlib.machinery.PathFinder.find_spec


def _find_all_but_tensorflow(name, path=None, target=None):
    """As for a module that is not installed, nothing is found and nothing raised."""
    if name.partition(".")[0] == "tensorflow":
        return None
    return _find_spec(name, path, target)


importlib.machinery.PathFinder.find_spec = _find_all_but_tensorflow  # type: ignore[method-assign]
