"""The numbered version folders of an exported model."""

import pathlib

from ood_keras.types import Path

# What TensorFlow Serving reads is an int64.
LARGEST_VERSION = 2**63 - 1


def next_version(folder: Path) -> int:
    """The number after the largest version number in `folder`; 1 if there is none.

    Numbers that TensorFlow Serving cannot read, beyond 64 bits, are no versions.

    Raises:
        ValueError: the largest version is there already.
    """
    folder = pathlib.Path(folder)
    numbers = [
        int(child.name)
        for child in (folder.iterdir() if folder.is_dir() else ())
        if child.name.isascii() and child.name.isdigit()
    ]
    largest = max((n for n in numbers if n <= LARGEST_VERSION), default=0)
    if largest == LARGEST_VERSION:
        raise ValueError(
            f"{folder / str(largest)} has the largest version that TensorFlow Serving "
            "reads, so that none can follow it. Rename it to a smaller number"
        )
    return largest + 1
