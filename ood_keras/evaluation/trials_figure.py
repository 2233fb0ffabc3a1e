"""A picture of a search: what each number of a recipe did to validation images."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ood_keras.evaluation import figure_parts, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style.use_style
def trials_figure(
    fields: Mapping[str, Sequence[tuple[Any, float]]], logarithmic: Collection[str] = ()
) -> "Figure":
    """Draws the trials of a search, a panel for each field of the recipe.

    Args:
        fields: `{field: [(value, share of unknown validation images that pass)]}`, the
            recipe as it is first.
        logarithmic: The fields to draw on a logarithmic scale.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, axes = figure_parts.new_figure(1, len(fields), (2.7, 2.7), sharey=True)
    for panel, (field, trials) in zip(axes[0], fields.items(), strict=True):
        are_numbers = all(
            isinstance(value, int | float) and not isinstance(value, bool)
            for value, _ in trials
        )
        values = [value if are_numbers else str(value) for value, _ in trials]
        shares = [share for _, share in trials]
        best = min(range(len(trials)), key=shares.__getitem__)
        panel.scatter(values, shares, color=style.KNOWN, zorder=3)
        panel.scatter(
            values[best], shares[best], color=style.THRESHOLD, zorder=4, label="best"
        )
        panel.scatter(
            *(values[0], shares[0]),
            facecolor="none",
            edgecolor=style.UNKNOWN,
            s=90,
            zorder=5,
            label="the recipe",
        )
        if field in logarithmic and are_numbers:
            panel.set_xscale("log")
        panel.set_xlabel(field)
        panel.grid(True)
        figure_parts.set_percent_ticks(panel.yaxis, False)
    axes[0, 0].set_ylabel("unknown validation images that pass")
    axes[0, 0].legend()
    return figure
