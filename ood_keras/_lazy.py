"""Loads the rooms of the package on first use, and registers them with Keras.

Keras finds custom classes only in its registry, so a purely lazy package would break
`import ood_keras; keras.models.load_model(path)`. Instead the rooms that hold Keras
objects are imported right after Keras: at once if it is loaded already, else by an
import hook that fires when somebody loads it and then removes itself. Looking for Keras
(`importlib.util.find_spec`) is not loading it.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

_KERAS_ROOMS = ("layers", "losses", "metrics")


def attach(
    package: str, homes: dict[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns the `__getattr__` and `__dir__` of a package that loads on first use.

    Args:
        package: Name of the package.
        homes: Where each public name comes from: `"module"` for a module, or
            `"module:attribute"`.
    """

    def __getattr__(name):
        if name not in homes:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}; "
                f"it has: {', '.join(sorted(homes))}"
            )
        module, _, attribute = homes[name].partition(":")
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] == "tensorflow":
                raise _needs_tensorflow(f"{package}.{name}") from error
            raise
        return getattr(found, attribute) if attribute else found

    def __dir__():
        return sorted(homes)

    return __getattr__, __dir__


def check_tensorflow(what: str) -> None:
    """Raises a ModuleNotFoundError that names `what` if TensorFlow is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        raise _needs_tensorflow(what)


def _needs_tensorflow(what: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"{what} needs TensorFlow, which is not installed: pip install tensorflow",
        name="tensorflow",
    )


def register_with_keras() -> None:
    """Registers the package's Keras objects now, or as soon as Keras is imported."""
    if "keras" in sys.modules:
        _import_rooms()
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _import_rooms() -> None:
    for room in _KERAS_ROOMS:
        importlib.import_module(f"ood_keras.{room}")


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Lets the ordinary finders load Keras, then imports the rooms."""

    def __init__(self) -> None:
        self._searching = False

    def find_spec(self, name, path, target=None):
        if name != "keras" or self._searching:
            return None
        self._searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching = False
        if spec is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                _import_rooms()

            spec.loader.exec_module = exec_module
        return spec
