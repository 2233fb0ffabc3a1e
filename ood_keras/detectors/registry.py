"""Detectors by name; a class of your own registers itself as the library's do."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

from ood_keras import plugins
from ood_keras.detectors.base import Detector

# What a detector is made of: see `build`.
Description: TypeAlias = str | Detector | dict[str, Any]

_CLASSES: dict[str, type[Detector]] = {}
_Class = TypeVar("_Class", bound=type[Detector])


def register(detector_class: _Class) -> _Class:
    """Makes a detector known by its `name`; a class decorator.

    `get`, wrappers, ensembles, the commands, `save` and `load` then take it by that
    name. Whoever loads a saved one imports the module that registers it first.

    Raises:
        TypeError: it is no subclass of `Detector` with a name.
        ValueError: another class has the name already.

    Example:

    >>> @detectors.register
    ... class LargestFeature(detectors.Detector):
    ...     name = "largest_feature"
    ...
    ...     def score_outputs(self, outputs):
    ...         return -keras.ops.max(outputs["features"], axis=-1)
    >>> detector = detectors.get("largest_feature", num_classes=10).fit(model)
    """
    if not (isinstance(detector_class, type) and issubclass(detector_class, Detector)):
        raise TypeError(
            f"expected a subclass of detectors.Detector. Received: {detector_class!r}"
        )
    name = detector_class.name
    if not isinstance(name, str) or not name:
        raise TypeError(f"{detector_class.__name__} needs a `name`, a text")
    plugins.check_free("detector", name, _CLASSES.get(name), detector_class)
    _CLASSES[name] = detector_class
    return detector_class


def names() -> list[str]:
    """The names that `get` takes, sorted."""
    return sorted(_CLASSES)


def get(name: str, **hyper_parameters: Any) -> Detector:
    """A new, unfitted detector.

    Args:
        name: One of `names()`.
        **hyper_parameters: Its constructor's arguments.

    Raises:
        ValueError: there is no such detector; the error lists those there are.
        TypeError: it has no such argument; the error lists those it has.

    Example:

    >>> detector = get("msp", num_classes=10, temperature=2.0)
    """
    if not isinstance(name, str) or name not in _CLASSES:
        raise plugins.UnknownNameError(
            f"unknown detector {name!r}; expected one of: {', '.join(names())}"
        )
    expected = _arguments(_CLASSES[name])
    unknown = [argument for argument in hyper_parameters if argument not in expected]
    if unknown:
        raise TypeError(
            f"unknown argument of {name!r}: {', '.join(unknown)}; expected some of: "
            f"{', '.join(expected)}"
        )
    return _CLASSES[name](**hyper_parameters)


def build(description: Description) -> Detector:
    """A new, unfitted detector from its name, another detector, or a dict.

    Args:
        description: A name; a `Detector`, whose arguments are taken; or a dict
            `{"name": ..., argument: value}`.

    Raises:
        TypeError: it is none of them.
    """
    if isinstance(description, Detector):
        return type(description).from_config(description.get_config())
    if isinstance(description, str):
        return get(description)
    if isinstance(description, dict) and "name" in description:
        return get(**description)
    raise TypeError(
        'a detector must be given as a name, a Detector or a dict {"name": ..., '
        f"argument: value}}. Received: {description!r}"
    )


def by_name(
    detectors: Iterable[Description] | Mapping[str, Description],
) -> dict[str, Description]:
    """Descriptions by the names of the detectors, or by those they were given.

    Raises:
        TypeError: as for `build`.
        ValueError: two have one name.
    """
    if isinstance(detectors, Mapping):
        return dict(detectors)
    named: dict[str, Description] = {}
    for description in detectors:
        name = _name_of(description)
        if name in named:
            raise ValueError(
                f"two detectors are called {name!r}. Give each once, or a dict "
                "{name: detector} to tell them apart"
            )
        named[name] = description
    return named


def is_registered(detector: Detector) -> bool:
    """Whether `get` would make a detector of the same class by its name."""
    return _CLASSES.get(detector.name) is type(detector)


def _name_of(description: Description) -> str:
    if isinstance(description, str):
        return description
    if isinstance(description, dict) and isinstance(description.get("name"), str):
        return description["name"]
    return build(description).name


def _arguments(detector_class: type[Detector]) -> list[str]:
    """The names of the arguments of a detector's constructor and those of its bases."""
    return sorted(
        {
            name
            for part in detector_class.__mro__[:-1]
            for name, parameter in inspect.signature(part).parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        }
    )
