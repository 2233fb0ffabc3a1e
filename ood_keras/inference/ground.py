"""Whether pictures are light on a dark ground, or dark on a light one."""

import numpy as np

# Of pictures looked at, so many must agree.
_SHARE = 0.8
_DARK, _LIGHT = 0.25, 0.75


def levels(images: np.ndarray) -> np.ndarray:
    """Returns the brightness of each picture's ground, the median of its edge.

    Args:
        images: `(num_images, height, width, channels)`, bytes or floats in [0, 1].

    Returns:
        float32 `(num_images,)` in [0, 1].
    """
    images = np.asarray(images)
    grey = images.mean(axis=-1, dtype=np.float32)
    if images.dtype == np.uint8:
        grey /= 255
    edges = (grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1])
    return np.median(np.concatenate(edges, axis=1), axis=1)


def describe_negative(known: np.ndarray, rejected: np.ndarray) -> str | None:
    """Says so if rejected pictures look like negatives of the known ones.

    A pen on paper is dark on light, and a digit of MNIST light on dark; to most
    classifiers the one is no picture of the other.

    Args:
        known: Known images, `(num_images, height, width, channels)`, as `levels` takes.
        rejected: Pictures that were rejected, of the same form.

    Returns:
        A sentence, or `None` where the grounds are alike or mixed.
    """
    if not len(known) or not len(rejected):
        return None
    ground, of_rejected = levels(known), levels(rejected)
    for is_ground, is_other, own, other in (
        (ground < _DARK, of_rejected > _LIGHT, "light on dark", "dark on light"),
        (ground > _LIGHT, of_rejected < _DARK, "dark on light", "light on dark"),
    ):
        if is_ground.mean() >= _SHARE and is_other.mean() >= _SHARE:
            return (
                f"Of the rejected pictures, {is_other.sum()} of {len(rejected)} looked "
                f"at are {other}; the known images are {own}. If they show the same "
                "things, give their negatives."
            )
    return None
