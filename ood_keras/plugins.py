"""Modules of one's own that register detectors, metrics, data sources and so on."""

import functools
import importlib
import importlib.util
import pathlib
import sys
import traceback
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from ood_keras.types import Path


class UnknownNameError(ValueError):
    """Nothing is registered under a name; says how a name of one's own becomes known.

    Args:
        message: What the name is and which names there are.
    """

    def __init__(self, message: str) -> None:
        super().__init__(
            f"{message}. One of your own is known once the module that registers it is "
            "imported; a command imports it with --plugin=MODULE"
        )


def check_free(
    kind: str, name: str, taken: Any, given: Any, *, replaceable: bool = True
) -> None:
    """Raises a ValueError if a name belongs to something else already.

    The same class or function again is a module that was reloaded, or the cell of a
    notebook that ran again: one of the same module and the same qualified name may take
    the place of the first. Functions without a name (`lambda`) are the same if they say
    the same, and those of `functools.partial` if their arguments are the same too.

    Args:
        kind: What it is, as "detector".
        name: Its name.
        taken: What has the name, a class or a function, or `None`.
        given: What is to have it.
        replaceable: Whether the same again may take its place.
    """
    if taken is None or (replaceable and _origin(taken) == _origin(given)):
        return
    module, qualified_name, *_ = _origin(taken)
    raise ValueError(
        f"the {kind} {name!r} is {module}.{qualified_name} already; give "
        f"{_origin(given)[1]} another name"
    )


def _origin(thing: Any) -> tuple[Any, ...]:
    """Where a class or a function was written, and what tells it from others there."""
    arguments: tuple[Any, ...] = ()
    while isinstance(thing, functools.partial):
        arguments += thing.args, tuple(sorted(thing.keywords.items()))
        thing = thing.func
    name = getattr(thing, "__qualname__", repr(thing))
    code = thing.__code__ if name.endswith("<lambda>") else None
    return thing.__module__, name, code, arguments


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
        raise _failure(f"the plugin {name!r}", error) from error


def run_file(path: Path) -> ModuleType:
    """Runs a Python file that the user wrote and named, as a module.

    What lies beside the file can be imported from it, as where Python itself runs it,
    but only what is found nowhere else.

    Args:
        path: The file.

    Returns:
        The module.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: it fails; the message says where.
    """
    path = pathlib.Path(path).expanduser().absolute()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(f"_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file, whose name ends with .py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and the like look their module up.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise _failure(str(path), error, path) from error
    return module


def _failure(
    what: str, error: Exception, path: pathlib.Path | None = None
) -> ImportError:
    """Says where an import failed, in the file of this path if it did so there."""
    frames = traceback.extract_tb(error.__traceback__)
    last = [*frames, *(frame for frame in frames if frame.filename == str(path))][-1]
    return ImportError(
        f"{what} failed while it was imported, at line {last.lineno} of "
        f"{last.filename}: {type(error).__name__}: {error}"
    )
