"""Which pictures belong together, so that all of them go into one split.

Frames of one film, pictures of one patient, copies of one photograph: if some are
trained on and others tested on, the test is too easy.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ood_keras.pipelines import contents, copies, likeness

COPIES, FOLDER = "copies", "folder"
#: Asks for no groups, where there would be some.
NONE = "none"


class NothingGroupedError(ValueError):
    """A way to group finds nothing to go by in any name."""


@dataclasses.dataclass(frozen=True)
class GroupBy:
    """What makes pictures belong together; any one of these is enough.

    Attributes:
        copies: Being equal, or nearly so.
        folder: Lying in folders of one name within the class folder.
        patterns: Regular expressions with one group, which is what names have in
            common; searched for in the path within the folder of the source.
    """

    copies: bool
    folder: bool
    patterns: tuple[re.Pattern[str], ...]

    def __bool__(self) -> bool:
        """Whether it groups at all, which "none" does not."""
        return self.copies or self.folder or bool(self.patterns)

    def without_names(self) -> "GroupBy":
        """What is left where names tell nothing."""
        return GroupBy(self.copies, False, ())


def parse(group_by: str | Iterable[str]) -> GroupBy:
    """Returns what `group_by` of `pipelines.load` asks for.

    Args:
        group_by: "copies", "folder", a regular expression with one group, or several;
            or "none", as no group is.

    Returns:
        The `GroupBy`, false if nothing is grouped.

    Raises:
        ValueError: it is none of these.

    >>> parse(["copies", r"patient(\\d+)_"]).copies
    True
    >>> bool(parse("none"))
    False
    """
    ways = [group_by] if isinstance(group_by, str) else list(group_by)
    patterns = [_compile(way) for way in ways if way not in (COPIES, FOLDER, NONE)]
    if NONE in ways and len(ways) > 1:
        raise ValueError(
            f"`group_by` is {NONE!r} or something else, not both. Received: {ways}"
        )
    return GroupBy(COPIES in ways, FOLDER in ways, tuple(patterns))


def _compile(way: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(way)
    except (re.error, TypeError) as error:
        raise _way_error(way, f"it is no regular expression ({error})") from None
    if pattern.groups != 1:
        raise _way_error(way, f"it has {pattern.groups} groups in parentheses")
    return pattern


def _way_error(way: object, problem: str) -> ValueError:
    return ValueError(
        f"`group_by` is {COPIES!r}, {FOLDER!r}, or a regular expression with one group "
        r"in parentheses, such as 'patient(\d+)_', whose text pictures of one patient "
        f"share; {problem}. Received: {way!r}"
    )


def read_keys(
    group_by: GroupBy, names: Sequence[str], folders: Sequence[str], source: str
) -> tuple[list[tuple[str, ...]], str]:
    """Returns what names have in common with others, and what to say of them.

    Args:
        group_by: What to go by.
        names: The path of each picture within the folder of its source.
        folders: The folder within the class folder that each lies in, or "".
        source: What messages call the source.

    Returns:
        `(keys, remark)`: for each picture a text for each way to group, "" where there
        is none; and how many pictures have none, or "".

    Raises:
        NothingGroupedError: no name tells anything.
    """
    ways: list[tuple[str, list[str]]] = []
    if group_by.folder:
        ways.append((FOLDER, list(folders)))
    for pattern in group_by.patterns:
        found = [pattern.search(name) for name in names]
        keys = [(match and match[1]) or "" for match in found]
        ways.append((pattern.pattern, keys))
    remarks = []
    for way, keys in ways:
        if names and not any(keys):
            raise NothingGroupedError(
                f"{source}: group_by={way!r} finds nothing in any of {len(names):,} "
                f"names, such as {names[0]}. A pattern is searched for in the path "
                f"within the folder; {FOLDER!r} goes by folders within class folders"
            )
        without = [name for name, key in zip(names, keys, strict=True) if not key]
        if without:
            remarks.append(
                f"group_by={way!r} finds nothing in {len(without):,} of {len(names):,} "
                f"names, for example {without[0]}: each is a group of its own"
            )
    texts = list(zip(*(keys for _, keys in ways), strict=True))
    return texts or [()] * len(names), "; ".join(remarks)


def same_keys(keys: Sequence[tuple[str, ...]]) -> list[list[int]]:
    """Returns groups of rows that have a text in common, in the same place.

    >>> same_keys([("a", ""), ("b", "x"), ("a", "x"), ("", "")])
    [[0, 2], [1, 2]]
    """
    return [
        group
        for texts in zip(*keys, strict=True)
        for group in copies.equal_groups(texts)
    ]


class Looks:
    """Notes what pictures look like while they are read, to find copies among them.

    Args:
        count: How many pictures there will be.
    """

    NAMES = ("codes", "vectors", "says_much", "hashes")

    def __init__(self, count: int) -> None:
        self._row = 0
        self._arrays: dict[str, np.ndarray] = {
            "codes": np.zeros((count, likeness.CODE_WORDS), np.uint64),
            "vectors": np.zeros((count, likeness.NUM_FEATURES), np.float16),
            "says_much": np.zeros(count, bool),
            "hashes": np.zeros((count, likeness.HASH_BYTES), np.uint8),
        }

    @staticmethod
    def measure(image: np.ndarray) -> tuple[Any, ...]:
        """Returns what to note of a picture, uint8 `(height, width, channels)`."""
        code, vector = likeness.measure(image)
        spread = int(contents.measure_spread(image[np.newaxis])[0])
        pixels = np.frombuffer(likeness.hash_pixels(image), np.uint8)
        return code, vector, copies.says_much(image.shape, spread), pixels

    def add(self, measured: tuple[Any, ...]) -> None:
        """Notes what `measure` returned of the next picture."""
        for name, value in zip(self.NAMES, measured, strict=True):
            self._arrays[name][self._row] = value
        self._row += 1

    def arrays(self) -> dict[str, np.ndarray]:
        """What was noted, one row for each picture."""
        return self._arrays


def find_copies(looks: Mapping[str, np.ndarray]) -> list[list[int]]:
    """Returns groups of rows: pictures that are equal, or nearly so.

    Args:
        looks: What `Looks.arrays` returned.
    """
    codes, hashes = np.asarray(looks["codes"]), np.asarray(looks["hashes"])
    if not len(codes):
        return []
    says_much = looks["says_much"].tolist()
    near = copies.near_groups(codes, looks["vectors"], says_much)
    equal = copies.equal_groups(map(bytes, hashes))
    return copies.merge(near + equal, len(codes))


def find_across(
    looks: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]
) -> dict[int, int]:
    """Returns which pictures are copies of one among others, equal or nearly so.

    Args:
        looks: What `Looks.arrays` returned of the pictures.
        others: What it returned of the others.

    Returns:
        `{row: row of the first such one among the others}`, by row.
    """
    rows, other_rows = (np.flatnonzero(each["says_much"]) for each in (looks, others))
    codes = [looks["codes"][rows], others["codes"][other_rows]]
    pairs = copies.near_pairs(np.concatenate(codes))
    # The smaller row of a pair is its first.
    pairs = pairs[(pairs[:, 0] < len(rows)) & (pairs[:, 1] >= len(rows))]
    ones, twos = rows[pairs[:, 0]], other_rows[pairs[:, 1] - len(rows)]
    near = copies.are_near(looks["vectors"][ones], others["vectors"][twos])
    found = [*zip(ones[near].tolist(), twos[near].tolist(), strict=True)]
    places: dict[bytes, int] = {}
    for place, pixels in enumerate(map(bytes, others["hashes"])):
        places.setdefault(pixels, place)
    for row, pixels in enumerate(map(bytes, looks["hashes"])):
        if pixels in places:
            found.append((row, places[pixels]))
    # Of several the first: a dict keeps the last.
    return dict(sorted(dict(sorted(found, reverse=True)).items()))


def number(groups: Iterable[Sequence[int]], count: int) -> np.ndarray:
    """Returns the number of the group of each row, int64 `(count,)`.

    Args:
        groups: Groups of rows; those that share a row are put together. Rows in none
            are a group each.
        count: How many rows there are.
    """
    numbers = np.arange(count)
    for group in copies.merge(groups, count):
        numbers[group] = group[0]
    return numbers
