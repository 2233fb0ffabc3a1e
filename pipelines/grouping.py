"""Which pictures belong together, so that all of them go into one split.

Frames of one film, pictures of one patient, copies of one photograph: if some are
trained on and others tested on, the test is too easy.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

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


def parse(group_by: str | Iterable[str]) -> GroupBy:
    """Returns what `group_by` of `pipelines.load` asks for.

    Args:
        group_by: "copies", "folder", a regular expression with one group, or several.

    Raises:
        ValueError: it is none of these.

    >>> parse(["copies", r"patient(\\d+)_"]).copies
    True
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
    """Notes what pictures look like while they are read, to find copies among them."""

    def __init__(self) -> None:
        self._codes: list[np.ndarray] = []
        self._vectors: list[np.ndarray] = []
        self._says_much: list[bool] = []
        self._pixels: list[bytes] = []

    def add(self, image: np.ndarray) -> None:
        """Notes the next picture, uint8 `(height, width, channels)`."""
        code, vector = likeness.measure(image)
        self._codes.append(code)
        self._vectors.append(vector)
        spread = int(contents.measure_spread(image[np.newaxis])[0])
        self._says_much.append(copies.says_much(image.shape, spread))
        self._pixels.append(likeness.hash_pixels(image))

    def groups(self) -> list[list[int]]:
        """Groups of rows: pictures that are equal, or nearly so."""
        if not self._codes:
            return []
        near = copies.near_groups(
            np.stack(self._codes), np.stack(self._vectors), self._says_much
        )
        equal = copies.equal_groups(self._pixels)
        return copies.merge(near + equal, len(self._codes))


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
