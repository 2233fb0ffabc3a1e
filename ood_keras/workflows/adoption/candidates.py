"""The detectors that an adoption compares, by name."""

import re
from collections.abc import Mapping, Sequence

from ood_keras import detectors as detector_room
from ood_keras.detectors import registry, saving
from ood_keras.detectors.registry import Description

# On photographs, features of length 1 are nearer to Gaussians: MDS++ and RMDS++ of
# Mueller and Hein, "Mahalanobis++", ICML 2025.
NORMALIZED: dict[str, Description] = {
    f"{name}_normalized": {"name": name, "normalize": True}
    for name in ("mahalanobis", "relative_mahalanobis")
}


def choose(
    detectors: Sequence[Description] | Mapping[str, Description] | None,
) -> dict[str, Description]:
    """Returns what to compare, by name.

    Args:
        detectors: Names of `detectors.names()` or `NORMALIZED`, or what else
            `detectors.fit_together` takes; `None` is all that can be made by a name.

    Raises:
        TypeError: one is no detector, or its class is not registered.
        ValueError: there is none of that name, or two have one.
    """
    if detectors is None:
        alone = {name: name for name in detector_room.names() if _stands_alone(name)}
        return {**alone, **NORMALIZED}
    chosen = {
        name: NORMALIZED.get(one, one) if isinstance(one, str) else one
        for name, one in registry.by_name(detectors).items()
    }
    for name, one in chosen.items():
        # Files are called so.
        if not (isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name)):
            raise ValueError(
                "the name of a detector is letters, digits, `_`, `-` and `.`. "
                f"Received: {name!r}"
            )
        if isinstance(one, str) and one not in detector_room.names():
            raise ValueError(
                f"unknown detector {one!r}; expected one of: "
                f"{', '.join([*detector_room.names(), *NORMALIZED])}"
            )
        saving.check_registered(registry.build(one))
    return chosen


def _stands_alone(name: str) -> bool:
    """Whether a detector can be made without saying what it is made of."""
    try:
        detector_room.get(name)
    except TypeError:
        return False
    return True
