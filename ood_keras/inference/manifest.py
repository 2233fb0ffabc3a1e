"""`manifest.json`: what an exported model is, and that it is still the same."""

import datetime
import hashlib
import json
import pathlib
import platform
from collections.abc import Callable, Mapping

from ood_keras import files
from ood_keras.inference import manifest_form
from ood_keras.types import Json, Path

NAME = "manifest.json"
# Raised when a reader of the old form could misread the new one.
FORMAT = 1
_CHECKSUM = "manifest_sha256"


def write(
    folder: Path,
    content: Json,
    *,
    pages: Mapping[str, Callable[[Json], str]] | None = None,
) -> None:
    """Writes `content` as the manifest of `folder`, with the checksum of every file.

    Args:
        folder: An exported model that is otherwise complete.
        content: A dict for JSON; time, versions and checksums are added.
        pages: `{name: render}`: files to write first, whose text `render` makes of the
            manifest. The manifest that it is given does not list the pages themselves.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from ood_keras._version import __version__

    folder = pathlib.Path(folder)
    pages = pages or {}
    for name in pages:
        (folder / name).unlink(missing_ok=True)
    content = {
        "format": FORMAT,
        **content,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "ood_keras": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "files": {name: _measure(path) for name, path in _files(folder).items()},
    }
    for name, text in {name: pages[name](content) for name in pages}.items():
        files.write_text(folder / name, text)
        content["files"][name] = _measure(folder / name)
    content[_CHECKSUM] = _own_checksum(content)
    files.write_json(folder / NAME, content)


def read(folder: Path) -> Json:
    """Reads the manifest of `folder` and checks every file against it.

    The checksums find damage and mix-ups. They are not a signature: whoever can change
    the files can change the checksums too.

    Returns:
        The manifest, a dict.

    Raises:
        FileNotFoundError: `folder` is not an exported model.
        ValueError: it was made by a newer version, or a file is damaged, changed,
            missing or was added; or an entry of the manifest is not what it must be.
    """
    folder = pathlib.Path(folder)
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} is not an exported model: it has no {NAME}. Expected a folder "
            "DIR/VERSION that ood_keras.export.saved_model wrote" + _versions_in(folder)
        )
    try:
        content = manifest_form.parse(path.read_bytes())
        checksum, listed = content[_CHECKSUM], content["files"]
        newer = content["format"] > FORMAT
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damage_error(folder, [f"{NAME} cannot be read"]) from error
    if newer:
        raise ValueError(
            f"{folder} was exported by a newer ood_keras (format {content['format']}; "
            f"this version reads {FORMAT}). Upgrade ood_keras"
        )
    if checksum != _own_checksum(content):
        # Then what it says about the other files is worth nothing either.
        raise _damage_error(folder, [f"{NAME} was changed"])
    problems = manifest_form.problems(content)
    if problems:
        raise ValueError(
            f"the {NAME} of {folder} is not as export wrote it, and the model is not "
            f"loaded: {_some(problems)}. Copy the folder again from its "
            "source, or export the model again"
        )
    present = _files(folder)
    for name, expected in listed.items():
        if name not in present:
            problems.append(f"{name} is missing")
        elif present[name].stat().st_size != expected["bytes"]:
            problems.append(
                f"{name} has {present[name].stat().st_size} bytes instead of "
                f"{expected['bytes']}"
            )
        elif _sha256(present[name]) != expected["sha256"]:
            problems.append(f"{name} was changed")
    problems += [f"{name} was added" for name in sorted(present.keys() - listed.keys())]
    if problems:
        raise _damage_error(folder, problems)
    return content


def background(content: Json) -> int | None:
    """The grey level on which a model lays transparent pixels of files.

    `None` for one of a version that dropped alpha.

    Args:
        content: What `read` returned.
    """
    return (content["input"].get("image_bytes") or {}).get("background")


def exif_orientation(content: Json) -> bool:
    """Whether a model turns JPEG files as their camera's note says.

    Those of versions before this did not.

    Args:
        content: What `read` returned.
    """
    return (content["input"].get("image_bytes") or {}).get("exif_orientation", False)


def _files(folder: Path) -> dict[str, pathlib.Path]:
    """The files that the manifest answers for, by name; hidden ones are not."""
    folder = pathlib.Path(folder)
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            found[name.as_posix()] = path
    found.pop(NAME, None)
    return found


def _measure(path: pathlib.Path) -> Json:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_checksum(content: Json) -> str:
    rest = {key: value for key, value in content.items() if key != _CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _versions_in(folder: pathlib.Path) -> str:
    versions = sorted(path.parent.name for path in folder.glob(f"*/{NAME}"))
    return f"; versions found in it: {', '.join(versions)}" if versions else ""


def check_alike(folder: Path, found: Mapping[str, tuple[object, object]]) -> None:
    """Raises unless what a manifest says is what the model beside it is.

    Checksums cannot tell: whoever changes the manifest can make them anew.

    Args:
        folder: The exported model, for the message.
        found: `{what: (in the manifest, in the model)}`; `None` for what the model
            does not tell.

    Raises:
        ValueError: they contradict each other, with all that differs.
    """
    differing = [
        f"{what}: {stated!r} in the manifest, {made!r} in the model"
        for what, (stated, made) in found.items()
        if made is not None and stated != made
    ]
    if differing:
        raise ValueError(
            f"the {NAME} of {folder} contradicts the model beside it, which is not "
            f"loaded: {_some(differing)}. Copy the folder again from its source, or "
            "export the model again; for another threshold, use ood-calibrate"
        )


def _some(sentences: list[str], most: int = 5) -> str:
    left = len(sentences) - most
    more = [f"and {left} more"] if left > 0 else []
    return "; ".join([*sentences[:most], *more])


def _damage_error(folder: pathlib.Path, problems: list[str]) -> ValueError:
    return ValueError(
        f"{folder} is damaged or was changed after it was exported, and is not loaded: "
        f"{'; '.join(problems)}. Copy it again from its source, or export it again"
    )
