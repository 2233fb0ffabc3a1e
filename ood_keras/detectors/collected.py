"""What detectors learn from, collected of parts of the data and merged."""

import copy
import dataclasses
from collections.abc import Iterable
from typing import Any, TypeAlias

from ood_keras.conventions import is_integer
from ood_keras.types import Json

# Objects of `statistics`, or others with `merge(other)`, which adds what another of
# their kind has seen, by name.
Statistics: TypeAlias = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Collected:
    """What a detector learns from, of some parts of the data; see `Detector.collect`.

    Attributes:
        detector: Its name.
        config: Its arguments.
        statistics: What was collected, by name.
        shards: The numbers of the parts.
    """

    detector: str
    config: Json
    statistics: Statistics
    shards: tuple[int, ...]


def merge(parts: Iterable[Collected]) -> Collected:
    """What was collected of all parts together; the parts stay as they are.

    Args:
        parts: What `Detector.collect` returned for each, or what was merged already;
            the order does not matter.

    Raises:
        ValueError: there are none, they are of different detectors, or a part is there
            twice.

    Example:

    >>> parts = [detector.collect(model, part, shard=n) for n, part in enumerate(data)]
    >>> detector.learn(model, detectors.merge(parts))
    """
    parts = sorted(parts, key=lambda part: part.shards)
    if not parts:
        raise ValueError("nothing was collected: expected at least one part")
    first = parts[0]
    for part in parts:
        if (part.detector, part.config) != (first.detector, first.config):
            raise ValueError(
                "expected parts that the same detector with the same arguments has "
                f"collected. Received: of {first.detector!r} with {first.config} and "
                f"of {part.detector!r} with {part.config}"
            )
    shards = tuple(sorted(shard for part in parts for shard in part.shards))
    twice = sorted({shard for shard in shards if shards.count(shard) > 1})
    if twice:
        raise ValueError(
            f"a part counts once; received shard {twice[0]} twice. Give each part of "
            "the data a number of its own: collect(model, part, shard=n)"
        )
    statistics = copy.deepcopy(first.statistics)
    for part in parts[1:]:
        for name, statistic in statistics.items():
            statistic.merge(part.statistics[name])
    return dataclasses.replace(first, statistics=statistics, shards=shards)


def check_shard(shard: Any) -> int:
    """Returns the number of a part as an int, or raises if it is not one."""
    if not is_integer(shard) or shard < 0:
        raise ValueError(f"`shard` must be an integer >= 0. Received: shard={shard!r}")
    return int(shard)
