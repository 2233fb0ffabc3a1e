"""From a spec string to a data source."""

import collections
import difflib
import functools
import os
import pathlib
import re
from collections.abc import Iterable

from ood_keras import plugins
from ood_keras.image_files import BACKGROUND, check_background
from ood_keras.names import fold
from ood_keras.pipelines.sources import forms as general_forms
from ood_keras.pipelines.sources import listed, orientation, registry
from ood_keras.pipelines.sources.base import Request, Source
from ood_keras.pipelines.sources.spec import Spec, parse
from ood_keras.pipelines.split import Split
from ood_keras.types import ImageShape, Path

# Sources that may hold EMNIST, by the name of the path, and do not turn it upright.
_READ_AS_THEY_STAND = ("folder", "npz", "tfrecord", "zip")
_EMNIST = "emnist"


def load(
    spec: str,
    *,
    data_dir: Path | None = None,
    image_shape: Iterable[int] | None = None,
    seed: int = 0,
    known: Source | Split | None = None,
    count: int | None = None,
    background: int | str | None = BACKGROUND,
    exif_orientation: bool = True,
    leave_out: Iterable[str] = (),
    group_by: str | Iterable[str] = (),
    formats: Iterable[str] | None = None,
) -> Source:
    """Opens a data source by its spec string.

    Whether the data is there is checked now; images are read when a split is first
    used. The splits are the same whatever the seed: test is the official test part, and
    validation is carved from the training part.

    Args:
        spec: One of `names()`, for example `"mnist"`, `"emnist/letters"`,
            `"folder:pictures"`, `"tfds:svhn_cropped"`. A choice of classes may follow,
            by number, range or name: `"mnist[0-4]"`, `"mnist[0,2,5]"`,
            `"cifar10[cat,dog]"`; they are relabelled `0, 1, ...` in that order. A
            number counts the classes from 0, unless all names are numbers. Before
            it, each behind an `@`, may stand forms of the source, see `forms`:
            `"mnist@negative[0-4]"`, `"omniglot@as_distributed@area"`.
        data_dir: Folder of data sets, one folder each, looked in first.
        image_shape: `(height, width, channels)` to convert all images to, see
            `resizing.adapt`, with 1 or 3 channels, or those of `known`. Left out: the
            source's own shape.
        seed: For the sources that are made, not read: `synthetic` and the noises.
        known: `Source` or `Split` of known images that `synthetic` starts from.
        count: Images per split of a source that is made; 10,000 if left out.
        background: What transparent pixels of picture files are laid on: "white",
            "black" or a grey level from 0 to 255. `None` drops alpha, as versions
            before this argument did.
        exif_orientation: Whether to turn JPEG files as their camera's note says.
            Versions before this argument did not.
        leave_out: Of a `folder:`, `zip:` or `tfrecord:` source, pictures to leave out,
            each by its path within the folder, as "cat/1.png", or by file and number of
            the record, as "train-00000[17]". A name that is not there says nothing.
        group_by: Of such a source whose pictures are dealt out to splits, what makes
            pictures belong together, so that all of them go into one split: "copies",
            being equal or nearly so; "folder", lying in folders of one name within the
            class folders; a regular expression with one group, which is searched for in
            the path within the folder (of a record, in its `image/filename`) and whose
            text they share, as `r"patient(\\d+)_"`; or several of these. Each split
            then gets some of each class, and classes that have too few are named by a
            `DataWarning`. Left out, pictures are dealt out one by one.
        formats: Of a `folder:` or `zip:` source, the formats of pictures to read, such
            as "PNG", "JPEG" and "TIFF"; files of others are left out and counted.
            `None` is all that can be read here, see `transcoding.formats`; of other
            sources nothing.

    Returns:
        `Source` with `.train`, `.validation` and `.test`.

    Raises:
        ValueError: the spec or a form is unknown, an argument does not fit it, or the
            data is corrupt.
        TypeError: a source of one's own opens something else than a `Source`.
        DataNotFoundError: the data is not there; says where it was looked for.

    Example:

    ```python
    mnist = pipelines.load("mnist", data_dir="data")
    mnist.train.images.shape  # (55000, 28, 28, 1)
    ```
    """
    parsed = parse(str(spec))
    registered, argument = _find(str(spec), parsed)
    general = [form for form in parsed.forms if form in general_forms.GENERAL]
    if count is not None and not registered.is_made:
        raise ValueError(
            f"`count` is for sources that are made: {', '.join(registry.list_made())}. "
            f"Received: count={count} for {spec}; take images of a split with "
            "`take(num_images)`"
        )
    leave_out = frozenset(leave_out)
    if leave_out and not listed.is_listed(registered.spec):
        raise ValueError(
            f"`leave_out` names files of a {_listed()} source. Received: "
            f"{len(leave_out)} names for {spec}"
        )
    group_by = (group_by,) if isinstance(group_by, str) else tuple(group_by)
    if group_by and not listed.is_listed(registered.spec):
        raise ValueError(
            f"`group_by` groups pictures of a {_listed()} source; others have parts of "
            f"their own. Received: group_by={group_by} for {spec}"
        )
    request = Request(
        spec=parsed.base,
        argument=argument,
        data_dir=None if data_dir is None else pathlib.Path(data_dir).expanduser(),
        image_shape=general_forms.shape_before(
            general, _check_shape_beside(image_shape, known)
        ),
        seed=seed,
        known=known,
        count=count,
        background=None if background is None else check_background(background),
        exif_orientation=exif_orientation,
        leave_out=leave_out,
        group_by=group_by,
        formats=None if formats is None else tuple(formats),
        forms=general_forms.leave_own(parsed.forms),
    )
    source = registered.open(request)
    if not isinstance(source, Source):
        raise TypeError(
            f"what opens the data source {registered.name!r} must return a "
            "`pipelines.Source`, as `pipelines.from_parts` and `from_generator` do. "
            f"Received: {source!r}"
        )
    is_emnist = _EMNIST in os.path.abspath(argument).casefold()
    if (
        registered.name in _READ_AS_THEY_STAND
        and is_emnist
        and orientation.TRANSPOSED not in parsed.forms
    ):
        source = source.look_at(
            functools.partial(orientation.warn_if_transposed, parsed.base)
        )
    if parsed.forms:
        source = source.change_images(
            functools.partial(general_forms.apply, general),
            "@".join((parsed.base, *parsed.forms)),
        )
    if parsed.classes is None:
        return source
    chosen = parse_classes(spec, parsed.classes, source.class_names)
    return source.select(chosen, str(spec))


def forms(spec: str) -> dict[str, str]:
    """Returns the forms in which a source's images can be had.

    Args:
        spec: A spec string, as for `load`; no data is looked for.

    Returns:
        `{form: what it is}`; a form follows the source behind an `@`.

    Raises:
        ValueError: no source is called so.

    Example:

    >>> sorted(pipelines.forms("omniglot"))
    ['area', 'as_distributed', 'nearest', 'negative', 'transposed']
    """
    return _find(str(spec), parse(str(spec)))[0].all_forms


def check_spec(spec: str) -> None:
    """Raises a ValueError if no source or form is called so; looks for no data.

    Args:
        spec: A spec string, as for `load`.
    """
    _find(str(spec), parse(str(spec)))


def is_made(spec: str) -> bool:
    """Whether a spec names a source whose images are made and not read.

    Args:
        spec: A spec string, as for `load`; no data is looked for.

    Raises:
        ValueError: no source or form is called so.
    """
    return _find(str(spec), parse(str(spec)))[0].is_made


def _listed() -> str:
    *names, last = (f"{name}:" for name in listed.names())
    return f"{', '.join(names)} or {last}"


def _find(spec: str, parsed: Spec) -> tuple[registry.Registered, str]:
    """Returns the source that a spec names and what follows its colon."""
    name, colon, argument = parsed.base.partition(":")
    registered = registry.find(name)
    if (
        registered is None
        or bool(argument) != (registered.argument is not None)
        or (colon and not argument)
    ):
        raise _unknown_spec(spec, parsed.base)
    _check_forms(spec, parsed.forms, registered)
    return registered, argument


def _check_forms(
    spec: str, forms: tuple[str, ...], registered: registry.Registered
) -> None:
    found = list(map(registered.find_form, forms))
    for form, known in zip(forms, found, strict=True):
        if known is None:
            texts = [f"@{name} ({text})" for name, text in registered.all_forms.items()]
            raise plugins.UnknownNameError(
                f"{spec}: {registered.name} has no form {form!r}. "
                + (f"Its forms: {'; '.join(texts)}" if texts else "It has no forms")
            )
    if len(set(found)) < len(found):
        raise ValueError(f"{spec}: name each form once. Received: {', '.join(forms)}")


def _unknown_spec(spec: str, base_spec: str) -> plugins.UnknownNameError:
    names = registry.names()
    matches = difflib.get_close_matches(base_spec.lower(), names, cutoff=0.5)
    prefix = guess_prefix(base_spec)
    if prefix:
        matches = [f"{prefix}:{base_spec}"]
    guess = f" Did you mean {' or '.join(matches)}?" if matches else ""
    return plugins.UnknownNameError(
        f"unknown data source {spec!r}.{guess} Known sources: {', '.join(names)}; a "
        "form and a choice of classes may follow, as in mnist@negative[0-4]"
    )


def guess_prefix(text: str) -> str | None:
    """Returns what a path lacks to be the spec of a source, such as "zip", or `None`.

    Args:
        text: A path in place of a spec; of a zip file, it may go on within it.
    """
    path = pathlib.Path(text).expanduser()
    if text and path.is_dir():
        return "folder"
    if path.suffix == ".npz" and path.is_file():
        return "npz"
    if ".tfrec" in path.name and path.is_file():
        return "tfrecord"
    within = (path, *path.parents)
    if any(part.suffix.lower() == ".zip" and part.is_file() for part in within):
        return "zip"
    return None


def parse_classes(spec, text, class_names):
    """Returns class indices from `"0-4"`, `"0,2,5"` or `"cat,dog"`."""
    folded = list(map(fold, class_names))
    # Of `A` and `a`, each is meant by its own spelling only.
    count = collections.Counter(folded)
    by_name = {name: index for index, name in enumerate(folded) if count[name] == 1}
    by_name |= {name: index for index, name in enumerate(class_names)}
    counted = [str(index) for index in range(len(class_names))]
    # Classes called 1, 2 and 3 are meant by these numbers.
    named_by_number = list(class_names) != counted and all(map(str.isdecimal, by_name))

    def no_class(token):
        numbers = "" if named_by_number else f"numbers from 0 to {len(counted) - 1}, "
        return ValueError(
            f"{spec}: {token!r} is no class. Give {numbers}ranges as 0-4, or names: "
            f"{', '.join(class_names[:30])}"
        )

    classes = []
    for token in (part.strip() for part in text.split(",")):
        bounds = re.fullmatch(r"(\d+)(?:-(\d+))?", token)
        named = by_name.get(token, by_name.get(fold(token)))
        if named is not None and (named_by_number or not bounds):
            classes.append(named)
        elif not bounds:
            raise no_class(token)
        else:
            first, last = int(bounds[1]), int(bounds[2] or bounds[1])
            for number in range(first, last + 1):
                named = by_name.get(str(number))
                if named_by_number and named is None:
                    raise no_class(str(number))
                if not named_by_number and named not in (None, number):
                    raise ValueError(
                        f"{spec}: {number} may mean the class called {number} or the "
                        f"one at place {number}, counted from 0. Rename the class, or "
                        "choose others by their names"
                    )
                classes.append(named if named_by_number else number)
    return classes


def _check_shape_beside(
    image_shape: Iterable[int] | None, known: Source | Split | None
) -> ImageShape | None:
    """As `check_image_shape`; that of known images may have any channels."""
    is_other = isinstance(image_shape, tuple) and image_shape[2:] not in ((1,), (3,))
    if is_other and known is not None and image_shape == known.image_shape:
        return known.image_shape
    return check_image_shape(image_shape)


def check_image_shape(image_shape: Iterable[int] | None) -> ImageShape | None:
    """Returns `(height, width, channels)` as integers, or raises; `None` stays."""
    if image_shape is None:
        return None
    try:
        shape = tuple(int(size) for size in image_shape)
    except (TypeError, ValueError):
        shape = ()
    if len(shape) != 3 or min(shape) < 1 or shape[2] not in (1, 3):
        raise ValueError(
            "`image_shape` must be (height, width, channels) with 1 or 3 channels. "
            f"Received: {image_shape}"
        )
    return shape
