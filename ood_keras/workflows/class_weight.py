"""Weights of known classes in the loss, as a user names them."""

from collections.abc import Mapping, Sequence
from typing import Literal

ClassWeight = Mapping[str, float] | Literal["balanced"] | None


def read_class_weight(class_weight: Mapping[str, float] | str | None) -> ClassWeight:
    """Reads "rose=2,tulip=0.5"; returns as it is what is no text, and "balanced".

    Raises:
        ValueError: the text does not give a number to each name.
    """
    if not isinstance(class_weight, str):
        return class_weight
    if class_weight == "balanced":
        return "balanced"
    weights = {}
    for part in class_weight.split(","):
        name, _, weight = part.rpartition("=")
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            raise ValueError(
                "--class_weight is balanced, or weights of classes by name, such as "
                f"rose=2,tulip=0.5. Received: {class_weight!r}"
            ) from None
    return weights


def index_classes(
    class_weight: ClassWeight, class_names: Sequence[str]
) -> dict[int, float] | Literal["balanced"] | None:
    """Returns weights by label for weights by the name of the class.

    Raises:
        TypeError: `class_weight` is no dict.
        ValueError: it names a class that is not one of `class_names`.
    """
    if class_weight is None or class_weight == "balanced":
        return class_weight
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            '`class_weight` must be "balanced" or a dict {class name: weight}. '
            f"Received: {class_weight!r}"
        )
    strangers = sorted(set(class_weight) - set(class_names))
    if strangers:
        raise ValueError(
            f"there is no known class {strangers} to weigh; the classes are: "
            f"{', '.join(class_names)}"
        )
    return {class_names.index(name): weight for name, weight in class_weight.items()}
