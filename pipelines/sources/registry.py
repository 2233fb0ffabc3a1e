"""Data sources by name, the library's and one's own."""

import dataclasses
import inspect
import re
import types
from collections.abc import Callable, Mapping
from typing import Any

from ood_keras import plugins
from ood_keras.pipelines.sources import forms as general_forms
from ood_keras.pipelines.sources.base import Request, Source

# What a spec string is cut at, and what no file system and no list of specs takes.
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*")
_ARGUMENT = re.compile(r"[A-Z_]+")
# One that ends in "=" takes a value, as in `@label=target`.
_FORM = re.compile(r"[a-z0-9_.]+=?")


@dataclasses.dataclass(frozen=True)
class Registered:
    """What is known of a source that can be opened by name.

    Attributes:
        name: What its spec begins with.
        open: The function from a `Request` to a `Source`.
        argument: What follows the name and a colon, such as "PATH"; `None`: nothing.
        is_made: Whether its images are made, as many as `pipelines.load(count=)` says.
        licence: A sentence about the terms of use, for model cards; `None` if that is
            not recorded.
        forms: `{form: what it is}` of the forms that `open` itself heeds; `None` if the
            source has no forms at all, not the general ones either.
    """

    name: str
    open: Callable[[Request], Source]
    argument: str | None = None
    is_made: bool = False
    licence: str | None = None
    forms: Mapping[str, str] | None = dataclasses.field(default_factory=dict)

    @property
    def all_forms(self) -> dict[str, str]:
        """`{form: what it is}` of its own forms and the general ones."""
        if self.forms is None:
            return {}
        general = general_forms.GENERAL.items()
        return {**self.forms, **{name: form.description for name, form in general}}

    def find_form(self, text: str) -> str | None:
        """Returns which of `all_forms` a text behind an `@` is, or `None`."""
        name, equals, value = text.partition("=")
        form = f"{name}{equals}"
        return form if form in self.all_forms and bool(value) == bool(equals) else None

    @property
    def spec(self) -> str:
        """The spec string, with what is to be filled in in capitals."""
        return self.name if self.argument is None else f"{self.name}:{self.argument}"


_SOURCES: dict[str, Registered] = {}


def register(
    opener: Callable[[Request], Source] | None = None,
    /,
    *,
    name: str | None = None,
    argument: str | None = None,
    is_made: bool = False,
    licence: str | None = None,
    forms: Mapping[str, str] | None = types.MappingProxyType({}),
) -> Any:
    """Makes a data source known by name; a decorator, with or without arguments.

    Put it into a module of your own and import that module (commands do so with
    `--plugin=MODULE`); the library's sources are registered in the same way.
    `pipelines.load` and the commands then take the name as a spec string, with a choice
    of classes behind it or not.

    Args:
        opener: Function from a `pipelines.Request` to a `pipelines.Source`. It checks
            that the data is there, and leaves reading to the source: `from_parts`
            carves fixed splits out of what functions read, `from_generator` makes
            unknown images. Of the request it must heed `image_shape`, which these two
            do; `data_dir`, `argument`, `seed` and `count` where they mean something.
        name: What the spec begins with; default: the function's name. Letters, digits,
            `_`, `-`, `.`, and `/` between them.
        argument: What follows the name and a colon, in capitals, such as "PATH", for
            lists of sources; `None` if nothing does. What a user gave is the
            `argument` of the request. "PATH" is said of files and folders: brackets at
            the end of a path that exists belong to it.
        is_made: Whether images are made and not read, as many as `count` of the
            request says.
        licence: A sentence about the terms of use, which goes into model cards.
        forms: `{name: what it is}` of forms in which the source's images can be had,
            such as another filter; a user names them behind `@`, and `opener` finds
            the names in the request's `forms` and heeds them. A name that ends in "="
            takes a value, which follows it there. The general ones, "negative" and
            "transposed", need nothing. `None`: the source has no form.

    Returns:
        `opener`.

    Raises:
        TypeError: `opener` is no function of a request.
        ValueError: the name cannot begin a spec string, or is another source's; or a
            form has a name that cannot stand in one, or that of a general form.

    Example:

    >>> @pipelines.register(licence="made by a random generator", is_made=True)
    ... def stripes(request):
    ...     def generate(random, shape, role):
    ...         rows = random.integers(0, 256, (*shape[:2], 1, 1), dtype=np.uint8)
    ...         return np.broadcast_to(rows, shape)
    ...
    ...     return pipelines.from_generator(request, (28, 28, 1), generate)
    >>> pipelines.load("stripes", count=5).test.images.shape
    (5, 28, 28, 1)
    """
    if opener is None:
        return lambda given: register(
            given,
            name=name,
            argument=argument,
            is_made=is_made,
            licence=licence,
            forms=forms,
        )
    if not inspect.isfunction(opener) or len(inspect.signature(opener).parameters) != 1:
        raise TypeError(
            "a data source is registered as a function of one `pipelines.Request` that "
            f"returns a `pipelines.Source`. Received: {opener!r}"
        )
    name = opener.__name__ if name is None else name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            "the name of a data source is of letters, digits, _, - and ., and / "
            f"between them, as in my_set or my_sets/small. Received: name={name!r}"
        )
    if argument is not None and not _ARGUMENT.fullmatch(str(argument)):
        raise ValueError(
            "`argument` says in capitals what follows the colon, as PATH or NAME; None "
            f"if nothing does. Received: argument={argument!r}"
        )
    for form in forms or ():
        if not _FORM.fullmatch(form) or form in general_forms.GENERAL:
            raise ValueError(
                "a form is called by small letters, digits, _ and ., with = at the "
                "end where it takes a value, and not "
                f"{' or '.join(general_forms.GENERAL)}, which all sources have. "
                f"Received: {form!r} among the forms of {name}"
            )
    taken = _SOURCES.get(name)
    plugins.check_free("data source", name, taken and taken.open, opener)
    _SOURCES[name] = Registered(
        name, opener, argument, is_made, licence, None if forms is None else dict(forms)
    )
    return opener


def names() -> list[str]:
    """Returns the spec strings that `load` knows; capitals are to be filled in.

    Those of one's own are among them once the module that registers them is imported.
    """
    return sorted(
        (source.spec for source in _SOURCES.values()),
        key=lambda spec: (":" in spec, spec),
    )


def find(name: str) -> Registered | None:
    """Returns the source whose spec begins with `name`, or `None`."""
    return _SOURCES.get(name)


def list_made() -> list[str]:
    """Returns the names of the sources that are made, not read."""
    return sorted(source.name for source in _SOURCES.values() if source.is_made)
