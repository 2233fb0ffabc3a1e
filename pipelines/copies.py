"""Pictures that are there more than once: equal ones, and nearly equal ones."""

import collections
import itertools
from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np

from ood_keras.pipelines import contents

# Of 256 bits. Copies that were scaled or compressed differ in fewer; so may photographs
# of one thing, and plain ones, which other features tell apart.
MAX_DISTANCE = 28
# A difference hash of fewer pixels says little.
_MIN_SIDE = 32
# Of `likeness.describe`: copies that were scaled or compressed lie below, other
# photographs above.
_NEAR_FEATURES = 0.25
# Of a chunk of a code that is compared as one number.
_KEY_BITS = 16


def equal_groups(keys: Iterable[Hashable]) -> list[list[int]]:
    """Returns the rows that have one key, for each key that several rows have.

    Args:
        keys: One key per row; a row whose key is false, such as `b""`, is left out.

    >>> equal_groups([b"a", b"b", b"", b"a", b""])
    [[0, 3]]
    """
    rows = collections.defaultdict(list)
    for row, key in enumerate(keys):
        if key:
            rows[key].append(row)
    return [group for group in rows.values() if len(group) > 1]


def says_much(shape: Sequence[int], spread: int) -> bool:
    """Whether a hash tells a picture from others: not a tiny one, nor a blank one.

    Args:
        shape: `(height, width, channels)`.
        spread: How many levels it spans, see `contents.measure_spread`.
    """
    return min(shape[:2]) >= _MIN_SIDE and spread > contents.NEARLY


def near_groups(
    codes: np.ndarray, vectors: np.ndarray, says_much: Sequence[bool]
) -> list[list[int]]:
    """Returns groups of nearly equal pictures, equal ones among them.

    Args:
        codes: uint64 `(count, words)`, of `likeness.code`.
        vectors: `(count, features)`, of `likeness.describe`.
        says_much: Bool `(count,)`, see `says_much`; others are in no group.
    """
    rows = np.flatnonzero(says_much)
    pairs = rows[near_pairs(codes[rows])]
    first, second = vectors[pairs.T]
    return connect(pairs[are_near(first, second)], len(codes))


def are_near(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns which pictures with near codes are near by their features too.

    Args:
        first: `(pairs, features)`, of `likeness.describe`.
        second: The same of the other picture of each pair.

    Returns:
        Bool `(pairs,)`.
    """
    difference = first.astype(np.float32) - second.astype(np.float32)
    return np.linalg.norm(difference, axis=1) <= _NEAR_FEATURES


def near_pairs(codes: np.ndarray, max_distance: int = MAX_DISTANCE) -> np.ndarray:
    """Returns all pairs of codes that differ in at most `max_distance` bits.

    The bits are dealt out to `max_distance + 2` chunks: two codes that differ in fewer
    bits than that agree in two chunks, so only codes that do are compared (multi-index
    hashing: Norouzi, Punjani and Fleet, 2012). Each chunk gets bits of all degrees of
    variety, since one of constant bits would not tell any codes apart.

    Args:
        codes: uint64 `(count, words)`.
        max_distance: The largest Hamming distance.

    Returns:
        int64 `(pairs, 2)`, sorted, the first row of each pair the smaller one.
    """
    bits = np.unpackbits(codes.view(np.uint8), axis=1)
    variety = np.abs(bits.mean(0, dtype=np.float64) - 0.5) if len(bits) else bits.sum(0)
    by_variety = np.argsort(variety, kind="stable")
    num_chunks = max_distance + 2
    chunks = [by_variety[chunk::num_chunks][:_KEY_BITS] for chunk in range(num_chunks)]
    keys = [_as_keys(bits[:, chunk]) for chunk in chunks]
    masks = np.stack([_mask(chunk, bits.shape[1]) for chunk in chunks])
    found = [np.zeros((0, 2), np.int64)]
    for one, other in itertools.combinations(range(num_chunks), 2):
        for first, second in _pairs_of_equals(keys[one], keys[other]):
            differing = codes[first] ^ codes[second]
            near = np.bitwise_count(differing).sum(1) <= max_distance
            differing = differing[near, np.newaxis] & masks[:other]
            # Every pair once, by the first two chunks in which it agrees.
            agreeing = (differing == 0).all(2).sum(1)
            pairs = np.stack([first[near], second[near]], axis=1)[agreeing == 1]
            found.append(np.sort(pairs, axis=1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort(pairs.T[::-1])]


def _pairs_of_equals(
    keys: np.ndarray, more_keys: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the rows of all pairs that agree in both keys, in parts."""
    order = np.lexsort([keys, more_keys])
    keys, more_keys = keys[order], more_keys[order]
    # Places in the order whose neighbour `step` further on has the same keys.
    places, step = np.arange(len(keys)), 1
    while True:
        places = places[places + step < len(keys)]
        places = places[
            (keys[places] == keys[places + step])
            & (more_keys[places] == more_keys[places + step])
        ]
        if not len(places):
            return
        yield order[places], order[places + step]
        step += 1


def _as_keys(bits: np.ndarray) -> np.ndarray:
    """Bits `(count, bits)`, at most `_KEY_BITS`, as one integer each."""
    packed = np.packbits(bits, axis=1)
    padded = np.zeros((len(bits), _KEY_BITS // 8), np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint16)[:, 0]


def _mask(chunk: np.ndarray, num_bits: int) -> np.ndarray:
    """A code that has the bits of a chunk, uint64 `(words,)`."""
    bits = np.zeros(num_bits, np.uint8)
    bits[chunk] = 1
    return np.packbits(bits).view(np.uint64)


def connect(pairs: np.ndarray, count: int) -> list[list[int]]:
    """Returns the groups of rows that pairs connect, each sorted.

    Args:
        pairs: Integers `(pairs, 2)`.
        count: How many rows there are.
    """
    from scipy.sparse import coo_array, csgraph

    if not len(pairs):
        return []
    ones = np.ones(len(pairs), bool)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, component = csgraph.connected_components(graph, directed=False)
    members = np.unique(pairs)
    groups = collections.defaultdict(list)
    for row in members.tolist():
        groups[component[row]].append(row)
    return list(groups.values())


def merge(groups: Iterable[Sequence[int]], count: int) -> list[list[int]]:
    """Returns groups of rows, those that share a row put together.

    Args:
        groups: Groups of rows.
        count: How many rows there are.

    >>> merge([[0, 1], [4, 5], [1, 3]], 6)
    [[0, 1, 3], [4, 5]]
    """
    pairs = [pair for group in groups for pair in itertools.pairwise(group)]
    return connect(np.array(pairs, np.int64).reshape(-1, 2), count)
