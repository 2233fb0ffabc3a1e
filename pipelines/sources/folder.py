"""Folders of pictures: a user's own data."""

import os
import pathlib

import numpy as np

from ood_keras.conventions import UNKNOWN, UNKNOWN_LABEL
from ood_keras.pipelines.sources import base, pictures
from ood_keras.pipelines.split import ROLES


def open_path(request):
    """Opens `folder:PATH`.

    Sub-folders are classes; a folder without sub-folders is one unknown class. If the
    sub-folders are called train, validation and test (or some of these), each of them
    is such a folder and becomes that split; else the images are dealt out 60 : 20 : 20.
    """
    root = pathlib.Path(request.argument).expanduser()
    if not root.is_dir():
        raise base.DataNotFoundError(
            f"{request.spec}: there is no folder {root.absolute()}. Expected a folder "
            "with one sub-folder of pictures per class, or with unknown pictures"
        )
    parts = _parts(root)
    classes = {part: _classes(folder) for part, folder in parts.items()}
    with_classes = [part for part, found in classes.items() if found is not None]
    if with_classes and len(with_classes) < len(classes):
        raise ValueError(
            f"{root}: {with_classes[0]} has class folders, but not all of "
            f"{', '.join(classes)} have. Give all of them class folders, or none"
        )
    names = {name for found in classes.values() for name in found or ()}
    class_names = sorted(names, key=_natural_order)
    indices = {name: index for index, name in enumerate(class_names)}

    def reader(part):
        def read():
            if classes[part] is None:
                files = _pictures(parts[part])
                labels = np.full(len(files), UNKNOWN, np.int32)
            else:
                found = [
                    (file, indices[name])
                    for name in sorted(classes[part], key=_natural_order)
                    for file in _pictures(parts[part] / name)
                ]
                files = [file for file, _ in found]
                labels = np.array([label for _, label in found], np.int32)
            decoded = (
                pictures.decode(file.read_bytes(), file, request.background)
                for file in files
            )
            return pictures.stack(decoded, files, request.image_shape), labels

        return read

    readers = {part: reader(part) for part in parts}
    return base.from_parts(request, class_names, readers)


def _parts(root):
    """Returns `{part: folder}`, `{"all": root}` if there are no folders of splits."""
    folders = [folder.name for folder in _folders(root)]
    splits = [name for name in folders if name in ROLES]
    if not splits:
        return {"all": root}
    others = sorted(set(folders) - set(splits))
    if others:
        raise ValueError(
            f"{root} has both folders of splits ({', '.join(splits)}) and other ones "
            f"({', '.join(others[:5])}). Expected only {', '.join(ROLES)}, or only one "
            "folder per class"
        )
    return {role: root / role for role in ROLES if role in splits}


def _classes(folder):
    """Returns the names of the class folders, `None` if there are none."""
    folders = _folders(folder)
    loose = _pictures(folder)
    if not folders and not loose:
        raise base.DataNotFoundError(
            f"no pictures in {folder.absolute()}. Expected files that end in "
            f"{', '.join(pictures.SUFFIXES)}, or one sub-folder of them per class"
        )
    if not folders:
        return None
    if loose:
        raise ValueError(
            f"{folder} has pictures beside its class folders, for example "
            f"{loose[0].name}. Move them into a class folder, or out of {folder}"
        )
    for class_folder in folders:
        _check_name(class_folder)
        inner = _folders(class_folder)
        if inner:
            raise ValueError(
                f"{class_folder} is a class, so it may hold pictures only. Received: "
                f"the folder {inner[0].name} in it"
            )
        if not _pictures(class_folder):
            raise ValueError(
                f"the class folder {class_folder} has no pictures "
                f"({', '.join(pictures.SUFFIXES)}). Add some or remove the folder"
            )
    return [class_folder.name for class_folder in folders]


def _check_name(class_folder):
    """Raises if a class could not be called what its folder is called."""
    name = class_folder.name
    if name == UNKNOWN_LABEL:
        raise ValueError(
            f"{class_folder}: {UNKNOWN_LABEL} is what rejected images are called. "
            "Rename that class folder, or give its pictures as an unknown source of "
            "their own"
        )
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"a class folder in {class_folder.parent} has a name that is not UTF-8: "
            f"{os.fsencode(name)!r}. Rename it"
        ) from None


def _folders(folder):
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."
    )


def _pictures(folder):
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in pictures.SUFFIXES
        and path.name[0] != "."
        and path.is_file()
    )


def _natural_order(name):
    """Numbers by value before names by letter, so that class 10 follows class 9."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
