"""What an audit knows of each picture of the sources it looks at."""

import concurrent.futures
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import threadpoolctl

from ood_keras import image_files
from ood_keras.conventions import UNKNOWN
from ood_keras.pipelines import contents, copies, dealing, grouping, likeness
from ood_keras.pipelines.sources import listed, loading, pictures
from ood_keras.pipelines.sources.spec import parse
from ood_keras.pipelines.split import Role
from ood_keras.types import ImageShape, Path

# Whether the images of a source are known ones or unknown ones.
Kind: TypeAlias = Literal["known", "unknown"]

# So many results may wait, so that reading does not run ahead without end.
_BATCH = 1024


@dataclasses.dataclass(slots=True)
class Picture:
    """One picture, or a file that should have been one.

    Attributes:
        source: Number of its source in `Collection.sources`.
        name: What messages call it: its path within the source's folder, or the split
            and number of an array.
        class_name: Its class, or `None` if it is unknown.
        role: The split that it is in, or is dealt out to; `None` if it is not read.
        part: The split that the source itself says, by its folders or official parts;
            `None` if it is dealt out. Of a training part some may be dealt out to
            validation: their `role` is that, and their `part` is not.
        file: What its bytes are read from, as from a path; or `None` for an image of an
            array.
        image: The image of an array, or `None`.
        error: Why it cannot be read, or `None`.
        content: A hash of the file's bytes, or of the pixels of an array.
        pixels: A hash of the decoded pixels and their shape; empty if not decoded.
        shape: `(height, width, channels)`, or `None` if not decoded.
        spread: How many levels, of 255, the pixels span in the liveliest channel.
        keys: What its name has in common with others, see `grouping.read_keys`.
        copy_of: A number that it shares with its copies; 0 without such, or where
            copies were not asked to stay together.
    """

    source: int
    name: str
    class_name: str | None
    role: Role | None = None
    part: Role | None = None
    file: Any = None
    image: np.ndarray | None = dataclasses.field(default=None, repr=False)
    error: str | None = None
    content: bytes = b""
    pixels: bytes = b""
    shape: ImageShape | None = None
    spread: int = 255
    keys: tuple[str, ...] = ()
    copy_of: int = 0


@dataclasses.dataclass(frozen=True)
class AuditedSource:
    """One of the sources that are looked at.

    Attributes:
        spec: Its spec string.
        kind: Whether its images are known or unknown ones.
        class_names: Names of its classes.
        left_out: `{name: what it is}` of the files that are no pictures.
        problems: What is wrong with single classes, in words.
        links: `{name: target}` of links that lead out of its folder.
        nested: Folders within class folders, whose pictures count for the class.
        is_made: Whether its images are made and not read: there are none to look at.
    """

    spec: str
    kind: Kind
    class_names: tuple[str, ...]
    left_out: dict[str, str]
    problems: tuple[str, ...] = ()
    links: dict[str, str] = dataclasses.field(default_factory=dict)
    nested: tuple[str, ...] = ()
    is_made: bool = False


@dataclasses.dataclass
class Collection:
    """All that an audit looks at.

    Attributes:
        sources: The sources.
        pictures: All pictures of all sources, in order.
        codes: uint64 `(pictures, 4)`, perceptual hashes, see `likeness.code`; `None` if
            pixels were not looked at.
        vectors: float16 `(pictures, features)`, see `likeness.describe`; `None` too.
    """

    sources: list[AuditedSource]
    pictures: list[Picture]
    codes: np.ndarray | None = None
    vectors: np.ndarray | None = None

    def kind(self, picture: Picture) -> Kind:
        return self.sources[picture.source].kind

    def where(self, picture: Picture) -> str:
        """Returns the picture's name, with its source if there are several."""
        if len(self.sources) == 1:
            return picture.name
        return f"{self.sources[picture.source].spec}: {picture.name}"


def gather(
    known: Iterable[str],
    unknown: Iterable[str] = (),
    *,
    data_dir: Path | None = None,
    background: int | None = image_files.BACKGROUND,
    decode: bool = True,
    only_listed: bool = False,
    group_by: str | Iterable[str] = (),
    image_shape: ImageShape | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Collection:
    """Reads all pictures of some sources, and goes on where one cannot be read.

    Args:
        known: Specs of known sources, as for `pipelines.load`.
        unknown: Specs of unknown sources. Those that are made, such as `synthetic`,
            have nothing to look at.
        data_dir: The folder of the data sets.
        background: What transparent pixels are laid on, see `pipelines.load`.
        decode: Whether to decode the pictures. Otherwise files are looked at as far as
            their bytes tell: that finds what is empty, truncated or no picture, and
            equal files.
        only_listed: Whether to pass over sources of arrays, such as "mnist".
        group_by: What makes pictures of folders belong together when they are dealt
            out to splits, see `pipelines.load`; "copies" needs `decode`.
        progress: Called with how many of how many files are read.

    Returns:
        The `Collection`.

    Raises:
        ValueError: a spec is unknown, or it cannot be told what the folders of a
            source are.
        DataNotFoundError: a source is not there.
    """
    kinds: list[tuple[str, Kind]] = [(spec, "known") for spec in known]
    kinds += [(spec, "unknown") for spec in unknown]
    ways = grouping.parse(group_by)
    sources: list[AuditedSource] = []
    pictures_of: list[list[Picture]] = []
    classes_of: list[Sequence[str]] = []
    are_grouped: list[bool] = []
    for spec, kind in kinds:
        if listed.is_listed(spec):
            source, some, classes, is_grouped = _list_files(
                len(sources), spec, kind, ways
            )
        elif only_listed:
            continue
        else:
            source, some = _list_arrays(
                len(sources), spec, kind, data_dir, background, image_shape
            )
            classes, is_grouped = source.class_names, False
        sources.append(source)
        pictures_of.append(some)
        classes_of.append(classes)
        are_grouped.append(is_grouped)
    # Of a choice of classes the others are dealt out too, but not looked at.
    found = [
        one
        for source, some in zip(sources, pictures_of, strict=True)
        for one in some
        if one.class_name is None or one.class_name in source.class_names
    ]
    collection = Collection(sources, found)
    look = _look if decode else _glance
    seen = list(_in_order(look, found, background, progress))
    if decode:
        count = len(seen)
        collection.codes = np.zeros((count, likeness.CODE_WORDS), np.uint64)
        collection.vectors = np.zeros((count, likeness.NUM_FEATURES), np.float16)
        for row, each in enumerate(seen):
            if each is not None:
                collection.codes[row], collection.vectors[row] = each
    if ways.copies:
        for group in _find_copies(collection):
            for row in group:
                found[row].copy_of = group[0] + 1
    for dealt in zip(pictures_of, classes_of, are_grouped, strict=True):
        _deal_out(*dealt)
    return collection


def _list_files(number, spec, kind, ways):
    found = listed.find_pictures(spec)
    class_names, classes = found.class_names, parse(spec).classes
    if classes is not None:
        indices = loading.parse_classes(spec, classes, class_names)
        class_names = [class_names[index] for index in indices]
    keys: dict[Any, tuple[str, ...]] = {}
    if ways:
        try:
            keys, _ = found.read_keys(ways, spec)
        except grouping.NothingGroupedError:
            if kind == "known":
                raise
            ways = ways.without_names()
    some = [
        Picture(
            number,
            found.name(file),
            class_name,
            role=None if part == "all" else part,
            part=None if part == "all" else part,
            file=file,
            keys=keys.get(file, ()),
        )
        for part, files in found.pictures.items()
        for file, class_name in files
    ]
    source = AuditedSource(
        spec,
        kind,
        tuple(class_names),
        {found.name(file): what for file, what in found.left_out.items()},
        tuple(found.problems),
        {name: str(target) for name, target in found.find_links_out().items()},
        tuple(map(found.name, found.nested)),
    )
    return source, some, found.class_names, bool(ways)


def _list_arrays(number, spec, kind, data_dir, background, image_shape):
    if kind == "unknown" and loading.is_made(spec):
        # What is equal or plain among them is as it was meant.
        return AuditedSource(spec, kind, (), {}, is_made=True), []
    options = {"data_dir": data_dir, "background": background}
    try:
        return _list_splits(number, spec, kind, loading.load(spec, **options))
    except ValueError:
        if image_shape is None:
            raise
        # Its images have no one size, so they are looked at as they would be trained
        # with; any other error comes again.
        opened = loading.load(spec, image_shape=image_shape, **options)
        return _list_splits(number, spec, kind, opened)


def _list_splits(number, spec, kind, opened):
    some = []
    for role in opened.roles:
        split = opened.split(role)
        for row, (image, label) in enumerate(
            zip(split.images, split.labels, strict=True)
        ):
            name = split.files[row] if split.files else f"{role} {row}"
            class_name = split.class_names[label] if label >= 0 else None
            some.append(
                Picture(number, name, class_name, role=role, part=role, image=image)
            )
    source = AuditedSource(spec, kind, opened.class_names, {})
    return source, some


def _in_order(look, found, background, progress) -> Iterator:
    """What `look` returns of each, by several threads: decoding leaves Python free."""
    # Those of the linear algebra would only be in the way of each other.
    one_thread_each = threadpoolctl.threadpool_limits(1)
    with one_thread_each, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(found), _BATCH):
            batch = found[start : start + _BATCH]
            yield from pool.map(lambda one: look(one, background), batch)
            if progress is not None:
                progress(start + len(batch), len(found))


def _look(picture: Picture, background: int | None):
    """Decodes one picture and fills in what it is; returns its code and features."""
    image = picture.image
    if image is None:
        content = _read(picture)
        if content is None:
            return None
        try:
            image = pictures.decode(content, "", background)
        except ValueError as error:
            picture.error = str(error).strip()
            return None
    picture.shape = image.shape
    picture.pixels = likeness.hash_pixels(image)
    picture.content = picture.content or picture.pixels
    picture.spread = int(contents.measure_spread(image[np.newaxis])[0])
    return likeness.measure(image)


def _glance(picture: Picture, background: int | None) -> None:
    """Checks one file without decoding it, and fills in what that tells."""
    content = _read(picture)
    if content is None:
        return
    try:
        pictures.check(content, "")
    except ValueError as error:
        picture.error = str(error).strip()


def _read(picture: Picture) -> bytes | None:
    """The bytes of a picture's file, whose hash is noted; `None`, and why, if not."""
    if picture.file is None:
        raise ValueError(f"expected the picture of a file. Received: {picture.name!r}")
    try:
        content = picture.file.read_bytes()
    except OSError as error:
        picture.error = f"cannot be opened: {error.strerror or error}"
        return None
    except ValueError as error:  # Of what lies in another file.
        picture.error = str(error)
        return None
    picture.content = _hash(content)
    return content


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _find_copies(collection: Collection) -> list[list[int]]:
    """Groups of rows that are equal, or nearly so where pixels were looked at."""
    some = collection.pictures
    groups = copies.equal_groups("" if one.error else one.content for one in some)
    if collection.codes is not None and collection.vectors is not None:
        says_much = [
            one.shape is not None and copies.says_much(one.shape, one.spread)
            for one in some
        ]
        groups += copies.equal_groups(one.pixels for one in some)
        groups += copies.near_groups(collection.codes, collection.vectors, says_much)
    return copies.merge(groups, len(some))


def _deal_out(
    some: Sequence[Picture], class_names: Sequence[str], grouped: bool
) -> None:
    """Notes the splits that the pictures of a source will be in, as it deals them.

    Args:
        some: All pictures of the source.
        class_names: Names of all of its classes.
        grouped: Whether some belong together.
    """
    readable = [one for one in some if one.error is None]
    indices: dict[str | None, int] = {None: UNKNOWN}
    indices |= {name: index for index, name in enumerate(class_names)}
    parts = {one.role or "all" for one in readable}
    for part in parts:
        rows = [one for one in readable if (one.role or "all") == part]
        if rows[0].file is None:
            continue
        labels = np.array([indices[one.class_name] for one in rows])
        roles = dealing.roles_of_part(part, parts)
        if grouped and len(roles) > 1:
            groups = grouping.number(
                [
                    *grouping.same_keys([one.keys for one in rows]),
                    *copies.equal_groups(one.copy_of for one in rows),
                ],
                len(rows),
            )
            dealt: Any = dealing.deal_out(labels, groups, roles)
        else:
            dealt = dealing.carve(labels, roles)
        for role, chosen in dealt.items():
            for row in range(len(rows)) if chosen is None else chosen:
                rows[row].role = role
