"""TFRecord files of encoded pictures and their classes, read without TensorFlow."""

import glob
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ood_keras import file_content, tfrecords
from ood_keras.pipelines import grouping
from ood_keras.pipelines.sources import (
    base,
    layout,
    listed,
    pictures,
    record_features,
)
from ood_keras.pipelines.sources.record_features import (
    BadRecord,
    ClassNames,
    Features,
)
from ood_keras.pipelines.sources.records import Record, Shard, Unpacked
from ood_keras.pipelines.split import ROLES
from ood_keras.tfrecords import Feature

_SUFFIX = ".tfrec"
# What is written beside such files, by TensorFlow Datasets among others.
_BESIDES = ("labels.txt", "features.json", "dataset_info.json")


class RecordLayout(layout.Layout):
    """A `Layout` whose pictures are records."""

    def name(self, file: Any) -> str:
        return file.name if isinstance(file, Record) else super().name(file)

    def short_name(self, file: Record) -> str:
        return file.name

    def stamps(self, files: Iterable[Record]) -> Iterator[tuple[str, int, int]]:
        shards = {}
        for file in files:
            if file.shard not in shards:
                about = shards[file.shard] = file.shard.path.stat()
                yield file.shard.name, about.st_size, about.st_mtime_ns
            yield file.name, file.place, 0

    def read_keys(self, group_by, source):
        files = [file for some in self.pictures.values() for file, _ in some]
        names = [file.filename or file.name for file in files]
        folders = ["/".join(name.split("/")[1:-1][:1]) for name in names]
        keys, remark = grouping.read_keys(group_by, names, folders, source)
        return dict(zip(files, keys, strict=True)), remark

    def find_links_out(self) -> dict[str, pathlib.Path]:
        return {}


@listed.register(name="tfrecord", forms=record_features.FORMS)
def list_records(request: base.Request, *, go_on: bool = False) -> RecordLayout:
    """Lists the pictures of `tfrecord:PATH`: a file, a glob, or a folder of such files.

    Each record is a `tf.train.Example` with an encoded picture and, if the pictures are
    known ones, their class, see `record_features`. A file is for the split that its
    name or its folder says, as `train-00000-of-00004` does; where none says so, all are
    dealt out 60 : 20 : 20. Records are in the order of the files' names.

    All files are walked over once to find the classes. A record that is no picture or
    has no class, and the place from which on a file is damaged, are as files of a
    folder that cannot be read: named together, and left out where that is asked for.
    """
    problems: list[str] = []

    def complain(problem: str) -> None:
        if not go_on:
            raise ValueError(problem)
        problems.append(problem)

    root, paths, left_out = _find(request)
    listing, unpacked = _Listing(request, root), Unpacked()
    parts = {
        part: [
            row
            for path in some
            for row in listing.read(
                Shard(path, path.relative_to(root).as_posix(), unpacked)
            )
        ]
        for part, some in _parts(root, paths).items()
    }
    if not any(parts.values()):
        raise base.DataNotFoundError(
            f"{request.spec}: its {len(paths):,} TFRecord files hold no records"
        )
    listing.check()
    names = listing.classes.in_order()
    class_names = list(names.values())
    for name in class_names:
        layout.check_name(request.spec, name)
    layout.check_case(request.spec, class_names, complain)
    named = {
        part: [
            (record, None if label is None else names[label]) for record, label in rows
        ]
        for part, rows in parts.items()
        if rows
    }
    return RecordLayout(root, class_names, named, left_out, problems)


class _Listing:
    """Reads what records say, by the features that the first good one has."""

    def __init__(self, request: base.Request, root: pathlib.Path) -> None:
        self._request, self._root = request, root
        self._features: Features | None = None
        self._problem = ""
        self.classes = ClassNames()

    def read(self, shard: Shard) -> Iterator[tuple[Record, int | str | None]]:
        """Yields the records of a file, each with its class."""
        number = -1
        records = shard.scan()
        while True:
            try:
                number, place, content = next(records)
            except StopIteration:
                return
            except ValueError as error:
                problem = f"is where the file is damaged; the rest is lost: {error}"
                self._problem = self._problem or f"{shard.name}[{number + 1}] {problem}"
                yield Record(shard, number + 1, 0, "", error=problem), None
                return
            yield self._read(shard, number, place, content)

    def check(self) -> None:
        """Raises if no record at all was understood."""
        if self._features is None:
            raise ValueError(
                f"{self._request.spec}: expected records that are tf.train.Examples, "
                f"and none is. The first: {self._problem}"
            )

    def _read(
        self, shard: Shard, number: int, place: int, content: bytes
    ) -> tuple[Record, int | str | None]:
        image, filename = "", ""
        try:
            found = tfrecords.read_features(content)
            features = self._features or self._begin(f"{shard.path}[{number}]", found)
            image = features.image
            filename = record_features.read_filename(found, features)
            if tfrecords.find_image(found, [image]) is None:
                raise BadRecord(f"has no picture in its feature {image!r}")
            self._check_unknown(f"{shard.path}[{number}]", found)
            label, name = record_features.read_label(found, features)
            if label is not None:
                self.classes.add(label, name)
        except (tfrecords.NoExampleError, BadRecord) as error:
            self._problem = self._problem or f"{shard.name}[{number}]: {error}"
            return Record(shard, number, place, image, filename, str(error)), None
        return Record(shard, number, place, image, filename), label

    def _begin(self, name: str, found: Mapping[str, Feature]) -> Features:
        features = record_features.choose(found, self._request.forms, name)
        if features.label and not features.text:
            file = record_features.find_names(self._root, features.label)
            if file is not None and found[features.label].kind == "int64":
                self.classes.name_by(file)
        self._features = features
        return features

    def _check_unknown(self, name: str, found: Mapping[str, Feature]) -> None:
        """Raises if a record has a class, and the first one had none."""
        features = self._features
        told = any(
            form.startswith(record_features.LABEL) for form in self._request.forms
        )
        if told or features is None or features.label is not None:
            return
        usual = record_features.find_class(found)
        if usual is not None:
            raise ValueError(
                f"{name} has a class, in {usual!r}, and records before it have none. "
                "Write the classes of all, or give tfrecord:PATH@label=none if all are "
                "unknown pictures"
            )


def _find(
    request: base.Request,
) -> tuple[pathlib.Path, list[pathlib.Path], dict[Any, str]]:
    """Returns the folder of the data, its TFRecord files, and what is left out.

    Raises:
        DataNotFoundError: there are none.
    """
    path = pathlib.Path(request.argument).expanduser()
    if path.is_file():
        root, some = path.parent, [path]
    elif path.is_dir():
        root = path
        folders: list[Any] = [path, *layout.walk_folders(path)]
        some = [
            file
            for folder in folders
            for file in folder.iterdir()
            if file.is_file() and not file_content.is_clutter(file.name)
        ]
    else:
        fixed = itertools.takewhile(lambda part: not glob.has_magic(part), path.parts)
        root = pathlib.Path(*fixed)
        matches = glob.glob(str(path), recursive=True) if root != path else []
        some = [file for file in map(pathlib.Path, matches) if file.is_file()]
    heads = {file: _read_head(file) for file in sorted(some)}
    kept = [
        file
        for file, head in heads.items()
        if tfrecords.begins(head) or _SUFFIX in file.name.lower()
    ]
    left_out = {
        file: f"{file.suffix.lower() or 'without extension'} (no TFRecords)"
        for file in heads
        if file not in set(kept) and not file.name.endswith(_BESIDES)
    }
    if not kept:
        but = pictures.describe_others(pictures.count(left_out)) if left_out else ""
        raise base.DataNotFoundError(
            f"{request.spec}: there are no TFRecord files at {path.absolute()}"
            f"{f', but {but}' if but else ''}. Expected such a file, a folder of them, "
            "or a pattern as in tfrecord:data/train-*"
        )
    return root, kept, left_out


def _read_head(path: pathlib.Path) -> bytes:
    try:
        with file_content.open_regular(path, tfrecords.begins) as file:
            return file.read(file_content.HEAD_BYTES)
    except file_content.UNREADABLE:
        return b""


def _parts(
    root: pathlib.Path, paths: list[pathlib.Path]
) -> dict[str, list[pathlib.Path]]:
    """Returns the files of each split, by their names or those of their folders."""
    parts: dict[str, list[pathlib.Path]] = {}
    for path in paths:
        names = path.relative_to(root).parts[::-1]
        roles = next(filter(None, map(layout.find_roles, names)), [])
        if len(roles) > 1 or not set(roles) <= set(ROLES):
            raise ValueError(
                f"{path} seems to be for {' or '.join(roles)}. Name files after one of "
                f"{', '.join(ROLES)}, as in train-00000-of-00004"
            )
        parts.setdefault(roles[0] if roles else "all", []).append(path)
    if "all" in parts and len(parts) > 1:
        named = next(
            path for part, some in parts.items() for path in some if part != "all"
        )
        raise ValueError(
            f"{root} has TFRecord files whose names say for which split they are, for "
            f"example {named.name}, and others, for example {parts['all'][0].name}. "
            f"Name all after {', '.join(ROLES)}, or none"
        )
    return {part: parts[part] for part in ("all", *ROLES) if part in parts}
