"""The parts of a spec string, `SOURCE[:ARGUMENT][@FORM...][CLASSES]`."""

import dataclasses
import os
import re

from ood_keras.pipelines.sources import registry

_CLASSES = re.compile(r"(.+?)(?:\[([^\[\]]*)\])?", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a spec string says.

    Attributes:
        base: The source and its argument, "folder:pictures".
        forms: Names of forms, in the order in which they were given.
        classes: The text between the brackets at the end; `None` without brackets.
    """

    base: str
    forms: tuple[str, ...] = ()
    classes: str | None = None


def parse(spec: str) -> Spec:
    """Takes a spec string apart, whether or not such a source is known.

    A folder or file may itself be called `pictures[1]` or `me@home`: what exists is
    the path as it stands, and of a path only what is a form's name is a form.

    Args:
        spec: A spec string, as for `pipelines.load`.

    Example:

    >>> parse("emnist/letters@transposed[0-4]")
    Spec(base='emnist/letters', forms=('transposed',), classes='0-4')
    """
    spec = spec.strip()
    registered = registry.find(spec.partition(":")[0])
    is_path = registered is not None and registered.argument == "PATH"
    if is_path and _exists(spec):
        return Spec(spec)
    match = _CLASSES.fullmatch(spec)
    base, classes = match.groups() if match else ("", None)
    if registered is None or not is_path:
        base, *forms = base.split("@")
        return Spec(base, tuple(forms), classes)
    forms = []
    while not _exists(base):
        path, _, form = base.rpartition("@")
        if registered.find_form(form) is None:
            break
        base, forms = path, [form, *forms]
    return Spec(base, tuple(forms), classes)


def _exists(spec: str) -> bool:
    path = spec.partition(":")[2]
    return bool(path) and os.path.exists(os.path.expanduser(path))
