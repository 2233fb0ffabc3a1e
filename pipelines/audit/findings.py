"""What is wrong with a collection of pictures, in words and with the pictures."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, TypeAlias

import numpy as np

from ood_keras.names import fold
from ood_keras.pipelines import contents, copies
from ood_keras.pipelines.audit import suspects
from ood_keras.pipelines.audit.collection import Collection, Picture
from ood_keras.pipelines.split import ROLES

# What to do about a finding: without it a result is worth nothing, or there is none;
# somebody should look; good to know.
Severity: TypeAlias = Literal["spoils", "look", "note"]
SEVERITIES: tuple[Severity, ...] = ("spoils", "look", "note")

# A class that has so many times the pictures of another one weighs more.
_IMBALANCE = 5
_MIN_OF_SPLIT = 5
# The first of so many that are suspect or odd, and of so large a part of all.
_MOST_HINTS, _SHARE_OF_HINTS = 24, 0.02


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: What it is, a name for programs.
        severity: `"spoils"`, `"look"` or `"note"`.
        title: What it is, with how many there are.
        advice: What it means and what to do.
        groups: Numbers of pictures in `Collection.pictures`; those of a group belong
            together, such as the copies of one picture.
        lines: What there is to say of each group, or of things that are no pictures.
    """

    kind: str
    severity: Severity
    title: str
    advice: str
    groups: tuple[tuple[int, ...], ...] = ()
    lines: tuple[str, ...] = ()


def find(collection: Collection, *, quick: bool = False) -> list[Finding]:
    """Returns all that is wrong with a collection, the worst first.

    What needs pixels is looked for if they were decoded, see `collection.gather`.

    Args:
        collection: The pictures.
        quick: Whether to look only for what may spoil a result.
    """
    finders: list[Callable[[Collection], Iterator[Finding]]] = [
        _unreadable,
        _classes,
        _both_known_and_unknown,
        _copies,
        _left_out,
        _links,
        _nested,
        _small_splits,
        _imbalance,
    ]
    if collection.codes is not None and not quick:
        finders += [_near_copies, _blank, _shapes, _suspect_labels, _odd_ones]
    found = [finding for finder in finders for finding in finder(collection)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _unreadable(collection: Collection) -> Iterator[Finding]:
    rows = [row for row, one in enumerate(collection.pictures) if one.error]
    if rows:
        yield Finding(
            "unreadable",
            "spoils",
            f"{_count(len(rows), 'file')} cannot be read",
            "Training stops at them. Fetch, save or convert them again, or remove "
            "them; `ood-train --skip_bad` leaves them out.",
            tuple((row,) for row in rows),
            tuple(
                f"{collection.where(one)} {one.error}"
                for one in (collection.pictures[row] for row in rows)
            ),
        )


def _classes(collection: Collection) -> Iterator[Finding]:
    problems = [problem for source in collection.sources for problem in source.problems]
    if problems:
        yield Finding(
            "classes",
            "spoils",
            f"{_count(len(problems), 'problem')} with class folders",
            "Training stops at them.",
            lines=tuple(problems),
        )


def _both_known_and_unknown(collection: Collection) -> Iterator[Finding]:
    """Classes of one name that are known here and unknown there; numbers say nothing.

    Sources that share a namespace, such as `mnist` and `digits`, are compared by
    `roles.check_roles` in training.
    """
    names: dict[str, dict[str, str]] = {"known": {}, "unknown": {}}
    for source in collection.sources:
        for name in source.class_names:
            if not name.isdigit():
                names[source.kind].setdefault(fold(name), f"{source.spec}: {name}")
    both = sorted(names["known"].keys() & names["unknown"].keys())
    if both:
        yield Finding(
            "known_and_unknown_class",
            "spoils",
            f"{_count(len(both), 'class', 'classes')} both known and unknown",
            "Nothing can be learned from what is both. Take it out of one of them, as "
            "in folder:PICTURES[cat,dog].",
            lines=tuple(
                f"{names['known'][name]} = {names['unknown'][name]}" for name in both
            ),
        )


def _copies(collection: Collection) -> Iterator[Finding]:
    groups = equal(collection)
    yield from _sort_out(collection, groups, near=False)


def equal(collection: Collection) -> list[list[int]]:
    """Returns groups of equal pictures: of equal files, or of equal pixels."""
    some = collection.pictures
    by_file = copies.equal_groups("" if one.error else one.content for one in some)
    by_pixels = copies.equal_groups(one.pixels for one in some)
    return copies.merge(by_file + by_pixels, len(some))


def _features(collection: Collection) -> tuple[np.ndarray, np.ndarray]:
    """The hashes and features of the pictures, a row each."""
    if collection.codes is None or collection.vectors is None:
        raise ValueError(
            "near copies and odd pictures are found by features, and this collection "
            "was gathered without. Gather it with decode=True"
        )
    return collection.codes, collection.vectors


def near(collection: Collection) -> list[list[int]]:
    """Returns groups of nearly equal pictures, equal ones among them.

    Pictures of fewer than 32 pixels a side, and those that show nothing, are left out:
    their hashes say little.
    """
    codes, vectors = _features(collection)
    says_much = [
        one.shape is not None and copies.says_much(one.shape, one.spread)
        for one in collection.pictures
    ]
    return copies.near_groups(codes, vectors, says_much)


def _near_copies(collection: Collection) -> Iterator[Finding]:
    exact = {frozenset(group) for group in equal(collection)}
    groups = [group for group in near(collection) if frozenset(group) not in exact]
    yield from _sort_out(collection, groups, near=True)


def _sort_out(
    collection: Collection, groups: Iterable[list[int]], near: bool
) -> Iterator[Finding]:
    """One finding for each way in which copies do harm; a group counts for the worst.

    Args:
        groups: Groups of copies.
        near: Whether they are nearly equal only.
    """
    ways = collections.defaultdict(list)
    for group in groups:
        ways[harm_of(collection, [collection.pictures[row] for row in group])].append(
            group
        )
    for way, (title, advice) in _HARMS.items():
        found = ways.get(way, [])
        if not found:
            continue
        severity: Severity = "spoils" if way != "repeated" and not near else "look"
        if near:
            advice = (
                "Look whether they show one thing: they differ in size, compression or "
                f"a few pixels only. {advice}"
            )
        yield Finding(
            f"{'near' if near else 'equal'}_{way}",
            severity,
            f"{_count(len(found), 'picture')} {title}" + ", nearly equal" * near,
            advice,
            tuple(map(tuple, found)),
            tuple(
                " = ".join(collection.where(collection.pictures[row]) for row in group)
                for group in found
            ),
        )


# From the worst harm to the least.
_HARMS = {
    "known_and_unknown": (
        "both known and unknown",
        "It is to be accepted and to be rejected. Take it out of one of them; "
        "`ood-train --skip_bad` leaves out the unknown ones.",
    ),
    "labels": (
        "under several labels",
        "One label of each is wrong, or both things are in it. Keep it in one class; "
        "`ood-train --skip_bad` leaves out all of its copies.",
    ),
    "splits": (
        "in several splits",
        "Test images that were trained on make the result too good. Keep each picture "
        "in one split; `ood-train --skip_bad` keeps the copy that is tested on.",
    ),
    "repeated": (
        "more than once",
        "Each counts as often as it is there. One of each is enough.",
    ),
}


def harm_of(collection: Collection, some: Sequence[Picture]) -> str:
    """Returns the worst harm that copies do, a key of `_HARMS`."""
    kinds = {collection.kind(one) for one in some}
    if len(kinds) > 1:
        return "known_and_unknown"
    if kinds == {"known"} and _have_several_labels(some):
        return "labels"
    if len({one.part for one in some if one.part}) > 1:
        return "splits"
    return "repeated"


def _have_several_labels(some: Sequence[Picture]) -> bool:
    """Whether pictures differ in class; "Cat" here is the "cat" of another source."""
    names = collections.defaultdict(set)
    for one in some:
        names[one.source].add(one.class_name)
    # Within a source, "A" and "a" may be two letters.
    if any(len(of_source) > 1 for of_source in names.values()):
        return True
    return len({fold(one.class_name or "") for one in some}) > 1


def _left_out(collection: Collection) -> Iterator[Finding]:
    lines = [
        f"{source.spec}: {name}: {what}"
        for source in collection.sources
        for name, what in source.left_out.items()
    ]
    if lines:
        yield Finding(
            "left_out",
            "look",
            f"{_count(len(lines), 'file')} left out",
            "They are no pictures of a format that is read. Convert those that you "
            "meant to use.",
            lines=tuple(lines),
        )


def _links(collection: Collection) -> Iterator[Finding]:
    lines = [
        f"{source.spec}: {name} to {target}"
        for source in collection.sources
        for name, target in source.links.items()
    ]
    if lines:
        yield Finding(
            "links",
            "look",
            f"{_count(len(lines), 'link')} out of the folder",
            "They are followed. The pictures change, or are gone, with what they lead "
            "to.",
            lines=tuple(lines),
        )


def _nested(collection: Collection) -> Iterator[Finding]:
    lines = [
        f"{source.spec}: {name}"
        for source in collection.sources
        for name in source.nested
    ]
    if lines:
        yield Finding(
            "nested",
            "note",
            f"{_count(len(lines), 'folder')} within class folders",
            "Their pictures count for the class. If they are the classes, give the "
            "folder above them; if their pictures belong together, as frames of one "
            "film do, `ood-train --group_by=folder` keeps them in one split.",
            lines=tuple(lines),
        )


def counts(collection: Collection, number: int) -> dict[str | None, dict[str, int]]:
    """Returns `{class name: {split: readable pictures}}` of a source."""
    source = collection.sources[number]
    found: dict[str | None, collections.Counter] = {
        name: collections.Counter() for name in source.class_names or (None,)
    }
    for one in collection.pictures:
        if one.source == number and one.error is None:
            found.setdefault(one.class_name, collections.Counter())[one.role] += 1
    return {
        name: {role: count[role] for role in ROLES if count[role]}
        for name, count in found.items()
    }


def sizes(collection: Collection, number: int) -> dict[str | None, str]:
    """Returns the range of heights and widths of each class of a source, as text.

    Such as `{"cat": "128x128", "dog": "96 to 128 x 128 to 640"}`.
    """
    found = collections.defaultdict(list)
    for one in collection.pictures:
        if one.source == number and one.shape is not None:
            found[one.class_name].append(one.shape)
    texts = {}
    for name, shapes in found.items():
        heights, widths = (sorted({shape[axis] for shape in shapes}) for axis in (0, 1))
        if len(heights) == len(widths) == 1:
            texts[name] = f"{heights[0]}x{widths[0]}"
        else:
            texts[name] = " x ".join(
                str(few[0]) if len(few) == 1 else f"{few[0]} to {few[-1]}"
                for few in (heights, widths)
            )
    return texts


def _small_splits(collection: Collection) -> Iterator[Finding]:
    lines = []
    for number, source in enumerate(collection.sources):
        if source.kind == "unknown":
            continue
        found = counts(collection, number)
        roles = [
            role for role in ROLES if any(role in count for count in found.values())
        ]
        for name, count in found.items():
            few = [
                f"{role} {count.get(role, 0)}"
                for role in roles
                if count.get(role, 0) < _MIN_OF_SPLIT
            ]
            if few:
                lines.append(f"{source.spec}: {name}: {', '.join(few)}")
    if lines:
        yield Finding(
            "small_splits",
            "look",
            f"{_count(len(lines), 'class', 'classes')} with fewer than "
            f"{_MIN_OF_SPLIT} pictures in a split",
            "What is measured on so few pictures may be far off. Add some.",
            lines=tuple(lines),
        )


def _imbalance(collection: Collection) -> Iterator[Finding]:
    lines = []
    for number, source in enumerate(collection.sources):
        sizes = {
            name: sum(count.values())
            for name, count in counts(collection, number).items()
            if count and name is not None
        }
        if source.kind == "known" and len(sizes) > 1:
            least, most = (
                min(sizes, key=sizes.__getitem__),
                max(sizes, key=sizes.__getitem__),
            )
            if sizes[most] >= _IMBALANCE * sizes[least]:
                lines.append(
                    f"{source.spec}: {most} has {sizes[most]:,} pictures, {least} "
                    f"{sizes[least]:,}"
                )
    if lines:
        yield Finding(
            "imbalance",
            "look",
            "classes of very different sizes",
            "A network learns to prefer the large ones. Add pictures of the small "
            "ones, or weigh the classes: `ood-train --class_weight=balanced`, "
            '`class_weight="balanced"` of `pipelines.interleave`.',
            lines=tuple(lines),
        )


def _blank(collection: Collection) -> Iterator[Finding]:
    rows = [
        row
        for row, one in enumerate(collection.pictures)
        if one.shape is not None and one.spread <= contents.NEARLY
    ]
    if not rows:
        return
    total: collections.Counter = collections.Counter()
    blank: collections.Counter = collections.Counter()
    for one in collection.pictures:
        if one.shape is not None and collection.kind(one) == "known":
            total[one.source, one.class_name] += 1
    for row in rows:
        one = collection.pictures[row]
        blank[one.source, one.class_name] += one.spread == 0
    spoilt = any(contents.is_refused(blank[key], count) for key, count in total.items())
    yield Finding(
        "blank",
        "spoils" if spoilt else "look",
        f"{_count(len(rows), 'picture')} of one colour, or nearly",
        "They show nothing. If they look different in a viewer, what they show lies in "
        "their transparency (see --background); else remove them.",
        tuple((row,) for row in rows),
        tuple(collection.where(collection.pictures[row]) for row in rows),
    )


def _shapes(collection: Collection) -> Iterator[Finding]:
    shapes = [one.shape for one in collection.pictures if one.shape is not None]
    if not shapes:
        return
    if len(set(shapes)) > 1:
        heights, widths = (
            sorted(shape[0] for shape in shapes),
            sorted(shape[1] for shape in shapes),
        )
        middle = len(shapes) // 2
        grey = sum(shape[2] == 1 for shape in shapes)
        colours = f"; {grey:,} grey, {len(shapes) - grey:,} in colour" * bool(grey)
        yield Finding(
            "shapes",
            "note",
            f"pictures of {len(set(shapes)):,} sizes",
            "Training needs one: `ood-train --image_shape=HEIGHT,WIDTH,CHANNELS`. The "
            "aspect ratio is not kept.",
            lines=(
                f"{heights[0]} to {heights[-1]} high (median {heights[middle]}), "
                f"{widths[0]} to {widths[-1]} wide (median {widths[middle]}){colours}",
            ),
        )


def _known_rows(collection: Collection) -> tuple[np.ndarray, np.ndarray, list]:
    """Rows of known pictures that show something, their labels, and what these mean."""
    rows = [
        row
        for row, one in enumerate(collection.pictures)
        if one.shape is not None
        and one.spread > contents.NEARLY
        and collection.kind(one) == "known"
    ]
    drawn = np.array(rows, np.int64)[suspects.draw(len(rows))]
    classes: dict[tuple[int, str | None], int] = {}
    labels = [
        classes.setdefault((one.source, one.class_name), len(classes))
        for one in (collection.pictures[row] for row in drawn)
    ]
    return drawn, np.array(labels, np.int64), list(classes)


def _suspect_labels(collection: Collection) -> Iterator[Finding]:
    _, vectors = _features(collection)
    rows, labels, classes = _known_rows(collection)
    # Of a picture under two labels one is known to be wrong.
    doubled = {
        row
        for group in equal(collection)
        for row in group
        if harm_of(collection, [collection.pictures[each] for each in group])
        == "labels"
    }
    found = [
        (int(rows[row]), classes[label][1])
        for row, label in suspects.suspect_labels(vectors[rows], labels)
        if int(rows[row]) not in doubled
    ]
    if found:
        shown = found[: _most_hints(len(rows))]
        yield Finding(
            "suspect_labels",
            "note",
            f"{_count(len(shown), 'label')} to look at first",
            "By simple features these pictures look more like another class. Most "
            "labels are right all the same: the features know shape and colour, not "
            "things.",
            tuple((row,) for row, _ in shown),
            tuple(
                f"{collection.where(collection.pictures[row])}: rather {other}?"
                for row, other in shown
            ),
        )


def _odd_ones(collection: Collection) -> Iterator[Finding]:
    _, vectors = _features(collection)
    rows, labels, _ = _known_rows(collection)
    found = [int(rows[row]) for row in suspects.odd_ones(vectors[rows], labels)]
    if found:
        shown = found[: _most_hints(len(rows))]
        yield Finding(
            "odd_ones",
            "note",
            f"{_count(len(shown), 'picture')} unlike all others of their class",
            "By simple features. Look whether they belong there.",
            tuple((row,) for row in shown),
            tuple(collection.where(collection.pictures[row]) for row in shown),
        )


def _most_hints(num_pictures: int) -> int:
    return min(_MOST_HINTS, max(1, round(_SHARE_OF_HINTS * num_pictures)))


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def spoils(findings: Iterable[Finding]) -> bool:
    """Whether one of the findings would spoil the result."""
    return any(finding.severity == "spoils" for finding in findings)
