"""Pictures of scores: ROC curves and densities."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ood_keras import metrics
from ood_keras.conventions import percent
from ood_keras.evaluation import figure_parts, style
from ood_keras.types import Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CONFIDENCE = "confidence (largest probability of a known class)"


@style.use_style
def roc(
    known_scores: np.ndarray,
    unknown_scores: Mapping[str, np.ndarray],
    *,
    seen: Collection[str] = (),
    log_x: bool = True,
) -> "Figure":
    """Draws one ROC curve per unknown source (Figures 5b and 6b of the paper).

    Accepting a known image is the positive event: the curve shows the share of known
    images accepted against the share of unknown images accepted, over all thresholds.

    Args:
        known_scores: `ood_score` of the known images, `(num_known,)`.
        unknown_scores: `{source: ood_score}` with arrays `(num_unknown,)`.
        seen: Names of the sources that training was exposed to; drawn dashed.
        log_x: Whether the horizontal axis is logarithmic, which is what tells good
            detectors apart; a curve that never leaves zero is drawn at its left edge.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, axes = figure_parts.new_figure(1, 1, (7.6, 4.0))
    axes = axes[0, 0]
    smallest = figure_parts.smallest_share(unknown_scores)
    shown = figure_parts.name_sources(unknown_scores, seen)
    for index, (source, scores) in enumerate(unknown_scores.items()):
        figure_parts.draw_roc(
            axes,
            known_scores,
            scores,
            label=f"{shown[source]}: AUROC "
            f"{percent(metrics.auroc(known_scores, scores), '.2f')}",
            color=style.source_color(index),
            dashed=source in seen,
            smallest=smallest if log_x else None,
        )
    axes.axhline(0.95, color=style.MUTED, linewidth=0.8, linestyle=":")
    axes.set(
        title="ROC, one curve per unknown source",
        xlabel="share of unknown images accepted",
        ylabel="share of known images accepted",
    )
    figure_parts.set_roc_axes(axes, smallest if log_x else None)
    figure.legend(loc="outside right upper")
    return figure


@style.use_style
def density(
    known_scores: np.ndarray,
    unknown_scores: Mapping[str, np.ndarray],
    *,
    known_confidence: np.ndarray | None = None,
    unknown_confidence: Mapping[str, np.ndarray] | None = None,
    threshold: float | None = None,
    seen: Collection[str] = (),
) -> "Figure":
    """Draws the distribution of known against each unknown (Figures 5c and 6c).

    One row per unknown source. The vertical axis is logarithmic, so that the few images
    in the overlap can be seen. Scores far outside the rest are counted in the outermost
    bins.

    Args:
        known_scores: `ood_score` of the known images, `(num_known,)`.
        unknown_scores: `{source: ood_score}` with arrays `(num_unknown,)`.
        known_confidence: Largest probability of a known class, in [0, 1],
            `(num_known,)`; with `unknown_confidence` it adds the paper's own column.
        unknown_confidence: `{source: confidence}` with arrays `(num_unknown,)`.
        threshold: Draws the line `ood_score = threshold` and writes down the shares on
            its two sides.
        seen: Names of the sources that training was exposed to.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    with_confidence = known_confidence is not None and unknown_confidence is not None
    panel_size = (4.2, 1.3) if with_confidence else (6.4, 1.3)
    figure, grid = figure_parts.new_figure(
        len(unknown_scores), 1 + with_confidence, panel_size, sharex="col"
    )
    bins = figure_parts.score_bins([known_scores, *unknown_scores.values()], threshold)
    shown = figure_parts.name_sources(unknown_scores, seen)
    for row, (source, scores) in enumerate(unknown_scores.items()):
        color = style.source_color(row)
        axes = grid[row, 0]
        axes.set_title(shown[source])
        if with_confidence:
            figure_parts.draw_density(
                axes,
                known_confidence,
                unknown_confidence[source],  # type: ignore[index]
                np.linspace(0, 1, figure_parts.NUM_BINS + 1),
                color,
            )
        axes = grid[row, -1]
        figure_parts.draw_density(axes, known_scores, scores, bins, color)
        if threshold is not None:
            figure_parts.draw_threshold(axes, threshold)
            figure_parts.write_accepted(axes, known_scores, scores, threshold)
    if with_confidence:
        grid[-1, 0].set_xlabel(_CONFIDENCE)
    grid[-1, -1].set_xlabel("ood_score (higher: more likely unknown)")
    figure.supylabel("share of images", color=style.MUTED, fontsize=9)
    figure.legend(
        handles=figure_parts.density_handles(threshold),
        loc="outside upper right",
        ncols=3,
    )
    return figure


@style.use_style
def score_among(
    score: float | None,
    known_scores: Scores,
    unknown_scores: Scores = (),
    *,
    threshold: float,
) -> "Figure":
    """Draws where the score of one image lies among those of known images.

    Args:
        score: `ood_score` of the image; `None` draws the others only.
        known_scores: `ood_score` of known images, `(num_known,)`.
        unknown_scores: `ood_score` of unknown images, `(num_unknown,)`; may be empty.
        threshold: Draws the line `ood_score = threshold`: the image is accepted on its
            left.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.ticker import NullLocator

    figure, axes = figure_parts.new_figure(1, 1, (6.4, 1.9))
    axes = axes[0, 0]
    known_scores, unknown_scores = np.asarray(known_scores), np.asarray(unknown_scores)
    drawn = [known_scores, unknown_scores]
    if score is not None:
        drawn.append(np.array([score]))
    bins = figure_parts.score_bins(drawn, threshold)
    figure_parts.draw_density(axes, known_scores, unknown_scores, bins, style.UNKNOWN)
    figure_parts.draw_threshold(axes, threshold)
    for text, side, shift in (("accepted", "right", -5), ("rejected", "left", 5)):
        axes.annotate(
            text,
            (threshold, 1),
            (shift, -3),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha=side,
            va="top",
            fontsize=8,
            color=style.THRESHOLD,
        )
    axes.yaxis.set_minor_locator(NullLocator())
    handles = figure_parts.density_handles(threshold, unknown="unknown")
    if not len(unknown_scores):
        del handles[1]
    if score is not None:
        place = np.clip(score, bins[0], bins[-1])
        line = axes.axvline(
            place, color=style.SOURCES[0], linewidth=2.4, label="this image", zorder=3
        )
        axes.plot(
            place,
            0,
            marker="^",
            markersize=9,
            color=style.SOURCES[0],
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            zorder=3,
        )
        handles.append(line)
    axes.set(xlabel="ood_score (higher: more likely unknown)", ylabel="share of images")
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return figure


@style.use_style
def perturbed_density(
    known_scores: Mapping[str, np.ndarray],
    unknown_scores: np.ndarray,
    *,
    threshold: float,
    known_confidence: Mapping[str, np.ndarray] | None = None,
    unknown_confidence: np.ndarray | None = None,
) -> "Figure":
    """Draws known images under perturbations against unknown ones (Figure 3).

    One row per perturbation.

    Args:
        known_scores: `{perturbation: ood_score}` with arrays `(num_known,)`.
        unknown_scores: `ood_score` of unknown images, `(num_unknown,)`.
        threshold: Draws the line `ood_score = threshold`.
        known_confidence: `{perturbation: confidence}` with the largest probability of a
            known class, in [0, 1], `(num_known,)`; with `unknown_confidence` it adds
            the paper's own column.
        unknown_confidence: Of the unknown images, `(num_unknown,)`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    with_confidence = known_confidence is not None and unknown_confidence is not None
    panel_size = (4.2, 1.3) if with_confidence else (6.4, 1.3)
    figure, axes = figure_parts.new_figure(
        len(known_scores), 1 + with_confidence, panel_size, sharex="col"
    )
    bins = figure_parts.score_bins([unknown_scores, *known_scores.values()], threshold)
    titles = style.shorten(known_scores)
    for panels, title, (name, scores) in zip(
        axes, titles, known_scores.items(), strict=True
    ):
        panels[0].set_title(title)
        if with_confidence:
            figure_parts.draw_density(
                panels[0],
                known_confidence[name],  # type: ignore[index]
                unknown_confidence,
                np.linspace(0, 1, figure_parts.NUM_BINS + 1),
                style.UNKNOWN,
            )
        figure_parts.draw_density(
            panels[-1], scores, unknown_scores, bins, style.UNKNOWN
        )
        figure_parts.draw_threshold(panels[-1], threshold)
        figure_parts.write_accepted(panels[-1], scores, unknown_scores, threshold)
    if with_confidence:
        axes[-1, 0].set_xlabel(_CONFIDENCE)
    axes[-1, -1].set_xlabel("ood_score (higher: more likely unknown)")
    figure.supylabel("share of images", color=style.MUTED, fontsize=9)
    handles = figure_parts.density_handles(threshold, unknown="unknown, as they are")
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure
