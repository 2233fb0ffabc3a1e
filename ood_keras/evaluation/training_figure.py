"""A picture of metrics on validation images, epoch by epoch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ood_keras.evaluation import figure_parts, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style.use_style
def training_curve(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str
) -> "Figure":
    """Draws metrics on validation images against the epochs.

    Args:
        curves: `{label: (epochs, values)}`, shares in [0, 1].
        title: What was trained.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, axes = figure_parts.new_figure(1, 1, (6.4, 3.4))
    axes = axes[0, 0]
    for index, (label, (epochs, values)) in enumerate(
        zip(style.shorten(curves, 40), curves.values(), strict=True)
    ):
        color = style.source_color(index)
        # A curve along the axis is not cut in half.
        axes.plot(epochs, values, color=color, label=label, clip_on=False, zorder=3)
    (title,) = style.shorten([title], 60)
    axes.set(title=title, xlabel="epoch", ylabel="on validation images")
    # Down to the decade of the smallest share above 0; 0, the goal, is the axis below.
    positive = [v for _, values in curves.values() for v in values if v > 0]
    decade = 10.0 ** np.floor(np.log10(min(positive, default=1.0)))
    axes.set_yscale("symlog", linthresh=decade, linscale=0.5)
    axes.set_ylim(bottom=0)
    axes.grid(True)
    figure_parts.set_percent_ticks(axes.yaxis, False)
    axes.legend()
    return figure
