"""Rows of images with captions."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ood_keras.evaluation import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style.use_style
def pictures(rows: Mapping[str, tuple[np.ndarray, Sequence[str]]]) -> "Figure":
    """Draws rows of images, each with a title, and a caption under each image.

    Args:
        rows: `{row title: (images, captions)}`: images `(n, height, width, channels)`
            in [0, 1], and one string each, see `to_show`. A row without images says
            "none".

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    num_columns = max(5, *(len(images) for images, _ in rows.values()))
    # In inches, and by hand, since every image is as large as every other.
    size, gap, title_height, line_height = 0.94, 0.06, 0.36, 0.12
    row_heights = [
        title_height
        + (size if len(images) else 0)
        + line_height * max((text.count("\n") + 1 for text in captions), default=0)
        for images, captions in rows.values()
    ]
    width, height = num_columns * (size + gap) + gap, sum(row_heights) + gap
    figure = Figure(figsize=(width, height), layout="none")  # type: ignore[arg-type]

    def write(left, bottom, text, **kwargs):
        text = style.literal(text)
        figure.text(left / width, bottom / height, text, **kwargs)

    bottom = height
    for (title, (images, captions)), row_height in zip(
        rows.items(), row_heights, strict=True
    ):
        top, bottom = bottom - title_height, bottom - row_height
        title = title if len(images) else f"{title}: none"
        write(gap, top + gap, title, fontsize=8.5, fontweight="bold")
        for column, (image, caption) in enumerate(zip(images, captions, strict=True)):
            left = gap + column * (size + gap)
            place = left / width, (top - size) / height, size / width, size / height
            axes = figure.add_axes(place)
            axes.set_axis_off()
            image = to_show(np.clip(image, 0, 1))
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            below = {"ha": "center", "va": "top", "fontsize": 6.5}
            write(left + size / 2, top - size - gap / 2, caption, **below)
    return figure


def to_show(image: np.ndarray) -> np.ndarray:
    """An image as Matplotlib shows it: RGB, or without channels, which is grey.

    Args:
        image: `(height, width, channels)`; of other channels than one or three, the
            mean is shown.
    """
    return image if image.shape[-1] == 3 else image.mean(axis=-1)
