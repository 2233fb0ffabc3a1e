"""Type hints on everything public, so that an editor knows what it is given."""

import functools
import importlib
import inspect

import pytest

ROOMS = (
    "calibration",
    "detectors",
    "evaluation",
    "export",
    "inference",
    "layers",
    "losses",
    "metrics",
    "models",
    "pipelines",
    "study",
    "training",
    "workflows",
)
# Of what Python calls by itself.
CALLED = ("__init__", "__call__")


def public_names():
    """Pairs of a room and a name of it."""
    for room in ROOMS:
        for name in importlib.import_module(f"ood_keras.{room}").__all__:
            yield room, name


def is_ours(thing):
    return (getattr(thing, "__module__", None) or "").split(".")[0] == "ood_keras"


def functions_of(thing, name):
    """Yields `(name, function)` of a function, or of a class or module with its own."""
    if inspect.isclass(thing):
        for cls in filter(is_ours, thing.__mro__):
            for attribute, value in vars(cls).items():
                if not attribute.startswith("_") or attribute in CALLED:
                    yield from unwrapped(value, f"{cls.__qualname__}.{attribute}")
    elif inspect.ismodule(thing):
        for attribute, value in vars(thing).items():
            if is_ours(value) and not attribute.startswith("_"):
                yield from unwrapped(value, f"{name}.{attribute}")
    else:
        yield from unwrapped(thing, name)


def unwrapped(value, name):
    if isinstance(value, (classmethod, staticmethod)):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    if inspect.isfunction(value) and is_ours(value):
        yield name, value


def missing_hints(function):
    """Names of the parameters without a hint, and "return"."""
    signature = inspect.signature(function)
    missing = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in ("self", "cls")
    ]
    if signature.return_annotation is signature.empty:
        missing.append("return")
    return missing


@pytest.mark.parametrize(("room", "name"), list(public_names()))
def test_what_is_public_has_type_hints(room, name):
    thing = getattr(importlib.import_module(f"ood_keras.{room}"), name)
    missing = {
        qualified: hints
        for qualified, function in functions_of(thing, name)
        if (hints := missing_hints(function))
    }
    assert not missing


def test_a_missing_hint_is_found():
    # As in a file of the package.
    space = {"__name__": "ood_keras.example"}
    exec(EXAMPLE, space)
    found = dict(functions_of(space["Example"], "Example"))
    assert {name: missing_hints(function) for name, function in found.items()} == {
        "Example.__init__": [],
        "Example.made": ["second", "third", "return"],
        "Example.size": ["return"],
        "Example.length": [],
    }


EXAMPLE = """
import functools


class Example:
    def __init__(self, *args, **kwargs) -> None: ...

    @classmethod
    def made(cls, first: int, second=2, *, third): ...

    @property
    def size(self): ...

    @functools.cached_property
    def length(self) -> int: ...

    def _hidden(self, value): ...
"""
