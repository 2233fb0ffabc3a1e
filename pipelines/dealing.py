"""Which rows of a data set go into which split; nothing here is random.

`carve` is what sources without parts of their own were always dealt out by. `deal_out`
also keeps groups together, and gives each split some of each class.
"""

from collections.abc import Container, Iterable, Sequence

import numpy as np

from ood_keras.conventions import UNKNOWN
from ood_keras.pipelines.split import ROLES, Role

VALIDATION_SHARE = 1 / 12
_SHARES: dict[tuple[Role, ...], tuple[float, ...]] = {
    ("train", "validation", "test"): (0.6, 0.2, 0.2),
    ("train", "validation"): (1 - VALIDATION_SHARE, VALIDATION_SHARE),
}


def roles_of_part(part: str, parts: Container[str]) -> tuple[Role, ...]:
    """Returns the splits that a part of a source is dealt out to.

    Args:
        part: The part: the name of a split, or "all".
        parts: All parts of the source.
    """
    if part == "all":
        return ROLES
    if part == "train" and "validation" not in parts:
        return "train", "validation"
    return (part,)  # type: ignore[return-value]


def carve(labels: np.ndarray, roles: Sequence[Role]) -> dict[Role, np.ndarray | None]:
    """Returns which rows of a part each split gets, `{role: rows}`.

    Args:
        labels: The label of each row.
        roles: The splits to carve, see `roles_of_part`.

    Returns:
        Sorted rows; `None` means all.
    """
    if len(roles) == 1:
        return {roles[0]: None}
    rest = np.arange(len(labels))
    carved: dict[Role, np.ndarray | None] = {}
    if "test" in roles:
        test = every_nth_of_each_class(labels, 0.2)
        carved["test"] = test
        rest = np.setdiff1d(rest, test)
        share = 0.25
    else:
        share = VALIDATION_SHARE
    validation = rest[every_nth_of_each_class(labels[rest], share)]
    carved["validation"] = validation
    carved["train"] = np.setdiff1d(rest, validation)
    return carved


def every_nth_of_each_class(labels: np.ndarray, share: float) -> np.ndarray:
    """Returns sorted rows: `share` of each class, at equal distances in file order.

    The counts per class are rounded so that they add up to `share` of all rows, and a
    class keeps at least one row outside.
    """
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * share
    quotas = np.floor(exact).astype(np.int64)
    missing = round(len(labels) * share) - quotas.sum()
    quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
    quotas = np.minimum(quotas, counts - 1)
    rows = [
        np.flatnonzero(labels == label)[_spread(count, quota)]
        for label, count, quota in zip(classes, counts, quotas, strict=True)
        if quota
    ]
    return np.sort(np.concatenate(rows)) if rows else np.array([], np.int64)


def _spread(count: int, quota: int) -> np.ndarray:
    """`quota` of `count` places, at equal distances."""
    return ((np.arange(quota) + 0.5) * count / quota).astype(np.int64)


def deal_out(
    labels: np.ndarray,
    groups: np.ndarray,
    roles: Sequence[Role] = ROLES,
) -> dict[Role, np.ndarray]:
    """Deals rows out to splits by class, and keeps each group in one split.

    About 60 : 20 : 20 of each class to train, validation and test; of training images
    that only validation is taken from, a twelfth. Groups of several rows go first, the
    largest before the others, each to the split that lacks most of its classes; single
    rows then fill up, at equal distances in file order. A class of as many groups as
    there are splits has some in each; one of fewer is in train first, then in
    validation.

    Args:
        labels: Integers `(num_images,)`, the class of each row, -1 for unknown.
        groups: Integers `(num_images,)`; rows of one number stay together.
        roles: `("train", "validation", "test")`, or the first two of these.

    Returns:
        `{role: sorted rows}`.

    Raises:
        ValueError: the roles are others, or there is not one group for each label.

    Example:

    >>> rows = deal_out(np.zeros(10, int), np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 6]))
    >>> {role: rows[role].tolist() for role in rows}
    {'train': [0, 1, 2, 6, 8, 9], 'validation': [3, 4], 'test': [5, 7]}
    """
    roles = tuple(roles)
    labels, groups = np.asarray(labels), np.asarray(groups)
    if roles not in _SHARES:
        raise ValueError(
            f"rows are dealt out to {' or to '.join(map(str, _SHARES))}. Received: "
            f"{roles}"
        )
    if labels.shape != groups.shape or labels.ndim != 1:
        raise ValueError(
            "expected one group for each label. Received: labels of shape "
            f"{labels.shape}, groups of shape {groups.shape}"
        )
    shares = np.array(_SHARES[roles])
    classes, labels = np.unique(labels, return_inverse=True)
    _, groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    wanted = shares[:, np.newaxis] * np.bincount(labels, minlength=len(classes))
    given = np.zeros_like(wanted)
    chosen = np.full(len(labels), -1)
    # How many groups of each class are not dealt out yet.
    pairs = np.unique(np.stack([groups, labels]), axis=1)
    waiting = np.bincount(pairs[1], minlength=len(classes))
    single = sizes[groups] == 1
    for rows in _rows_of_groups(groups, sizes):
        found, counts = np.unique(labels[rows], return_counts=True)
        role = _choose(wanted, given, waiting, found, counts)
        chosen[rows] = role
        given[role, found] += counts
        waiting[found] -= 1
    for label in range(len(classes)):
        rows = np.flatnonzero((labels == label) & single)
        quotas = _quotas(wanted[:, label] - given[:, label], given[:, label], len(rows))
        for role in range(len(roles) - 1, 0, -1):
            taken = rows[_spread(len(rows), quotas[role])] if quotas[role] else rows[:0]
            chosen[taken] = role
            rows = np.setdiff1d(rows, taken)
        chosen[rows] = 0
    return {role: np.flatnonzero(chosen == place) for place, role in enumerate(roles)}


def _rows_of_groups(groups: np.ndarray, sizes: np.ndarray) -> Iterable[np.ndarray]:
    """The rows of each group of several, the largest first, then in file order."""
    order = np.argsort(groups, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    several = np.flatnonzero(sizes > 1)
    first = order[starts[several]]
    for group in several[np.lexsort([first, -sizes[several]])]:
        yield order[starts[group] : starts[group + 1]]


def _choose(
    wanted: np.ndarray,
    given: np.ndarray,
    waiting: np.ndarray,
    found: np.ndarray,
    counts: np.ndarray,
) -> int:
    """The split that a group goes to: what lacks most of its classes.

    Where a class has no more groups than there are splits without it, one of these.

    Args:
        wanted, given: `(roles, classes)`, numbers of rows.
        waiting: `(classes,)`, groups that are not dealt out, this one among them.
        found, counts: The classes in the group, and how many rows of each.
    """
    lacking = (wanted - given)[:, found] @ counts
    empty = given[:, found] == 0
    urgent = waiting[found] <= empty.sum(axis=0)
    allowed = np.all(empty[:, urgent], axis=1)
    if allowed.any():
        lacking[~allowed] = -np.inf
    return int(np.argmax(lacking))


def _quotas(lacking: np.ndarray, given: np.ndarray, count: int) -> np.ndarray:
    """How many single rows of a class each split gets, integers that add up to `count`.

    Args:
        lacking: What each split should still get, a number that may be below 0.
        given: How many rows of the class each has got.
        count: How many rows there are.
    """
    if not count:
        return np.zeros(len(lacking), np.int64)
    lacking = np.maximum(lacking, 0)
    if not lacking.any():
        lacking = lacking + (np.arange(len(lacking)) == 0)
    exact = count * lacking / lacking.sum()
    quotas = np.floor(exact).astype(np.int64)
    rest = count - quotas.sum()
    quotas[np.argsort(quotas - exact, kind="stable")[:rest]] += 1
    for role in np.flatnonzero((given == 0) & (quotas == 0)):
        # Train keeps one before any other split gets its first.
        most = int(np.argmax(quotas))
        if quotas[most] + given[most] > 1:
            quotas[most] -= 1
            quotas[role] += 1
    return quotas


def find_missing(
    labels: np.ndarray, rows: dict[Role, np.ndarray], class_names: Sequence[str]
) -> dict[str, list[Role]]:
    """Returns the known classes that are not in every split, and in which they lack.

    Args:
        labels: The label of each row.
        rows: What `deal_out` returned.
        class_names: Names of the classes.
    """
    found = {role: set(labels[some].tolist()) for role, some in rows.items()}
    missing = {
        class_names[label]: [role for role in rows if label not in found[role]]
        for label in np.unique(labels[labels != UNKNOWN]).tolist()
    }
    return {name: roles for name, roles in missing.items() if roles}
