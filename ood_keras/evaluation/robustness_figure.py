"""A picture of what perturbations do, from the metrics of a robustness run."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ood_keras.evaluation import figure_parts, style
from ood_keras.types import Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINES = ("-", "--", ":", "-.")
# Decreasing, so that curves which cover each other are all seen.
_WIDTHS = (3.4, 2.2, 1.0)


@style.use_style
def robustness(networks: Mapping[str, Json]) -> "Figure":
    """Draws what perturbations of known images do: one column for each.

    From above: the shares of known images that are classified correctly, rejected, and
    accepted with a wrong class; AUROC of the perturbed known images against the unknown
    ones, the mean over the sources that training was not shown. The first network is
    drawn solid, others dashed.

    Args:
        networks: `{title: metrics}` with `Robustness.metrics`, or what
            `robustness.json` holds, with "seen"; the same perturbations in all of them.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    rows = {
        "classified correctly": lambda point, _: point["known"]["accuracy"],
        "rejected": lambda point, _: point["known"]["rejected"],
        "accepted, wrong class": lambda point, _: point["known"]["accepted_wrong"],
        "AUROC": mean_auroc,
    }
    first = next(iter(next(iter(networks.values()))["detectors"].values()))
    names = list(first["perturbations"])
    figure, axes = figure_parts.new_figure(
        4, len(names), (2.4, 1.75), sharex="col", sharey="row"
    )
    for line, title, network in zip(
        _LINES, style.shorten(networks), networks.values(), strict=False
    ):
        seen = network.get("seen", ())
        shown = style.shorten(network["detectors"])
        for index, (detector, measured) in enumerate(
            zip(shown, network["detectors"].values(), strict=True)
        ):
            for panels, name in zip(axes.T, names, strict=True):
                points = measured["perturbations"][name]
                strengths = [point["strength"] for point in points]
                for row, (panel, value) in enumerate(
                    zip(panels, rows.values(), strict=True)
                ):
                    # The class is the network's answer, whatever detector follows it.
                    if row == 0 and index:
                        continue
                    color = style.KNOWN if row == 0 else style.source_color(index)
                    label = title if row == 0 else f"{detector}, {title}"
                    values = [value(point, seen) for point in points]
                    panel.plot(
                        strengths,
                        values,
                        line,
                        color=color,
                        marker=".",
                        linewidth=_WIDTHS[index % len(_WIDTHS)] if row else None,
                        label=label if len(networks) > 1 or row else "network",
                    )
    for panels, name in zip(axes.T, names, strict=True):
        panels[0].set_title(style.literal(style.title(name)))
        for panel in panels:
            panel.grid(True)
            figure_parts.set_percent_ticks(panel.yaxis, False)
    for panels, label in zip(axes, rows, strict=True):
        panels[0].set_ylabel(label)
        # A share that is small everywhere is drawn larger.
        top = 1.0 if label != "accepted, wrong class" else panels[0].get_ylim()[1]
        panels[0].set_ylim(-0.03 * max(top, 0.05), 1.03 * max(top, 0.05))
    for panel in axes[:2, -1]:
        panel.legend(loc="upper left", bbox_to_anchor=(1.02, 1.05))
    figure.supxlabel(
        "strength, where the pixel range is 1", color=style.MUTED, fontsize=9
    )
    return figure


def mean_auroc(point: Json, seen: Collection[str] = ()) -> float:
    """AUROC of one perturbation at one strength, the mean over unknown sources.

    Those that training was shown are left out, unless there is no other.
    """
    rows = point["unknown"]
    unseen = {source: row for source, row in rows.items() if source not in seen}
    return float(np.mean([row["auroc"] for row in (unseen or rows).values()]))
