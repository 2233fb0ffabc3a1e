"""The `run.json` of a run, checked before anything is made of it."""

import json
import re

from ood_keras.pipelines import recipes

_SHA256 = re.compile(r"[0-9a-f]{64}")


def read(path):
    """Returns what a `run.json` holds.

    Args:
        path: The file, a `pathlib.Path`.

    Raises:
        ValueError: it is no JSON, or was changed so that it no longer says how the run
            was trained; names the entry.
    """
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _wrong(path, f"it is no JSON ({error})") from error
    _check(path, run, "the file", dict)
    settings = _entry(path, run, "settings", dict)
    _entry(path, run, "seed", int)
    _entry(path, settings, "known", str)
    for name in ("unknown", "class_names"):
        for value in _entry(path, settings, name, list):
            _check(path, value, f"each of `{name}`", str)
    shape = settings.get("image_shape")
    # None is the known source's own.
    if shape is not None and (
        len(_check(path, shape, "`image_shape`", list)) != 3
        or not all(type(size) is int and size > 0 for size in shape)
    ):
        raise _wrong(path, f"`image_shape` is not three sizes: {shape}")
    data_dir = settings.get("data_dir")
    if data_dir is not None:
        _check(path, data_dir, "`data_dir`", str)
    # Whoever needs a fingerprint says which is missing.
    for name, split in _check(
        path, settings.setdefault("data", {}), "`data`", dict
    ).items():
        _check(path, split, f"`data` of {name}", dict)
        _entry(path, split, "images", int)
        if not _SHA256.fullmatch(_entry(path, split, "sha256", str)):
            raise _wrong(path, f"`sha256` of {name} is not 64 hexadecimal digits")
    try:
        recipes.Recipe(**_entry(path, settings, "recipe", dict))
    # A field that a recipe does not have, or a value that does not fit.
    except (TypeError, ValueError) as error:
        raise _wrong(path, f"`recipe` is none: {error}") from error
    return run


def check_classes(path, settings, known_source):
    """Raises if a run's classes are not those of the source that it names.

    Args:
        path: The `run.json`, for the message.
        settings: Its settings.
        known_source: The source of the known images.
    """
    recorded, found = settings["class_names"], list(known_source.class_names)
    if recorded != found:
        raise ValueError(
            f"{path} names the classes {_shown(recorded)}, and {known_source.name} has "
            f"{_shown(found)}. A class was renamed since, or the file was changed; "
            "undo that, or train again"
        )


def _entry(path, mapping, name, kind):
    if name not in mapping:
        raise _wrong(path, f"`{name}` is missing")
    return _check(path, mapping[name], f"`{name}`", kind)


def _check(path, value, name, kind):
    # JSON's true is an int to Python.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _wrong(path, f"{name} must be {_KINDS[kind]}, and is {value!r:.80}")
    return value


_KINDS = {dict: "an object", list: "a list", str: "a text", int: "an integer"}


def _wrong(path, reason):
    return ValueError(
        f"{path} does not say how the run was trained: {reason}. It was changed or "
        "damaged; restore it, or train again"
    )


def _shown(names):
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
