"""Modules of one's own that register metrics, threshold methods and so on."""

import importlib
import traceback
from collections.abc import Iterable
from types import ModuleType


def load(names: Iterable[str]) -> list[ModuleType]:
    """Imports modules that register what the library then knows by name.

    Use it before anything is looked up: a command does so with what `--plugin` names.
    Nothing but the named modules is imported, and no artifact names any: what a saved
    model or a manifest needs, its user imports. A module is imported once, however
    often it is named.

    Args:
        names: Names of modules that Python can import, such as
            `["my_metrics", "my_package.thresholds"]`; not paths of files.

    Returns:
        The modules, in that order.

    Raises:
        ValueError: a name is no dotted name.
        ImportError: a module is not found, or fails while it is imported; the message
            says which, where it was looked for or where it failed.

    Example:

    >>> [module.__name__ for module in load(["colorsys"])]
    ['colorsys']
    """
    if isinstance(names, str):
        names = [names]
    return [_load(name) for name in names]


def _load(name: str) -> ModuleType:
    is_file = str(name).endswith(".py")
    parts = name.split(".") if isinstance(name, str) else [""]
    if is_file or not all(part.isidentifier() for part in parts):
        hint = ""
        if is_file:
            hint = (
                "; for a file, give its name without .py, and the folder that it lies "
                "in on PYTHONPATH"
            )
        raise ValueError(
            "a plugin is the name of a Python module, such as my_metrics or "
            f"my_package.metrics{hint}. Received: {name!r}"
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ImportError(
                f"the plugin {name!r} needs the module {error.name!r}, which is not "
                "installed here",
                name=name,
            ) from error
        raise ImportError(
            f"there is no module {error.name!r} to load the plugin {name!r} from. "
            "Install it, or put the folder that it lies in on PYTHONPATH: "
            f"PYTHONPATH=FOLDER ood-evaluate --plugin={name} ...",
            name=name,
        ) from error
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise ImportError(
            f"the plugin {name!r} failed while it was imported, at line {last.lineno} "
            f"of {last.filename}: {type(error).__name__}: {error}",
            name=name,
        ) from error
