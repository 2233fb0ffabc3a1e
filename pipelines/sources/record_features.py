"""Which features of a record hold its picture and its class, and class names."""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Iterable, Mapping

from ood_keras import tfrecords
from ood_keras.pipelines.sources import layout
from ood_keras.tfrecords import Feature

IMAGE, LABEL = "image=", "label="
NONE = "none"
FORMS = {
    IMAGE: "the bytes feature that holds the encoded picture, if it is called neither "
    "image/encoded nor image",
    LABEL: "the int64 or bytes feature that holds the class, if it is called neither "
    "image/class/label nor label; none if there is none",
}
_TEXT = "image/class/text"
_LABELS = ("image/class/label", _TEXT, "label")
_FILENAMES = ("image/filename", "image/file_name", "filename", "file_name")
# What the usual writers note besides; no classes.
_ABOUT = re.compile(
    r"(.*/)?(height|width|depth|channels|format|colorspace|file_?name|source_id|id|"
    r"tfds_id|key|sha256|md5|url|rows|cols|encoded|bbox)(/.*)?|image/(object|key)/.*"
)
_LONGEST_NAME = 1000
_NUMBERED = re.compile(r"(\d+)\s*:\s*(.*)")


class BadRecord(ValueError):
    """A record that is no picture of a class, while others may be."""


@dataclasses.dataclass(frozen=True)
class Features:
    """The names of the features that are read.

    Attributes:
        image: That of the encoded picture.
        label: That of the class, an int64 or a text; `None` if all are unknown.
        text: That of the class's name, where `label` is its number, or `None`.
        filename: That of what the picture's file was called, or `None`.
    """

    image: str
    label: str | None = None
    text: str | None = None
    filename: str | None = None


def choose(found: Mapping[str, Feature], forms: Iterable[str], name: str) -> Features:
    """Returns the features to read, by those that a record has.

    Args:
        found: The features of one record.
        forms: `"image=NAME"` and `"label=NAME"`, as far as they were given.
        name: What messages call the record.

    Raises:
        ValueError: there is no such feature, or it cannot be told which one it is; the
            message lists what there is, and what to write.
    """
    given = dict(form.split("=", 1) for form in forms)
    image = given.get("image") or next(filter(found.get, tfrecords.IMAGE_NAMES), None)
    if image is None or image not in found:
        raise _error(found, name, f"a picture in {_either(given.get('image'))}", IMAGE)
    if found[image].kind != "bytes":
        raise _error(
            found,
            name,
            f"an encoded picture (PNG, JPEG, ...) in {image!r}, which holds "
            f"{found[image].kind}",
            IMAGE,
        )
    label = given.get("label")
    if label is None:
        label = _find_label(found, image, name)
    elif label == NONE:
        label = None
    elif label not in found or found[label].kind == "float":
        raise _error(found, name, f"a class in {label!r}, int64 or bytes", LABEL)
    text = _TEXT if label == _LABELS[0] and _TEXT in found else None
    filename = next((one for one in _FILENAMES if one in found), None)
    return Features(image, label, text, filename)


def _either(image: str | None) -> str:
    return repr(image) if image else " or ".join(map(repr, tfrecords.IMAGE_NAMES))


def _find_label(found: Mapping[str, Feature], image: str, name: str) -> str | None:
    usual = [one for one in _LABELS if one in found]
    if "label" in usual and len(usual) > 1:
        raise _error(found, name, f"one class. Received: {' and '.join(usual)}", LABEL)
    if usual:
        return usual[0]
    others = [
        one
        for one, feature in found.items()
        if one != image and feature.kind != "float" and not _ABOUT.fullmatch(one)
    ]
    if others:
        raise _error(
            found, name, f"a class in one of {', '.join(map(repr, _LABELS))}", LABEL
        )
    return None


def _error(
    found: Mapping[str, Feature], name: str, expected: str, form: str
) -> ValueError:
    kinds = [f"{one} ({feature.kind})" for one, feature in found.items()]
    none = f"; @{LABEL}{NONE} if the pictures have none" if form == LABEL else ""
    return ValueError(
        f"{name}: expected {expected}. Its features: "
        f"{tfrecords.list_names(kinds) or 'none'}. Name the right one behind the path, "
        f"as in tfrecord:PATH@{form}NAME{none}"
    )


def read_label(
    found: Mapping[str, Feature], features: Features
) -> tuple[int | str | None, str | None]:
    """Returns the class of a record, a number or a name, and the name of a number.

    Args:
        found: The features of the record.
        features: What to read.

    Returns:
        `(label, name)`; a label of `None` is unknown, as -1 is; `name` is `None` where
        the record has none.

    Raises:
        BadRecord: it has no class, or one that is none.
    """
    if features.label is None:
        return None, None
    feature = found.get(features.label)
    if feature is None or feature.kind == "float" or len(feature.values) != 1:
        raise BadRecord(f"has no class in its feature {features.label!r}")
    (label,) = feature.values
    if isinstance(label, int):
        if label < -1:
            raise BadRecord(
                f"has the class {label}; expected 0 or more, or -1 for unknown"
            )
        text = found.get(features.text) if features.text else None
        name = _decode(text.values[0]) if text and len(text.values) == 1 else None
        return (None if label == -1 else label), name or None
    return _decode(label), None


def find_class(found: Mapping[str, Feature]) -> str | None:
    """Returns the first feature of a record that is usually its class, or `None`."""
    return next((name for name in _LABELS if name in found), None)


def find_names(folder: pathlib.Path, label: str) -> pathlib.Path | None:
    """Returns the file in a folder that names the numbers of a feature, or `None`."""
    for name in ("labels.txt", f"{label.replace('/', '-')}.labels.txt"):
        if (folder / name).is_file():
            return folder / name
    return None


def read_filename(found: Mapping[str, Feature], features: Features) -> str:
    """Returns what the picture's file was called, or ""."""
    feature = found.get(features.filename or "")
    if feature is None or feature.kind != "bytes" or len(feature.values) != 1:
        return ""
    (name,) = feature.values
    return bytes(name).decode(errors="replace")[:_LONGEST_NAME]  # type: ignore[arg-type]


def _decode(text: memoryview | int) -> str:
    name = bytes(text)[: _LONGEST_NAME + 1]  # type: ignore[arg-type]
    try:
        if len(name) <= _LONGEST_NAME:
            return name.decode()
    except UnicodeDecodeError:
        pass
    raise BadRecord(f"has a class whose name is too long or not UTF-8: {name[:60]!r}")


class ClassNames:
    """Collects the classes of records, and names them."""

    def __init__(self) -> None:
        self._named: Mapping[int, str] = {}
        self._file: pathlib.Path | None = None
        self._found: dict[int | str, str | None] = {}

    def name_by(self, file: pathlib.Path) -> None:
        """Takes the names of numbers from a file, see `read_names`."""
        self._named, self._file = read_names(file), file

    def add(self, label: int | str, name: str | None) -> None:
        """Notes a class.

        Raises:
            BadRecord: it has another name than before, or none in the file of names,
                or is a text where others are numbers.
        """
        if self._file is not None and isinstance(label, int):
            name = self._named.get(label)
            if not name:
                raise BadRecord(
                    f"has the class {label}, which {self._file} does not name"
                )
        first = next(iter(self._found), label)
        if isinstance(first, int) != isinstance(label, int):
            raise BadRecord(f"has the class {label!r}, where others have {first!r}")
        known = self._found.setdefault(label, name)
        if name is not None and known is None:
            self._found[label] = name
        elif name is not None and name != known:
            raise BadRecord(
                f"has the name {name!r} for class {label}, which others call {known!r}"
            )

    def in_order(self) -> dict[int | str, str]:
        """Returns the names of all classes: by their numbers, or sorted as folders are.

        A class without a name is called by its number, and those of one name by that
        and their numbers: two classes of ImageNet are called "crane".
        """
        texts = [label for label in self._found if isinstance(label, str)]
        numbers = sorted(label for label in self._found if isinstance(label, int))
        count = collections.Counter(self._found.values())
        named: dict[int | str, str] = {}
        for number in numbers:
            name = self._found[number]
            if name is not None and count[name] > 1:
                name = f"{name} ({number})"
            named[number] = name or str(number)
        for text in sorted(texts, key=layout.natural_order):
            named[text] = text
        return named


def read_names(path: pathlib.Path) -> dict[int, str]:
    """Returns `{number: name}` of a file of names.

    One name a line, by its number from 0; or `NUMBER:NAME`, as TF-Slim writes it.

    Raises:
        ValueError: it is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error})") from error
    lines = [line.strip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [_NUMBERED.fullmatch(line) for line in lines if line]
    if numbered and all(numbered):
        return {int(match[1]): match[2] for match in numbered if match}
    return dict(enumerate(lines))
