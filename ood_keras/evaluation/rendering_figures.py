"""Pictures of what renderings do to a classifier that rejects."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ood_keras.evaluation import style
from ood_keras.evaluation.picture_figure import to_show
from ood_keras.types import Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW_INCHES = 0.3


@style.use_style
def acceptance(measured: Json, pictures: np.ndarray | None) -> "Figure":
    """Draws the shares of known and unknown images accepted, one row a rendering.

    To the left, known images in each rendering, so that one sees what is asked.

    Args:
        measured: What `UnderRenderings.at` returns of one detector.
        pictures: `UnderRenderings.pictures`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: the pictures were not kept.
    """
    from matplotlib.figure import Figure

    if pictures is None:
        raise ValueError(
            "expected known images in each rendering, to be drawn. Received: None, as "
            "of a measurement that did not keep them; measure again"
        )
    rows = measured["steps"]
    figure = Figure(figsize=(7.2, 1.1 + _ROW_INCHES * len(rows)))
    strip, panel = figure.subplots(1, 2, sharey=True, width_ratios=(1, 3.4))
    places = np.arange(len(rows))
    num_pictured = pictures.shape[1]
    for place, images in enumerate(pictures):
        tiles = np.concatenate(list(images), axis=1)
        strip.imshow(
            to_show(tiles),
            cmap="gray",
            vmin=0,
            vmax=1,
            extent=(0, num_pictured, place + 0.46, place - 0.46),
            aspect="auto",
        )
    strip.set_xlim(0, num_pictured)
    strip.set_xticks([])
    strip.set_yticks(places, [style.literal(row["title"]) for row in rows])
    strip.tick_params(axis="y", length=0)
    strip.spines[:].set_visible(False)
    sources = list(rows[0]["unknown"])
    shown = style.shorten(sources)
    for index, (source, title) in enumerate(zip(sources, shown, strict=True)):
        shares = [1 - row["unknown"][source]["rejected"] for row in rows]
        panel.plot(
            shares,
            places,
            "x",
            color=style.source_color(index),
            markersize=5,
            label=f"unknown: {title}",
        )
    shares = [row["known"]["accepted"] for row in rows]
    panel.plot(shares, places, "o", color=style.KNOWN, label="known", markersize=5.5)
    target = measured["target_acceptance"]
    if target is not None:
        panel.axvline(
            target, color=style.THRESHOLD, linewidth=1, label=f"asked: {target:.0%}"
        )
    panel.set_xlim(-0.02, 1.02)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    panel.set_xlabel("accepted")
    panel.grid(True)
    panel.tick_params(axis="y", length=0)
    figure.legend(
        *panel.get_legend_handles_labels(), loc="outside upper center", ncols=3
    )
    return figure


@style.use_style
def curves(networks: Mapping[str, Json]) -> "Figure":
    """Draws how acceptance and accuracy of known images fall with the strength.

    One panel for each sort of rendering that has several strengths; strength 0 is the
    images untouched. Acceptance is drawn solid, accuracy dashed; mild strengths lie on
    a shaded ground.

    Args:
        networks: `{title: what UnderRenderings.at returns of one detector}`, measured
            in the same full suite.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    grouped: dict[str, list[str]] = {}
    first = next(iter(networks.values()))
    for row in first["steps"][1:]:
        grouped.setdefault(row["name"].partition("=")[0], []).append(row["name"])
    sorts = {sort: names for sort, names in grouped.items() if len(names) > 1}
    columns = 4
    lines = -(-len(sorts) // columns)
    figure = Figure(figsize=(8.2, 0.7 + 1.55 * lines))
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for panel in panels[len(sorts) :]:
        panel.set_visible(False)
    for panel, (sort, names) in zip(panels, sorts.items(), strict=False):
        places = np.arange(len(names) + 1)
        mild = 0
        for index, (title, measured) in enumerate(
            zip(style.shorten(networks), networks.values(), strict=True)
        ):
            rows = {row["name"]: row for row in measured["steps"]}
            chosen = [measured["steps"][0], *(rows[name] for name in names)]
            mild = sum(row["mild"] for row in chosen)
            color = style.KNOWN if index == 0 else style.source_color(index - 1)
            for share, line, what in (
                ("accepted", "-", "accepted"),
                ("accuracy", "--", "classified right"),
            ):
                panel.plot(
                    places,
                    [row["known"][share] for row in chosen],
                    line,
                    color=color,
                    label=f"{title}: {what}" if len(networks) > 1 else what,
                )
        panel.axvspan(0, mild, color=style.GRID, alpha=0.4, linewidth=0)
        panel.set_title(style.literal(style.title(sort)), fontsize=8)
        panel.set_xticks(places, ["0", *(name.partition("=")[2] for name in names)])
        panel.set_ylim(-0.03, 1.03)
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        panel.grid(True)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=2,
        handlelength=3,
    )
    return figure
