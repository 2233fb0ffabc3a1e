"""Whether a data source has the classes of a model."""

import collections
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ood_keras.names import fold

if TYPE_CHECKING:
    from ood_keras.pipelines import Source


def check_same_classes(source: "Source", class_names: Sequence[str]) -> None:
    """Raises a ValueError unless a source has the classes of a model, in any order.

    Args:
        source: A source of `pipelines.load`.
        class_names: Those of the model.
    """
    numbered = source.name.startswith(("npz:", "idx:"))
    # Such files have no names, and their labels are taken for the model's class ids.
    if numbered and source.num_classes == len(class_names):
        return
    found, expected = map(_by_folded_name, (source.class_names, class_names))
    if found.keys() == expected.keys():
        return
    differing = {
        "only the model has": [expected[key] for key in expected if key not in found],
        "only the source has": [found[key] for key in found if key not in expected],
    }
    shown = "; ".join(
        f"{whose} {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        for whose, names in differing.items()
        if names
    )
    raise ValueError(
        f"{source.name} must have the {len(class_names)} classes of the model, whose "
        f"known images the threshold is for; {shown}. Choose classes as in mnist[0-4], "
        "call class folders as the model calls its classes, or give an .npz file with "
        f"labels 0 to {len(class_names) - 1}"
    )


def _by_folded_name(names: Sequence[str]) -> dict[str, str]:
    """`{name: name}`, the key as `fold` makes it where no other becomes the same."""
    count = collections.Counter(map(fold, names))
    return {fold(name) if count[fold(name)] == 1 else name: name for name in names}
