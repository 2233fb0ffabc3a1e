"""Threshold methods by name, the library's and one's own."""

import inspect
from collections.abc import Callable
from typing import TypeVar

from ood_keras import plugins

_Method = TypeVar("_Method", bound=Callable)
_METHODS: dict[str, Callable] = {}


def register(method: _Method) -> _Method:
    """Makes a threshold method known by the name of its function; a decorator.

    Put it into a module of your own and import that module (commands do so with
    `ood_keras.plugins.load`); the library's methods are registered in the same way.
    One that can be called as `method(known_scores, target_acceptance)`, all other
    arguments having defaults, can be chosen in `ood-export` and `ood-calibrate`, and is
    called again where a conversion changes the scores.

    Args:
        method: Function whose first parameter is `known_scores`, `ood_score`s
            `(num_images,)`, higher means more likely unknown. It returns a `Threshold`
            (or `ClassThresholds`) with its own name as `method`.

    Returns:
        `method`.

    Raises:
        TypeError: it is no function of `known_scores`.
        ValueError: another function has this name.

    Example:

    >>> import numpy as np
    >>> @register
    ... def largest(known_scores, target_acceptance=1.0):
    ...     return Threshold(
    ...         value=float(np.float32(max(known_scores))),
    ...         method="largest",
    ...         guarantee="Accepts all images that it was chosen on.",
    ...         num_calibration=len(known_scores),
    ...         target_acceptance=target_acceptance,
    ...     )
    >>> get("largest")([0.0, 1.0, 3.0]).value
    3.0
    """
    if not inspect.isfunction(method) or (
        next(iter(inspect.signature(method).parameters), None) != "known_scores"
    ):
        raise TypeError(
            "a threshold method is a function whose first parameter is `known_scores`. "
            f"Received: {method!r}"
        )
    name = method.__name__
    plugins.check_free("threshold method", name, _METHODS.get(name), method)
    _METHODS[name] = method
    return method


def get(name: str, *, of_known_scores: bool = False) -> Callable:
    """Returns the threshold method of this name, a function.

    Args:
        name: Such as "conformal".
        of_known_scores: Whether it must do with `(known_scores, target_acceptance)`,
            as is all that a command has.

    Raises:
        ValueError: no such method, or it needs more; the message lists those that do.
    """
    if name not in _METHODS:
        raise plugins.UnknownNameError(
            f"unknown threshold method {name!r}; expected one of: "
            f"{', '.join(names(of_known_scores=of_known_scores))}"
        )
    method = _METHODS[name]
    if of_known_scores and name not in names(of_known_scores=True):
        raise ValueError(
            f"the threshold method {name!r} needs {', '.join(_needs(method))}; here "
            "are the scores of known images and a target acceptance. Choose one of: "
            f"{', '.join(names(of_known_scores=True))}"
        )
    return method


def names(*, of_known_scores: bool = False) -> list[str]:
    """Returns the names of all threshold methods, in the order of the alphabet.

    Args:
        of_known_scores: Only those that do with `(known_scores, target_acceptance)`.
    """
    return [
        name
        for name, method in sorted(_METHODS.items())
        if not of_known_scores or _does_with_known_scores(method)
    ]


def _does_with_known_scores(method: Callable) -> bool:
    return not set(_needs(method)) - {"known_scores", "target_acceptance"} and (
        list(inspect.signature(method).parameters)[1:2] == ["target_acceptance"]
    )


def _needs(method: Callable) -> list[str]:
    """Names of the arguments that have no default."""
    return [
        name
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
