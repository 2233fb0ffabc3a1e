"""Image files to pixels without TensorFlow, as the graph of a SavedModel reads them."""

import numpy as np

from ood_keras import image_files, resizing
from ood_keras.types import ImageShape


def decode(
    content: bytes,
    image_shape: ImageShape,
    background: int | None = image_files.BACKGROUND,
    exif_orientation: bool = True,
) -> np.ndarray | None:
    """Decodes a PNG or JPEG file to the pixels that training reads.

    Args:
        content: The bytes of the file.
        image_shape: `(height, width, channels)` to make, with 1 or 3 channels.
        background: Grey level from 0 to 255 on which transparent pixels are laid;
            `None` drops alpha.
        exif_orientation: Whether to turn a JPEG as its camera's note says.

    Returns:
        uint8 `image_shape`; `None` for everything that `image_files` refuses: what is
        empty, truncated, corrupt, of another format, or too large.

    Example:

    >>> decode(pathlib.Path("seven.png").read_bytes(), (28, 28, 1)).shape
    (28, 28, 1)
    """
    try:
        pixels = image_files.read(content, background, exif_orientation)
    except image_files.Refused:
        return None
    return resizing.adapt(pixels[np.newaxis], image_shape)[0]
