"""Sources whose pictures are listed one by one before any is read.

Files of a folder, members of a zip file, records: whatever they lie in, they are dealt
out, kept together, left out, read and cached in the same way.
"""

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from ood_keras.conventions import UNKNOWN
from ood_keras.pipelines import grouping, pixel_cache
from ood_keras.pipelines.sources import base, pictures, registry
from ood_keras.pipelines.sources import forms as general_forms
from ood_keras.pipelines.sources.layout import Layout
from ood_keras.pipelines.sources.spec import parse
from ood_keras.pipelines.split import ROLES, Role

# How many copies in two splits a warning names.
_NUM_NAMES = 3


class Lister(Protocol):
    """What finds the pictures of a source.

    With `go_on`, what is wrong with single classes is not raised but listed in
    `Layout.problems`.
    """

    def __call__(self, request: base.Request, *, go_on: bool = False) -> Layout: ...


_LISTERS: dict[str, Lister] = {}


def register(
    *, name: str, forms: Mapping[str, str] = types.MappingProxyType({})
) -> Callable[[Lister], Lister]:
    """Returns a decorator that registers a source, `name:PATH`, by its `Lister`.

    Args:
        name: What the spec begins with.
        forms: As for `registry.register`.
    """

    def keep(lister: Lister) -> Lister:
        def open_path(request: base.Request) -> base.Source:
            return _open(request, lister(request))

        _LISTERS[name] = lister
        registry.register(open_path, name=name, argument="PATH", forms=forms)
        return lister

    return keep


def names() -> list[str]:
    """Returns what the specs of these sources begin with."""
    return sorted(_LISTERS)


def is_listed(spec: str) -> bool:
    """Whether a spec names a source whose pictures are listed.

    >>> is_listed("folder:pictures[cat]"), is_listed("mnist")
    (True, False)
    """
    return spec.strip().partition(":")[0] in _LISTERS


def find_pictures(spec: str) -> Layout:
    """Lists the pictures of such a source and goes on where a class is wrong.

    Args:
        spec: The spec string; a choice of classes and general forms in it are
            passed over.
    """
    parsed = parse(spec)
    name, _, argument = parsed.base.partition(":")
    own = general_forms.leave_own(parsed.forms)
    request = base.Request(parsed.base, argument, forms=own)
    return _LISTERS[name](request, go_on=True)


def _open(request: base.Request, found: Layout) -> base.Source:
    if found.left_out:
        others = pictures.count(found.left_out)
        base.warn(
            f"{request.spec}: {pictures.describe_others(others)} are left out"
            f"{pictures.advise(others)}"
        )
    if found.nested:
        base.warn(
            f"{request.spec}: {len(found.nested):,} folders lie within class folders, "
            f"for example {found.name(found.nested[0])}; their pictures count for the "
            "class. If these folders are the classes, give the folder above them"
        )
    links = found.find_links_out()
    if links:
        name, target = next(iter(links.items()))
        base.warn(
            f"{request.spec}: {len(links):,} links lead out of the folder and are "
            f"followed, for example {name} to {target}"
        )
    group_by = grouping.parse(request.group_by)
    keys: dict[Any, tuple[str, ...]] = {}
    if group_by:
        keys, remark = found.read_keys(group_by, request.spec)
        if remark:
            base.warn(f"{request.spec}: {remark}")
    compared = _ComparedParts(request.spec, found)
    indices = {name: index for index, name in enumerate(found.class_names)}

    def keep(part):
        return [
            (file, UNKNOWN if name is None else indices[name])
            for file, name in found.pictures[part]
            if found.name(file) not in request.leave_out
        ]

    @functools.cache
    def check_parts():
        if request.image_shape is None and len(found.pictures) > 1:
            pictures.check_parts(
                ((file for file, _ in keep(part)) for part in found.pictures),
                request.background,
                exif_orientation=request.exif_orientation,
            )

    def reader(part):
        def read():
            # Before all that a training needs is decoded, which may take long.
            if part != "test":
                check_parts()
            kept = keep(part)
            files, labels = [file for file, _ in kept], [label for _, label in kept]
            find_copies = group_by.copies
            images, looks = pictures.read_all(
                files,
                _key(request, found, part, files),
                request.background,
                request.image_shape,
                exif_orientation=request.exif_orientation,
                find_looks=find_copies,
            )
            if find_copies:
                compared.add(part, files, looks)
            groups = None
            if group_by:
                alike = grouping.same_keys([keys[file] for file in files])
                if find_copies:
                    alike = [*grouping.find_copies(looks), *alike]
                groups = grouping.number(alike, len(files))
            short = list(map(found.short_name, files))
            return images, np.array(labels, np.int32), short, groups

        return read

    readers = {part: reader(part) for part in found.pictures}
    return base.from_parts(request, found.class_names, readers)


class _ComparedParts:
    """Warns of copies in two parts of a source, when both of them are read.

    What is dealt out here keeps copies together; folders `train` and `test` of the
    user's own stay as they are, and the files of copies may differ.

    Args:
        spec: What messages call the source.
        found: Its pictures.
    """

    def __init__(self, spec: str, found: Layout) -> None:
        self._spec, self._found = spec, found
        self._read: dict[Role, tuple[list[Any], Mapping[str, np.ndarray]]] = {}

    def add(
        self, part: Role, files: list[Any], looks: Mapping[str, np.ndarray]
    ) -> None:
        """Notes a part that is read, and compares it with those that were before.

        Args:
            part: Its name.
            files: Its files.
            looks: What `grouping.Looks.arrays` returned of them.
        """
        self._read[part] = files, looks
        for other in self._read:
            if other != part:
                first, last = sorted((part, other), key=ROLES.index)
                self._compare(first, last)
        if len(self._read) == len(self._found.pictures):
            self._read.clear()

    def _compare(self, first: Role, last: Role) -> None:
        files, looks = self._read[last]
        other_files, others = self._read[first]
        copied = grouping.find_across(looks, others)
        if not copied:
            return
        name = self._found.name
        some = [
            f"{name(files[row])} of {name(other_files[other])}"
            for row, other in list(copied.items())[:_NUM_NAMES]
        ]
        base.warn(
            f"{self._spec}: {len(copied):,} of {len(files):,} pictures in {last} are "
            f"copies of pictures in {first}, equal or nearly so, for example "
            f"{', '.join(some)}. What is measured on them looks better than it is. "
            f"Look at them with ood-data {self._spec}, and keep each in one split"
        )


def _key(
    request: base.Request, found: Layout, part: str, files: list[Any]
) -> pixel_cache.Key:
    """What the pixel cache knows the pictures of a part by."""
    making = {
        "folder": str(found.root.resolve()),
        "part": part,
        "image_shape": request.image_shape,
        "background": request.background,
        "exif_orientation": request.exif_orientation,
        **({"forms": request.forms} if request.forms else {}),
    }
    return pixel_cache.Key(request.spec, making, found.stamps(files))
