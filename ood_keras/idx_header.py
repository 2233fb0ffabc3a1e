"""The first bytes of an IDX file, the format of MNIST."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ood_keras.types import Stream


def begins(head: bytes) -> bool:
    """Whether a file with these first bytes is an IDX file of unsigned bytes."""
    return len(head) >= 4 and head[:3] == b"\0\0\x08" and 1 <= head[3] <= 4


def read(file: "Stream", path: Any) -> tuple[int, ...]:
    """Reads the header and leaves the file where the values begin.

    Args:
        file: The file, opened in binary, at its start.
        path: What error messages call it.

    Returns:
        The shape that the header promises, a tuple of 1 to 4 integers.

    Raises:
        ValueError: it is no IDX file of unsigned bytes, or ends within its header.
    """
    magic = file.read(4)
    if not begins(magic):
        raise ValueError(
            f"{path} is no IDX file of unsigned bytes: expected it to start with "
            f"00 00 08 and 1 to 4 axes. Received: {magic.hex(' ') or 'an empty file'}"
        )
    header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise ValueError(f"{path} is truncated within its header; fetch it again")
    return tuple(int(size) for size in np.frombuffer(header, ">u4"))
