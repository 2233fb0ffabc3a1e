"""Folders of pictures: a user's own data."""

import pathlib

import numpy as np

from ood_keras.conventions import UNKNOWN
from ood_keras.pipelines import grouping, pixel_cache
from ood_keras.pipelines.sources import base, layout, pictures
from ood_keras.pipelines.sources.registry import register


@register(name="folder", argument="PATH")
def open_path(request: base.Request) -> base.Source:
    """Opens `folder:PATH`.

    Sub-folders are classes; a folder without sub-folders is one unknown class. If the
    sub-folders are called train, validation and test (or some of these, or as
    `base.role_of` knows them: Training, val, ...), each of them is such a folder and
    becomes that split; else the images are dealt out 60 : 20 : 20. Pictures in folders
    within a class folder count for the class, which a `DataWarning` says. Files that
    are no pictures are left out with a `DataWarning` that counts them. All pictures
    that cannot be read are named in one error.
    """
    found = layout.read(find(request), formats=request.formats)
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
    group_by = grouping.parse(request.group_by) if request.group_by else None
    keys: dict[pathlib.Path, tuple[str, ...]] = {}
    if group_by is not None:
        keys, remark = found.read_keys(group_by, request.spec)
        if remark:
            base.warn(f"{request.spec}: {remark}")
    indices = {name: index for index, name in enumerate(found.class_names)}

    def reader(part):
        def read():
            kept = [
                (file, UNKNOWN if name is None else indices[name])
                for file, name in found.pictures[part]
                if found.name(file) not in request.leave_out
            ]
            files, labels = [file for file, _ in kept], [label for _, label in kept]
            find_copies = group_by is not None and group_by.copies
            images, looks = pictures.read_all(
                files,
                _key(request, found, part, files),
                request.background,
                request.image_shape,
                exif_orientation=request.exif_orientation,
                find_looks=find_copies,
            )
            names = [f"{file.parent.name}/{file.name}" for file in files]
            groups = None
            if group_by is not None:
                alike = grouping.same_keys([keys[file] for file in files])
                if find_copies:
                    alike = [*grouping.find_copies(looks), *alike]
                groups = grouping.number(alike, len(files))
            return images, np.array(labels, np.int32), names, groups

        return read

    readers = {part: reader(part) for part in found.pictures}
    return base.from_parts(request, found.class_names, readers)


def _key(
    request: base.Request, found: layout.Layout, part: str, paths: list[pathlib.Path]
) -> pixel_cache.Key:
    """What the pixel cache knows the pictures of a part by."""

    def describe(path):
        about = path.stat()
        return found.name(path), about.st_size, about.st_mtime_ns

    making = {
        "folder": str(found.root.resolve()),
        "part": part,
        "image_shape": request.image_shape,
        "background": request.background,
        "exif_orientation": request.exif_orientation,
    }
    return pixel_cache.Key(request.spec, making, map(describe, paths))


def find(request: base.Request) -> pathlib.Path:
    """Returns the folder that a request asks for.

    Raises:
        DataNotFoundError: there is none.
    """
    root = pathlib.Path(request.argument).expanduser()
    if not root.is_dir():
        raise base.DataNotFoundError(
            f"{request.spec}: there is no folder {root.absolute()}. Expected a folder "
            "with one sub-folder of pictures per class, or with unknown pictures"
        )
    return root
