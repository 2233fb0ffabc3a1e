"""What was collected of parts of the data, on disk, without pickle."""

import inspect
import json
import sys
from typing import Any

import numpy as np

from ood_keras import files, npz, plugins
from ood_keras.detectors import statistics as statistics_room
from ood_keras.detectors.collected import Collected
from ood_keras.detectors.registry import get
from ood_keras.types import Arrays, Json, Path

_DESCRIPTION = "description"


def write_collected(
    collected: Collected, path: Path, about: Json | None = None
) -> None:
    """Writes what `Detector.collect` returned, whole or not at all, as an `.npz` file.

    Args:
        collected: A `Collected`.
        path: The file.
        about: Plain JSON values of one's own to keep with it.

    Raises:
        TypeError: a detector of your own collects something else than numbers, texts,
            arrays, lists and dicts of them, and objects that have these.

    Example:

    >>> detectors.write_collected(detector.collect(model, part, shard=3), "3.npz")
    """
    arrays: Arrays = {}
    description = {
        "detector": collected.detector,
        "config": collected.config,
        "shards": list(collected.shards),
        "statistics": _encode(collected.statistics, arrays),
        "about": about or {},
    }
    text = json.dumps(description, allow_nan=False).encode()
    arrays[_DESCRIPTION] = np.frombuffer(text, np.uint8)
    with files.atomic_file(path) as temporary:
        files.write_arrays(temporary, arrays)


def read_collected(path: Path) -> Collected:
    """What `write_collected` wrote; it merges, and is learnt from, as before.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, is damaged, or its detector is not registered
            here.

    Example:

    >>> parts = map(detectors.read_collected, sorted(folder.glob("*.npz")))
    >>> detector.learn(model, detectors.merge(parts))
    """
    description, arrays = _read(path)
    try:
        kind = type(get(description["detector"], **description["config"]))
        return Collected(
            detector=description["detector"],
            config=description["config"],
            statistics=_decode(description["statistics"], arrays, kind),
            shards=tuple(description["shards"]),
        )
    except plugins.UnknownNameError as error:
        raise ValueError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} cannot be read as what a detector collected "
            f"({type(error).__name__}: {error}). Collect that part again"
        ) from error


def read_about(path: Path) -> Json:
    """What `write_collected` was given as `about`.

    Raises:
        FileNotFoundError, ValueError: as `read_collected`.
    """
    return _read(path)[0]["about"]


def _read(path: Path) -> tuple[Json, Arrays]:
    arrays = npz.read(path, "what a detector collected", required=[_DESCRIPTION])
    try:
        return json.loads(arrays.pop(_DESCRIPTION).tobytes()), arrays
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as what a detector collected ({error}). Collect "
            "that part again"
        ) from error


def _encode(value: Any, arrays: Arrays) -> Any:
    """A value as JSON, its arrays by their numbers."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer, np.bool_)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return {"float": float(value).hex()}
    if isinstance(value, np.ndarray):
        arrays[f"array_{len(arrays)}"] = value
        return {"array": f"array_{len(arrays) - 1}"}
    if isinstance(value, (list, tuple)):
        return [_encode(each, arrays) for each in value]
    if isinstance(value, dict):
        return {"dict": {name: _encode(each, arrays) for name, each in value.items()}}
    if hasattr(value, "merge"):
        # What draws more rows is left behind: what was read takes none.
        state = {
            name: _encode(each, arrays)
            for name, each in vars(value).items()
            if not isinstance(each, np.random.Generator)
        }
        return {"class": type(value).__name__, "state": state}
    raise TypeError(
        "what a detector collects is numbers, texts, arrays, lists and dicts of them, "
        f"and objects with merge(other) that have these. Received: {value!r}"
    )


def _decode(value: Any, arrays: Arrays, kind: type) -> Any:
    if isinstance(value, list):
        return [_decode(each, arrays, kind) for each in value]
    if not isinstance(value, dict):
        return value
    if "float" in value:
        return float.fromhex(value["float"])
    if "array" in value:
        return arrays[value["array"]]
    if "dict" in value:
        return {
            name: _decode(each, arrays, kind) for name, each in value["dict"].items()
        }
    made: Any = object.__new__(_find_class(value["class"], kind))
    for name, each in value["state"].items():
        setattr(made, name, _decode(each, arrays, kind))
    return made


def _find_class(name: str, kind: type) -> type:
    """A class of `statistics`, or one beside the detector's own; no other is made."""
    for module in (statistics_room, sys.modules[kind.__module__]):
        found = getattr(module, name, None)
        if inspect.isclass(found) and hasattr(found, "merge"):
            return found
    raise ValueError(f"there is no class {name} of statistics")
