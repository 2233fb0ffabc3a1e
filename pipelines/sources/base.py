"""What every data source is made of."""

import dataclasses
import pathlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ood_keras.conventions import UNKNOWN, check_count
from ood_keras.image_files import BACKGROUND
from ood_keras.pipelines import dealing, pixel_cache, stored_images
from ood_keras.pipelines.data_warning import warn
from ood_keras.pipelines.split import ROLES, Role, Split, check_classes
from ood_keras.types import ImageShape

# What files and folders of splits are called elsewhere.
_SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev", "development"),
    "test": ("test", "testing"),
}
DEFAULT_COUNT = 10_000


class DataNotFoundError(FileNotFoundError):
    """A source is neither on disk nor on a server; says where it was looked for."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What `pipelines.load` was asked for; what opens a source receives it.

    Args:
        spec: The spec string without forms and classes: `"folder:pictures"`.
        argument: What follows the colon, or `""`.
        data_dir: `pathlib.Path` of the folder of data sets, or `None`.
        image_shape: `(height, width, channels)` to convert to, or `None`.
        seed: For sources that are made, not read.
        known: `Source` or `Split` that `synthetic` starts from, or `None`.
        count: Images per split for sources that are made, or `None`.
        background: Grey level that transparent pixels are laid on; `None` drops alpha.
        exif_orientation: Whether JPEG files are turned as their camera's note says.
        leave_out: Names of files, within the folder of the source, to leave out.
        group_by: What makes pictures belong together, see `grouping.parse`.
        formats: The formats of pictures to read of a folder, as `transcoding.formats`
            names them; `None` is all that can be read here.
        forms: Names of those forms to open the source in that it was registered with.
    """

    spec: str
    argument: str = ""
    data_dir: pathlib.Path | None = None
    image_shape: ImageShape | None = None
    seed: int = 0
    known: "Source | Split | None" = None
    count: int | None = None
    background: int | None = BACKGROUND
    exif_orientation: bool = True
    leave_out: frozenset[str] = frozenset()
    group_by: tuple[str, ...] = ()
    formats: tuple[str, ...] | None = None
    forms: tuple[str, ...] = ()


class Source:
    """A data set with up to three splits, read on first use.

    Made by `pipelines.load`. The functions that open one make it with `from_parts` or
    `from_generator`; see `pipelines.register`.

    Args:
        name: The spec string.
        class_names: One name per class; empty if all images are unknown.
        roles: The splits it has, a part of `("train", "validation", "test")`.
        load_split: Function from a role to its `Split`; called once per role.
        load_whole: Of a source without parts of its own, which is dealt out to all
            roles: function that returns all images as a test `Split`.
        background: Grey level that transparent pixels were laid on.
        exif_orientation: Whether JPEG files were turned as their camera's note says.
    """

    def __init__(
        self,
        name: str,
        class_names: Iterable[str],
        roles: Iterable[Role],
        load_split: Callable[[Role], Split],
        load_whole: Callable[[], Split] | None = None,
        *,
        background: int | None = BACKGROUND,
        exif_orientation: bool = True,
    ) -> None:
        self.name = name
        self.class_names = tuple(class_names)
        self.roles = tuple(roles)
        self.background = background
        self.exif_orientation = exif_orientation
        self._load_split, self._load_whole = load_split, load_whole
        self._splits: dict[str, Split] = {}

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def is_dealt_out(self) -> bool:
        """Whether it has no parts of its own, so that its images are dealt out."""
        return self._load_whole is not None

    @property
    def image_shape(self) -> ImageShape:
        """`(height, width, channels)`; reads the smallest split to know it."""
        return self.split(self.roles[-1]).image_shape

    @property
    def train(self) -> Split:
        return self.split("train")

    @property
    def validation(self) -> Split:
        return self.split("validation")

    @property
    def test(self) -> Split:
        return self.split("test")

    def split(self, role: Role) -> Split:
        """Returns the `Split` of a role.

        Raises:
            ValueError: the source has no such split, or one with images of another
                shape than those of a split that was read.
        """
        if role not in ROLES:
            raise ValueError(f"`role` must be one of {ROLES}. Received: {role!r}")
        if role not in self.roles:
            raise ValueError(
                f"{self.name} has no {role} split here, only {', '.join(self.roles)}. "
                "Test images are never trained or tuned on; use another source for "
                f"{role}"
            )
        if role not in self._splits:
            split = self._load_split(role)
            for other in self._splits.values():
                if split.image_shape != other.image_shape:
                    raise ValueError(
                        f"{self.name}: all splits must have images of one shape. "
                        f"Received: {other.role} {other.image_shape}, {role} "
                        f"{split.image_shape}. Give image_shape=(height, width, "
                        "channels), --image_shape=H,W,C of ood-train, to convert them "
                        "all"
                    )
            self._splits[role] = split
        return self._splits[role]

    def whole_test(self) -> Split:
        """Returns all images as a test split, if the source is dealt out to all roles.

        For a source that is tested on and used for nothing else. One that has a test
        part gives that.
        """
        if self._load_whole is None:
            return self.test
        if "whole" not in self._splits:
            self._splits["whole"] = self._load_whole()
        return self._splits["whole"]

    def select(self, classes: Iterable[int], name: str | None = None) -> "Source":
        """Returns the source of some classes only, relabelled `0..len(classes)-1`.

        Args:
            classes: Indices into `class_names`, in the new order.
            name: Name of the result; made from the indices if left out.
        """
        classes = check_classes(self.name, classes, self.class_names)
        return self._derive(
            name or f"{self.name}[{','.join(map(str, classes))}]",
            [self.class_names[index] for index in classes],
            lambda split: split.select(classes),
        )

    def change_images(
        self, change: Callable[[np.ndarray], np.ndarray], name: str
    ) -> "Source":
        """Returns the source with its images changed; classes and splits stay.

        Args:
            change: Function from uint8 `(num_images, height, width, channels)` to as
                many images.
            name: Name of the result.
        """
        return self._derive(
            name,
            self.class_names,
            lambda split: dataclasses.replace(
                split, images=stored_images.change(split.images, change)
            ),
        )

    def look_at(self, look: Callable[[Split], None]) -> "Source":
        """Returns the source; each split is shown to a function when it is read.

        Args:
            look: Called with the `Split`.
        """

        def show(split):
            look(split)
            return split

        return self._derive(self.name, self.class_names, show)

    def _derive(
        self, name: str, class_names: Iterable[str], change: Callable[[Split], Split]
    ) -> "Source":
        def load_split(role):
            return dataclasses.replace(change(self.split(role)), source=name)

        def load_whole():
            return dataclasses.replace(change(self.whole_test()), source=name)

        return Source(
            name,
            class_names,
            self.roles,
            load_split,
            load_whole if self._load_whole else None,
            background=self.background,
            exif_orientation=self.exif_orientation,
        )

    def __repr__(self) -> str:
        return f"<Source {self.name}: {self.num_classes} classes, {self.roles}>"


def from_parts(
    request: Request,
    class_names: Sequence[str],
    readers: Mapping[str, Callable[[], tuple[Any, ...]]],
    *,
    namespace: str | None = None,
) -> Source:
    """Returns a source whose fixed splits are carved from the parts on disk.

    Which image is in which split never depends on a seed. A training part without a
    validation part of its own gives every twelfth image of each class to validation
    (5,000 of MNIST's 60,000), taken at equal distances in file order. A part named
    `"all"` is dealt out 60 : 20 : 20.

    Args:
        request: The `Request`.
        class_names: One name per class.
        readers: `{part: function returning (images, labels), (images, labels, files)
            or (images, labels, files, groups)}`, where part is `"train"`,
            `"validation"`, `"test"` or `"all"`, `files` are names of the images, for
            messages, and `groups` integers: images of one number stay together, and
            each split gets some of each class, see `dealing.deal_out`.
        namespace: See `Split`.
    """
    roles_of = {part: dealing.roles_of_part(part, readers) for part in readers}
    loaded = {}

    def read(part):
        images, labels, *more = readers[part]()
        if len(images) == 0:
            raise ValueError(
                f"{request.spec}: its part for {' and '.join(roles_of[part])} has "
                "no images"
            )
        check_axes(request.spec, images.shape)
        if request.image_shape is not None:
            images = pixel_cache.adapt(images, request.image_shape)
        files, groups = (*more, None, None)[:2]
        return (images, labels, files or ()), groups

    def split(role, images, labels, files, rows):
        return Split(
            source=request.spec,
            role=role,
            images=images if rows is None else stored_images.choose(images, rows),
            labels=labels if rows is None else labels[rows],
            class_names=class_names,
            namespace=namespace,
            files=_some(files, rows),
        )

    def deal(labels, groups, roles):
        if groups is None or len(roles) == 1:
            return dealing.carve(labels, roles)
        rows = dealing.deal_out(labels, groups, roles)
        missing = dealing.find_missing(labels, rows, class_names)
        if missing:
            some = [
                f"{name} (none in {', '.join(roles)})"
                for name, roles in list(missing.items())[:20]
            ]
            warn(
                f"{request.spec}: {len(missing):,} classes have too few pictures, or "
                f"too few groups of them, for every split: {', '.join(some)}"
            )
        return rows

    def load_split(role):
        if role not in loaded:
            part = next(part for part in readers if role in roles_of[part])
            found, groups = read(part)
            carved = deal(found[1], groups, roles_of[part])
            for part_role, rows in carved.items():
                loaded[part_role] = split(part_role, *found, rows)
        return loaded.pop(role)

    def load_whole():
        return split("test", *read("all")[0], None)

    roles = [role for role in ROLES if any(role in part for part in roles_of.values())]
    return Source(
        request.spec,
        class_names,
        roles,
        load_split,
        load_whole if "all" in readers else None,
        background=request.background,
        exif_orientation=request.exif_orientation,
    )


def check_axes(spec: str, shape: tuple[int, ...]) -> None:
    """Raises or warns if images seem to have other axes than they are read with.

    Args:
        spec: The source, for messages.
        shape: `(num_images, height, width, channels)`.

    Raises:
        ValueError: the channels seem to come first, as PyTorch has them.

    Warns:
        DataWarning: there are other channels than those of grey or of RGB.
    """
    _, height, _, channels = shape
    if channels in (1, 3):
        return
    if height in (1, 3):
        raise ValueError(
            f"{spec}: images must have the axes (number, height, width, channels). "
            f"Received: shape {shape}, whose channels seem to come first; turn them "
            "with `images.transpose(0, 2, 3, 1)`"
        )
    warn(
        f"{spec}: images have {channels} channels, which are all taken as they are. No "
        "picture file has so many, so an exported model will take arrays alone. If one "
        "of them is transparency, lay the others on a background first"
    )


def _some(files: Sequence[str], rows: np.ndarray | None) -> tuple[str, ...]:
    return tuple(files if rows is None or not files else (files[row] for row in rows))


def role_of(name: str) -> Role | None:
    """Returns the split that a file or folder of this name is for, or `None`.

    >>> role_of("Training"), role_of("val"), role_of("cat")
    ('train', 'validation', None)
    """
    folded = name.strip().casefold()
    return next((role for role in ROLES if folded in _SPELLINGS[role]), None)


def not_found(
    request: Request, looked_for: Iterable[object], otherwise: str = ""
) -> DataNotFoundError:
    """Returns the error for a source that is nowhere; lists where it was looked for.

    Args:
        request: The `Request`.
        looked_for: The places.
        otherwise: What else can be done than to put the data into a folder, as ", or
            run once with a network".
    """
    if request.data_dir is None:
        looked_for = ["(no data_dir was given)", *looked_for]
    places = "\n".join(f"  - {place}" for place in looked_for)
    folder = "DATA_DIR"
    if not request.argument:
        folder += "/" + request.spec.replace("/", "_")
    return DataNotFoundError(
        f"data set {request.spec!r} was not found. Looked for:\n{places}\n"
        f"Put it into {folder}, see docs/data.md, and give that DATA_DIR as data_dir "
        f"(--data_dir){otherwise}"
    )


def from_generator(
    request: Request,
    image_shape: ImageShape,
    generate: Callable[[np.random.Generator, tuple[int, ...], Role], np.ndarray],
    roles: Sequence[Role] = ROLES,
) -> Source:
    """Returns a source of unknown images that a random generator makes.

    To be registered with `is_made=True`, so that a number of images can be asked for.

    Args:
        request: The `Request`; its seed and its count decide the images.
        image_shape: Shape of the images, unless the request asks for another.
        generate: Function `(random, shape, role)` returning uint8 images of that shape,
            `(count, height, width, channels)`.
        roles: The splits that can be made.
    """
    count = DEFAULT_COUNT if request.count is None else request.count
    shape = (check_count("count", count), *(request.image_shape or image_shape))

    def load_split(role):
        # Sources and roles must differ even with the same seed.
        words = [request.seed, ROLES.index(role), zlib.crc32(request.spec.encode())]
        images = generate(np.random.default_rng(words), shape, role)
        labels = np.full(len(images), UNKNOWN, np.int32)
        return Split(source=request.spec, role=role, images=images, labels=labels)

    return Source(request.spec, (), roles, load_split)
